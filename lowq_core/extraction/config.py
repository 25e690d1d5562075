"""`EmbedConfig`: which network turns pictures into descriptors, and how."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lowq_core.errors import LowqError
from lowq_core.models.adapnet import AdapNet
from lowq_core.models.adapnet_checkpoints import is_adapnet, load_adapnet
from lowq_core.models.backbone import BACKBONES, backbone
from lowq_core.models.checkpoints import is_checkpoint, load_checkpoint
from lowq_core.models.embedder import Embedder, check_heads, check_scales

PRECISIONS = ("float32", "bf16")
ENGINES = ("torch", "cuda", "openvino")


@dataclass(frozen=True)
class EmbedConfig:
    """How descriptors are made; equal configs on equal pictures give equal descriptors.

    Attributes:
        backbone: a name of `lowq_core.models.backbone.BACKBONES`.
        heads: pooling heads, names out of `lowq_core.models.embedder.HEADS`; one pass of the trunk for all.
        p: GeM's exponent (a checkpoint's own learned exponent takes its place).
        size: longer side in pixels that pictures are brought down to; never enlarged.
        scales: factors of that size, whose vectors are combined.
        precision: `float32`, or `bf16`: about 2 to 4 times as fast on processors that have it, descriptors
            about 1e-2 away.
        engine: `torch` (processor), `cuda`, or `openvino` (extra `lowq[openvino]`; compiles once for each
            picture size, so it pays where sizes repeat).
        weights: None for the ImageNet weights, a path to a state dict, to a published GeM checkpoint or to a
            network that `lowq_core.training.adapnet` trained, or `"random"`; see `lowq_core.models`.

    Raises:
        LowqError: unknown backbone, head, precision or engine; size, p or scale out of range.

    >>> EmbedConfig(heads=["gem"], scales=[1, 0.5]).scales
    (1.0, 0.5)
    """

    backbone: str = "lite0"
    heads: tuple[str, ...] = ("mac", "spoc", "gem", "rmac")
    p: float = 3.0
    size: int = 448
    scales: tuple[float, ...] = (1.0,)
    precision: str = "float32"
    engine: str = "torch"
    weights: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", tuple(self.heads))
        object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        if self.weights is not None:
            object.__setattr__(self, "weights", os.fspath(self.weights))
        check_heads(self.heads)
        check_scales(self.scales)
        for name, value, known in (
            ("backbone", self.backbone, BACKBONES),
            ("precision", self.precision, PRECISIONS),
            ("engine", self.engine, ENGINES),
        ):
            if value not in known:
                raise LowqError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")
        if self.size < 1 or self.p <= 0:
            raise LowqError(f"size={self.size}, p={self.p}: size has to be 1 pixel or more, p above 0")

    def embedder(self) -> Embedder:
        """The network, in evaluation mode.

        Raises:
            LowqError: weights missing, or not of this backbone.
        """
        weights = None if self.weights == "random" else self.weights
        if weights is not None and is_adapnet(weights):
            return self._of_adapnet(load_adapnet(weights))
        if weights is None or not is_checkpoint(weights):
            trunk = backbone(self.backbone, self.weights)
            return Embedder(trunk, self.heads, self.p, self.scales).eval()
        checkpoint = load_checkpoint(Path(weights), self.heads, self.scales)
        self._check_backbone(checkpoint.architecture)
        return checkpoint.embedder

    def _of_adapnet(self, network: AdapNet) -> Embedder:
        self._check_backbone(network.config.backbone)
        return Embedder(network.trunk, self.heads, network.pool.p.item(), self.scales).eval()

    def _check_backbone(self, name: str) -> None:
        if name != self.backbone:
            raise LowqError(
                f"{self.weights}: is a {name}, but backbone is {self.backbone}; set one to the other"
            )
