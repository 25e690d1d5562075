"""Local features out of a network's activations, for deep spatial matching (Simeoni, Avrithis, Chum, CVPR 2019).

Each channel of a feature map is taken for a grey picture; its maximally stable extremal regions (`mser`) are the
features, the number of the channel is their visual word, and the ellipse with a region's second moments is their
shape. There are no descriptors. Numbers and steps are those of the authors' code, with three differences, so this is
a reconstruction: they round activations of networks that take pixels in 0 to 255, here the largest of a map becomes
255 (what is negative, as `lite0-` has it, 0); they leave it to VLFeat's default that dark regions count, too, here
features are bright, as the paper has it; they widen ResNet-101 to stride 16, here the trunk is used as it is.

In `LocalFeatures`, a feature's `descriptors` are `COLUMNS`: channel; covariance of its cells' places in squared
pixels of the original (xx, xy, yy); side of a cell in pixels of the original. `strength` is the largest activation
in the region over that of the picture, `scale` the factor of the picture's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.extraction.config import EmbedConfig
from lowq_core.extraction.engine import as_tensor, check_finite, speed_up
from lowq_core.extraction.local_features import PictureFeatures
from lowq_core.extraction.mser import extremal_tree, stable_regions
from lowq_core.images import View, to_array
from lowq_core.models.backbone import Backbone
from lowq_core.models.embedder import check_scales, rescale
from lowq_core.models.weights import weights_digest

COLUMNS = ("channel", "xx", "xy", "yy", "cell")

_QUANTILE, _LARGEST_STEP = (
    0.6,
    12,
)  # of the activations above 0 it is the step of MSER, in grey levels at most 12
_CLUTTERED = 36  # regions from which a channel says nothing
_FLAT = 1e-9  # determinant of the covariance, in cells^4: cells on one line, up to rounding
_NARROW = 0.5 - 1e-9  # cells: standard deviation of a region two cells across
_OVERLAP = (
    0.2  # of two boxes (intersection over union), above which the weaker region of a database picture goes
)


class Regions(NamedTuple):
    """Regions of one map, in cells, whose first one has its middle at 0.

    Attributes:
        channel: (n,). centre: (n, 2) x, y. covariance: (n, 2, 2) of x, y. peak: (n,) largest activation.
    """

    channel: NDArray[np.int64]
    centre: NDArray[np.float64]
    covariance: NDArray[np.float64]
    peak: NDArray[np.float64]

    def of(self, rows: NDArray[Any]) -> Regions:
        """Some of them."""
        return Regions(*(array[rows] for array in self))


@dataclass(frozen=True)
class ActivationRegions:
    """Extracts activation regions; give it to `extract_with` or `embed_with`.

    Attributes:
        backbone, weights: the trunk, as in `EmbedConfig`. More channels tell more apart: in a trial on PaperTown the
            1280 of `lite0` did better than the 112 of `lite0-`, in spite of its larger cells.
        size: longer side in pixels that pictures are brought down to; never enlarged.
        scales: factors of that size.
        query: queries keep more: 20 regions a channel instead of 10, also where they overlap.
        count: regions kept of a picture, the strongest.

    Raises:
        LowqError: unknown backbone, size, scale or count out of range; on use, weights that cannot be had.

    >>> from PIL import Image
    >>> noise = Image.effect_noise((64, 48), 90).convert("RGB")
    >>> extractor = ActivationRegions(backbone="resnet18", weights="random", scales=(1.0,))
    >>> extractor(View(noise, (0.0, 0.0), (1.0, 1.0))).descriptors.shape[1] == len(COLUMNS)
    True
    """

    backbone: str = "lite0"
    weights: str | None = None
    size: int = 1024
    scales: tuple[float, ...] = (1.0, 2**-0.5, 0.5)
    query: bool = False
    count: int = 2048

    def __post_init__(self) -> None:
        EmbedConfig(self.backbone, heads=("gem",), size=self.size, weights=self.weights)  # checks these
        object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        check_scales(self.scales)
        if self.count < 1:
            raise LowqError(f"count={self.count}: keep at least one region a picture")

    @property
    def dim(self) -> int:
        """5, the `COLUMNS`."""
        return len(COLUMNS)

    @property
    def described(self) -> Mapping[str, Any]:
        """The options, with the weights' digest in place of their path."""
        options = asdict(self) | {"weights": self._loaded[1]}
        return {"config": {"features": "activation_regions"} | options}

    @cached_property
    def _loaded(self) -> tuple[Backbone, str]:
        """The trunk, made fast, and the digest of its weights."""
        trunk = EmbedConfig(self.backbone, heads=("gem",), weights=self.weights).embedder().trunk
        check_finite(trunk, self.weights or self.backbone)
        digest = weights_digest(trunk)
        speed_up(trunk, "float32")
        return trunk.to(memory_format=torch.channels_last), digest

    @torch.inference_mode()
    def __call__(self, view: View) -> PictureFeatures:
        """Regions with places and shapes in the original's pixels, strongest first."""
        trunk, _ = self._loaded
        pixels = as_tensor(to_array(view.image), "cpu")
        parts = [_nothing()]
        for scale in self.scales:
            if min(side * scale for side in pixels.shape[-2:]) < 1:
                continue
            scaled = rescale(pixels, scale)
            found = regions_of(trunk(scaled)[0].float().numpy(), query=self.query)
            parts.append(self._placed(found, view, scaled.shape[-2:], scale))
        joined = PictureFeatures(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        order = np.argsort(-joined.strength, kind="stable")[: self.count]
        strongest = PictureFeatures(*(array[order] for array in joined))
        return strongest._replace(strength=strongest.strength / strongest.strength.max(initial=1e-30))

    def _placed(self, found: Regions, view: View, sides: Sequence[int], scale: float) -> PictureFeatures:
        """From cells of a map to pixels of the original."""
        trunk, _ = self._loaded
        # pixels of the original that one of the picture the trunk saw stands for, across and down
        zoom = np.array(view.zoom) * np.array(view.image.size) / np.array(sides[::-1])
        middles = [trunk.centres(side).numpy() for side in sides[::-1]]
        inside = np.column_stack(
            [np.interp(found.centre[:, axis], np.arange(len(at)), at) for axis, at in enumerate(middles)]
        )
        cell = trunk.stride * zoom
        covariance = found.covariance * np.outer(cell, cell)
        descriptors = np.column_stack(
            [
                found.channel,
                covariance[:, 0, 0],
                covariance[:, 0, 1],
                covariance[:, 1, 1],
                np.full(len(found.channel), np.sqrt(cell.prod())),
            ]
        )
        xy = np.array(view.origin) + inside * zoom
        made = (descriptors, found.peak, xy, np.full(len(found.channel), scale))
        return PictureFeatures(*(np.asarray(array, np.float32) for array in made))


def regions_of(maps: NDArray[np.float32], *, query: bool = False) -> Regions:
    """The stable bright regions of every channel of a map, two cells wide and high or more.

    Channels with more than 36 say nothing and are passed over.

    Args:
        maps: (C, h, w); what is negative counts as 0.
        query: keep the strongest 20 a channel; else, of regions that overlap in whatever channels, the strongest,
            and of these 10 a channel.

    Raises:
        LowqError: not finite.

    >>> maps = np.zeros((2, 24, 32), np.float32)
    >>> maps[1, 5:10, 8:16] = 1
    >>> found = regions_of(maps)
    >>> found.channel.tolist(), found.centre.tolist(), found.peak.tolist()
    ([1], [[11.5, 7.0]], [1.0])
    """
    if not np.isfinite(maps).all():
        raise LowqError("a feature map holds NaN or infinity; check the weights")
    positive = np.maximum(maps, 0)
    top = float(positive.max(initial=0))
    if not top:
        return Regions(np.empty(0, np.int64), np.empty((0, 2)), np.empty((0, 2, 2)), np.empty(0))
    unit = top / 255
    step = np.rint(np.quantile(positive[positive > 0], _QUANTILE) / unit).clip(1, _LARGEST_STEP)
    tree = extremal_tree(np.rint(positive / unit).astype(np.uint8))
    rows = stable_regions(tree, delta=int(step))
    found = Regions(
        tree.channel[rows],
        tree.centres(rows),
        tree.covariances(rows),
        (tree.peak[rows] * unit).astype(np.float64),
    )
    found = found.of(np.flatnonzero(np.linalg.det(found.covariance) > _FLAT))
    counts = np.bincount(found.channel, minlength=len(maps))
    found = found.of(counts[found.channel] <= _CLUTTERED)
    found = found.of(np.flatnonzero(_spread(found).min(axis=1, initial=np.inf) >= _NARROW))
    return _strongest(found, 20) if query else _strongest(_apart(found), 10)


def _spread(regions: Regions) -> NDArray[np.float64]:
    """(n, 2) standard deviation along x and y, in cells: half the sides of the ellipse's box."""
    return np.sqrt(np.diagonal(regions.covariance, axis1=1, axis2=2))


def _apart(regions: Regions) -> Regions:
    """The strongest region, then each next that overlaps with none taken so far by more than `_OVERLAP`."""
    half = _spread(regions)
    low, high = regions.centre - half, regions.centre + half
    areas = np.prod(high - low, axis=1)
    kept: list[int] = []
    left = np.argsort(-regions.peak, kind="stable")
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        sides = np.minimum(high[left], high[best]) - np.maximum(low[left], low[best])
        shared = np.prod(sides.clip(min=0), axis=1)
        left = left[shared <= _OVERLAP * (areas[left] + areas[best] - shared)]
    return regions.of(np.array(kept, np.int64))


def _strongest(regions: Regions, count: int) -> Regions:
    """At most `count` of each channel."""
    order = np.lexsort((-regions.peak, regions.channel))
    _, first, which = np.unique(regions.channel[order], return_index=True, return_inverse=True)
    return regions.of(order[np.arange(len(order)) - first[which] < count])


def _nothing() -> PictureFeatures:
    empty = np.empty(0, np.float32)
    return PictureFeatures(
        np.empty((0, len(COLUMNS)), np.float32), empty, np.empty((0, 2), np.float32), empty
    )
