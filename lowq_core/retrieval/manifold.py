"""Iterative manifold embedding: a linear map, learnt from the database, to vectors that respect its manifolds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, sparse
from scipy.sparse import csgraph

from lowq_core.errors import LowqError
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.knn import Neighbours, Search, check_search, nearest_neighbours
from lowq_core.retrieval.saved import read_saved, write_saved
from lowq_core.retrieval.unit import UnitSearch, as_unit_descriptors, normalised, zero_rows

_ROUNDING = 1e-12  # of eigenvalues, relative to their sum
_SHORTEST = 1e-6  # length of an edge between equal pictures: to sparse matrices 0 is no edge


class ManifoldEmbedding:
    """IME (Xu, Wang, Qi, Shi, Xiao, IEEE TMM 2018; arXiv 1707.09862): a layer that embeds database and queries.

    From the descriptors X_0 of the database, `iterations` times:
    1. E = edges from each picture to its k nearest, as long as their Euclidean distance; E^2 = E E, the same over two
       edges, lengths multiplied, sums over the ways. d_ij = the shortest way through E^2, in either direction.
    2. G_ij = 1 / (1 + d_ij^2) + weight / (1 + |x_i - x_j|^2): Student's t, as in t-SNE. No way counts 0.
    3. X_{t+1} = the `dim` leading components of kernel PCA with the kernel G, rows L2-normalised.
    Then M = (X_0^T X_0 + ridge I)^-1 X_0^T X_T, and database and queries are compared as l2n(x M).

    Reconstruction: the formulas and defaults are those of the authors' released code, since the paper's text
    could not be had; in it a pair without a way has d = 0, an accident of the library of the day, and so G = 1.
    Directions with a negative eigenvalue are left out. Zero descriptors take no part, and are found last.

    Memory: about 40 N^2 bytes, time about N^3: 1 GB for 5,000 pictures, 16 GB for 20,000. Queries cost a product.

    Args:
        k: neighbours of each picture, itself not counted.
        dim: of the embedding, at most; there are no more than the pictures less 1.
        iterations: how often the embedding is embedded.
        weight: of the direct similarity against the one along the manifold.
        ridge: of the regression.
        search: how neighbours are found, see `nearest_neighbours`.

    >>> generator = np.random.default_rng(0)
    >>> X = generator.standard_normal((30, 8))
    >>> X /= np.linalg.norm(X, axis=1, keepdims=True)
    >>> ManifoldEmbedding(k=3).fit(X).rank(X[:2], k=1).ids.tolist()
    [[0], [1]]
    """

    def __init__(
        self,
        *,
        k: int = 5,
        dim: int = 2048,
        iterations: int = 2,
        weight: float = 2.0,
        ridge: float = 1.0,
        search: Search = "exact",
    ) -> None:
        for name, value in (("k", k), ("dim", dim), ("iterations", iterations)):
            if value < 1:
                raise LowqError(f"{name}={value}: has to be at least 1")
        if not (weight >= 0 and math.isfinite(weight)):
            raise LowqError(f"weight={weight}: has to be a number of at least 0; the authors use 2")
        if not (ridge > 0 and math.isfinite(ridge)):
            raise LowqError(f"ridge={ridge}: has to be a number above 0; the authors use 1")
        check_search(search)
        self.k = k
        self.dim = dim
        self.iterations = iterations
        self.weight = weight
        self.ridge = ridge
        self.search = search
        self._layer = np.empty((0, 0), np.float32)
        self._search = UnitSearch()

    def fit(self, database: ArrayLike) -> Self:
        """Learn the layer from (N, D) L2-normalised descriptors, and embed them.

        Raises:
            LowqError: not (N, D), empty, not finite, not normalised, k not below the number of
                pictures, or all pictures the same.
        """
        rows = as_unit_descriptors(database, "database")
        readable = np.delete(rows, zero_rows(rows), axis=0)
        if self.k >= len(readable):
            raise LowqError(
                f"k={self.k}: the database has {len(readable)} pictures, so each has {len(readable) - 1} others; "
                f"choose a smaller k or give more pictures"
            )
        embedded = readable
        for _ in range(self.iterations):
            embedded = normalised(self._embedded(embedded))
        wide = readable.astype(np.float64)
        gram = wide.T @ wide + self.ridge * np.eye(wide.shape[1])
        layer = linalg.solve(gram, wide.T @ embedded, assume_a="pos")
        self._layer = layer.astype(np.float32)
        self._search = UnitSearch().fit(normalised(rows @ self._layer))
        return self

    def transform(self, descriptors: ArrayLike) -> NDArray[np.float32]:
        """(Q, dim) embedded descriptors, L2-normalised.

        Raises:
            LowqError: not fitted, another dimension, not finite or not normalised.
        """
        asked = as_unit_descriptors(descriptors, "descriptors", dim=self._fitted().shape[0])
        return normalised(asked @ self._layer)

    def rank(self, queries: ArrayLike, k: int | None = None) -> Ranking:
        """The k best for each of (Q, D) L2-normalised queries, all N where k is None; scores are cosines.

        Raises:
            LowqError: not fitted, queries of another dimension, not finite or not normalised, k outside 1..N.
        """
        asked = as_unit_descriptors(queries, "queries", dim=self._fitted().shape[0])
        return self._search.rank(self.transform(asked), k)

    def save(self, path: Path) -> None:
        """Write the layer, the embedded database and the options into the folder `path`."""
        names = ("k", "dim", "iterations", "weight", "ridge", "search")
        options: dict[str, Any] = {name: getattr(self, name) for name in names}
        arrays = {"layer": self._fitted(), "embedded": self._search.database}
        write_saved(path, "ManifoldEmbedding", options, arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; the embedded database stays on disk, memory-mapped.

        Raises:
            LowqError: nothing saved there, something else, or a part that does not match its digest.
        """
        options, arrays = read_saved(path, "ManifoldEmbedding")
        self = cls(**options)
        self._layer = np.asarray(arrays["layer"])
        self._search.fit(arrays["embedded"])
        return self

    def _embedded(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        ways = manifold_distances(nearest_neighbours(rows, self.k, search=self.search))
        kernel = np.asarray(1 / (1 + np.square(ways, out=ways)))  # 0 where there is no way
        direct = (rows @ rows.T).astype(np.float64)
        kernel += self.weight / (1 + np.maximum(2 - 2 * direct, 0))
        return principal_components(kernel, min(self.dim, len(rows) - 1))

    def _fitted(self) -> NDArray[np.float32]:
        if self._layer.size == 0:
            raise LowqError("ManifoldEmbedding: has no database; call fit first")
        return self._layer


def manifold_distances(neighbours: Neighbours) -> NDArray[np.float64]:
    """(N, N) lengths of the shortest ways of step 1 of `ManifoldEmbedding`, infinite where there is none.

    >>> chain = Neighbours(np.array([[1], [2], [3], [2]]), np.full((4, 1), 0.875, np.float32))  # distances of 0.5
    >>> manifold_distances(chain)[0].tolist()  # 0 to 2, 1 to 3, 2 and 3 to themselves, all of 0.5 x 0.5
    [0.0, inf, 0.25, inf]
    """
    size, k = neighbours.ids.shape
    lengths = np.sqrt(np.maximum(2 - 2 * neighbours.similarities.astype(np.float64), _SHORTEST**2))
    starts = np.arange(0, size * k + 1, k)
    edges = sparse.csr_array((lengths.ravel(), neighbours.ids.ravel(), starts), shape=(size, size))
    return np.asarray(csgraph.dijkstra(edges @ edges, directed=False))


def principal_components(kernel: NDArray[np.float64], dim: int) -> NDArray[np.float64]:
    """(N, at most `dim`) coordinates of kernel PCA: centred, scaled by the roots of the positive eigenvalues.

    Raises:
        LowqError: none is positive.

    >>> np.abs(principal_components(np.array([[1.0, 0.0], [0.0, 1.0]]), 1)).round(3).tolist()
    [[0.707], [0.707]]
    """
    means = kernel.mean(axis=0)
    centred = kernel - means - means[:, None] + means.mean()
    size = len(kernel)
    values, vectors = linalg.eigh(centred, subset_by_index=(size - dim, size - 1), overwrite_a=True)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > _ROUNDING * np.trace(kernel)
    if not kept.any():
        raise LowqError(
            "database: its pictures are all the same, so they form no manifold; give different ones"
        )
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))
