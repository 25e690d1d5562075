"""AdapNet's quality compensation block: what a bad picture's map lost is put back, by the kind of noise it has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.models.context import check_map

Gate = Literal["softmax", "sigmoid"]
Kernel = tuple[int, int]
"""Side in cells, odd; dilation."""

KERNELS: tuple[Kernel, ...] = ((3, 1), (7, 1), (1, 1), (5, 1), (3, 2), (7, 2), (1, 2), (5, 2))
"""Kernels of eight branches; n branches take the first n. See `QCBConfig`."""


@dataclass(frozen=True)
class QCBConfig:
    """The block's shape.

    The paper has eight noise functions and "several" kernels, of sizes unknown to us. An assumption: sides 1, 3, 5
    and 7, each plain and with dilation 2. Any number of branches takes the first of `kernels`:

        1  3          4  1, 3, 5, 7
        2  3, 7       8  1, 3, 5, 7, plain and with dilation 2

    so fewer branches are a part of more, and branch k keeps its kernel. (A kernel of side 1 has nothing to
    dilate: the two branches of that side differ by their weights only.)

    Attributes:
        channels: C of the trunk's map.
        branches: K; one for each known noise.
        width: channels between the two 1x1 convolutions of a branch, and hidden units of the gate. It sets
            the cost: with 32, eight branches add some 8 % to the time of Lite0 where that is fused, with 64 10 %.
        gate: "softmax", where branches compete and a sums to 1, or "sigmoid", where each is on or off by itself
            and all can be off. A single branch with softmax always has a = 1.
        kernels: (side, dilation) of each branch; the first `branches` count.

    Raises:
        LowqError: an unknown gate, a count too low, more branches than kernels, an even side.

    >>> QCBConfig(1280, branches=2).used
    ((3, 1), (7, 1))
    """

    channels: int
    branches: int = 8
    width: int = 32
    gate: Gate = "softmax"
    kernels: tuple[Kernel, ...] = KERNELS

    def __post_init__(self) -> None:
        for name, least in (("channels", 1), ("branches", 1), ("width", 2)):
            if getattr(self, name) < least:  # a single channel of a single cell cannot be normalised
                raise LowqError(f"{name}={getattr(self, name)}: has to be {least} or more")
        if self.gate not in get_args(Gate):
            raise LowqError(f"gate {self.gate!r} is unknown; choose {' or '.join(get_args(Gate))}")
        for kernel in self.kernels:
            if len(kernel) != 2 or kernel[0] < 1 or kernel[0] % 2 == 0 or kernel[1] < 1:
                raise LowqError(f"kernel {kernel}: give (side, dilation), an odd side and a dilation from 1")
        if self.branches > len(self.kernels):
            raise LowqError(
                f"branches={self.branches}: there are {len(self.kernels)} kernels; take that many branches or fewer, "
                f"or name more kernels"
            )
        # Lists, as JSON gives them back, would make equal configs differ.
        object.__setattr__(self, "kernels", tuple((side, dilation) for side, dilation in self.kernels))

    @property
    def used(self) -> tuple[Kernel, ...]:
        """The kernels of the branches, in order."""
        return self.kernels[: self.branches]


class QCB(nn.Module):
    """Branches of different kernels, a gate that selects among them, and their sum added to the map.

        R   = P F                                        1x1 convolution, C -> width, shared by all branches
        N_k = E_k ReLU(norm(D_k * R))                    D_k depthwise k x k, dilated; E_k 1x1, width -> C
        a   = softmax(MLP(GAP(F)))   or sigmoid          (K,), from the mean of the map's cells
        F_c = F + gamma sum_k a_k N_k                    gamma (C,), 0 at the start

    sum_k a_k N_k is one 1x1 convolution of the K branches side by side, each weighted before it: the same sum,
    at the cost of K * width channels and not of K maps.

    gamma = 0 makes the block the identity at the start, bit by bit, so a trunk keeps its descriptors until
    training finds something better. At the first step gamma alone has a gradient; once it has moved, at the
    second, all parameters have one. E starts so that each N_k has variance 1, whatever K and width.

    norm is group normalisation, over one branch's channels and cells of one picture. Training leaves the
    statistics of batch normalisation as they were (`lowq_core.training.loop.freeze_statistics`), so a new
    layer of that kind would never learn its own. No picture depends on its batch, and N_k does not change
    with the scale of F, as long as that is not near 0.

    F_c can be negative where F is not; `lowq_core.models.pooling.GeM` takes such cells for its least value.

    Reconstruction: of the paper (AdapNet, arXiv 2405.17718) we had the abstract and reviews. They tell of
    several kernels that extract noise-specific features, of selective fusion with the low-quality feature and
    of eight noises; the formulas above, depthwise kernels included, are ours.

    Queries and database go through the same block. For training with known noises, `gate_logits` can be held
    to the noise's number by a cross-entropy, which the paper does not mention.

    Args:
        config: its shape.

    >>> block, x = QCB(QCBConfig(channels=16, branches=4, width=8)), torch.rand(2, 16, 6, 5)
    >>> torch.equal(block(x), x), tuple(block.gate(x).shape), tuple(block.branch_outputs(x).shape)
    (True, (2, 4), (2, 4, 16, 6, 5))
    """

    def __init__(self, config: QCBConfig) -> None:
        super().__init__()
        self.config = config
        channels, width, branches = config.channels, config.width, config.branches
        self.reduce = nn.Conv2d(channels, width, 1, bias=False)
        self.branches = nn.ModuleList(
            nn.Conv2d(
                width, width, side, padding=side // 2 * dilation, dilation=dilation, groups=width, bias=False
            )
            for side, dilation in config.used
        )
        self.norm = nn.GroupNorm(branches, branches * width)
        self.expand = nn.Conv2d(branches * width, channels, 1, bias=False)
        nn.init.normal_(self.expand.weight, std=math.sqrt(2 / width))  # ReLU leaves a mean square of 1/2
        self.select = nn.Sequential(nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, branches))
        self.gamma = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), the compensated map, in the type and layout of `x`.

        Raises:
            LowqError: another number of channels, or no cell.
        """
        weights = self.gate(x).repeat_interleave(self.config.width, 1)[:, :, None, None]
        hidden = self._hidden(x)
        compensation = self.expand(hidden * weights.to(hidden.dtype)).to(x.dtype)
        return torch.addcmul(x, self.gamma.to(x.dtype)[:, None, None], compensation)

    def gate_logits(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K), the gate before softmax or sigmoid, in the type of the weights.

        Raises:
            LowqError: another number of channels, or no cell.
        """
        check_map(x, self.config.channels, "quality compensation")
        with torch.autocast(x.device.type, enabled=False):  # little work, and a softmax follows
            logits: Tensor = self.select(x.mean((2, 3), dtype=self.gamma.dtype))
        return logits

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K), each branch's weight a_k in 0..1; of sum 1 with softmax.

        Raises:
            LowqError: another number of channels, or no cell.
        """
        logits = self.gate_logits(x)
        return logits.softmax(1) if self.config.gate == "softmax" else logits.sigmoid()

    def branch_outputs(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K, C, H, W), each N_k, without its weight a_k and without gamma; for a look at them.

        Raises:
            LowqError: another number of channels, or no cell.
        """
        check_map(x, self.config.channels, "quality compensation")
        hidden = self._hidden(x).unflatten(1, (self.config.branches, -1))
        matrices = self.expand.weight.view(self.config.channels, self.config.branches, -1)
        return torch.einsum("bkdhw,ckd->bkchw", hidden.to(matrices.dtype), matrices)

    def _hidden(self, x: Tensor) -> Tensor:
        """(B, K * width, H, W), all branches before their last convolution, side by side."""
        reduced = self.reduce(x.to(self.gamma.dtype))
        found = torch.cat([branch(reduced) for branch in self.branches], 1)
        hidden: Tensor = self.norm(found)
        return hidden.relu()
