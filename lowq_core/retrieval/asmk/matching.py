"""What a score is made of: the visual words that two pictures share, and which of their features meet there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.images import Box
from lowq_core.retrieval.asmk.aggregation import Cells, aggregate
from lowq_core.retrieval.asmk.codebook import Codebook
from lowq_core.retrieval.asmk.kernel import binarise, code_bits, normalise, on_grid, selectivity


class WordMatch(NamedTuple):
    """One visual word that adds to the score of two pictures.

    Attributes:
        word: its number.
        share: what it adds, above 0.
        query, picture: rows of the two pictures' features that are assigned to it.
    """

    word: int
    share: float
    query: NDArray[np.int64]
    picture: NDArray[np.int64]


class Words(NamedTuple):
    """One picture by word: (n, A) words of each of its features, and its occupied cells."""

    assigned: NDArray[np.int32]
    cells: Cells

    @classmethod
    def of(cls, descriptors: NDArray[np.float32], codebook: Codebook, assignment: int, search: str) -> Words:
        """The words of (n, D) descriptors, each assigned to the `assignment` nearest."""
        assigned = codebook.assign(descriptors, assignment, search=search)
        offsets = np.array([0, len(descriptors)])
        return cls(assigned, aggregate(descriptors, offsets, assigned, codebook.centroids))


def word_matches(
    query: Words, picture: Words, idf: NDArray[np.float64], *, binary: bool, alpha: float, threshold: float
) -> list[WordMatch]:
    """The words that both pictures have, the largest share first; the shares add up to the score.

    share_k = idf_k sigma(u_k) / (sqrt(N_Q) sqrt(N_X)), see `scoring`.

    Args:
        idf: (K,) weight of each word.
        binary, alpha, threshold: the kernel, as in `ASMK`.
    """
    words, i, j = np.intersect1d(query.cells.words, picture.cells.words, return_indices=True)
    similar = _similarity(query.cells.residuals[i], picture.cells.residuals[j], binary)
    norms = np.sqrt(idf[query.cells.words].sum()) * np.sqrt(idf[picture.cells.words].sum())
    if not norms:  # idf is 0 for words that every picture has
        return []
    shares = on_grid(selectivity(similar, alpha, threshold) * idf[words]) / norms
    return [
        WordMatch(
            int(words[n]),
            float(shares[n]),
            np.flatnonzero((query.assigned == words[n]).any(axis=1)),
            np.flatnonzero((picture.assigned == words[n]).any(axis=1)),
        )
        for n in np.argsort(-shares, kind="stable")
        if shares[n] > 0
    ]


def match_box(matches: list[WordMatch], xy: NDArray[np.float32], keep: float = 0.8) -> Box:
    """Where in the picture a query is: the box around the middle of its matched features, weighed by share.

    Ours: on each axis the weighted quantiles (1 - keep) / 2 and (1 + keep) / 2 of the features' places, so a few
    stray matches do not stretch it. It checks no geometry.

    Args:
        matches: what `ASMK.matches` found.
        xy: (n, 2) places of the picture's features.
        keep: share of the weight inside on each axis, above 0, at most 1.

    Returns:
        x1, y1, x2, y2.

    Raises:
        LowqError: no matches, `keep` out of range.

    >>> match = WordMatch(0, 1.0, np.array([0]), np.array([0, 2]))
    >>> match_box([match], np.array([[1, 2], [9, 9], [5, 4]], np.float32), keep=1.0)
    (1.0, 2.0, 5.0, 4.0)
    """
    if not matches:
        raise LowqError(
            "matches: the pictures share no word, so there is no place to show; take another pair"
        )
    if not 0 < keep <= 1:
        raise LowqError(f"keep={keep}: has to be above 0 and at most 1")
    rows = np.concatenate([match.picture for match in matches])
    weights = np.concatenate([np.full(m.picture.size, m.share / m.picture.size) for m in matches])
    (x1, x2), (y1, y2) = (_quantiles(xy[rows, axis], weights, (1 - keep) / 2) for axis in (0, 1))
    return x1, y1, x2, y2


def _similarity(a: NDArray[np.float32], b: NDArray[np.float32], binary: bool) -> NDArray[np.float64]:
    """(n,) similarity in -1 to 1 of residuals, row by row."""
    if not binary:
        return np.einsum("ij,ij->i", normalise(a), normalise(b)).astype(np.float64)
    different = binarise(a).view(np.uint64) ^ binarise(b).view(np.uint64)
    return 1 - 2 * np.bitwise_count(different).sum(axis=1, dtype=np.float64) / code_bits(a.shape[1])


def _quantiles(values: NDArray[np.float32], weights: NDArray[np.float64], tail: float) -> tuple[float, float]:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    ends = np.searchsorted(reached, [tail + 1e-12, 1 - tail - 1e-12]).clip(max=len(values) - 1)
    low, high = values[order[ends]]
    return float(low), float(high)
