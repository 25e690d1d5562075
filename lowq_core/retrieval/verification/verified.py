"""Graphs whose edges geometry has checked: GSS_V where the index has one, GSS_V-SV where the queries have, too.

GSS (Liu et al., NeurIPS 2019) takes such a graph as ranked neighbours; its edges' weights stay the cosines of the
global descriptors. Reconstruction: the authors published their graphs for three benchmarks, but neither how they
were made (features, thresholds, how many candidates) nor whether a picture counts among its own neighbours; here it
does not (so the first k of a list are k others, where lists by descriptor have k - 1), candidates are the nearest by
global descriptor, and those with equally many inliers, none included, stay in that order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.verification.pairs import Count


class VerifiedNeighbours(NamedTuple):
    """The k neighbours of each of N pictures with the most inliers.

    Attributes:
        ids: (N, k) int64, the most inliers first.
        inliers: (N, k) int64, 0 where nothing was verified: such an edge has only the descriptors' word.
    """

    ids: NDArray[np.int64]
    inliers: NDArray[np.int64]


def verified_neighbours(ids: ArrayLike, count: Count, k: int, *, own: bool = False) -> VerifiedNeighbours:
    """The `k` candidates of each row with the most inliers; equal ones as they were.

    Args:
        ids: (N, K) candidates of each picture (or query), the nearest first.
        count: inliers of (P, 2) pairs of row and candidate.
        k: 1 to K.
        own: the rows are the database's own pictures, of which none may be its own neighbour.

    Raises:
        LowqError: ids that are not (N, K) whole numbers, k outside 1 to K, a picture among its own candidates,
            a candidate twice in a row.

    >>> table = np.array([[0, 5, 9], [5, 0, 2], [9, 2, 0]])
    >>> found = verified_neighbours([[1, 2], [0, 2], [0, 1]], lambda p: table[p[:, 0], p[:, 1]], 1, own=True)
    >>> found.ids.tolist(), found.inliers.tolist()
    ([[2], [0], [0]], [[9], [5], [9]])
    """
    candidates = np.asarray(ids)
    if candidates.ndim != 2 or candidates.dtype.kind not in "iu" or candidates.size == 0:
        raise LowqError(
            f"ids: {candidates.dtype} of shape {candidates.shape}; give the numbers of candidates, one row a picture"
        )
    candidates = candidates.astype(np.int64)
    size, width = candidates.shape
    if not 1 <= k <= width:
        raise LowqError(f"k={k}: there are {width} candidates a picture; choose k between 1 and {width}")
    rows = np.arange(size)
    if own and (found := np.flatnonzero((candidates == rows[:, None]).any(axis=1))).size:
        raise LowqError(
            f"ids: picture {found[0]} is among its own candidates; leave each picture's own id out"
        )
    ordered = np.sort(candidates, axis=1)
    if (found := np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))).size:
        raise LowqError(f"ids: row {found[0]} names a candidate twice; give each once")
    pairs = np.column_stack([np.repeat(rows, width), candidates.ravel()])
    inliers = np.asarray(count(pairs)).reshape(size, width)
    order = np.argsort(-inliers, axis=1, kind="stable")[:, :k]
    return VerifiedNeighbours(
        np.take_along_axis(candidates, order, axis=1), np.take_along_axis(inliers, order, axis=1)
    )
