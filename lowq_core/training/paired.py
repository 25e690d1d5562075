"""Pairs for AdapNet's training: one crop of a picture, clean, and the same crop degraded.

The copy is degraded at twice the resolution that the network sees, and brought down with the clean one, because that
is how a bad query reaches it: degraded at its native resolution, then made smaller. Sensor noise put on at the
network's own resolution would be stronger than any that a query has.

Reconstruction: that training has pairs is certain (arXiv 2405.17718); how they are cropped, and the resolution that
they are degraded at, are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lowq_core.degrade import KNOWN, NOISES, SEVERITIES, Noise
from lowq_core.errors import LowqError
from lowq_core.images import Picture, from_array, to_array

Pixels = NDArray[np.uint8]
OVERSAMPLING = 2
"""Degraded pixels along a side for each that the network sees."""
LARGEST_ASPECT = 4 / 3


class PairItem(NamedTuple):
    """One picture of an epoch: which, and the seed of its crop and noise."""

    picture: int
    seed: int


class Pair(NamedTuple):
    """What the network is shown of one picture.

    Attributes:
        clean, bad: (S, S, 3) uint8, the same crop; `bad` is degraded.
        noise: index of the noise among those of `PairedCrops`.
    """

    clean: Pixels
    bad: Pixels
    noise: int


@dataclass(frozen=True)
class PairedCrops:
    """How pairs are cut and degraded.

    Attributes:
        size: side of the crops in pixels.
        noises: names to draw from, all alike; none makes `bad` a copy of `clean`.
        severities: to draw from, all alike.
        least: smallest share of the picture's area that a crop may have.

    Raises:
        LowqError: an unknown noise or severity, a size below 1, a share outside 0..1.

    >>> PairedCrops(224).noises[0]
    'gaussian'
    """

    size: int
    noises: tuple[str, ...] = KNOWN
    severities: tuple[int, ...] = SEVERITIES
    least: float = 0.5

    def __post_init__(self) -> None:
        for name in self.noises:
            if name not in NOISES:
                raise LowqError(f"there is no noise {name!r}; choose among {', '.join(NOISES)}")
        if self.noises and (not self.severities or {*self.severities} - {*SEVERITIES}):
            raise LowqError(f"severities={self.severities}: choose among 1, 2, 3, 4, 5")
        if self.size < 1 or not 0 < self.least <= 1:
            raise LowqError(
                f"size={self.size}, least={self.least}: size has to be 1 pixel or more, least in 0..1"
            )

    def __call__(self, picture: Picture, seed: int) -> Pair:
        """The pair of `picture` that `seed` stands for.

        Raises:
            LowqError: a picture that cannot be read.
        """
        generator = np.random.default_rng(seed)
        fine = OVERSAMPLING * self.size
        image = picture.load(math.ceil(fine * LARGEST_ASPECT))
        clean = image.crop(self._box(image.size, generator))
        if generator.random() < 0.5:
            clean = clean.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        noise, bad = 0, clean
        if self.noises:
            noise = int(generator.integers(len(self.noises)))
            severity = int(generator.choice(self.severities))
            degraded = Noise(self.noises[noise], severity, int(generator.integers(2**62)))(to_array(clean))
            bad = from_array(degraded)
        return Pair(self._seen(clean), self._seen(bad), noise)

    def _box(self, size: tuple[int, int], generator: np.random.Generator) -> tuple[int, int, int, int]:
        """A random crop: its share of the area, then its aspect, then its place are drawn."""
        width, height = size
        area = width * height * generator.uniform(self.least, 1.0)
        aspect = math.exp(generator.uniform(-1, 1) * math.log(LARGEST_ASPECT))
        across = min(width, max(1, round(math.sqrt(area * aspect))))
        down = min(height, max(1, round(math.sqrt(area / aspect))))
        left = int(generator.integers(width - across + 1))
        top = int(generator.integers(height - down + 1))
        return left, top, left + across, top + down

    def _seen(self, image: Image.Image) -> Pixels:
        return to_array(image.resize((self.size, self.size), Image.Resampling.BILINEAR, reducing_gap=3.0))
