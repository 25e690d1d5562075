"""HOW: local descriptors from a trunk's feature map (Tolias, Jenicek, Chum, ECCV 2020), with room for context.

Of each scale of a picture the trunk makes a map F of C channels; a context module may refine it. Then

    attention    w(u) = sqrt(sum_c F_c(u)^2 + 1e-10), times the context's gate where it has one
    smoothing    F'   = mean of F over the cells of the kernel that exist (or a learned filter)
    whitening    o(u) = W F'(u) + b, to D dimensions; fitted once, then frozen

and nothing is L2-normalised. The global descriptor, on which the network is trained, is l2n(sum_u w(u) o(u));
the local ones are the o(u) of the strongest cells, for ASMK. Where the trunk's map is signed (`lite0-`), the
norm, the cosine graph and second-order attention work all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.models.attention import SecondOrderAttention, SelfAttention
from lowq_core.models.backbone import Backbone, backbone
from lowq_core.models.embedder import check_scales
from lowq_core.models.graph_refinement import GraphRefinement, GraphVariant
from lowq_core.models.how_config import HowConfig
from lowq_core.models.pooling import l2n
from lowq_core.models.smoothing import AverageSmoothing, LearnableSmoothing

SCALES = (2.0, 1.414, 1.0, 0.707, 0.5, 0.353, 0.25)
"""Scales at which the published networks extract."""

_EPS = 1e-10


class HowMaps(NamedTuple):
    """One scale's maps.

    Attributes:
        features: (B, C, H, W), the trunk's, refined by the context where there is one.
        attention: (B, H, W), 0 or more: the strength of each cell.
        smoothed: (B, C, H, W).
        descriptors: (B, D, H, W).
    """

    features: Tensor
    attention: Tensor
    smoothed: Tensor
    descriptors: Tensor


class LocalTensors(NamedTuple):
    """Local features of one picture, strongest first.

    Attributes:
        descriptors: (n, D), not L2-normalised.
        strength: (n,) attention over the largest of all scales, so in 0..1.
        xy: (n, 2) middle of what the cell sees, in pixels of the picture, whose first pixel reaches from 0 to 1.
        scale: (n,) factor of the picture's size at which the cell was found.
    """

    descriptors: Tensor
    strength: Tensor
    xy: Tensor
    scale: Tensor


class HOW(nn.Module):
    """A trunk, a context module or none, smoothing, and a frozen whitening layer; make one with `how`.

    Batch normalisation always works in evaluation mode: the trunk's statistics stay ImageNet's. Until
    `set_whitening`, the whitening layer hands on the first D channels as they are.

    Attributes:
        config: its shape.
        trunk, context, smoothing, whitening: its parts, in this order; context is None where there is none.
    """

    def __init__(self, config: HowConfig, trunk: Backbone) -> None:
        super().__init__()
        if config.dim > trunk.channels:
            raise LowqError(
                f"dim={config.dim}: {trunk.name} has {trunk.channels} channels; choose that many or fewer"
            )
        self.config = config
        self.trunk = trunk
        self.context = _context(config, trunk.channels)
        self.smoothing = _smoothing(config, trunk.channels)
        self.whitening = nn.Conv2d(trunk.channels, config.dim, 1).requires_grad_(False)
        self.set_whitening(torch.eye(config.dim, trunk.channels), torch.zeros(config.dim))

    def train(self, mode: bool = True) -> Self:
        """As of any module, but batch normalisation stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def trunk_parameters(self) -> list[nn.Parameter]:
        """What is trained at the lower learning rate."""
        return list(self.trunk.parameters())

    def context_parameters(self) -> list[nn.Parameter]:
        """What is trained at the higher learning rate: context and learnable smoothing; may be none."""
        added = [] if self.context is None else list(self.context.parameters())
        return added + list(self.smoothing.parameters())

    @torch.no_grad()
    def set_whitening(self, weight: Tensor, bias: Tensor) -> None:
        """Put in what `fit_local_whitening` returns.

        Raises:
            LowqError: weight is not (D, C) or bias not (D,), or either is not finite.
        """
        layer = self.whitening
        wanted = (self.config.dim, self.trunk.channels)
        if tuple(weight.shape) != wanted or tuple(bias.shape) != wanted[:1]:
            raise LowqError(
                f"whitening: weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not fit this network; "
                f"fit one from {wanted[1]} to {wanted[0]} dimensions"
            )
        if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise LowqError("whitening: weight or bias holds NaN or infinity; fit it again on finite vectors")
        layer.weight.copy_(weight[:, :, None, None])
        assert layer.bias is not None
        layer.bias.copy_(bias)

    def maps(self, x: Tensor) -> HowMaps:
        """The maps of (B, 3, H, W) float RGB in 0..1, at its own size."""
        features, gate = self.trunk(x).float(), None
        if self.context is not None:
            features, gate = self.context(features)
        attention = (features.square().sum(1) + _EPS).sqrt()
        if gate is not None:
            attention = attention * gate
        smoothed = self.smoothing(features)
        return HowMaps(features, attention, smoothed, self.whitening(smoothed))

    def forward(self, x: Tensor, scales: Sequence[float] = (1.0,)) -> Tensor:
        """(B, 3, H, W) float RGB in 0..1 -> (B, D) global descriptor, L2-normalised.

        Raises:
            LowqError: no scale leaves a pixel.
        """
        _, maps = self._at(x, scales)
        strengths = _relative([attention for attention, _ in maps])
        total = [torch.einsum("bhw,bdhw->bd", w, o) for w, (_, o) in zip(strengths, maps, strict=True)]
        return l2n(torch.stack(total).sum(0))

    def local(self, x: Tensor, count: int | None = 1000, scales: Sequence[float] = SCALES) -> LocalTensors:
        """The `count` strongest cells of all scales together; all of them where there are fewer, or with None.

        Of equal strengths the first is taken: by scale in the order given, then row by row. Where all
        attention is zero (a gate can do that), all cells count as equally strong.

        Args:
            x: (1, 3, H, W) float RGB in 0..1.
            count: 1 or more.
            scales: factors of the picture's size; those that leave no pixel are passed over.

        Raises:
            LowqError: more than one picture, `count` below 1, no scale leaves a pixel.
        """
        used, maps = self._at(_one(x), scales)
        strength = torch.cat([w.flatten() for w in _relative([attention for attention, _ in maps])])
        chosen = _strongest(strength, count)
        descriptors = torch.cat([o[0].flatten(1).T for _, o in maps])
        places = torch.cat([self._places(x, scale) for scale in used])[chosen.cpu()]
        cells = torch.tensor([attention.numel() for attention, _ in maps])
        scale = torch.tensor(used).repeat_interleave(cells)[chosen.cpu()]
        return LocalTensors(descriptors[chosen], strength[chosen], places.to(x.device), scale.to(x.device))

    def unwhitened(self, x: Tensor, count: int | None = 1000) -> Tensor:
        """(n, C) smoothed vectors of the `count` strongest cells of (1, 3, H, W): what whitening is fitted on."""
        maps = self.maps(_one(x))
        return maps.smoothed[0].flatten(1).T[_strongest(maps.attention.flatten(), count)]

    def _at(self, x: Tensor, scales: Sequence[float]) -> tuple[list[float], list[tuple[Tensor, Tensor]]]:
        """The scales that can be used, and (attention, descriptors) at each."""
        found = [(scale, self.maps(picture)) for scale, picture in _rescaled(x, scales)]
        return [scale for scale, _ in found], [(maps.attention, maps.descriptors) for _, maps in found]

    def _places(self, x: Tensor, scale: float) -> Tensor:
        """(cells, 2) x, y of the cells at `scale`, row by row, in pixels of `x`."""
        down, across = (
            self.trunk.centres(size) * (side / size)
            for side, size in zip(x.shape[-2:], _size(x, scale), strict=True)
        )
        return torch.cartesian_prod(down, across).flip(1)


