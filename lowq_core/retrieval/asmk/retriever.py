"""ASMK as a retriever: codebook, aggregation, inverted file and scoring in one."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.asmk.codebook import SEARCHES, Codebook
from lowq_core.retrieval.asmk.encoding import Encoder
from lowq_core.retrieval.asmk.index import Entries, InvertedFile
from lowq_core.retrieval.asmk.matching import WordMatch, Words, word_matches
from lowq_core.retrieval.asmk.scoring import Scorer, inverse_document_frequency
from lowq_core.retrieval.base import LocalDescriptors, Ranking, as_descriptors, check_k
from lowq_core.retrieval.order import rank_scores
from lowq_core.retrieval.saved import read_saved, write_saved
from lowq_core.retrieval.threads import in_threads

_SUMS = 1 << 18  # scores that one thread adds up at a time; they should stay in a core's cache
_ARRAYS = ("offsets", "pictures", "codes", "cells")


class ASMK:
    """Ranks pictures by the aggregated selective match kernel on their local descriptors.

    As HOW (Tolias, Jenicek, Chum, ECCV 2020) uses it: residuals to the visual words are summed by picture and
    word, and reduced to their signs; a query's descriptors count for several words, a database picture's for one.

    Args:
        codebook: the visual words, or None to `train` them.
        words: how many `train` makes.
        binary: compare signs of residuals (16 bytes a cell at 128 dimensions), or else normalised residuals.
        query_assignment: words for each descriptor of a query.
        alpha: exponent of the selectivity, above 0.
        threshold: least similarity of two cells that counts, 0 to 1. The papers print 0.25 for some tables;
            the released configurations of HOW, FIRe and ASMK all have 0.
        idf: weigh words by ln(N / N_k)^2.
        search: how words are found, see `Codebook.assign`; all ways find the same.

    >>> from lowq_core.retrieval.base import LocalArrays
    >>> generator = np.random.default_rng(0)
    >>> pictures = LocalArrays.of([generator.standard_normal((20, 32), dtype=np.float32) for _ in range(4)])
    >>> search = ASMK(words=8).train(pictures.descriptors).fit(pictures)
    >>> search.rank(pictures, k=1).ids.ravel().tolist()
    [0, 1, 2, 3]
    """

    def __init__(
        self,
        *,
        codebook: Codebook | None = None,
        words: int = 65_536,
        binary: bool = True,
        query_assignment: int = 5,
        alpha: float = 3.0,
        threshold: float = 0.0,
        idf: bool = False,
        search: str = "auto",
    ) -> None:
        self.codebook = codebook
        self.words = words if codebook is None else codebook.size
        self.binary = binary
        self.query_assignment = query_assignment
        self.alpha = alpha
        self.threshold = threshold
        self.idf = idf
        self.search = search
        self._file: InvertedFile | None = None
        self._names: tuple[str, ...] | None = None
        self._scorer: Scorer | None = None
        _check_options(self)

    def train(self, vectors: ArrayLike, *, seed: int = 1234) -> Self:
        """Make the codebook of (n, D) vectors, of other pictures than the database's; what was fitted is let go.

        Raises:
            LowqError: fewer vectors than words, or vectors that are not (n, D) finite numbers.
        """
        self.codebook = Codebook.train(vectors, self.words, seed=seed)
        self._file, self._names, self._scorer = None, None, None
        return self

    def fit(self, database: LocalDescriptors, names: Sequence[str] | None = None) -> Self:
        """Index the N pictures of `database`. One without descriptors is kept, and scores 0.

        Args:
            database: descriptors (M, D) and offsets (N + 1,).
            names: the pictures' names, so that `append` and `merge` notice one that is there already; by default
                `database.names`, or none if it has no names.

        Raises:
            LowqError: no codebook, no pictures, another dimension than the codebook's, descriptors that are not
                finite, offsets that do not fit, a name that occurs twice.
        """
        found = _names(database, names)
        self._file, self._names, self._scorer = self._index(database, "database"), found, None
        return self

    def append(self, more: LocalDescriptors, names: Sequence[str] | None = None) -> Self:
        """Add pictures behind those of the database; the same as having fitted all at once.

        It takes the time to copy the index, so many pictures at a time are better than one.

        Raises:
            LowqError: as for `fit`, or nothing was fitted, a name is there already, or only one side has names.
        """
        self._fitted()
        return self._join(self._index(more, "more"), _names(more, names))

    def merge(self, other: ASMK) -> Self:
        """Add the database of `other`, which has the same codebook and kernel, behind this one's.

        Raises:
            LowqError: nothing fitted in one of them, another codebook or kernel, names as for `append`.
        """
        self._fitted()
        same = np.array_equal(self._codebook().centroids, other._codebook().centroids)
        if self.binary != other.binary or not same:
            raise LowqError(
                "merge: the other index has another codebook or kernel; build both with the same ones"
            )
        return self._join(other._fitted(), other._names)

    def rank(self, queries: LocalDescriptors, k: int | None = None) -> Ranking:
        """The k best for each of Q query pictures, all N where k is None; equal scores by index.

        A query without descriptors scores 0 with every picture, so these come in their order. Scores do not
        depend on the other queries; with `binary`, not in the last bit.

        Raises:
            LowqError: not fitted, no queries, queries of another dimension or not finite, k outside 1..N.
        """
        file, encoder = self._fitted(), self._encoder()
        k = check_k(k, len(file.cells))
        if self._scorer is None:
            self._scorer = Scorer.of(
                file, dim=encoder.codebook.dim, alpha=self.alpha, threshold=self.threshold, idf=self.idf
            )
        scorer = self._scorer
        parts: list[Ranking] = []
        for block in encoder.blocks(queries, "queries"):
            entries = encoder.entries(block, self.query_assignment)
            count = len(block.offsets) - 1
            step = min(max(1, _SUMS // len(file.cells)), count)
            starts = range(0, count, step)
            threads = -(-(os.cpu_count() or 1) // len(starts))  # a large database is shared out by queries

            def some(
                start: int,
                entries: Entries = entries,
                stop: int = count,
                step: int = step,
                threads: int = threads,
            ) -> Ranking:
                stop = min(start + step, stop)
                return rank_scores(scorer.scores(entries.of(start, stop), stop - start, threads), k)

            parts += in_threads(some, starts)
        return Ranking(
            np.concatenate([one.ids for one in parts]), np.concatenate([one.scores for one in parts])
        )

    def matches(self, query: NDArray[np.float32], picture: NDArray[np.float32]) -> list[WordMatch]:
        """What the score of two pictures is made of, word by word; the shares add up to it.

        Args:
            query, picture: (n, D) and (m, D) descriptors of the two.

        Raises:
            LowqError: no codebook, with `idf` no database, descriptors that are not (n, D) finite numbers.
        """
        codebook = self._codebook()
        query, picture = (
            as_descriptors(one, what, dim=codebook.dim)
            for one, what in ((query, "query"), (picture, "picture"))
        )
        idf = inverse_document_frequency(self._fitted()) if self.idf else np.ones(codebook.size)
        return word_matches(
            Words.of(query, codebook, self.query_assignment, self.search),
            Words.of(picture, codebook, 1, self.search),
            idf,
            binary=self.binary,
            alpha=self.alpha,
            threshold=self.threshold,
        )

    def save(self, path: Path) -> None:
        """Write codebook, index and options into the folder `path`."""
        file = self._fitted()
        options = {
            "binary": self.binary,
            "query_assignment": self.query_assignment,
            "alpha": self.alpha,
            "threshold": self.threshold,
            "idf": self.idf,
            "search": self.search,
        }
        arrays: dict[str, NDArray[Any]] = {name: getattr(file, name) for name in _ARRAYS}
        arrays["centroids"] = self._codebook().centroids
        arrays["names"] = np.frombuffer(json.dumps(self._names).encode(), np.uint8)
        write_saved(path, "ASMK", options, arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; the index stays on disk, memory-mapped.

        Raises:
            LowqError: nothing saved there, something else, or a file that does not match its digest.
        """
        options, arrays = read_saved(path, "ASMK")
        plain = {name: np.asarray(array) for name, array in arrays.items()}  # memmap's own slices are slow
        self = cls(codebook=Codebook(plain["centroids"]), **options)
        self._file = InvertedFile(*(plain[name] for name in _ARRAYS))
        self._file.check(Path(path), self._codebook().dim, self.binary)
        names = json.loads(plain["names"].tobytes())
        self._names = None if names is None else tuple(names)
        return self

    def _codebook(self) -> Codebook:
        if self.codebook is None:
            raise LowqError("ASMK: has no codebook; call train first, or give one to the constructor")
        return self.codebook

    def _encoder(self) -> Encoder:
        return Encoder(self._codebook(), self.binary, self.search)

    def _fitted(self) -> InvertedFile:
        if self._file is None:
            raise LowqError("ASMK: has no database; call fit first")
        return self._file

    def _index(self, pictures: LocalDescriptors, what: str) -> InvertedFile:
        encoder = self._encoder()
        parts = []
        count = 0
        for block in encoder.blocks(pictures, what):
            entries = encoder.entries(block, 1)
            parts.append(Entries(entries.pictures + np.int32(block.first), entries.words, entries.codes))
            count = block.first + len(block.offsets) - 1
        return InvertedFile.build(parts, words=encoder.codebook.size, pictures=count)

    def _join(self, more: InvertedFile, names: tuple[str, ...] | None) -> Self:
        if (names is None) != (self._names is None):
            raise LowqError("names: only some pictures have them; give names for all pictures or for none")
        if names is not None and self._names is not None:
            joined = self._names + names
            _check_unique(joined)
            self._names = joined
        self._file, self._scorer = self._fitted().merged(more), None
        return self


