"""The image quality descriptor: how long an embedding is, beside the embeddings seen of late (AdaFace, AdapNet)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.losses.margin import MarginLoss, check_batch, check_margin

LEAST, MOST = 0.001, 100.0
"""Lengths are clipped to this range."""

SIGMA_EPS = 1e-3
"""Added to the standard deviation before dividing by it."""


def clipped_norms(embeddings: Tensor) -> Tensor:
    """n = clip(||z||, 0.001, 100), without gradient: (B, D) -> (B,), float32 at least.

    Without gradient, since a network could otherwise lower its loss by making embeddings longer.

    >>> clipped_norms(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [5.0, 0.0010000000474974513]
    """
    dtype = torch.promote_types(embeddings.dtype, torch.float32)
    return torch.linalg.vector_norm(embeddings.detach(), dim=1, dtype=dtype).clamp(LEAST, MOST)


def norm_sums(norms: Tensor) -> Tensor:
    """How many (B,) norms there are, their sum, and that of their squares: (3,) float64.

    Those of the parts of a batch add up to those of the batch.

    >>> norm_sums(torch.tensor([1.0, 2.0, 3.0])).tolist()
    [3.0, 6.0, 14.0]
    """
    exact = norms.detach().double()
    return torch.stack([torch.ones_like(exact), exact, exact.square()]).sum(1)


class NormStatistics(nn.Module):
    """Running mean and standard deviation of the norms, and the quality that follows from them.

        mu    <- t mean(n) + (1 - t) mu            at the start 20
        sigma <- t std(n)  + (1 - t) sigma         at the start 100; unbiased
        z     = clip(h (n - mu) / (sigma + 1e-3), -1, 1)

    These are AdaFace's, with the numbers of its repository's command line (t = 0.01, h = 0.333). A batch of one has
    no standard deviation and leaves sigma as it is. A batch that is computed in parts, in one process or in several,
    makes one update too: by `update_from` with the parts' `norm_sums`, added up.

    Args:
        h: how far one standard deviation moves the quality; above 0.
        momentum: t, above 0 and at most 1, where the batch alone counts.

    Raises:
        LowqError: h or momentum out of range.

    >>> statistics = NormStatistics(momentum=1.0)
    >>> statistics.update(torch.tensor([1.0, 2.0, 3.0]))
    >>> [round(z, 3) for z in statistics.quality(torch.tensor([1.0, 2.0, 3.0])).tolist()]
    [-0.333, 0.0, 0.333]
    """

    mu: Tensor
    sigma: Tensor

    def __init__(self, h: float = 0.333, momentum: float = 0.01) -> None:
        super().__init__()
        if not 0 < h < float("inf"):
            raise LowqError(f"h={h}: choose a finite number above 0, such as 0.333")
        if not 0 < momentum <= 1:
            raise LowqError(f"momentum={momentum}: choose a number above 0 and at most 1, such as 0.01")
        self.h, self.momentum = float(h), float(momentum)
        self.register_buffer("mu", torch.tensor(20.0))
        self.register_buffer("sigma", torch.tensor(100.0))

    @torch.no_grad()
    def update(self, norms: Tensor) -> None:
        """Take in a batch's (B,) norms."""
        self.mu.lerp_(norms.mean().to(self.mu.dtype), self.momentum)
        if len(norms) > 1:
            self.sigma.lerp_(norms.std().to(self.sigma.dtype), self.momentum)

    @torch.no_grad()
    def update_from(self, sums: Tensor) -> None:
        """Take in a batch whose `norm_sums` are known."""
        count, total, squares = sums.tolist()
        mean = total / count
        self.mu.lerp_(self.mu.new_tensor(mean), self.momentum)
        if count > 1:
            variance = max(0.0, (squares - total * mean) / (count - 1))
            self.sigma.lerp_(self.sigma.new_tensor(variance**0.5), self.momentum)

    @torch.no_grad()
    def quality(self, norms: Tensor) -> Tensor:
        """z of (B,) norms: -1 (short beside those seen) .. 1 (long)."""
        return (self.h * (norms - self.mu) / (self.sigma + SIGMA_EPS)).clamp(-1, 1)


class QualityMarginLoss(MarginLoss):
    """A loss whose margin follows the embedding's length.

    Statistics are updated in training mode only, before the batch's quality is taken. (AdaFace's code updates them
    at every forward, in evaluation as well; then looking at a validation loss changes the training.)

    Attributes:
        statistics: of the norms; its buffers are saved with the module.
        margin: m.
    """

    def __init__(
        self, dim: int, classes: int, scale: float, margin: float, h: float = 0.333, momentum: float = 0.01
    ) -> None:
        super().__init__(dim, classes, scale)
        check_margin(margin)
        self.margin = float(margin)
        self.statistics = NormStatistics(h, momentum)

    def quality(self, embeddings: Tensor) -> Tensor:
        """Quality of (B, D) embeddings, -1..1, by the statistics as they are now: (B,), without gradient."""
        return self.statistics.quality(clipped_norms(embeddings))

    def _quality_in_training(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """As `quality`; in training mode, these embeddings count in the statistics first, if they are sound."""
        check_batch(embeddings, labels, self.weight)
        if self.training:
            self.statistics.update(clipped_norms(embeddings))
        return self.quality(embeddings)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, margin={self.margin:g}"
