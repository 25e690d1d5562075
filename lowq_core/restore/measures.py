"""What can be told of a picture's faults from its pixels alone: noise, impulses, JPEG quality, range of light."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError

Image = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""

MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""Immerkær's: the difference of two Laplacians. It answers neither to flat parts and slopes nor to straight
edges along the axes, and turns independent noise of standard deviation s into one of 6 s."""

OUTSTANDING = 40
"""Grey levels from the median of its surroundings at which a black or white value counts as an impulse."""

GHOST = 0.3
"""How much less a picture has to change at its own quality than at those beside it."""

QUALITIES = range(4, 62)
"""JPEG qualities that are told apart; from 60 on the traces are too weak to matter."""

WINDOW, SMALLEST = 256, 32
"""Pixels of the picture's middle, across and down, that the JPEG quality is told from: at most and at least."""


def noise_sigma(image: Image) -> float:
    """Standard deviation in grey levels of the noise of a picture, were it Gaussian and independent.

    Immerkær's mask (Fast noise variance estimation, 1996), with the mean over its answers replaced by their median
    over 0.6745 (Donoho and Johnstone 1994), which texture and edges disturb less. Answers that saw a value of 0
    or 255 are left out, since clipped values are no measure of noise; the rounding to whole levels, a variance
    of 1/12, is taken off. 0 where a picture is too small to tell, or clipped all over.

    >>> generator = np.random.default_rng(0)
    >>> noisy = np.rint(generator.normal(128, 10, (200, 200, 3))).astype(np.uint8)
    >>> round(noise_sigma(noisy))
    10
    """
    check_picture(image)
    if min(image.shape[:2]) < 3:
        return 0.0
    found = []
    for plane in cv2.split(image):
        answers = np.abs(cv2.filter2D(plane, cv2.CV_32F, MASK))[1:-1, 1:-1]
        whole = cv2.erode(cv2.inRange(plane, 1, 254), np.ones((3, 3), np.uint8))[1:-1, 1:-1]
        seen = answers[whole > 0]
        found.append(float(np.median(seen)) / (6 * 0.6745) if seen.size else 0.0)
    variance = float(np.mean(np.square(found))) - 1 / 12
    return float(np.sqrt(max(variance, 0.0)))


def impulses(image: Image) -> NDArray[np.bool_]:
    """(H, W, 3): which values are black or white and stand out of the median of the 5 x 5 values around.

    >>> image = np.full((9, 9, 3), 100, np.uint8)
    >>> image[4, 4, 0] = 255
    >>> np.argwhere(impulses(image)).tolist()
    [[4, 4, 0]]
    """
    check_picture(image)
    around = cv2.medianBlur(image, 5).reshape(image.shape)
    apart: NDArray[np.bool_] = cv2.absdiff(image, around).reshape(image.shape) > OUTSTANDING
    return apart & ((image == 0) | (image == 255))


def jpeg_quality(image: Image) -> int | None:
    """The JPEG quality (of libjpeg, 5 to 60) that a picture was stored at last; None where it shows none.

    Compressed once more at the same quality, a picture changes far less than at the qualities beside it: a
    "JPEG ghost" (Farid, Exposing digital forgeries from JPEG ghosts, 2009). That needs the grid of 8 x 8 blocks to
    begin at the upper left corner; a picture that was cropped or resized since shows no quality, nor does one
    that is smaller than 32 pixels or of one colour.

    >>> jpeg_quality(np.full((64, 64, 3), 90, np.uint8)) is None
    True
    """
    check_picture(image)
    height, width = (max(0, side - WINDOW) // 32 * 16 for side in image.shape[:2])  # on the grid of colour
    part = image[height : height + WINDOW, width : width + WINDOW]
    if min(part.shape[:2]) < SMALLEST or part.std(axis=(0, 1)).max() < 1:
        return None  # a few blocks, or blocks without contents, go well with too many qualities
    change = np.array([_change(part, quality) for quality in QUALITIES])
    beside = np.minimum(change[:-2], change[2:])
    ghosts = np.flatnonzero(change[1:-1] < GHOST * beside)
    return QUALITIES[int(ghosts[0]) + 1] if ghosts.size else None  # multiples of its steps show, higher up


def recompressed(image: Image, quality: int) -> Image:
    """The picture once more through JPEG, with colour at half the resolution (4:2:0).

    >>> recompressed(np.full((5, 9, 3), 90, np.uint8), 50).shape
    (5, 9, 3)
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x221111]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def _change(image: Image, quality: int) -> float:
    """Mean squared difference that one more compression makes."""
    return float(cv2.norm(image, recompressed(image, quality), cv2.NORM_L2SQR)) / image.size


def range_of_light(image: Image) -> tuple[float, float]:
    """The levels that 0.5 % of a picture's values fall below and rise above, once noise is averaged out.

    >>> range_of_light(np.full((8, 8, 3), 90, np.uint8))
    (90.0, 90.0)
    """
    check_picture(image)
    smooth = cv2.blur(image, (5, 5))
    low, high = np.percentile(smooth, [0.5, 99.5])
    return float(low), float(high)


def check_picture(image: Image) -> None:
    """LowqError where `image` is not (H, W, 3) uint8 with at least one pixel."""
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or image.size == 0
    ):
        what = (
            f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        )
        raise LowqError(
            f"image is {what}; give an RGB picture, uint8 of shape (height, width, 3), open it with "
            f"lowq_core.images.open_image"
        )
