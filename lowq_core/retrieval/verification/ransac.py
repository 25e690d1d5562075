"""From tentative correspondences to a transformation and its inliers: OpenCV's USAC, seeded."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError

Model = Literal["homography", "affine", "fundamental"]
MODELS: dict[Model, int] = {"homography": 4, "affine": 3, "fundamental": 7}
"""Correspondences that determine a model."""

_THIN = 0.01
"""Inliers whose spread across is less than so much of that along lie on one line: they determine nothing."""


class Verified(NamedTuple):
    """What geometry says of two pictures.

    Attributes:
        inliers: correspondences that agree; 0 where there is no transformation.
        transform: (3, 3) float64 that takes homogeneous x, y of the query to the picture, last row 0, 0, 1 for an
            affinity; for the fundamental model F with x_picture^T F x_query = 0; None where none was found.
        pairs: (inliers, 2) int64: row of the query's feature, row of the picture's.
    """

    inliers: int
    transform: NDArray[np.float64] | None
    pairs: NDArray[np.int64]


NOTHING = Verified(0, None, np.empty((0, 2), np.int64))


class Estimate(NamedTuple):
    """A transformation as in `Verified`, or None, and (n,) bool: which correspondences agree with it."""

    transform: NDArray[np.float64] | None
    agree: NDArray[np.bool_]


def estimate(
    query: ArrayLike,
    picture: ArrayLike,
    *,
    model: Model = "homography",
    threshold: float = 16.0,
    confidence: float = 0.999,
    iterations: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The transformation with which most of n correspondences agree. Equal input and seed give equal output.

    Minimal samples, scored by MSAC with early stopping (SPRT) and locally optimised, as USAC does (Raguram et
    al., PAMI 2013). None is found of fewer correspondences than determine the model, where all that agree lie on
    one line in either picture or within the threshold of one point (everything sent there would agree), or where
    the transformation mirrors the query.

    Args:
        query, picture: (n, 2) places, row by row a correspondence.
        model: "homography" (of a plane), "affine" (of a distant plane), "fundamental" (of any rigid scene: it only
            asks that points lie on the right line, so chance agrees more often).
        threshold: how far from its prediction a place may be, in pixels of the picture; for the fundamental
            model, from its line.
        confidence: of having found the best, at which the search ends early, above 0, below 1.
        iterations: samples at most.
        seed: of the samples, 0 or more.

    Raises:
        LowqError: an option out of range; places that are not (n, 2), not as many, or not finite.

    >>> corners = np.array([[0, 0], [100, 0], [0, 100], [100, 100], [50, 30]])
    >>> found = estimate(corners, 2 * corners + 5)
    >>> np.abs(found.transform - [[2, 0, 5], [0, 2, 5], [0, 0, 1]]).max() < 1e-6, found.agree.all()
    (np.True_, np.True_)
    """
    check_options(model, threshold, confidence, iterations, seed)
    a, b = _places(query, "query"), _places(picture, "picture")
    if len(a) != len(b):
        raise LowqError(
            f"{len(a)} places in the query, {len(b)} in the picture; give as many of each, in pairs"
        )
    nothing = Estimate(None, np.zeros(len(a), bool))
    if len(a) < MODELS[model]:
        return nothing
    transform, mask = _search(a, b, model, _options(threshold, confidence, iterations, seed))
    if transform is None or mask is None or not np.isfinite(transform).all():
        return nothing
    agree = mask.ravel().astype(bool)
    if agree.sum() < MODELS[model] or _on_a_line(a[agree]) or _on_a_line(b[agree]):
        return nothing
    if model != "fundamental" and _spread(b[agree]) <= threshold:
        return nothing
    if model == "affine":
        transform = np.vstack([transform, [0, 0, 1]])
    if model != "fundamental" and not _keeps_sides(transform, a[agree]):
        return nothing
    return Estimate(transform.astype(np.float64), agree)


def project(transform: NDArray[np.float64], places: ArrayLike) -> NDArray[np.float64]:
    """Where a homography or affinity (3, 3) takes (n, 2) places.

    >>> project(np.diag([2.0, 2.0, 1.0]), [[3, 4]]).tolist()
    [[6.0, 8.0]]
    """
    at = np.asarray(places, np.float64)
    moved = at @ transform[:, :2].T + transform[:, 2]
    result: NDArray[np.float64] = moved[:, :2] / moved[:, 2:]
    return result


def check_options(model: str, threshold: float, confidence: float, iterations: int, seed: int) -> None:
    """LowqError where an option of `estimate` is out of range."""
    if model not in get_args(Model):
        raise LowqError(f"model {model!r} is unknown; choose one of {', '.join(MODELS)}")
    if not 0 < threshold < np.inf:
        raise LowqError(f"threshold={threshold}: has to be above 0 pixels")
    if not 0 < confidence < 1:
        raise LowqError(f"confidence={confidence}: has to be above 0 and below 1")
    if not 1 <= iterations < 2**31 or not 0 <= seed < 2**31:
        raise LowqError(f"iterations={iterations}, seed={seed}: 1 or more, and 0 or more, both below 2^31")


def _options(threshold: float, confidence: float, iterations: int, seed: int) -> Any:
    options = cv2.UsacParams()
    options.threshold, options.confidence, options.maxIterations = threshold, confidence, iterations
    options.randomGeneratorState = seed
    options.isParallel = False  # else which thread is first decides
    options.sampler, options.score = cv2.SAMPLING_UNIFORM, cv2.SCORE_METHOD_MSAC
    options.loMethod = cv2.LOCAL_OPTIM_INNER_LO
    return options


def _search(a: NDArray[np.float64], b: NDArray[np.float64], model: Model, options: Any) -> tuple[Any, Any]:
    """OpenCV's matrix and mask, or None for both."""
    try:
        if model == "homography":
            return cv2.findHomography(a, b, params=options)
        if model == "affine":
            return cv2.estimateAffine2D(a, b, params=options)
        return cv2.findFundamentalMat(a, b, options)
    except cv2.error:  # OpenCV's solvers give up on some degenerate samples by an assertion
        return None, None


def _places(values: ArrayLike, what: str) -> NDArray[np.float64]:
    places = np.ascontiguousarray(values, np.float64)
    if places.size == 0:
        return places.reshape(0, 2)
    if places.ndim != 2 or places.shape[1] != 2:
        raise LowqError(f"{what}: places of shape {places.shape}; give x and y of each, (n, 2)")
    if not np.isfinite(places).all():
        raise LowqError(f"{what}: a place is NaN or infinite; extract the picture again")
    return places


def _on_a_line(places: NDArray[np.float64]) -> bool:
    along, across = np.linalg.svd(places - places.mean(axis=0), compute_uv=False)
    return bool(across <= _THIN * along)


def _spread(places: NDArray[np.float64]) -> float:
    """Root mean square distance from the middle."""
    return float(np.sqrt(places.var(axis=0).sum()))


def _keeps_sides(transform: NDArray[np.float64], places: NDArray[np.float64]) -> bool:
    """Whether no place is mirrored or sent through infinity: positive area and denominator, seen from each."""
    depth = places @ transform[2, :2] + transform[2, 2]
    sign = np.sign(depth[0])
    # det of a homography's derivative at x is det(H) / depth(x)^3
    return bool((depth * sign > 0).all() and np.linalg.det(transform) * sign > 0)
