"""Smoothing of a feature map before local descriptors are taken: HOW's average, and the learned one."""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lowq_core.errors import LowqError
from lowq_core.models.context import check_map
from lowq_core.models.neighbours import Neighbours, dot_products, weighted_sums
from lowq_core.models.pooling import EPS

SmoothingMode = Literal["spatial", "feature", "both"]

EMBEDDING = 12
"""Most dimensions of the vectors whose distance the modes "feature" and "both" look at. With confidence and two
bandwidths a cell's prediction is 15 numbers: a matrix product of more than 16 takes half as long again."""

LEAST_CONFIDENCE = 1e-6
"""Floor of a cell's own weight: where all other weights vanish, the cell is left as it is."""


class AverageSmoothing(nn.Module):
    """Mean of the kernel x kernel window, of its cells inside the map: HOW's smoothing (Tolias et al. 2020).

    >>> AverageSmoothing()(torch.tensor([[[[1.0, 2.0, 6.0]]]])).tolist()
    [[[[1.5, 3.0, 4.0]]]]
    """

    def __init__(self, kernel: int = 3) -> None:
        super().__init__()
        check_kernel(kernel)
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return F.avg_pool2d(x, self.kernel, stride=1, padding=self.kernel // 2, count_include_pad=False)


class SmoothingMaps(NamedTuple):
    """What `LearnableSmoothing` decided at each cell.

    Attributes:
        bandwidth: (B, H, W), 0 and more; the larger, the narrower the kernel (spatial, or of the mode "feature").
        confidence: (B, H, W), 0..2; weight of the cell itself, where a neighbour at distance 0 would have 1.
        feature_bandwidth: (B, H, W) in mode "both", where `bandwidth` is the spatial one; else None.
    """

    bandwidth: Tensor
    confidence: Tensor
    feature_bandwidth: Tensor | None = None


class LearnableSmoothing(nn.Module):
    """Gaussian smoothing whose bandwidth and self-confidence are predicted at each cell.

        h(u) = sum_v w(u, v) F(v) / sum_v w(u, v),   v in the kernel x kernel window of u, inside the map
        w(u, v) = exp(-beta(u) d^2(u, v)) for v != u,   w(u, u) = c(u)

    with d^2 the squared distance in cells ("spatial"), 2 - 2 cos of the vectors G F with a learned G of at most
    12 rows ("feature"), or both, each with its own beta. beta(u) = max(b(u), 0) and c(u) = 2 sigmoid(s(u)),
    b and s linear in F(u). All of b, s starts at 0, hence beta = 0 and c = 1: the module starts as HOW's average
    of the same kernel, in exact arithmetic and not nearly, so a whitening fitted to HOW's features stays valid.
    At and below 0 the gradient still reaches b where it asks for a larger beta; no cell gets stuck there.

    A vector G F of length 0 has cosine 0 with all. c is never less than 1e-6. So a cell whose weights all vanish,
    and the only cell of a 1x1 map, is left as it is. The result is a convex combination of the window's cells.

    Reconstruction: the slides on context for local descriptors (Seo and Han, KAIST, 2024) name the learned
    bandwidth, "larger" for "edge details", the self-confidence and the kernels 3, 5 and 7, but no formula. The
    kernel is that of a denoiser with neural features (Isik et al., SIGGRAPH 2021), which fits all they say.

    Backward keeps the map, a few numbers for each cell of the window, and no window's copies of the map. With
    kernel 7 on a map of 1024 x 48 x 64, forward and backward together hold less than three times its memory,
    result and gradient included: 2.4 times in mode "spatial", 2.7 in the others. What an allocator keeps of
    pieces already freed comes on top, in a process of glibc's up to 0.6 times.

    Args:
        channels: C.
        kernel: side of the window, odd: 3, 5, 7, ...
        mode: "spatial", "feature" or "both".

    Raises:
        LowqError: unknown mode, even kernel.

    >>> x = torch.rand(1, 8, 4, 6)
    >>> bool(torch.allclose(LearnableSmoothing(8)(x), AverageSmoothing()(x)))
    True
    """

    def __init__(self, channels: int, kernel: int = 3, mode: SmoothingMode = "spatial") -> None:
        super().__init__()
        check_kernel(kernel)
        if mode not in get_args(SmoothingMode):
            raise LowqError(
                f"smoothing mode {mode!r} is unknown; choose {', '.join(get_args(SmoothingMode))}"
            )
        self.channels, self.kernel, self.mode = channels, kernel, mode
        self.predict = nn.Linear(channels, 3 if mode == "both" else 2)  # self-confidence, then bandwidths
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.bias)
        self.embed = None if mode == "spatial" else nn.Linear(channels, min(EMBEDDING, channels), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), computed in the type of the weights.

        Raises:
            LowqError: another number of channels, or no cell.
        """
        check_map(x, self.channels, "smoothing")
        with torch.autocast(x.device.type, enabled=False):
            cells = x.to(self.predict.weight.dtype).flatten(2).transpose(1, 2)
            weight = self.predict.weight
            if self.embed is not None:
                weight = torch.cat([weight, self.embed.weight])
            cells, predicted = _Read.apply(cells, weight)
            window = Window.of(x.shape[2], x.shape[3], self.kernel, x.device)
            smoothed = weighted_sums(self._weights(predicted, window), cells, window.neighbours)
        return smoothed.transpose(1, 2).reshape(x.shape).to(x.dtype)

    @torch.no_grad()
    def maps(self, x: Tensor) -> SmoothingMaps:
        """(B, C, H, W) -> bandwidth and self-confidence of each cell, without gradient, for a look at them."""
        check_map(x, self.channels, "smoothing")
        cells = x.to(self.predict.weight.dtype).flatten(2).transpose(1, 2)
        confidence, *bandwidths = self._decide(cells @ self.predict.weight.t())
        shape = (len(x), *x.shape[2:])
        return SmoothingMaps(
            bandwidths[0].view(shape), confidence.view(shape), *(b.view(shape) for b in bandwidths[1:])
        )

    def _decide(self, predicted: Tensor) -> list[Tensor]:
        """(B, N, 2 or 3) without bias -> confidence and bandwidths, (B, N) each."""
        logits = (predicted + self.predict.bias).unbind(-1)
        return [2 * logits[0].sigmoid(), *(_AtLeastZero.apply(logit) for logit in logits[1:])]

    def _weights(self, predicted: Tensor, window: Window) -> Tensor:
        """(B, N, ...) as predicted -> (B, E), the weights of each cell's window, of sum 1."""
        outputs = self.predict.out_features
        confidence, *bandwidths = self._decide(predicted[..., :outputs])
        distances = [window.distances] if self.mode != "feature" else []
        if self.embed is not None:
            directions = F.normalize(predicted[..., outputs:], dim=-1, eps=EPS)
            cosines = dot_products(directions, window.neighbours)
            slots = cosines.new_zeros(len(cosines), *window.inside.shape)
            distances.append(slots.masked_scatter(window.inside, 2 - 2 * cosines))
        exponents = [-beta.unsqueeze(-1) * d for beta, d in zip(bandwidths, distances, strict=True)]
        logits = functools.reduce(torch.add, exponents).masked_fill(~window.inside, -torch.inf)
        own = confidence.clamp(min=LEAST_CONFIDENCE).log().unsqueeze(-1)
        weights = torch.where(window.distances == 0, own, logits).softmax(-1)
        return weights.masked_select(window.inside).view(len(weights), -1)


