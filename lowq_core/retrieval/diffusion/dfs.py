"""Diffusion when the query comes: one sparse linear system a query, on the graph of the whole database."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lowq_core.errors import LowqError
from lowq_core.retrieval.diffusion.base import GraphRetriever
from lowq_core.retrieval.diffusion.conjugate import conjugate_gradients
from lowq_core.retrieval.knn import Search
from lowq_core.retrieval.threads import in_threads

_UNKNOWNS = 1 << 20  # that one thread solves for at a time; their vectors should stay near the cache


class Diffusion(GraphRetriever):
    """DFS: efficient diffusion (Iscen, Tolias, Avrithis, Furon, Chum, CVPR 2017), on global descriptors.

    Solves (I - alpha S) f = y by conjugate gradients, where S = D^-1/2 A D^-1/2 is the normalised mutual k-nearest
    neighbour graph, A_ij = max(s_ij, 0)^gamma, and y_i = max(s(q, x_i), 0)^gamma for the query's nearest pictures.
    Several queries share each product with S. For how pictures that diffusion does not reach are ordered, see
    `GraphRetriever`.

    Memory: 12 bytes an edge, at most k edges a picture, besides the database; 130 MB for a batch of queries.

    Args:
        k: neighbours of each picture in the graph, itself not counted (the authors' code counts it among its 50).
        query_k: nearest pictures of a query where diffusion starts.
        gamma: exponent of similarities.
        alpha: how far it spreads, between 0 and 1.
        iterations: of conjugate gradients, at most.
        tolerance: of the residual, relative to y.
        search: how neighbours are found, see `nearest_neighbours`.

    >>> angles = np.radians([20, 40, 60, 80, -55])
    >>> search = Diffusion(k=2, query_k=1).fit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    >>> search.rank([[1.0, 0.0]]).ids[0, -1]  # the last is third in a plain search, but nobody's neighbour
    np.int64(4)
    """

    def __init__(
        self,
        *,
        k: int = 50,
        query_k: int = 10,
        gamma: float = 3.0,
        alpha: float = 0.99,
        iterations: int = 20,
        tolerance: float = 1e-6,
        search: Search = "exact",
    ) -> None:
        super().__init__(k=k, query_k=query_k, gamma=gamma, alpha=alpha, search=search)
        check_solver(iterations, tolerance)
        self.iterations = iterations
        self.tolerance = tolerance

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"iterations": self.iterations, "tolerance": self.tolerance}

    def _filtered(self, ids: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        right = np.zeros((self._graph.shape[0], len(ids)))
        right[ids.T, np.arange(len(ids))] = values.T
        return diffused(self._graph, right, self.alpha, self.iterations, self.tolerance).T


def diffused(
    graph: sparse.csr_array, right: NDArray[np.float64], alpha: float, iterations: int, tolerance: float
) -> NDArray[np.float64]:
    """(N, Q) solutions f of (I - alpha S) f = y for the (N, N) graph S and each column y of `right`.

    >>> pair = sparse.csr_array(np.array([[0.0, 1], [1, 0]]))
    >>> diffused(pair, np.array([[0.75], [0]]), 0.5, 20, 1e-6).round(6).tolist()
    [[1.0], [0.5]]
    """
    size, count = right.shape
    step = min(max(1, _UNKNOWNS // size), -(-count // (os.cpu_count() or 1)))

    def some(start: int) -> NDArray[np.float64]:
        solution: NDArray[np.float64] = conjugate_gradients(
            lambda vectors: vectors - alpha * (graph @ vectors),
            np.ascontiguousarray(right[:, start : start + step]),
            dot=lambda a, b: np.einsum("ij,ij->j", a, b),
            iterations=iterations,
            tolerance=tolerance,
        )
        return solution

    return np.concatenate(in_threads(some, range(0, count, step)), axis=1)


def check_solver(iterations: int, tolerance: float) -> None:
    """LowqError unless there is at least one iteration and a tolerance of at least 0, below 1."""
    if iterations < 1:
        raise LowqError(f"iterations={iterations}: has to be at least 1; the papers use 20")
    if not 0 <= tolerance < 1:
        raise LowqError(f"tolerance={tolerance}: has to be at least 0 and below 1; the papers use 1e-6")
