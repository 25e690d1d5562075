"""Query expansion: the query moves towards what it found first, and is asked again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.knn import Neighbours, given_neighbours
from lowq_core.retrieval.saved import read_saved, write_saved
from lowq_core.retrieval.unit import UnitSearch, as_unit_descriptors, normalised

_NUMBERS = 1 << 22  # of expanding descriptors in memory at a time


class AlphaQE:
    """Query expansion weighted by similarity (alpha-QE; Radenovic, Tolias, Chum, TPAMI 2019, section 3.4).

    q' = l2n(q + sum over the n nearest x_i of max(q.x_i, 0)^alpha x_i), then plain search with q'. With n = 0 it
    is the plain search. A zero query stays zero. n = 10 and n = 50 are both in use; which one belongs to the rows
    that GSS quotes is not known.

    Args:
        n: how many of the nearest are added.
        alpha: exponent of their similarity, at least 0; 0 weighs all alike.

    >>> search = AlphaQE(n=1).fit([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> search.expand([[0.8, 0.6]]).astype(float).round(3).tolist()  # 0.8, 0.6 and 0.96^3 times 0.6, 0.8
    [[0.713, 0.701]]
    """

    def __init__(self, *, n: int = 10, alpha: float = 3.0) -> None:
        check_expansion(n, alpha)
        self.n = n
        self.alpha = alpha
        self._search = UnitSearch()

    def fit(self, database: ArrayLike) -> Self:
        """Take (N, D) L2-normalised descriptors; zero rows are found last.

        Raises:
            LowqError: not (N, D), empty, not finite, not normalised, or n above N.
        """
        search = UnitSearch().fit(database)
        if self.n > len(search.database):
            raise LowqError(f"n={self.n}: the database has {len(search.database)} pictures; choose fewer")
        self._search = search
        return self

    def expand(self, queries: ArrayLike, *, neighbours: ArrayLike | None = None) -> NDArray[np.float32]:
        """(Q, D) expanded queries, L2-normalised.

        Args:
            neighbours: (Q, K) int, pictures of the database that are added instead of the nearest, such as those
                that geometry has verified; the first `n` count.

        Raises:
            LowqError: not fitted, queries of another dimension, not finite or not normalised, lists that do not fit.
        """
        database = self._fitted().database
        asked = as_unit_descriptors(queries, "queries", dim=database.shape[1])
        if self.n == 0:
            return asked
        step = max(1, _NUMBERS // (self.n * asked.shape[1]))
        parts = [slice(start, start + step) for start in range(0, len(asked), step)]
        if neighbours is None:
            return np.concatenate([self._expanded(asked[p], self._nearest(asked[p])) for p in parts])
        near = given_neighbours(asked, database, neighbours, self.n)
        return np.concatenate([self._expanded(asked[p], near[p]) for p in parts])

    def rank(
        self, queries: ArrayLike, k: int | None = None, *, neighbours: ArrayLike | None = None
    ) -> Ranking:
        """The k best for each of (Q, D) queries, all N where k is None; scores are cosines with the expanded query.

        Args:
            neighbours: as in `expand`.

        Raises:
            LowqError: as for `expand`, or k outside 1..N.
        """
        return self._fitted().rank(self.expand(queries, neighbours=neighbours), k)

    def save(self, path: Path) -> None:
        """Write the database and options into the folder `path`."""
        write_saved(path, type(self).__name__, self._options(), {"database": self._fitted().database})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; the database stays on disk, memory-mapped.

        Raises:
            LowqError: nothing saved there, something else, or a part that does not match its digest.
        """
        options, arrays = read_saved(path, cls.__name__)
        return cls(**options).fit(arrays["database"])

    def _nearest(self, queries: NDArray[np.float32]) -> Neighbours:
        found = self._search.rank(queries, self.n)
        return Neighbours(found.ids, found.scores)

    def _expanded(self, queries: NDArray[np.float32], near: Neighbours) -> NDArray[np.float32]:
        weights = similarity_weights(near.similarities.astype(np.float64), self.alpha)
        weights[~queries.any(axis=1)] = 0  # its neighbours mean nothing
        added = np.einsum("qn,qnd->qd", weights, self._search.database[near.ids])
        return normalised(queries + added)

    def _options(self) -> dict[str, Any]:
        return {"n": self.n, "alpha": self.alpha}

    def _fitted(self) -> UnitSearch:
        if self._search.database.size == 0:
            raise LowqError(f"{type(self).__name__}: has no database; call fit first")
        return self._search


class AverageQE(AlphaQE):
    """Average query expansion (Chum et al., ICCV 2007): alpha-QE with alpha = 0.

    q' = l2n(q + x_1 + ... + x_n); the original adds only geometrically verified pictures, this the n nearest, or
    those that are given as `neighbours`.

    >>> AverageQE(n=1).fit([[0.0, 1.0], [-1.0, 0.0]]).expand([[1.0, 0.0]]).astype(float).round(3).tolist()
    [[0.707, 0.707]]
    """

    def __init__(self, *, n: int = 10) -> None:
        super().__init__(n=n, alpha=0.0)

    def _options(self) -> dict[str, Any]:
        return {"n": self.n}


def similarity_weights(similarities: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """max(s, 0)^alpha; 1 everywhere for alpha = 0.

    >>> similarity_weights(np.array([0.5, -0.5]), 2.0).tolist()
    [0.25, 0.0]
    """
    return np.power(np.maximum(similarities, 0), alpha)


def check_expansion(n: int, alpha: float) -> None:
    """LowqError unless n is at least 0 and alpha a number that is."""
    if n < 0:
        raise LowqError(f"n={n}: has to be at least 0; 0 expands nothing")
    if not (alpha >= 0 and math.isfinite(alpha)):
        raise LowqError(f"alpha={alpha}: has to be a number of at least 0; 3 is usual")
