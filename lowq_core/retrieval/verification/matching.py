"""Tentative correspondences: which features of two pictures look alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError


class Tentative(NamedTuple):
    """Pairs of features that may show the same thing, the most similar first; equal ones by row of the query.

    Attributes:
        query, picture: (m,) rows of the two pictures' features.
        similarity: (m,) cosine.
    """

    query: NDArray[np.int64]
    picture: NDArray[np.int64]
    similarity: NDArray[np.float32]


def unit_rows(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, D) descriptors over their L2 norms; zero rows stay zero.

    >>> unit_rows(np.array([[3, 4], [0, 0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    values = np.asarray(descriptors, np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", values, values))
    norms[norms == 0] = 1
    return (values / norms[:, None]).astype(np.float32, copy=False)


def tentative(
    query: NDArray[np.float32],
    picture: NDArray[np.float32],
    *,
    mutual: bool = True,
    ratio: float | None = None,
) -> Tentative:
    """Each feature of the query with its nearest neighbour in the picture, where the tests below are passed.

    Args:
        query, picture: (n, D) and (m, D) descriptors of length 1 (or 0: those match nothing), see `unit_rows`.
        mutual: the query's feature has to be the nearest of its neighbour in turn.
        ratio: the distance to the nearest has to be below so much of that to the second nearest (Lowe, IJCV
            2004: 0.8), or None for no such test. It suits features found once, such as Hessian-affine ones; those
            of HOW are found again at other scales, and these copies are each other's second nearest.

    Raises:
        LowqError: a ratio outside 0 to 1.

    >>> left, right = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[[2, 0]]
    >>> found = tentative(left, right)
    >>> found.query.tolist(), found.picture.tolist()
    ([0, 2], [1, 0])
    """
    check_ratio(ratio)
    if not len(query) or not len(picture):
        return _pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    similar = query @ picture.T
    nearest = similar.argmax(axis=1)
    rows = np.arange(len(query))
    best = similar[rows, nearest]
    kept = best > 0  # a zero row is as far from everything as what is at right angles
    if mutual:
        kept &= similar.argmax(axis=0)[nearest] == rows
    if ratio is not None and len(picture) > 1:
        similar[rows, nearest] = -np.inf
        kept &= _distance(best) < ratio * _distance(similar.max(axis=1))
    return _pairs(rows[kept], nearest[kept], best[kept])


def check_ratio(ratio: float | None) -> None:
    """LowqError where the ratio test's threshold makes no sense."""
    if ratio is not None and not 0 < ratio <= 1:
        raise LowqError(f"ratio={ratio}: has to be above 0 and at most 1, or None for no ratio test")


def _pairs(query: NDArray[np.int64], picture: NDArray[np.int64], similar: NDArray[np.float32]) -> Tentative:
    order = np.argsort(-similar, kind="stable")
    return Tentative(query[order], picture[order], similar[order])


def _distance(cosine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean distance of vectors of length 1."""
    return np.sqrt(np.maximum(2 - 2 * cosine, 0))