def how(config: HowConfig, weights: str | Path | None = None) -> HOW:
    """A network in evaluation mode, its whitening not fitted yet.

    Args:
        config: its shape.
        weights: the trunk's, as for `backbone`: None for ImageNet's, a path, or `"random"`.

    Raises:
        LowqError: no weights found, more dimensions than channels.

    >>> network = how(HowConfig(dim=32))
    >>> tuple(network(torch.rand(2, 3, 64, 96)).shape)
    (2, 32)
    >>> network.local(torch.rand(1, 3, 64, 96), count=10, scales=(1.0, 0.5)).xy.shape
    torch.Size([10, 2])
    """
    return HOW(config, backbone(config.backbone, weights)).eval()


def _context(config: HowConfig, channels: int) -> nn.Module | None:
    if config.context == "none":
        return None
    if config.context in ("gcn", "gcn_reweight"):
        variant: GraphVariant = "residual" if config.context == "gcn" else "reweight"
        return GraphRefinement(
            channels, blocks=config.blocks, k=config.k, threshold=config.threshold, variant=variant
        )
    if config.context == "self_attention":
        return SelfAttention(channels)
    # As published: 4 after a ResNet's third stage, else 2. Of trunks that are no ResNet nothing is published.
    return SecondOrderAttention(channels, reduction=4 if config.backbone == "resnet50-" else 2)


def _smoothing(config: HowConfig, channels: int) -> nn.Module:
    if config.smoothing == "none":
        return nn.Identity()
    if config.smoothing == "average":
        return AverageSmoothing(config.kernel)
    return LearnableSmoothing(channels, kernel=config.kernel, mode=config.mode)


def _size(x: Tensor, scale: float) -> tuple[int, int]:
    height, width = x.shape[-2:]
    return math.floor(height * scale), math.floor(width * scale)


def _rescaled(x: Tensor, scales: Sequence[float]) -> Iterator[tuple[float, Tensor]]:
    check_scales(scales)
    usable = [float(scale) for scale in scales if min(_size(x, scale)) >= 1]
    if not usable:
        raise LowqError(
            f"a picture of {x.shape[3]} x {x.shape[2]} pixels has none left at scales {tuple(scales)}; add scale 1"
        )
    for scale in usable:
        # As published: sizes rounded down, and the grid of the rounded size.
        yield (
            scale,
            x
            if scale == 1.0
            else F.interpolate(
                x, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=True
            ),
        )


def _relative(attentions: Sequence[Tensor]) -> list[Tensor]:
    """Each picture's attention, (B, h, w) a scale, over its largest of all scales; 1 where that is 0."""
    peak = torch.stack([attention.amax((1, 2)) for attention in attentions]).amax(0)[:, None, None]
    safe = peak.where(peak > 0, 1.0)
    return [(attention / safe).where(peak > 0, 1.0) for attention in attentions]


def _strongest(strength: Tensor, count: int | None) -> Tensor:
    if count is not None and count < 1:
        raise LowqError(f"count={count}: ask for at least one feature a picture")
    return strength.sort(descending=True, stable=True).indices[:count]


def _one(x: Tensor) -> Tensor:
    if x.ndim != 4 or x.shape[:2] != (1, 3):
        raise LowqError(
            f"picture of shape {tuple(x.shape)}: local features are made of one at a time, (1, 3, H, W)"
        )
    return x
