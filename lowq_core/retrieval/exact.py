"""Exact nearest neighbours by inner product."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.base import Ranking, as_descriptors, check_k
from lowq_core.retrieval.order import falling_bits, rank_scores
from lowq_core.retrieval.saved import read_saved, write_saved

_QUERIES = 256  # at a time
_BUFFER = 1 << 22  # numbers at a time in temporary arrays
_ROUNDING = 2.0**-24  # of float32
_WORTH_LEAVING_OUT = 16  # a database fewer times larger than k is scored and ordered as a whole, in float64


class ExactSearch:
    """Ranks the whole database by inner product, the cosine for L2-normalised descriptors.

    Scores are the inner products in float64, rounded to float32, so they do not depend on blocks, on k or on
    the other queries, and equal pictures tie. The work is done in float32: a blocked product finds all that
    could belong to the k best given its rounding error (gamma_D |q| |x|, Higham 2002, eq. 3.5), and only those
    are computed again in float64.

    Args:
        block: rows of the database that are multiplied at a time.

    >>> search = ExactSearch().fit([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> search.rank([[0.0, 1.0]], k=2).ids.tolist()
    [[1, 2]]
    """

    def __init__(self, *, block: int = 16_384) -> None:
        if block < 1:
            raise LowqError(f"block={block}: has to be at least 1")
        self.block = block
        self._database = np.empty((0, 0), np.float32)
        self._longest = 0.0

    def fit(self, database: ArrayLike) -> Self:
        """Take (N, D) descriptors; float32 ones, memory-mapped or not, are used in place, not copied.

        Raises:
            LowqError: not (N, D), empty, not finite.
        """
        self._database = as_descriptors(database, "database")
        rows = max(1, _BUFFER // self._database.shape[1])
        self._longest = max(
            float(np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64).max()))
            for part in (
                self._database[start : start + rows] for start in range(0, len(self._database), rows)
            )
        )
        return self

    def rank(self, queries: ArrayLike, k: int | None = None) -> Ranking:
        """The k best for each of (Q, D) queries, all N where k is None; equal scores by index.

        Raises:
            LowqError: not fitted, queries of another dimension or not finite, k outside 1..N.
        """
        size, dim = self._database.shape
        if size == 0:
            raise LowqError("ExactSearch: has no database; call fit first")
        asked = as_descriptors(queries, "queries", dim=dim)
        k = check_k(k, size)
        whole = _WORTH_LEAVING_OUT * k > size
        batch = min(_QUERIES, max(1, 8 * _BUFFER // size)) if whole else _QUERIES
        some = self._rank_whole if whole else self._rank_best
        parts = [some(asked[start : start + batch], k) for start in range(0, len(asked), batch)]
        return Ranking(
            np.concatenate([one.ids for one in parts]), np.concatenate([one.scores for one in parts])
        )

    def save(self, path: Path) -> None:
        """Write the database and options into the folder `path`."""
        if self._database.size == 0:
            raise LowqError("ExactSearch: has no database; call fit before save")
        write_saved(path, "ExactSearch", {"block": self.block}, {"database": self._database})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; the database stays on disk, memory-mapped.

        Raises:
            LowqError: nothing saved there, something else, or a part that does not match its digest.
        """
        options, arrays = read_saved(path, "ExactSearch")
        return cls(**options).fit(arrays["database"])

    def _rank_whole(self, queries: NDArray[np.float32], k: int) -> Ranking:
        scores = np.empty((len(queries), len(self._database)), np.float32)
        doubled = queries.astype(np.float64)
        rows = max(1, _BUFFER // queries.shape[1])
        for start in range(0, len(self._database), rows):
            part = self._database[start : start + rows].astype(np.float64)
            scores[:, start : start + rows] = doubled @ part.T
        return rank_scores(scores, k)

    def _rank_best(self, queries: NDArray[np.float32], k: int) -> Ranking:
        pool = self._candidates(queries, k)
        by_owner = np.argsort(pool.owners, kind="stable")
        bounds = np.searchsorted(pool.owners[by_owner], np.arange(1, len(queries)))
        best = Ranking(np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32))
        for q, places in enumerate(np.split(by_owner, bounds)):
            ids = pool.ids[places]
            scores = (self._database[ids].astype(np.float64) @ queries[q].astype(np.float64)).astype(
                np.float32
            )
            order = np.lexsort((ids, falling_bits(scores)))[:k]
            best.ids[q], best.scores[q] = ids[order], scores[order]
        return best

    def _candidates(self, queries: NDArray[np.float32], k: int) -> _Pool:
        """All that could be among the k best of each query, found with a float32 product."""
        size, dim = self._database.shape
        norms = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
        gamma = dim * _ROUNDING / (1 - dim * _ROUNDING)
        # the k-th best and a rival can each be off by gamma |q| |x|; times two again for the bound's own rounding
        pool = _Pool(k, (4 * gamma * norms * self._longest).astype(np.float32))
        block = min(size, max(self.block, 4 * k))
        buffer = np.empty((block, len(queries)), np.float32)
        turned = np.ascontiguousarray(queries.T)
        for start in range(0, size, block):
            part = self._database[start : start + block]
            pool.add(np.matmul(part, turned, out=buffer[: len(part)]), start)
        pool.shrink()
        return pool


class _Pool:
    """Candidates of several queries: `owners` (query), `ids` and float32 `scores`, and what it takes to enter."""

    def __init__(self, k: int, margin: NDArray[np.float32]) -> None:
        self.k = k
        self.margin = margin
        self.least = np.full(margin.size, -np.inf, np.float32)
        self.owners = np.empty(0, np.int64)
        self.ids = np.empty(0, np.int64)
        self.scores = np.empty(0, np.float32)
        self._waiting: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
        self._count = 0
        self._limit = max(8 * k * margin.size, 1 << 14)

    def add(self, scores: NDArray[np.float32], start: int) -> None:
        """Take what is good enough of (rows, Q) scores of the database from row `start` on."""
        if start == 0:  # a first guess; the first block has more than k rows
            kth = np.partition(scores, len(scores) - self.k, axis=0)[len(scores) - self.k]
            self.least = kth - self.margin
        places = np.flatnonzero(scores >= self.least)
        rows, owners = np.divmod(places, self.margin.size)
        self._waiting.append((owners, rows + start, scores.ravel()[places]))
        self._count += places.size
        if self._count > self._limit:
            self.shrink()
            self._limit = max(self._limit, 2 * self._count)

    def shrink(self) -> None:
        """Keep the k best of each query and all within the margin below; raise the entrance accordingly."""
        if not self._waiting:  # the last block has just filled the pool
            return
        owners, ids, scores = (
            np.concatenate([old, *new])
            for old, new in zip(
                (self.owners, self.ids, self.scores), zip(*self._waiting, strict=True), strict=True
            )
        )
        keys = owners.astype(np.uint64) << np.uint64(32) | falling_bits(scores)
        order = np.argsort(keys)
        first = np.searchsorted(owners[order], np.arange(self.margin.size))
        self.least = scores[order[first + self.k - 1]] - self.margin
        kept = scores >= self.least[owners]
        self.owners, self.ids, self.scores = owners[kept], ids[kept], scores[kept]
        self._waiting = []
        self._count = self.ids.size
