"""What retrievers on the database's graph share: options, the graph, and how scores become a ranking."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from lowq_core.errors import LowqError
from lowq_core.retrieval.base import Ranking, check_k
from lowq_core.retrieval.diffusion.graph import affinity, seeds, transition
from lowq_core.retrieval.knn import NeighbourIndex, Neighbours, Search, check_search, given_neighbours
from lowq_core.retrieval.order import rank_scores
from lowq_core.retrieval.saved import read_saved, write_saved
from lowq_core.retrieval.unit import UNREADABLE, as_unit_descriptors, zero_rows

_SCORES = 1 << 22  # scores of a few queries with the whole database in memory at a time


class GraphRetriever(ABC):
    """Ranks by a filter of the database's graph: scores f = H(S) y, S the normalised graph, y the query's neighbours.

    Scores: f where it is above 0. Pictures that the filter does not reach from the query's neighbours, because the
    graph is not connected or is cut off, have f = 0 and follow those it reaches, ordered by cosine; their score is
    the cosine less 1. Zero descriptors (unreadable pictures) have no edges and come last, with score -3.
    """

    def __init__(self, *, k: int, query_k: int, gamma: float, alpha: float, search: Search) -> None:
        for name, value in (("k", k), ("query_k", query_k)):
            if value < 1:
                raise LowqError(f"{name}={value}: has to be at least 1")
        if not (gamma > 0 and math.isfinite(gamma)):
            raise LowqError(f"gamma={gamma}: has to be a number above 0; the papers use 3")
        if not 0 < alpha < 1:
            raise LowqError(f"alpha={alpha}: has to be between 0 and 1, both excluded; the papers use 0.99")
        check_search(search)
        self.k = k
        self.query_k = query_k
        self.gamma = gamma
        self.alpha = alpha
        self.search = search
        self._index: NeighbourIndex | None = None
        self._zero = np.empty(0, np.int64)
        self._graph = sparse.csr_array((0, 0))

    def fit(self, database: ArrayLike) -> Self:
        """Build the graph of (N, D) L2-normalised descriptors, and what else is made without queries.

        Raises:
            LowqError: not (N, D), empty, not finite, not normalised, or fewer pictures than the options need.
        """
        rows = as_unit_descriptors(database, "database")
        self._check_size(len(rows))
        index = self._take(rows)
        self._graph = transition(affinity(self._neighbours(index), self.gamma))
        self._prepare()
        return self

    def rank(
        self, queries: ArrayLike, k: int | None = None, *, neighbours: ArrayLike | None = None
    ) -> Ranking:
        """The k best for each of (Q, D) L2-normalised queries, all N where k is None; equal scores by index.

        A zero query reaches nothing, and finds the pictures in their order.

        Args:
            neighbours: (Q, K) int, pictures of the database that a query starts from instead of the nearest, such
                as those that geometry has verified; the first `query_k` count.

        Raises:
            LowqError: not fitted, queries of another dimension, not finite or not normalised, k outside 1..N, lists
                that do not fit.
        """
        index = self._fitted()
        size, dim = index.database.shape
        asked = as_unit_descriptors(queries, "queries", dim=dim)
        k = check_k(k, size)
        if neighbours is None:
            near = index.of(asked, self.query_k)
        else:
            near = given_neighbours(asked, index.database, neighbours, self.query_k)
        step = max(1, _SCORES // size)
        rows = [slice(start, start + step) for start in range(0, len(asked), step)]
        parts = [self._rank(asked[some], near[some], k) for some in rows]
        return Ranking(
            np.concatenate([one.ids for one in parts]), np.concatenate([one.scores for one in parts])
        )

    def save(self, path: Path) -> None:
        """Write the database, the graph, what was computed from it, and the options into the folder `path`."""
        arrays = {"database": self._fitted().database} | self._arrays()
        for name in ("indptr", "indices", "data"):
            arrays[f"graph_{name}"] = getattr(self._graph, name)
        write_saved(path, type(self).__name__, self._options(), arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; the large arrays stay on disk, memory-mapped.

        Raises:
            LowqError: nothing saved there, something else, or a part that does not match its digest.
        """
        options, arrays = read_saved(path, cls.__name__)
        self = cls(**options)
        size = len(self._take(np.asarray(arrays["database"])).database)
        graph = tuple(np.asarray(arrays[f"graph_{name}"]) for name in ("data", "indices", "indptr"))
        self._graph = sparse.csr_array(graph, shape=(size, size))
        self._restore(arrays)
        return self

    @abstractmethod
    def _filtered(self, ids: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        """(Q, N) scores f of Q queries whose y is `values` (Q, query_k) at `ids`."""

    def _neighbours(self, index: NeighbourIndex) -> Neighbours:
        """The graph's edges, before those are dropped that are not mutual."""
        return index.among(self.k)

    def _prepare(self) -> None:  # noqa: B027 - there may be nothing
        """Compute what does not depend on queries, once the graph is there."""

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """What `_prepare` computed."""
        return {}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:  # noqa: B027 - likewise
        """Take what `_arrays` gave."""

    def _options(self) -> dict[str, Any]:
        names = ("k", "query_k", "gamma", "alpha", "search")
        return {name: getattr(self, name) for name in names}

    def _check_size(self, size: int) -> None:
        if self.k >= size:
            raise LowqError(
                f"k={self.k}: the database has {size} pictures, so each has {size - 1} others; "
                f"choose a smaller k or give more pictures"
            )
        if self.query_k > size:
            raise LowqError(
                f"query_k={self.query_k}: the database has {size} pictures; choose at most {size}"
            )

    def _take(self, rows: NDArray[np.float32]) -> NeighbourIndex:
        self._index = NeighbourIndex(rows, self.search)
        self._zero = zero_rows(rows)
        return self._index

    def _fitted(self) -> NeighbourIndex:
        if self._index is None:
            raise LowqError(f"{type(self).__name__}: has no database; call fit first")
        return self._index

    def _rank(self, queries: NDArray[np.float32], near: Neighbours, k: int) -> Ranking:
        index = self._fitted()
        scores = self._filtered(near.ids, seeds(near, self.gamma)).astype(np.float32)
        reached = scores > 0
        reached[:, self._zero] = False
        others = np.full((1, 1), -1, np.float32)
        if (np.count_nonzero(reached, axis=1) < k).any():  # else none of the others is shown
            others = np.minimum(queries @ index.database.T, 1) - 1
            others[:, self._zero] = UNREADABLE
        return rank_scores(np.where(reached, scores, others), k)