class Window(NamedTuple):
    """The kernel x kernel windows of N cells, n = kernel^2 slots each, of which E are inside the map.

    Attributes:
        neighbours: the E pairs (cell, cell of its window).
        inside: (N, n) bool; its E True ones are the pairs, in their order.
        distances: (n,) float32, squared, in cells.
    """

    neighbours: Neighbours
    inside: Tensor
    distances: Tensor

    @classmethod
    @functools.lru_cache(maxsize=16)  # a picture's scales come again and again
    @torch.inference_mode(False)  # kept from a search, the tensors have to serve a later training
    def of(cls, height: int, width: int, kernel: int, device: torch.device | str = "cpu") -> Window:
        """Windows of a map of `height` x `width` cells, which callers share and do not change.

        >>> Window.of(1, 2, 3).neighbours.others.tolist()
        [0, 1, 0, 1]
        """
        n = kernel * kernel
        step = torch.arange(kernel, device=device, dtype=torch.int32) - kernel // 2
        dy, dx = step.repeat_interleave(kernel), step.repeat(kernel)
        cells = torch.arange(height * width, device=device, dtype=torch.int32).unsqueeze(1)
        y, x = cells // width + dy, cells % width + dx
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        places = inside.flatten().nonzero().squeeze(1).int()
        others = y.mul_(width).add_(x).flatten()[places]
        del y, x
        number = inside.flatten().cumsum(0, dtype=torch.int32).sub_(1)  # of the pair at each place
        offsets = F.pad(number[n - 1 :: n] + 1, (1, 0))
        reverse = number[others * n + (n - 1 - places % n)]
        neighbours = Neighbours(offsets, places // n, others, reverse)
        return cls(neighbours, inside, (dy * dy + dx * dx).float())


class _Read(Function):
    """x (B, N, C), weight (P, C) -> x itself and x weight^T, so that one buffer holds x's whole gradient.

    x itself has to go on to `weighted_sums` and nowhere else: the gradient that comes back from there is
    nobody else's, and the prediction's is added to it in place.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, weight)
        return x.view_as(x), x @ weight.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_x: Tensor, of_predicted: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_weight = (of_predicted.mT @ x).sum(0) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, of_weight
        return of_x.baddbmm_(of_predicted, weight.expand(len(x), -1, -1)), of_weight


class _AtLeastZero(Function):
    """max(x, 0), whose gradient also passes at and below 0 where a step against it makes x larger."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.where((x > 0) | (gradient < 0), gradient, 0)


def check_kernel(kernel: int) -> None:
    """LowqError where `kernel` is not an odd number from 3."""
    if kernel < 3 or kernel % 2 == 0:
        raise LowqError(f"kernel={kernel}: a window has a middle cell; choose 3, 5 or 7")
