"""`Verification`: descriptors matched, then RANSAC."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.extraction.local_features import PictureFeatures
from lowq_core.retrieval.verification.matching import check_ratio, tentative, unit_rows
from lowq_core.retrieval.verification.ransac import (
    MODELS,
    NOTHING,
    Model,
    Verified,
    check_options,
    estimate,
)
from lowq_core.retrieval.verification.verifier import Verifier, check_finite


class Ready(NamedTuple):
    """The features of a picture that take part: (n, D) descriptors of length 1, (n, 2) places."""

    descriptors: NDArray[np.float32]
    xy: NDArray[np.float32]


class Verification(Verifier[Ready]):
    """Counts inliers of a transformation between the local features of two pictures, to re-rank or build graphs.

    Tentative correspondences are nearest neighbours by cosine; the transformation is found by RANSAC. The same
    pictures and seed give the same count, whatever else is counted.

    Args:
        model: "homography", "affine" or "fundamental"; see `estimate`.
        threshold: pixels of the original that a place may be off. A feature is as exact as its cell: 16 pixels fit
            networks of stride 16 at original size; take more where pictures were brought down a lot before
            extraction, 3 to 5 for Hessian-affine features.
        mutual, ratio: see `tentative`.
        features: at most so many of each picture, its strongest.
        least: fewer inliers than this count as none. Unrelated pictures have a few by chance: at least as many
            as determine the model.
        confidence, iterations, seed: of RANSAC.

    Raises:
        LowqError: an option out of range.

    >>> from lowq_core.extraction.local_features import LocalFeatures
    >>> generator = np.random.default_rng(0)
    >>> def picture(n):
    ...     xy = generator.uniform(0, 500, (n, 2))
    ...     return PictureFeatures(generator.standard_normal((n, 16)), np.ones(n), xy, np.ones(n))
    >>> one, other = picture(50), picture(50)
    >>> moved = one._replace(xy=one.xy * 0.8 + 20)
    >>> search = Verification().fit(LocalFeatures.of(["other", "moved"], [other, moved]))
    >>> found = search.count(one, 1)
    >>> found.inliers, bool(np.abs(found.transform - [[0.8, 0, 20], [0, 0.8, 20], [0, 0, 1]]).max() < 1e-3)
    (50, True)
    """

    _OPTIONS = (
        "model", "threshold", "mutual", "ratio", "features", "least", "confidence", "iterations", "seed"
    )  # fmt: skip

    def __init__(
        self,
        *,
        model: Model = "homography",
        threshold: float = 16.0,
        mutual: bool = True,
        ratio: float | None = None,
        features: int = 600,
        least: int = 0,
        confidence: float = 0.999,
        iterations: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_options(model, threshold, confidence, iterations, seed)
        check_ratio(ratio)
        if features < 1 or least < 0:
            raise LowqError(f"features={features}, least={least}: at least 1 feature, and 0 or more inliers")
        self.model, self.threshold = model, threshold
        self.mutual, self.ratio = mutual, ratio
        self.features, self.least = features, least
        self.confidence, self.iterations, self.seed = confidence, iterations, seed

    def prepare(self, features: PictureFeatures) -> Ready:
        """The strongest, over their norms; LowqError where one is not finite."""
        kept = PictureFeatures(*(np.asarray(array)[: self.features] for array in features))
        check_finite(kept)
        return Ready(unit_rows(kept.descriptors), np.asarray(kept.xy, np.float32))

    def verify(self, query: Ready, picture: Ready) -> Verified:
        """See `Verifier.verify`."""
        pairs = tentative(query.descriptors, picture.descriptors, mutual=self.mutual, ratio=self.ratio)
        if len(pairs.query) < MODELS[self.model]:
            return NOTHING
        found = estimate(
            query.xy[pairs.query],
            picture.xy[pairs.picture],
            model=self.model,
            threshold=self.threshold,
            confidence=self.confidence,
            iterations=self.iterations,
            seed=self.seed,
        )
        inliers = int(found.agree.sum())
        if found.transform is None or inliers < self.least:
            return NOTHING
        agreeing = np.column_stack([pairs.query, pairs.picture])[found.agree]
        return Verified(inliers, found.transform, agreeing)
