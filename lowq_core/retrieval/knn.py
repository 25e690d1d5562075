"""The k nearest neighbours by inner product: of database rows among the others, and of queries in the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.base import as_descriptors, check_k
from lowq_core.retrieval.exact import ExactSearch
from lowq_core.retrieval.graph import check_lists
from lowq_core.retrieval.inner_products import pair_similarities
from lowq_core.retrieval.order import falling_bits

Search = Literal["exact", "hnsw", "ivf"]
_ALONE = 8  # queries; fewer are asked for best by the search that has no blocks of rows to prepare


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of each of N rows, best first, equal ones by index.

    Attributes:
        ids: (N, k) int64. A database row is not its own neighbour.
        similarities: (N, k) float32, inner products in float64, rounded.
    """

    ids: NDArray[np.int64]
    similarities: NDArray[np.float32]

    def __getitem__(self, rows: slice) -> Neighbours:
        return Neighbours(self.ids[rows], self.similarities[rows])


class NeighbourIndex:
    """Finds neighbours in one database, which it keeps with what a search needs.

    Args:
        database: (N, D) descriptors, L2-normalised as a rule.
        search: "exact"; "hnsw" (a graph: slow to build, quick to ask) or "ivf" (lists by cluster), both from faiss,
            miss some; `recall` says how many. faiss builds "hnsw" in threads, so two runs may miss different ones.

    Raises:
        LowqError: descriptors that are not (N, D) finite numbers, another search.

    >>> index = NeighbourIndex([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> index.among(1).ids.tolist(), index.of([[0.8, 0.6]], 2).ids.tolist()
    ([[1], [2], [1]], [[1, 0]])
    """

    def __init__(self, database: ArrayLike, search: Search = "exact") -> None:
        check_search(search)
        self.database = as_descriptors(database, "database")
        self.search = search
        self._approximate: Any = None
        self._graph: Any = None
        self._few: ExactSearch | None = None

    def among(self, k: int) -> Neighbours:
        """The k nearest others of each database row.

        Raises:
            LowqError: k outside 1..N - 1.
        """
        size = len(self.database)
        if not 1 <= k < size:
            raise LowqError(
                f"k={k}: each of {size} pictures has {size - 1} others; choose k between 1 and that"
            )
        if self.search == "exact":
            return Neighbours(*self._exact().neighbours(k))
        found = self._faiss().search(self.database, min(k + 1, size))
        return self._sorted(_without_own(found, np.arange(size), k), self.database, own=True)

    def of(self, queries: ArrayLike, k: int) -> Neighbours:
        """The k nearest database rows of each of (Q, D) queries.

        Raises:
            LowqError: queries of another dimension or not finite, k outside 1..N.
        """
        asked = as_descriptors(queries, "queries", dim=self.database.shape[1])
        k = check_k(k, len(self.database))
        if self.search == "exact":
            if len(asked) < _ALONE:
                ranking = self._alone().rank(asked, k)
                return Neighbours(ranking.ids, ranking.scores)
            return Neighbours(*self._exact().of(asked, k))
        return self._sorted(self._faiss().search(asked, k), asked, own=False)

    def recall(self, k: int, *, sample: int = 1_000, seed: int = 0) -> float:
        """The share of the true k nearest others that this search finds, for `sample` rows drawn at random.

        A found row counts if it is as similar as the true k-th, within 1e-6, so ties are no misses.

        Raises:
            LowqError: k outside 1..N - 1, sample below 1.
        """
        size = len(self.database)
        if not 1 <= k < size or sample < 1:
            raise LowqError(
                f"recall: k={k} of {size} pictures, sample={sample}; k is 1 to N - 1, sample 1 or more"
            )
        rows = np.sort(np.random.default_rng(seed).choice(size, min(sample, size), replace=False))
        asked = self.database[rows]
        truth = ExactSearch().fit(self.database).rank(asked, k + 1)
        found = self.of(asked, k + 1)
        true_scores, found_scores = (
            np.take_along_axis(scores, np.argsort(ids == rows[:, None], axis=1, kind="stable")[:, :k], axis=1)
            for ids, scores in ((truth.ids, truth.scores), (found.ids, found.similarities))
        )
        return float((found_scores >= true_scores.min(axis=1, keepdims=True) - 1e-6).mean())

    def _alone(self) -> ExactSearch:
        if self._few is None:
            self._few = ExactSearch().fit(self.database)
        return self._few

    def _exact(self) -> Any:
        if self._graph is None:
            from lowq_core.retrieval.exact_graph import ExactGraph

            self._graph = ExactGraph(self.database)
        return self._graph

    def _faiss(self) -> Any:
        if self._approximate is None:
            from lowq_core.retrieval.approximate import ApproximateIndex

            self._approximate = ApproximateIndex(self.database, self.search)
        return self._approximate

    def _sorted(self, ids: NDArray[np.int64], asked: NDArray[np.float32], own: bool) -> Neighbours:
        """`ids` with their true similarities, best first; rows with gaps (-1) are searched exactly."""
        gaps = np.flatnonzero((ids < 0).any(axis=1))
        if gaps.size:
            k = ids.shape[1]
            exact = ExactSearch().fit(self.database).rank(asked[gaps], k + own)
            ids[gaps] = _without_own(exact.ids, gaps, k) if own else exact.ids
        scores = pair_similarities(asked, self.database, ids)
        order = np.lexsort((ids, falling_bits(scores)))
        return Neighbours(np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1))


