"""The graph that diffusion runs on: mutual nearest neighbours, weighed by a power of their similarity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lowq_core.retrieval.knn import Neighbours


def affinity(neighbours: Neighbours, gamma: float = 3.0) -> sparse.csr_array:
    """A_ij = max(s_ij, 0)^gamma where i and j are among each other's neighbours, else 0 (Iscen et al., CVPR 2017).

    Returns:
        (N, N) float64, symmetric, with an empty diagonal and at most k entries a row, 12 bytes each (16 where N k is
        2^31 or more).

    >>> A = affinity(Neighbours(np.array([[1], [0], [1]]), np.array([[0.5], [0.5], [0.4]], np.float32)), gamma=2)
    >>> A.toarray().tolist()
    [[0.0, 0.25, 0.0], [0.25, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    size, k = neighbours.ids.shape
    weights = np.maximum(neighbours.similarities, 0).astype(np.float64) ** gamma
    whole = (
        np.int32 if size * k <= np.iinfo(np.int32).max else np.int64
    )  # products with S read as many as weights
    starts, ids = np.arange(0, size * k + 1, k, dtype=whole), neighbours.ids.ravel().astype(whole)
    directed = sparse.csr_array((weights.ravel(), ids, starts), shape=(size, size))
    directed.sort_indices()
    mutual = directed.minimum(directed.T.tocsr())  # 0 where one of the two is missing
    mutual.eliminate_zeros()
    return sparse.csr_array(mutual)


def transition(weights: sparse.csr_array) -> sparse.csr_array:
    """S = D^-1/2 A D^-1/2 with D the row sums of `weights`; a picture without neighbours keeps an empty row."""
    degrees = weights.sum(axis=1)
    roots = np.sqrt(np.divide(1.0, degrees, out=np.zeros(len(degrees)), where=degrees > 0))
    scaled = weights.copy()
    scaled.data *= np.repeat(roots, np.diff(scaled.indptr)) * roots[scaled.indices]
    return scaled


def seeds(near: Neighbours, gamma: float = 3.0) -> NDArray[np.float64]:
    """(Q, k) where a query starts from: y_i = max(s(q, x_i), 0)^gamma of its k nearest, 0 elsewhere."""
    values: NDArray[np.float64] = np.maximum(near.similarities, 0).astype(np.float64) ** gamma
    return values
