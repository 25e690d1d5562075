"""Deep spatial matching (Simeoni, Avrithis, Chum, CVPR 2019): regions of a network's channels, matched by shape.

Features are those of `lowq_core.extraction.activation_regions`. Two features may correspond where their channels are
the same. Each such pair proposes a transformation by itself: the one that takes one upright ellipse to the other and
keeps the vertical (fast spatial matching; Philbin et al., CVPR 2007). The proposal with most inliers is refined by
least squares over them. Nothing is random.

Scales of the two pictures are compared each with each, and the best pair of scales counts, as in the authors' code,
whose numbers are the defaults. Their matching itself is a compiled file without source, so these are a
reconstruction: that the error is measured in the database's picture, that an affinity is refined, how many-to-many
correspondences are counted (here each feature once, the nearest first), and that only the strongest propose.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.extraction.activation_regions import COLUMNS
from lowq_core.extraction.local_features import PictureFeatures
from lowq_core.retrieval.verification.ransac import NOTHING, Verified
from lowq_core.retrieval.verification.verifier import Verifier, check_finite

_REFINED = 4  # rounds of least squares at most
_BUFFER = 1 << 20  # numbers of a table of proposals and pairs at a time

Floats = NDArray[np.float64]


class Scale(NamedTuple):
    """Regions of one picture at one scale.

    Attributes:
        rows: (n,) which of the picture's features they are.
        channel: (n,), rising. xy: (n, 2). strength: (n,). cell: side of a cell in pixels.
        shape: (n, 2, 2) lower triangular, takes the unit circle to the region's ellipse.
    """

    rows: NDArray[np.int64]
    channel: NDArray[np.int64]
    xy: Floats
    strength: Floats
    cell: float
    shape: Floats


class DeepSpatialMatching(Verifier[list[Scale]]):
    """Counts activation regions of two pictures that agree on one affinity; no descriptors, no vocabulary.

    The database's regions are extracted with `ActivationRegions()`, those of queries with `query=True`.

    Args:
        threshold: cells of the database picture's map that a region's middle may be off.
        zoom: largest change of scale of a proposal, both ways, in cells.
        proposals: of each pair of scales at most so many, those of the strongest correspondences.

    Raises:
        LowqError: an option out of range.

    >>> from lowq_core.extraction.local_features import LocalFeatures
    >>> generator = np.random.default_rng(0)
    >>> shapes = np.column_stack([np.arange(30), np.full(30, 200), np.zeros(30), np.full(30, 300), np.full(30, 16)])
    >>> one = PictureFeatures(shapes, np.ones(30), generator.uniform(0, 600, (30, 2)), np.ones(30))
    >>> search = DeepSpatialMatching().fit(LocalFeatures.of(["moved"], [one._replace(xy=one.xy + 50)]))
    >>> found = search.count(one, 0)
    >>> found.inliers, found.transform[:2, 2].round(3).tolist()
    (30, [50.0, 50.0])
    """

    _OPTIONS = ("threshold", "zoom", "proposals")

    def __init__(self, *, threshold: float = 2.0, zoom: float = 3.0, proposals: int = 300) -> None:
        super().__init__()
        if not 0 < threshold < np.inf:
            raise LowqError(f"threshold={threshold}: has to be above 0 cells")
        if not 1 <= zoom < np.inf:
            raise LowqError(f"zoom={zoom}: has to be 1 (no change of scale) or more")
        if proposals < 1:
            raise LowqError(f"proposals={proposals}: at least one is needed")
        self.threshold, self.zoom, self.proposals = threshold, zoom, proposals

    def prepare(self, features: PictureFeatures) -> list[Scale]:
        """The regions of each scale; LowqError where they are no activation regions."""
        table = np.asarray(features.descriptors, np.float64)
        if table.ndim != 2 or table.shape[1] != len(COLUMNS):
            raise LowqError(
                f"features of shape {table.shape} are no activation regions; extract them with ActivationRegions"
            )
        check_finite(features)
        channel, xx, xy, yy, cell = table.T
        if not ((xx > 0) & (xx * yy > xy * xy) & (cell > 0)).all():
            raise LowqError("a region has no area; extract the picture with ActivationRegions")
        # Cholesky factor of the covariance: its ellipse at one standard deviation
        left = np.sqrt(xx)
        shape = np.zeros((len(table), 2, 2))
        shape[:, 0, 0], shape[:, 1, 0] = left, xy / left
        shape[:, 1, 1] = np.sqrt(yy - (xy / left) ** 2)
        found = []
        for scale in np.unique(features.scale):
            rows = np.flatnonzero(features.scale == scale)
            rows = rows[np.argsort(channel[rows], kind="stable")]
            found.append(
                Scale(
                    rows,
                    channel[rows].astype(np.int64),
                    np.asarray(features.xy, np.float64)[rows],
                    np.asarray(features.strength, np.float64)[rows],
                    float(cell[rows[0]]),
                    shape[rows],
                )
            )
        return found

    def verify(self, query: list[Scale], picture: list[Scale]) -> Verified:
        """See `Verifier.verify`; of equally good pairs of scales the first, from coarse to fine."""
        best = NOTHING
        for a in query:
            for b in picture:
                if min(len(a.rows), len(b.rows)) > best.inliers:
                    best = max(best, self._match(a, b), key=lambda found: found.inliers)
        return best

    def _match(self, a: Scale, b: Scale) -> Verified:
        left, right = same_channel(a.channel, b.channel)
        proposed = self._proposals(a, b, left, right)
        if not len(proposed):
            return NOTHING
        limit = self.threshold * b.cell
        pairs = _Pairs(a.xy[left], b.xy[right], left, right)
        transform = proposed[_most_agreed(proposed, pairs, limit)]
        kept = _one_to_one(pairs, transform, limit)
        for _ in range(_REFINED):
            finer = _least_squares(pairs.query[kept], pairs.picture[kept])
            if finer is None:
                break
            agreed = _one_to_one(pairs, finer, limit)
            if len(agreed) < len(kept):
                break
            grown, transform, kept = len(agreed) > len(kept), finer, agreed
            if not grown:
                break
        rows = np.column_stack([a.rows[left[kept]], b.rows[right[kept]]])
        return Verified(len(kept), np.vstack([transform, [0, 0, 1]]), rows)

    def _proposals(self, a: Scale, b: Scale, left: NDArray[np.int64], right: NDArray[np.int64]) -> Floats:
        """(H, 2, 3) affinities of the strongest pairs; the strongest first."""
        change = np.sqrt(_area(b.shape)[right] / _area(a.shape)[left]) * (a.cell / b.cell)
        usable = np.flatnonzero((change <= self.zoom) & (change >= 1 / self.zoom))
        strength = a.strength[left[usable]] * b.strength[right[usable]]
        chosen = usable[np.argsort(-strength, kind="stable")[: self.proposals]]
        turn = b.shape[right[chosen]] @ np.linalg.inv(a.shape[left[chosen]])
        shift = b.xy[right[chosen]] - np.einsum("hij,hj->hi", turn, a.xy[left[chosen]])
        return np.concatenate([turn, shift[:, :, None]], axis=2)


class _Pairs(NamedTuple):
    """Tentative correspondences: (m, 2) places in both pictures, and which features they belong to."""

    query: Floats
    picture: Floats
    left: NDArray[np.int64]
    right: NDArray[np.int64]


def _most_agreed(proposed: Floats, pairs: _Pairs, limit: float) -> int:
    """The proposal to which most of the picture's features have a match within `limit`; the first of equals."""
    order = np.argsort(pairs.right, kind="stable")
    starts = np.flatnonzero(np.diff(pairs.right[order], prepend=-1))
    # float32 around the middle: half the time, and a thousandth of a pixel
    middle = pairs.query.mean(axis=0), pairs.picture.mean(axis=0)
    places = np.vstack([(pairs.query - middle[0])[order].T, np.ones(len(order))]).astype(np.float32)
    targets = (pairs.picture - middle[1])[order].T.astype(np.float32)
    moved = proposed.copy()
    moved[:, :, 2] += proposed[:, :, :2] @ middle[0] - middle[1]
    rows = max(1, _BUFFER // len(order))
    counts = []
    for start in range(0, len(moved), rows):
        x, y = (
            moved[start : start + rows, axis].astype(np.float32) @ places - targets[axis] for axis in (0, 1)
        )
        near = x * x + y * y <= limit * limit
        counts.append(np.logical_or.reduceat(near, starts, axis=1).sum(axis=1))
    return int(np.concatenate(counts).argmax())


def _one_to_one(pairs: _Pairs, transform: Floats, limit: float) -> NDArray[np.int64]:
    """Pairs that agree with a transformation, each feature once: those of least error first."""
    moved = pairs.query @ transform[:, :2].T + transform[:, 2]
    error = np.linalg.norm(moved - pairs.picture, axis=1)
    near = np.flatnonzero(error <= limit)
    kept, lefts, rights = [], set(), set()
    for row in near[np.argsort(error[near], kind="stable")].tolist():
        left, right = int(pairs.left[row]), int(pairs.right[row])
        if left not in lefts and right not in rights:
            kept.append(row)
            lefts.add(left)
            rights.add(right)
    return np.array(kept, np.int64)


def _least_squares(query: Floats, picture: Floats) -> Floats | None:
    """The (2, 3) affinity that fits best; None where the places do not determine one that keeps sides."""
    known = np.column_stack([query, np.ones(len(query))])
    found, _, rank, _ = np.linalg.lstsq(known, picture, rcond=1e-6)
    transform = found.T.astype(np.float64)
    return transform if rank == 3 and np.linalg.det(transform[:, :2]) > 0 else None


def _area(shape: Floats) -> Floats:
    """(n,) of triangular (n, 2, 2) shapes, over pi."""
    return shape[:, 0, 0] * shape[:, 1, 1]


def same_channel(a: NDArray[np.int64], b: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of rows with equal numbers; both rise.

    >>> [rows.tolist() for rows in same_channel(np.array([1, 4, 4]), np.array([4, 4, 7]))]
    [[1, 1, 2, 2], [0, 1, 0, 1]]
    """
    first, last = (np.searchsorted(b, a, side=side) for side in ("left", "right"))
    counts = last - first
    left = np.repeat(np.arange(len(a)), counts)
    starts = np.cumsum(counts) - counts
    return left, np.arange(len(left)) - np.repeat(starts - first, counts)
