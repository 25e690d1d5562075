"""Diffusion before the query comes: one small linear system for each picture of the database."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lowq_core.errors import LowqError
from lowq_core.retrieval.asmk.encoding import in_threads
from lowq_core.retrieval.diffusion.base import GraphRetriever
from lowq_core.retrieval.diffusion.conjugate import conjugate_gradients
from lowq_core.retrieval.diffusion.dfs import check_solver
from lowq_core.retrieval.diffusion.subsets import nearest_sets
from lowq_core.retrieval.knn import NeighbourIndex, Neighbours

_SYSTEMS = 1 << 13  # unknowns that one thread solves for at a time; they should stay in a core's cache


class TruncatedDiffusion(GraphRetriever):
    """Offline diffusion with late truncation (Yang, Hinami, Matsui, Ly, Satoh, AAAI 2019).

    For each picture i of the database, (I - alpha S) f_i = e_i is solved among its `truncation` nearest pictures
    only, i included: rows and columns of S, the normalised mutual k-nearest neighbour graph of the whole database
    (see `Diffusion`), are picked out. A query adds up the stored solutions of its nearest pictures, f = sum of
    max(s(q, x_i), 0)^gamma f_i. With `truncation` = N and converged solutions that is `Diffusion`.

    The systems are solved many at a time, as blocks of one sparse matrix, on all processors. Neighbours are exact.
    Memory: 8 bytes for each of N `truncation` stored scores, 800 MB for 100,000 pictures at 1,000, besides the
    database and the graph (12 bytes an edge, at most k edges a picture); about 100 MB more while they are computed.

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
        step = max(1, _SYSTEMS // self.truncation)

        def some(start: int) -> None:
            part = slice(start, start + step)
            self._solutions[part] = self._solved(system, self._sets[part])

        in_threads(some, range(0, len(self._sets), step))

    def _solved(self, system: sparse.csr_array, sets: NDArray[np.int32]) -> NDArray[np.float64]:
        """(B, T) solutions among B sets of T pictures, each with its own picture first."""
        block = restricted(system, sets)
        right = np.zeros(sets.shape)
        right[:, 0] = 1
        solution: NDArray[np.float64] = conjugate_gradients(
            lambda vectors: (block @ vectors.ravel()).reshape(vectors.shape),
            right,
            axis=1,
            iterations=self.iterations,
            tolerance=self.tolerance,
        )
        return solution

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


def restricted(graph: sparse.csr_array, sets: NDArray[np.int32]) -> sparse.csr_array:
    """(B T, B T) block-diagonal: the rows and columns of `graph` that belong to each of B sets of T pictures.

    >>> graph = sparse.csr_array(np.array([[0.0, 1, 2], [1, 0, 3], [2, 3, 0]]))
    >>> restricted(graph, np.array([[0, 1], [2, 0]], np.int32)).toarray().tolist()
    [[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 2.0, 0.0]]
    """
    count, members = sets.shape
    rows = graph[sets.ravel()]
    places = np.full(graph.shape[0], -1, np.int32)
    columns = np.empty(rows.nnz, np.int32)
    for i, chosen in enumerate(sets):
        entries = slice(rows.indptr[i * members], rows.indptr[(i + 1) * members])
        places[chosen] = np.arange(i * members, (i + 1) * members, dtype=np.int32)
        np.take(
            places, rows.indices[entries], out=columns[entries], mode="clip"
        )  # unlike "raise", not buffered
        places[chosen] = -1
    kept = columns >= 0
    counts = np.zeros(len(sets.ravel()), np.int32)
    filled = np.flatnonzero(np.diff(rows.indptr))  # what reduceat makes of an empty row is not 0
    counts[filled] = np.add.reduceat(kept, rows.indptr[filled], dtype=np.int32)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    places = np.flatnonzero(kept)  # and take: quicker than masks
    return sparse.csr_array(
        (rows.data.take(places), columns.take(places), starts), shape=(count * members, count * members)
    )