def nearest_neighbours(database: ArrayLike, k: int, *, search: Search = "exact") -> Neighbours:
    """The k nearest others of each of (N, D) database rows, see `NeighbourIndex`.

    "exact" makes all N^2 products, in bfloat16 where that is faster on this processor, and makes those again in
    float64 that could be among the k best given the bound on the rounding; time grows with N^2 D, memory with N.

    Raises:
        LowqError: as `NeighbourIndex`, k outside 1..N - 1.

    >>> nearest_neighbours([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], 1).similarities.ravel().round(2).tolist()
    [0.6000000238418579, 0.800000011920929, 0.800000011920929]
    """
    return NeighbourIndex(database, search).among(k)


def neighbours_of(queries: ArrayLike, database: ArrayLike, k: int, *, search: Search = "exact") -> Neighbours:
    """The k nearest database rows of each of (Q, D) queries; to ask more than once, keep a `NeighbourIndex`.

    Raises:
        LowqError: as `NeighbourIndex`, k outside 1..N.

    >>> neighbours_of([[0.0, 1.0]], [[1.0, 0.0], [0.6, 0.8]], 1).ids.tolist()
    [[1]]
    """
    return NeighbourIndex(database, search).of(queries, k)


def given_neighbours(
    queries: NDArray[np.float32], database: NDArray[np.float32], lists: ArrayLike, k: int
) -> Neighbours:
    """The first k of each query's ranked `lists` of database rows, (Q, K) int, with their similarities.

    Raises:
        LowqError: lists that do not fit, or are shorter than k.

    >>> given_neighbours(np.float32([[0, 1]]), np.float32([[1, 0], [0, 2]]), [[1, 0]], 1).similarities.tolist()
    [[2.0]]
    """
    ids = check_lists(lists, "neighbours", rows=len(queries), size=len(database))
    if ids.shape[1] < k or (ids[:, :k] < 0).any():
        raise LowqError(f"neighbours: a list is shorter than {k}; give {k} pictures for each query")
    ids = ids[:, :k]
    return Neighbours(ids, pair_similarities(queries, database, ids))


def without_own(ids: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranked lists (Q, K) without each query's own picture, `own` (Q,), -1 where it has none; -1 fills them up.

    For benchmarks that leave one out: a query whose own picture is in the database has that for its nearest.

    >>> without_own(np.array([[4, 2, 7], [2, 4, 7]]), np.array([2, -1])).tolist()
    [[4, 7, -1], [2, 4, 7]]
    """
    left = np.where(ids == own[:, None], -1, ids)
    return np.take_along_axis(left, np.argsort(left < 0, axis=1, kind="stable"), axis=1)


def recall_of(
    database: ArrayLike, k: int, *, search: Search = "hnsw", sample: int = 1_000, seed: int = 0
) -> float:
    """The share of the true k nearest neighbours that `search` finds, measured on a sample of rows.

    >>> recall_of([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], 1, search="exact")
    1.0
    """
    return NeighbourIndex(database, search).recall(k, sample=sample, seed=seed)


def check_search(search: str) -> None:
    """LowqError where `search` is unknown.

    >>> check_search("ivf")
    """
    if search not in get_args(Search):
        raise LowqError(f"search={search!r} is unknown; choose {', '.join(get_args(Search))}")


def _without_own(ids: NDArray[np.int64], rows: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The first k of each line that are not the line's row number."""
    own = ids == rows[:, None]
    return np.take_along_axis(ids, np.argsort(own, axis=1, kind="stable")[:, :k], axis=1)
