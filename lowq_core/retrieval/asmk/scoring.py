"""From the queries' cells to the scores of all pictures, through the inverted file.

score(Q, X) = sum over the words k in both of idf_k sigma(u_k), divided by sqrt(N_Q) sqrt(N_X), where u_k is the
similarity of the two aggregated residuals and N the sum of idf_k over a picture's occupied cells; without idf,
idf_k = 1. This is HOW's and its authors' implementation; ICCV 2013 normalises by self-similarity, which for
signs is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from lowq_core.retrieval.asmk.index import Entries, InvertedFile
from lowq_core.retrieval.asmk.kernel import GRID, hamming_table, selectivity
from lowq_core.retrieval.threads import in_threads

_AT_A_TIME = 1 << 17  # comparisons: so few that they stay in the cache
_WORTH_A_CALL = 400  # comparisons that take about as long as the calls for one word


@dataclass(frozen=True)
class Scorer:
    """Scores of queries against one inverted file.

    Attributes:
        file: the database.
        dim: of the descriptors.
        alpha, threshold: the selectivity's.
        idf: (K,) weight of each word, or None for 1.
        norms: (N,) sqrt(N_X) of each picture.
    """

    file: InvertedFile
    dim: int
    alpha: float
    threshold: float
    idf: NDArray[np.float64] | None
    norms: NDArray[np.float64]

    @classmethod
    def of(cls, file: InvertedFile, *, dim: int, alpha: float, threshold: float, idf: bool) -> Scorer:
        """A scorer with the database's own idf, or with none."""
        weights = inverse_document_frequency(file) if idf else None
        sums = file.cells.astype(np.float64) if weights is None else file.by_picture(weights)
        return cls(file, dim, alpha, threshold, weights, np.sqrt(sums))

    def scores(self, queries: Entries, count: int, threads: int = 1) -> NDArray[np.float64]:
        """(count, N) scores; `queries` holds the occupied cells of `count` pictures. 0 where nothing is shared.

        count * N has to be below 2^31. The words are shared out over `threads`, each with sums of its own, where
        most have few comparisons. Where they have many, one thread is as fast: the calls for each word are so short
        that threads would wait for one another.
        """
        order = np.argsort(queries.words, kind="stable")
        words, owners = queries.words[order], queries.pictures[order]
        codes = np.ascontiguousarray(queries.codes[order])
        rows = owners * np.int32(len(self.file.cells))
        size = count * len(self.file.cells)

        def some(cells: slice) -> NDArray[np.float64]:
            return self._sums(words[cells], rows[cells], codes[cells], size)

        few = _few_for_a_word(int(self._lengths(words).sum()), _word_starts(words))
        sums, *others = in_threads(some, self._shares(words, threads if few else 1))
        for other in others:
            sums += other
        weights = None if self.idf is None else self.idf[words]
        own = np.sqrt(np.bincount(owners, weights, minlength=count))
        norms = own[:, None] * self.norms
        scores = sums.reshape(count, -1)
        return np.divide(scores, norms, out=scores, where=norms > 0)

    def _sums(
        self, words: NDArray[np.int32], rows: NDArray[np.int32], codes: NDArray[Any], size: int
    ) -> NDArray[np.float64]:
        """(size,) what the query cells add to the score of each query, whose sums begin at `rows`, and picture."""
        sums = np.zeros(size)
        for part in self._parts(words):
            similar, targets = self._compare(words[part], rows[part], codes[part])
            weights = (
                None if self.idf is None else np.repeat(self.idf[words[part]], self._lengths(words[part]))
            )
            counting = np.flatnonzero(self._counts(similar))  # about half of the signs' comparisons do
            weights = None if weights is None else weights[counting]
            places = targets[counting].astype(np.intp)  # what `at` is fastest with
            np.add.at(sums, places, self._weigh(similar[counting], weights))
        sums /= GRID
        return sums

    def _lengths(self, words: NDArray[np.int32]) -> NDArray[np.int64]:
        return self.file.offsets[words + 1] - self.file.offsets[words]

    def _shares(self, words: NDArray[np.int32], threads: int) -> list[slice]:
        """The query cells, sorted by word, in runs with about as many comparisons each; a word stays whole."""
        ends = np.cumsum(self._lengths(words))
        total = int(ends[-1]) if len(ends) else 0
        middles = (
            [words[np.searchsorted(ends, total * i // threads)] for i in range(1, threads)] if total else []
        )
        bounds = [0, *np.searchsorted(words, middles).tolist(), len(words)]
        return [slice(start, stop) for start, stop in pairwise(bounds)]

    def _parts(self, words: NDArray[np.int32]) -> Iterator[slice]:
        """Runs of query cells, sorted by word, with about `_AT_A_TIME` comparisons each, at least one cell."""
        ends = np.cumsum(self._lengths(words))
        start = 0
        while start < len(words):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + _AT_A_TIME, side="right")))
            yield slice(start, stop)
            start = stop

    def _compare(
        self, words: NDArray[np.int32], rows: NDArray[np.int32], codes: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Each query cell with each entry of its word: distance or similarity, and place in the sums."""
        lengths = self._lengths(words)
        total = int(lengths.sum())
        starts = _word_starts(words)
        if _few_for_a_word(total, starts):
            return self._compare_flat(words, rows, codes, lengths)
        binary = codes.dtype == np.uint8
        similar: NDArray[Any] = np.empty(total, np.int32 if binary else np.float32)
        targets = np.empty(total, np.int32)
        compare = _hamming if binary else _products
        bounds = self.file.offsets[words[starts]], self.file.offsets[words[starts] + 1]
        stops = [*starts[1:].tolist(), len(words)]
        column, place = rows[:, None], 0
        for start, stop, low, high in zip(starts.tolist(), stops, *(b.tolist() for b in bounds), strict=True):
            shape = stop - start, high - low
            here = slice(place, place + shape[0] * shape[1])
            place = here.stop
            if shape[1]:
                compare(codes[start:stop], self.file.codes[low:high], similar[here].reshape(shape))
                np.add(column[start:stop], self.file.pictures[low:high], out=targets[here].reshape(shape))
        return similar, targets

    def _compare_flat(
        self,
        words: NDArray[np.int32],
        rows: NDArray[np.int32],
        codes: NDArray[Any],
        lengths: NDArray[np.int64],
    ) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """The same for many words with few entries: no call for a word, but every code is copied."""
        source = np.arange(lengths.sum())
        source += np.repeat(self.file.offsets[words] - (np.cumsum(lengths) - lengths), lengths)
        targets = np.repeat(rows, lengths) + self.file.pictures[source]
        theirs = np.take(self.file.codes, source, axis=0)
        cells = np.repeat(np.arange(len(words)), lengths)
        if codes.dtype != np.uint8:
            return np.einsum("ij,ij->i", theirs, codes[cells]), targets
        different = theirs.view(np.uint64) ^ codes.view(np.uint64)[cells]
        distances: NDArray[np.int32] = np.bitwise_count(different).sum(axis=1, dtype=np.int32)
        return distances, targets

    def _counts(self, similar: NDArray[Any]) -> NDArray[np.bool_]:
        """Which comparisons have a selectivity above 0."""
        if similar.dtype != np.int32:
            return np.asarray(similar >= self.threshold)
        table = hamming_table(self.dim, self.alpha, self.threshold)
        return np.asarray(similar < np.count_nonzero(table))  # it falls with the distance, to 0

    def _weigh(self, similar: NDArray[Any], idf: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """What each comparison adds, as whole multiples of 1 / GRID."""
        if similar.dtype == np.int32:
            weights = (GRID * hamming_table(self.dim, self.alpha, self.threshold)).take(similar)
        else:
            weights = GRID * selectivity(similar, self.alpha, self.threshold)
        if idf is not None:
            weights *= idf
            np.rint(weights, out=weights)
        return weights


def _word_starts(words: NDArray[np.int32]) -> NDArray[np.intp]:
    """Where each word begins in a sorted list."""
    return np.flatnonzero(np.diff(words, prepend=-1))


def _few_for_a_word(comparisons: int, starts: NDArray[np.intp]) -> bool:
    """Whether that many for all words are too few for a call for each word."""
    return comparisons < _WORTH_A_CALL * len(starts)


def inverse_document_frequency(file: InvertedFile) -> NDArray[np.float64]:
    """idf_k = ln(N / N_k)^2 with N_k of the N pictures having word k; 1 for a word that none has.

    The square, and the 1 for words that only a query can have, are the reference implementation's.
    """
    have = np.diff(file.offsets)
    return np.where(have > 0, np.log(len(file.cells) / np.maximum(have, 1)) ** 2, 1.0)


def _hamming(queries: NDArray[np.uint8], entries: NDArray[np.uint8], out: NDArray[np.int32]) -> None:
    pointer = faiss.swig_ptr
    faiss.hammings(  # type: ignore[attr-defined]
        pointer(queries), pointer(entries), len(queries), len(entries), queries.shape[1], pointer(out)
    )


def _products(queries: NDArray[np.float32], entries: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    np.matmul(queries, entries.T, out=out)
