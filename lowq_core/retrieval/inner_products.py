"""Inner products of chosen pairs of rows, in float64, rounded to float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 19  # numbers at a time; they should stay in a core's cache


def inner_products(
    left: NDArray[np.float32], rows: NDArray[np.int64], right: NDArray[np.float32], others: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(n,): left[rows[i]] . right[others[i]]; the order and the company of the pairs make no difference.

    >>> left, right = np.float32([[3, 4]]), np.float32([[1, 0], [0, 2]])
    >>> inner_products(left, np.array([0, 0]), right, np.array([1, 0])).tolist()
    [8.0, 3.0]
    """
    found = np.empty(len(rows), np.float32)
    step = max(1, _CHUNK // left.shape[1])
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        exact = np.einsum("ij,ij->i", left[rows[some]], right[others[some]], dtype=np.float64)
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
            found[some] = exact
    return found


def pair_similarities(
    left: NDArray[np.float32], right: NDArray[np.float32], ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(N, k): left[i] . right[ids[i, j]].

    >>> pair_similarities(np.float32([[3, 4]]), np.float32([[1, 0], [0, 2]]), np.array([[1, 0]])).tolist()
    [[8.0, 3.0]]
    """
    rows = np.repeat(np.arange(len(ids)), ids.shape[1])
    return inner_products(left, rows, right, ids.ravel()).reshape(ids.shape)


def norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) Euclidean norms, in float64.

    >>> norms(np.float32([[3, 4]])).tolist()
    [5.0]
    """
    step = max(1, _CHUNK // vectors.shape[1])
    parts = (vectors[start : start + step] for start in range(0, len(vectors), step))
    return np.concatenate([np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64)) for part in parts])
