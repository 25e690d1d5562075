"""Hessian-affine regions with RootSIFT: the hand-crafted local features that learned ones are compared with.

Regions are maxima of the determinant of the Hessian over place and scale (Mikolajczyk and Schmid, IJCV 2004), their
shape is adapted until their gradients have no preferred direction (Baumberg, CVPR 2000), and they stay upright, as
photos of landmarks are (Perdoch, Chum, Matas, CVPR 2009). Descriptors are the square roots of L1-normalised SIFT
(Arandjelovic and Zisserman, CVPR 2012). The package kornia does the work.

In `LocalFeatures`, `descriptors` (D = 128) have length 1, `strength` is the response over the largest in the
picture, and `scale` is not a factor but the radius of the described region in pixels of the original.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lowq_core.errors import LowqError
from lowq_core.extraction.local_features import PictureFeatures
from lowq_core.images import View

_DIM = 128
_PATCH = 32  # pixels across that SIFT sees of a region
_SHAPE_PATCH = 19  # pixels across from which a region's shape is estimated
_STEPS = 4  # of shape adaptation; the next changes the ratio of the axes by 2 % in the median
_ELONGATED = 6.0  # ratio of the axes from which a region is an edge, of no certain place
_LEAST = 1e-5  # response of flat parts and compression noise, for grey levels in 0 to 1
_SMALLEST = 32  # pixels of a shorter side that the pyramid can work on


@dataclass(frozen=True)
class HessianAffine:
    """Extracts Hessian-affine RootSIFT features; give it to `extract_with` or `embed_with`.

    Attributes:
        size: longer side in pixels that pictures are brought down to; never enlarged.
        count: features kept of a picture, the strongest; regions that turn out to be edges are dropped after
            that, so there may be fewer.

    Raises:
        LowqError: size or count below 1; on use, kornia is not installed.

    >>> HessianAffine(count=500).dim
    128
    """

    size: int = 1024
    count: int = 1000

    def __post_init__(self) -> None:
        if self.size < 1 or self.count < 1:
            raise LowqError(f"size={self.size}, count={self.count}: both have to be 1 or more")

    @property
    def dim(self) -> int:
        """128."""
        return _DIM

    @property
    def described(self) -> Mapping[str, Any]:
        """The options, and which version of kornia."""
        return {
            "config": {"features": "hessian_affine", "kornia": _import("kornia").__version__} | asdict(self)
        }

    @torch.inference_mode()
    def __call__(self, view: View) -> PictureFeatures:
        """Features with places in the original's pixels, strongest first; none of what is too small or flat."""
        grey = np.asarray(view.image.convert("L"), np.float32) / 255
        if min(grey.shape) < _SMALLEST:
            return _none()
        picture = torch.from_numpy(grey)[None, None]
        frames, response = self._detector(picture)
        frames, response = _chosen(frames, response, response[0] > _LEAST)
        for _ in range(_STEPS if len(response[0]) else 0):
            frames = self._adapt(frames, picture)
        axes = torch.linalg.svdvals(frames[0, :, :, :2])
        frames, response = _chosen(frames, response, axes[:, 0] < _ELONGATED * axes[:, 1])
        if not len(response[0]):
            return _none()
        patches = self._kornia.extract_patches_from_pyramid(picture, frames, _PATCH)[0]
        descriptors = self._describe(patches)
        strength = response[0] / response[0].max()
        # kornia's first pixel has its middle at 0, ours at a half
        xy = np.array(view.origin) + (frames[0, :, :, 2].numpy() + 0.5) * view.zoom
        radius = torch.linalg.det(frames[0, :, :, :2]).abs().sqrt().numpy() * np.sqrt(np.prod(view.zoom))
        return PictureFeatures(
            descriptors.numpy(), strength.numpy(), xy.astype(np.float32), radius.astype(np.float32)
        )

    @cached_property
    def _kornia(self) -> Any:
        return _import("kornia.feature")

    @cached_property
    def _detector(self) -> Any:
        return self._kornia.ScaleSpaceDetector(self.count, resp_module=self._kornia.BlobHessian()).eval()

    @cached_property
    def _adapt(self) -> Any:
        return self._kornia.LAFAffineShapeEstimator(_SHAPE_PATCH).eval()

    @cached_property
    def _describe(self) -> Any:
        return self._kornia.SIFTDescriptor(_PATCH, rootsift=True).eval()


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise LowqError(
            "Hessian-affine features need the package kornia; install it with: pip install kornia"
        ) from None


def _chosen(frames: Tensor, response: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    return frames[:, kept], response[:, kept]


def _none() -> PictureFeatures:
    empty = np.empty(0, np.float32)
    return PictureFeatures(np.empty((0, _DIM), np.float32), empty, np.empty((0, 2), np.float32), empty)
