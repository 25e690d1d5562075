"""Diffusion in the frequency domain of the database's graph: eigenvectors before the query, products with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import eigsh

from lowq_core.errors import LowqError
from lowq_core.retrieval.diffusion.base import GraphRetriever
from lowq_core.retrieval.diffusion.dfs import check_solver, diffused
from lowq_core.retrieval.knn import Search

_DENSE = 1_500  # pictures of a component that is decomposed as a dense matrix
_PART = 4  # or more than one in so many eigenvectors of it are wanted


class SpectralRanking(GraphRetriever):
    """FSR: fast spectral ranking (Iscen, Avrithis, Tolias, Furon, Chum, CVPR 2018), on global descriptors.

    With S U = U Lambda for the `rank` largest eigenvalues of the graph (see `Diffusion`), a query's scores are
    f = U h(Lambda) U^T y, h(x) = (1 - alpha) / (1 - alpha x): a low-rank (1 - alpha) (I - alpha S)^-1 y. A query
    takes the time and memory of a search in N vectors of `rank` dimensions. Low rank makes some scores negative;
    those count as not reached, see `GraphRetriever`.

    Eigenvectors are found exactly, one connected component of the graph at a time. Reconstruction: the paper
    approximates them by a randomised method, at the rank that memory allows; the default here is ours.

    Memory: 4 N `rank` bytes; while fitting up to 24 N `rank`, or 24 n^2 for components of n pictures that are smaller
    than 1,500 or 4 `rank`.

    Args:
        k, query_k, gamma, alpha, search: as for `Diffusion`.
        rank: eigenvectors that are kept, all N where there are fewer.

    >>> angles = np.radians([20, 40, 60, 80, -55])
    >>> search = SpectralRanking(k=2, query_k=1).fit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    >>> search.rank([[1.0, 0.0]]).ids[0, -1]  # the last is third in a plain search, but nobody's neighbour
    np.int64(4)
    """

    def __init__(
        self,
        *,
        k: int = 50,
        query_k: int = 10,
        rank: int = 1000,
        gamma: float = 3.0,
        alpha: float = 0.99,
        search: Search = "exact",
    ) -> None:
        super().__init__(k=k, query_k=query_k, gamma=gamma, alpha=alpha, search=search)
        if rank < 1:
            raise LowqError(f"rank={rank}: has to be at least 1")
        self.rank_kept = rank
        self._values = np.empty(0)
        self._vectors = np.empty((0, 0), np.float32)

    def _prepare(self) -> None:
        self._values, self._vectors = largest_eigenvectors(self._graph, self.rank_kept)

    def _coordinates(self, ids: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(Q, rank) U^T y."""
        return np.einsum("qk,qkr->qr", values, self._vectors[ids])

    def _filtered(self, ids: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        response = (1 - self.alpha) / (1 - self.alpha * self._values)
        filtered = self._coordinates(ids, values) * response
        return np.asarray(filtered.astype(np.float32) @ self._vectors.T)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"values": self._values, "vectors": self._vectors}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self._values, self._vectors = np.asarray(arrays["values"]), np.asarray(arrays["vectors"])

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"rank": self.rank_kept}


class HybridDiffusion(SpectralRanking):
    """DFS-FSR: spectral and temporal filtering together (Iscen, Avrithis, Tolias, Furon, Chum, ACCV 2018).

    Solves the system of `Diffusion` for any `rank`: f = U (I - alpha Lambda)^-1 U^T y, that is `SpectralRanking` but
    for a factor, plus what is left, (I - alpha S)^-1 (y - U U^T y), by conjugate gradients. The largest eigenvalues,
    which make that system hard, are taken care of, so a few iterations are enough: rank trades memory for time.

    Reconstruction: the defaults of rank and iterations are ours.

    Args:
        k, query_k, gamma, alpha, search: as for `Diffusion`.
        rank: eigenvectors that are kept, all N where there are fewer.
        iterations, tolerance: of conjugate gradients, as for `Diffusion`.

    >>> angles = np.radians([20, 40, 60, 80, -55])
    >>> search = HybridDiffusion(k=2, query_k=1, rank=2).fit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    >>> search.rank([[1.0, 0.0]]).ids[0, -1]  # the last is third in a plain search, but nobody's neighbour
    np.int64(4)
    """

    def __init__(
        self,
        *,
        k: int = 50,
        query_k: int = 10,
        rank: int = 200,
        gamma: float = 3.0,
        alpha: float = 0.99,
        iterations: int = 5,
        tolerance: float = 1e-6,
        search: Search = "exact",
    ) -> None:
        super().__init__(k=k, query_k=query_k, rank=rank, gamma=gamma, alpha=alpha, search=search)
        check_solver(iterations, tolerance)
        self.iterations = iterations
        self.tolerance = tolerance

    def _filtered(self, ids: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        coordinates = self._coordinates(ids, values).astype(np.float32)
        right = -(self._vectors @ coordinates.T).astype(np.float64)
        for query, (chosen, weights) in enumerate(zip(ids, values, strict=True)):
            right[chosen, query] += weights
        rest = diffused(self._graph, right, self.alpha, self.iterations, self.tolerance)
        response = (1 / (1 - self.alpha * self._values)).astype(np.float32)
        return np.asarray(rest.T + (coordinates * response) @ self._vectors.T)

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"iterations": self.iterations, "tolerance": self.tolerance}


def largest_eigenvectors(
    graph: sparse.csr_array, rank: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(r,) the r = min(rank, N) largest eigenvalues of a symmetric (N, N) `graph`, falling, and (N, r) eigenvectors.

    Each belongs to one connected component and is 0 elsewhere, also where components share an eigenvalue.

    >>> values, vectors = largest_eigenvectors(sparse.csr_array(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])), 2)
    >>> values.tolist(), np.abs(vectors).round(2).T.tolist()
    ([1.0, 0.0], [[0.7099999785423279, 0.7099999785423279, 0.0], [0.0, 0.0, 1.0]])
    """
    size = graph.shape[0]
    rank = min(rank, size)
    count, component = csgraph.connected_components(graph, directed=False)
    members = np.split(np.argsort(component, kind="stable"), np.cumsum(np.bincount(component))[:-1])
    parts = [_component_eigenvectors(graph, one, rank) for one in members]
    values = np.concatenate([part[0] for part in parts])
    owners = np.repeat(np.arange(count), [len(part[0]) for part in parts])
    columns = np.concatenate([np.arange(len(part[0])) for part in parts])
    kept = np.argsort(-values, kind="stable")[:rank]
    vectors = np.zeros((size, rank), np.float32)
    for place, (owner, column) in enumerate(zip(owners[kept], columns[kept], strict=True)):
        vectors[members[owner], place] = parts[owner][1][:, column]
    return values[kept], vectors


def _component_eigenvectors(
    graph: sparse.csr_array, members: NDArray[np.intp], rank: int
) -> tuple[NDArray[np.float64], NDArray[np.floating[Any]]]:
    size = len(members)
    if size == 1:  # a picture without neighbours; there may be many
        return np.zeros(1), np.ones((1, 1))
    part = graph[members][:, members]
    wanted = min(rank, size)
    if size <= _DENSE or _PART * wanted >= size:
        values, vectors = linalg.eigh(
            part.toarray(), subset_by_index=(size - wanted, size - 1), overwrite_a=True
        )
    else:
        start = np.random.default_rng(0).standard_normal(size)
        values, vectors = eigsh(part.astype(np.float64), wanted, which="LA", v0=start)
    return values, vectors.astype(np.float32)
