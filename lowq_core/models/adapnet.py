"""AdapNet's network: a trunk, the quality compensation block on its map, GeM.

Known of the work (arXiv 2405.17718): backbone -> compensation block -> fusion -> descriptor. That the block sits
on the last map and that GeM pools it is a reconstruction; the paper's own description could not be had.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.models.backbone import BACKBONES, Backbone, backbone
from lowq_core.models.pooling import GeM, l2n
from lowq_core.models.qcb import QCB, Gate, QCBConfig


@dataclass(frozen=True)
class AdapNetConfig:
    """The network's shape.

    Attributes:
        backbone: a name of `lowq_core.models.backbone.BACKBONES`; published: `resnet50`, `resnet101`.
        branches: of the compensation block, one for each known noise; 0 leaves the block out, and what is left is
            the plain GeM network that every comparator shares.
        gate: how branches are selected: "softmax" (one takes what the others lose) or "sigmoid".
        p: GeM's exponent at the start.

    Raises:
        LowqError: an unknown backbone, a number of branches below 0, p that is not above 0.

    >>> AdapNetConfig().branches
    8
    """

    backbone: str = "lite0"
    branches: int = 8
    gate: Gate = "softmax"
    p: float = 3.0

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise LowqError(f"backbone {self.backbone!r} is unknown; choose one of {', '.join(BACKBONES)}")
        if self.branches < 0:
            raise LowqError(f"branches={self.branches}: it has to be 0 (no compensation block) or more")
        if not self.p > 0:
            raise LowqError(f"p={self.p}: GeM's exponent has to be above 0")


class AdapNet(nn.Module):
    """Picture to the vector whose direction is the descriptor and whose norm stands for the quality.

    Attributes:
        config: its shape.
        trunk: the backbone; its map goes through the compensation block.
        pool: GeM.
    """

    def __init__(self, config: AdapNetConfig, trunk: Backbone) -> None:
        super().__init__()
        self.config, self.trunk = config, trunk
        if config.branches:
            trunk.refine = QCB(QCBConfig(trunk.channels, branches=config.branches, gate=config.gate))
        self.pool = GeM(config.p)

    @property
    def qcb(self) -> QCB | None:
        """The compensation block; None where the config has no branches."""
        return self.trunk.refine if isinstance(self.trunk.refine, QCB) else None

    def gate(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) float RGB in 0..1 -> (B, K), the weight that each branch gets, in 0..1.

        Raises:
            LowqError: a network without branches.
        """
        if self.qcb is None:
            raise LowqError("this network has no compensation block, so no gate; take one with branches")
        return self.qcb.gate(self.trunk.unrefined(x))

    def drift(self, x: Tensor) -> Tensor:
        """How far the block moves the descriptor: the distance of unit vectors with and without it, 0..2.

        (B, 3, H, W) float RGB in 0..1 -> (B,); 0 before training. On a clean picture there is nothing to make up
        for, so a gate that knows its noises leaves little of it.

        Raises:
            LowqError: a network without branches.
        """
        if self.qcb is None:
            raise LowqError("this network has no compensation block, so no drift; take one with branches")
        plain = self.trunk.unrefined(x)
        moved, still = (l2n(self.pool(map_)) for map_ in (self.qcb(plain), plain))
        return torch.linalg.vector_norm(moved - still, dim=1)

    def map(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) float RGB in 0..1 -> (B, C, h, w), compensated."""
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) float RGB in 0..1 -> (B, C), not normalised."""
        pooled: Tensor = self.pool(self.map(x))
        return pooled


def adapnet(config: AdapNetConfig, weights: str | None = None) -> AdapNet:
    """A new network; at the start it describes pictures exactly as its trunk with GeM does.

    Args:
        weights: of the trunk: None for ImageNet's, a path, or "random".

    >>> import torch
    >>> network = adapnet(AdapNetConfig("resnet18", branches=2), "random")
    >>> network(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 512])
    """
    return AdapNet(config, backbone(config.backbone, weights)).eval()


@torch.no_grad()
def between(start: AdapNet, trained: AdapNet, share: float) -> AdapNet:
    """The network whose weights lie at `share` of the way from `start` to `trained`, 0 and 1 being these two.

    A short training on few landmarks costs on pictures unlike them; part of the way keeps most of what it brought
    and pays less. Source: weight-space ensembles (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR
    2022); AdapNet itself has no such step.

    Raises:
        LowqError: networks of different shapes, a share outside 0..1.

    >>> start, trained = (adapnet(AdapNetConfig("resnet18", branches=0), "random") for _ in range(2))
    >>> half = between(start, trained, 0.5).pool.p
    >>> bool(half == (start.pool.p + trained.pool.p) / 2)
    True
    """
    if not 0 <= share <= 1:
        raise LowqError(f"share={share}: choose a number from 0, the start, to 1, the trained network")
    if start.config != trained.config:
        raise LowqError(
            f"{start.config} and {trained.config}: there is no way between networks of two shapes"
        )
    found, goal = copy.deepcopy(start), trained.state_dict()
    for name, value in found.state_dict().items():
        if value.is_floating_point():
            value.lerp_(goal[name], share)
    return found
