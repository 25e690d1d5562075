"""The network of GSS: graph convolutions that start as the identity."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lowq_core.errors import LowqError
from lowq_core.models.neighbours import Neighbours, weighted_sums

NOISE = 1e-5
"""Standard deviation of what the weights differ from the identity by, off the diagonal."""

_SHORTEST = 1e-12  # what shorter vectors count as

Spread = Callable[[Tensor, int], Tensor]
"""(h_l, l) -> Â h_l: what arrives over the edges."""


class NormalisedGraph(NamedTuple):
    """A symmetric Â as the sparse products want it.

    Attributes:
        neighbours: the E edges of N nodes, (i, i) among them.
        weights: (E,) of the type of the features.
    """

    neighbours: Neighbours
    weights: Tensor

    @classmethod
    def of(cls, offsets: Tensor, columns: Tensor, weights: Tensor) -> NormalisedGraph:
        """From the compressed rows of a symmetric matrix: (N + 1,), (E,) rising in each row, (E,).

        >>> offsets, columns = torch.tensor([0, 2, 4]), torch.tensor([0, 1, 0, 1])
        >>> NormalisedGraph.of(offsets, columns, torch.ones(4)).neighbours.reverse.tolist()
        [0, 2, 1, 3]
        """
        size = len(offsets) - 1
        firsts = torch.repeat_interleave(torch.arange(size), offsets.diff())
        reverse = torch.argsort(columns.long() * size + firsts)
        return cls(Neighbours(offsets.int(), firsts.int(), columns.int(), reverse.int()), weights)

    def spread(self, features: Tensor) -> Tensor:
        """Â features, (N, D) -> (N, D); differentiable in the features."""
        return weighted_sums(self.weights.unsqueeze(0), features.unsqueeze(0), self.neighbours).squeeze(0)


class GSSNetwork(nn.Module):
    """L graph convolutions as in GSS (Liu et al., NeurIPS 2019; details of the released code).

        z_l = Â h_(l-1) W_l + b_l,   h_0 = x
        h_1 = ELU(z_1),   h_l = z_(l-1) + lambda ELU(z_l) for l > 1:  the skip takes z, not h
        e = h_L / |h_L|

    W_l starts as I with noise of 1e-5 off the diagonal, b_l as 0: so an untrained network averages over the graph.
    Kept as parameters are W_l - I, to which Adam does the same, so that bfloat16 rounds the small difference only.

    A picture whose descriptor is zero has output zero, whatever the biases.

    Args:
        dim: D of the descriptors, and of all layers.
        layers: L.
        decay: lambda.
        noise: 0 for weights that are I exactly.
        generator: what draws the noise; torch's own by default.

    Raises:
        LowqError: fewer than 1 layer or dimension, decay or noise that is not finite.

    >>> network = GSSNetwork(2, noise=0.0)
    >>> e = network(torch.tensor([[3.0, -4.0]]), lambda h, level: h)  # a graph of own edges only
    >>> round((e[0, 1] / e[0, 0]).item(), 3)  # z_1 + 0.3 ELU(ELU(z_1)) is 3.9 and -4.19
    -1.074
    """

    def __init__(
        self,
        dim: int,
        layers: int = 2,
        decay: float = 0.3,
        *,
        noise: float = NOISE,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_network(layers, decay)
        if dim < 1 or not 0 <= noise < math.inf:
            raise LowqError(f"GSS network: dim={dim}, noise={noise}; dim is 1 or more, noise 0 or more")
        self.dim, self.decay = dim, decay
        self.departures = nn.ParameterList(
            (noise * torch.randn(dim, dim, generator=generator)).fill_diagonal_(0) for _ in range(layers)
        )
        self.biases = nn.ParameterList(torch.zeros(dim) for _ in range(layers))

    @property
    def weights(self) -> list[Tensor]:
        """W_1 to W_L, (D, D) each."""
        return [one.detach() + torch.eye(self.dim, dtype=one.dtype) for one in self.departures]

    def forward(self, x: Tensor, spread: Spread | NormalisedGraph, *, bf16: bool = False) -> Tensor:
        """Descriptors (N, D) and their graph -> outputs (N, D) of length 1.

        Args:
            x: of the type of the parameters.
            spread: the graph, or a function of features and their level, 0 for x, that passes them over its edges.
            bf16: round the factors of W_l - I to bfloat16.
        """
        hidden = self.hidden(x, spread, bf16=bf16)
        return normalised(hidden[-1], x)

    def hidden(self, x: Tensor, spread: Spread | NormalisedGraph, *, bf16: bool = False) -> list[Tensor]:
        """h_1 to h_L, the last one not normalised."""
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise LowqError(f"GSS network: descriptors {tuple(x.shape)}; it takes (N, {self.dim})")
        passing = spread if not isinstance(spread, NormalisedGraph) else _over(spread)
        found: list[Tensor] = []
        h, before = x, None
        for level, (departure, bias) in enumerate(zip(self.departures, self.biases, strict=True)):
            arrived = passing(h, level)
            z: Tensor = _Layer.apply(arrived, departure, bias, bf16)
            h = F.elu(z) if before is None else F.elu(z).mul_(self.decay).add_(before)
            found.append(h)
            before = z
        return found


def normalised(hidden: Tensor, x: Tensor) -> Tensor:
    """h_L of length 1; 0 where the descriptor x is.

    >>> normalised(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    zero = ~x.any(dim=1, keepdim=True)
    e: Tensor = _Normalised.apply(hidden)
    return e.masked_fill(zero, 0.0) if bool(zero.any()) else e


class _Layer(Function):
    """a + a V + b, with as few arrays of the features' size as there can be: they take longer to get than to fill."""

    @staticmethod
    def forward(ctx: Any, arrived: Tensor, departure: Tensor, bias: Tensor, bf16: bool) -> Tensor:
        ctx.bf16 = bf16
        if not bf16:
            ctx.save_for_backward(arrived, departure)
            return torch.addmm(arrived, arrived, departure).add_(bias)
        left, right = arrived.bfloat16(), departure.bfloat16()
        ctx.save_for_backward(left, right)
        return (arrived + bias).add_(left @ right)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        arrived, departure = ctx.saved_tensors
        factor = gradient.bfloat16() if ctx.bf16 else gradient
        of_arrived = None
        if ctx.needs_input_grad[0] and ctx.bf16:
            of_arrived = gradient + factor @ departure.t()
        elif ctx.needs_input_grad[0]:
            of_arrived = torch.addmm(gradient, gradient, departure.t())
        return of_arrived, (arrived.t() @ factor).to(gradient.dtype), gradient.sum(0), None


class _Normalised(Function):
    """h / |h|; its gradient takes half the passes over the features that autograd's own takes."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(hidden, dim=1, keepdim=True).clamp_min_(_SHORTEST)
        e = hidden / lengths
        ctx.save_for_backward(e, lengths)
        return e

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        e, lengths = ctx.saved_tensors
        along = torch.linalg.vecdot(e, gradient).unsqueeze(1)
        return torch.addcmul(gradient, e, along, value=-1).div_(lengths)


def check_network(layers: int, decay: float) -> None:
    """LowqError where no network has such options.

    >>> check_network(2, 0.3)
    """
    if layers < 1:
        raise LowqError(f"GSS: layers={layers}; choose 1 or more (2 in the work)")
    if not math.isfinite(decay):
        raise LowqError(f"GSS: decay={decay}; choose a finite number (0.3 in the work)")


def _over(graph: NormalisedGraph) -> Spread:
    return lambda h, level: graph.spread(h)
