"""`HowConfig`: the shape of a HOW network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lowq_core.errors import LowqError
from lowq_core.models.backbone import BACKBONES
from lowq_core.models.graph_refinement import check_choice
from lowq_core.models.smoothing import SmoothingMode

Context = Literal["none", "gcn", "gcn_reweight", "solar", "self_attention"]
Smoothing = Literal["average", "learnable", "none"]


@dataclass(frozen=True)
class HowConfig:
    """The network's shape; equal configs with equal weights give equal descriptors.

    Attributes:
        backbone: a name of `lowq_core.models.backbone.BACKBONES`; published: `resnet18`, `resnet50-`.
        dim: D of the local descriptors.
        context: what refines the map: nothing, graph refinement (residual or as a gate of the attention),
            SOLAR's second-order attention, or plain self-attention.
        smoothing: average (HOW), learnable, or none.
        kernel: side of the smoothing window in cells, odd.
        mode: what a learnable window's weights come from: places, features, or both.
        k, threshold: which edges the graph of graph refinement has, see `cosine_graph`: the k most similar cells,
            those above the threshold, or, with both given, those that meet both.
        blocks: of graph refinement.

    Raises:
        LowqError: an unknown name, an even kernel, a count below 1, a graph without a choice of edges.

    >>> HowConfig(smoothing="learnable", kernel=5).context
    'none'
    """

    backbone: str = "lite0-"
    dim: int = 128
    context: Context = "none"
    smoothing: Smoothing = "average"
    kernel: int = 3
    mode: SmoothingMode = "spatial"
    k: int | None = 8
    threshold: float | None = None
    blocks: int = 2

    def __post_init__(self) -> None:
        for name, known in (
            ("backbone", BACKBONES),
            ("context", get_args(Context)),
            ("smoothing", get_args(Smoothing)),
            ("mode", get_args(SmoothingMode)),
        ):
            if getattr(self, name) not in known:
                raise LowqError(
                    f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(known)}"
                )
        for name in ("dim", "kernel", "blocks"):
            if getattr(self, name) < 1:
                raise LowqError(f"{name}={getattr(self, name)}: has to be 1 or more")
        check_choice(self.k, self.threshold)
        if self.kernel % 2 == 0:
            raise LowqError(f"kernel={self.kernel}: has to be odd, so that a cell is in its middle")
