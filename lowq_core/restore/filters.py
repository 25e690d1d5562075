"""The restorers: each measures how strong its fault is, and takes it off; they know the picture and nothing else."""

from __future__ import annotations

import cv2
import numpy as np

from lowq_core.restore.measures import (
    Image,
    impulses,
    jpeg_quality,
    noise_sigma,
    range_of_light,
    recompressed,
)

NLM_STRENGTH = 0.65
"""OpenCV's h for noise of standard deviation 1; chosen with patch and search on photos that no query shows."""
NLM_PATCH, NLM_SEARCH = 5, 13

DARKEST, BRIGHTEST = 20.0, 235.0
"""Levels that the darkest and brightest 0.5 % are stretched to, where they do not reach them."""

IMPULSE_SHARE = 0.01
STILL = 15.0
FLAT, DIM = 90.0, 140.0
NOISY = 9.0
"""From where on `auto` acts, see there; clean photos stay on the other side."""


def nlm(image: Image) -> Image:
    """Non-local means in colour (Buades, Coll and Morel 2005; OpenCV's), as strong as `noise_sigma` says.

    Patches of 5 x 5 pixels are looked for in 13 x 13. Noise below one grey level is left alone.
    """
    return _nlm(image, noise_sigma(image))


def median(image: Image) -> Image:
    """Black and white impulses replaced by the median around them; all other values stay.

    A switching median of growing window (after Hwang and Haddad, Adaptive median filters, 1995): 3 x 3, or 5 x 5
    where the median of the smaller one is itself black or white.
    """
    small, large = (cv2.medianBlur(image, size).reshape(image.shape) for size in (3, 5))
    around = np.where((small == 0) | (small == 255), large, small)
    return np.where(impulses(image), around, image)


def deblock(image: Image) -> Image:
    """JPEG blocks and ringing taken off by re-application of JPEG (Nosratinia 2001), at `jpeg_quality`.

    The picture is moved by 16 offsets, compressed at its own quality, moved back, and averaged: each time the
    grid of blocks falls elsewhere. A picture that shows no quality is left alone.
    """
    quality = jpeg_quality(image)
    return image.copy() if quality is None else _reapplied(image, quality)


def light(image: Image) -> Image:
    """Brightness and contrast stretched so that the darkest and brightest 0.5 % are at most 20 and at least 235.

    Linear, and the same for all channels, so that colours stay: underexposure by stops is a factor on
    encoded values too. A picture of one level is left alone.
    """
    low, high = range_of_light(image)
    if high - low < 1:
        return image.copy()
    to_low, to_high = min(low, DARKEST), max(high, BRIGHTEST)
    levels = (np.arange(256) - low) * (to_high - to_low) / (high - low) + to_low
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return table[image]


def auto(image: Image) -> Image:
    """What the picture itself asks for, in this order; a clean photo asks for nothing and is given back as it is.

    1. `median`, where over 1 % of the values are impulses and the values between them are quiet (below 15 grey
       levels of noise; above, black and white values are clipped noise).
    2. `deblock`, where a JPEG quality below 60 shows.
    3. `light`, where the brightest 0.5 % lie below 140, or within 90 levels of the darkest.
    4. `nlm`, where then 9 grey levels of noise or more are left.

    Blur, zoom, snow, pixelation and changed colours are not undone.
    """
    if impulses(image).mean() > IMPULSE_SHARE and noise_sigma(image) < STILL:
        image = median(image)
    image = deblock(image)
    low, high = range_of_light(image)
    if high < DIM or high - low < FLAT:
        image = light(image)
    sigma = noise_sigma(image)
    return _nlm(image, sigma) if sigma >= NOISY else image


def _nlm(image: Image, sigma: float) -> Image:
    if sigma < 1:
        return image.copy()
    h = NLM_STRENGTH * sigma
    turned = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    found = cv2.fastNlMeansDenoisingColored(turned, None, h, h, NLM_PATCH, NLM_SEARCH)
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), np.uint8)


def _reapplied(image: Image, quality: int) -> Image:
    height, width = image.shape[:2]
    total = np.zeros(image.shape, np.uint16)
    padded = cv2.copyMakeBorder(image, 16, 0, 16, 0, cv2.BORDER_REPLICATE)
    for i in range(4):
        for j in range(4):  # all even offsets of the 8 x 8 grid, in both halves of colour's 16 x 16
            down, right = 2 * i + 8 * (j % 2), 2 * j + 8 * (i % 2)
            moved = np.array(padded[16 - down :, 16 - right :], np.uint8)
            total += recompressed(moved, quality)[down : down + height, right : right + width]
    return ((total + 8) // 16).astype(np.uint8)
