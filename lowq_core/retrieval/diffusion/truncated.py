"""Diffusion before the query comes: one small linear system for each picture of the database."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lowq_core.errors import LowqError
from lowq_core.retrieval.diffusion.base import GraphRetriever
from lowq_core.retrieval.diffusion.dfs import check_solver
from lowq_core.retrieval.diffusion.small import SmallSystems
from lowq_core.retrieval.diffusion.subsets import nearest_sets
from lowq_core.retrieval.knn import NeighbourIndex, Neighbours
from lowq_core.retrieval.threads import in_threads

_UNKNOWNS = 1 << 14  # that one thread solves for at a time; they should stay in a core's cache
_PLACES = 1 << 22  # numbers, one for each of them and each picture of the database, in memory of that thread
_TURN = 16  # batches that one thread takes


class TruncatedDiffusion(GraphRetriever):
    """Offline diffusion with late truncation (Yang, Hinami, Matsui, Ly, Satoh, AAAI 2019).

    For each picture i of the database, (I - alpha S) f_i = e_i is solved among its `truncation` nearest pictures
    only, i included: rows and columns of S, the normalised mutual k-nearest neighbour graph of the whole database
    (see `Diffusion`), are picked out. A query adds up the stored solutions of its nearest pictures, f = sum of
    max(s(q, x_i), 0)^gamma f_i. With `truncation` = N and converged solutions that is `Diffusion`.

    The systems are solved many at a time, as blocks of one sparse matrix, on all processors, and of each only the
    part that its picture is connected with: elsewhere the solution is 0. Neighbours are exact.
    Memory: 8 bytes for each of N `truncation` stored scores, 800 MB for 100,000 pictures at 1,000, besides the
    database and the graph (12 bytes an edge, at most k edges a picture). Fitting takes 250 MB more at that size.

    Args:
        k, query_k, gamma, alpha, iterations, tolerance: as for `Diffusion`.
        truncation: pictures in each system, 2 to N.

    >>> angles = np.radians([20, 40, 60, 80, -55])
    >>> search = TruncatedDiffusion(k=2, query_k=1, truncation=4)
    >>> search = search.fit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    >>> search.rank([[1.0, 0.0]]).ids[0, -1]  # the last is third in a plain search, but nobody's neighbour
    np.int64(4)
    """

    def __init__(
        self,
        *,
        k: int = 50,
        query_k: int = 10,
        truncation: int = 1000,
        gamma: float = 3.0,
        alpha: float = 0.99,
        iterations: int = 20,
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(k=k, query_k=query_k, gamma=gamma, alpha=alpha, search="exact")
        check_solver(iterations, tolerance)
        if truncation < 2:
            raise LowqError(f"truncation={truncation}: has to be at least 2; the paper uses 1,000 and more")
        self.truncation = truncation
        self.iterations = iterations
        self.tolerance = tolerance
        self._sets = np.empty((0, 0), np.int32)
        self._solutions = np.empty((0, 0), np.float32)

    def _neighbours(self, index: NeighbourIndex) -> Neighbours:
        self._sets, near = nearest_sets(index.database, self.truncation, self.k)
        return near if near is not None else super()._neighbours(index)

    def _prepare(self) -> None:
        self._solutions = np.empty(self._sets.shape, np.float32)
        system = sparse.csr_array(sparse.eye_array(self._graph.shape[0]) - self.alpha * self._graph)
        batch = max(1, min(_UNKNOWNS // self.truncation, _PLACES // len(self._sets)))

        def some(start: int) -> None:
            systems = SmallSystems(system)
            for first in range(start, min(start + _TURN * batch, len(self._sets)), batch):
                part = slice(first, first + batch)
                self._solutions[part] = systems.solved(self._sets[part], self.iterations, self.tolerance)

        in_threads(some, range(0, len(self._sets), _TURN * batch))

    def _filtered(self, ids: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        size = len(self._sets)
        scores = np.empty((len(ids), size))
        for out, chosen, weights in zip(scores, ids, values, strict=True):
            shares = weights[:, None] * self._solutions[chosen]
            out[:] = np.bincount(self._sets[chosen].ravel(), shares.ravel(), minlength=size)
        return scores

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"sets": self._sets, "solutions": self._solutions}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self._sets, self._solutions = np.asarray(arrays["sets"]), np.asarray(arrays["solutions"])

    def _options(self) -> dict[str, Any]:
        names = ("k", "query_k", "truncation", "gamma", "alpha", "iterations", "tolerance")
        return {name: getattr(self, name) for name in names}

    def _check_size(self, size: int) -> None:
        super()._check_size(size)
        if self.truncation > size:
            raise LowqError(
                f"truncation={self.truncation}: the database has {size} pictures; choose at most {size}"
            )