def _names(pictures: LocalDescriptors, names: Sequence[str] | None) -> tuple[str, ...] | None:
    found = getattr(pictures, "names", None) if names is None else names
    if found is None:
        return None
    count = len(pictures.offsets) - 1
    if len(found) != count:
        raise LowqError(f"names: {len(found)} for {count} pictures; give one for each")
    _check_unique(found)
    return tuple(found)


def _check_unique(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise LowqError(f"names: {twice} occurs twice; drop the picture that is there already")


def _check_options(search: ASMK) -> None:
    if search.words < 1:
        raise LowqError(f"words={search.words}: has to be at least 1")
    if not 1 <= search.query_assignment <= search.words:
        raise LowqError(
            f"query_assignment={search.query_assignment}: there are {search.words} words; "
            f"choose between 1 and {search.words}"
        )
    if not (search.alpha > 0 and math.isfinite(search.alpha)):
        raise LowqError(f"alpha={search.alpha}: has to be a number above 0; the papers use 3")
    if not 0 <= search.threshold <= 1:
        raise LowqError(f"threshold={search.threshold}: has to be between 0 and 1; HOW uses 0")
    if search.search not in SEARCHES:
        raise LowqError(f"search={search.search!r}: unknown; choose one of {', '.join(SEARCHES)}")
