"""The loss of GSS: similar pairs become more similar, others less; over all pairs, in blocks."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lowq_core.errors import LowqError
from lowq_core.losses.gss_beta import PAIRS, check_embeddings, rectangle

Precision = Literal["float32", "bf16"]

BLOCK = 1024
"""Rows whose products with as many others are held at a time."""


def pair_loss(similarities: Tensor, beta: float, alpha: float = 1.0) -> Tensor:
    """-alpha / 2 (ReLU(s) - beta)^2 of each similarity: above beta it falls as s grows, below as s shrinks.

    Args:
        similarities: any shape.
        beta: where the push turns into a pull.
        alpha: 1 in the work; it scales the gradient, which Adam undoes.

    >>> s = torch.tensor([-0.5, 0.2, 0.9], requires_grad=True)
    >>> pair_loss(s, 0.5).sum().backward()
    >>> [round(g, 2) + 0.0 for g in s.grad.tolist()]  # descent takes the opposite way
    [0.0, 0.3, -0.4]
    """
    _check(beta, alpha, BLOCK, "float32")
    return -alpha / 2 * (similarities.relu() - beta).square()


def gss_loss(
    embeddings: Tensor,
    beta: float,
    alpha: float = 1.0,
    *,
    block: int = BLOCK,
    precision: Precision = "float32",
) -> Tensor:
    """`pair_loss` of e_i . e_j, averaged over all N^2 pairs, (i, i) among them (Liu et al., NeurIPS 2019).

    Neither the N x N products nor their gradients are kept: blocks of rows meet blocks of rows, for both at once, and
    each two blocks once. Memory is 4 `block`^2 bytes, a few times, and one more gradient. Sums are made in float64.

    Args:
        embeddings: (N, D), float32 or float64, of length 1 or 0.
        beta: between dissimilar and similar, see `similarity_percentile`.
        alpha: as in `pair_loss`.
        block: rows at a time.
        precision: "float32" to multiply as the embeddings are; "bf16" to round the factors to bfloat16 and add up in
            float32, several times faster on processors that have it; loss and gradient are off by about 0.4 %.

    Returns:
        A scalar; the gradient is exact, a gradient of it is not to be had.

    Raises:
        LowqError: embeddings that are not (N, D) of a float type, a parameter out of range.

    >>> e = torch.eye(2)
    >>> round(gss_loss(e, beta=0.5).item(), 4)  # four pairs, each 0.5 from beta
    -0.125
    """
    _check(beta, alpha, block, precision)
    check_embeddings(embeddings)
    loss: Tensor = _AllPairs.apply(embeddings, beta, alpha, block, precision == "bf16")
    return loss


def sampled_gss_loss(
    embeddings: Tensor,
    beta: float,
    alpha: float = 1.0,
    *,
    pairs: int = PAIRS,
    generator: torch.Generator,
    block: int = BLOCK,
    precision: Precision = "float32",
) -> Tensor:
    """`gss_loss` estimated from some pairs, without bias: all pairs of some rows with some others.

    Both are drawn evenly and independently of each other, so that their products are a matrix product.

    Args:
        pairs: how many, about; all N^2 at most.
        generator: what draws them.
        embeddings, beta, alpha, block, precision: as in `gss_loss`, whose errors are raised here, too.

    >>> e, generator = torch.eye(2), torch.Generator().manual_seed(0)
    >>> round(sampled_gss_loss(e, beta=0.5, pairs=1, generator=generator).item(), 4)
    -0.125
    """
    _check(beta, alpha, block, precision)
    check_embeddings(embeddings)
    rows, columns = rectangle(len(embeddings), pairs, generator)
    loss: Tensor = _SomePairs.apply(
        embeddings[rows], embeddings[columns], beta, alpha, block, precision == "bf16"
    )
    return loss


class GSSLoss(nn.Module):
    """Module twin of `gss_loss`, and of `sampled_gss_loss` for more than `all_pairs_up_to` embeddings.

    Args:
        beta, alpha, block, precision: as in `gss_loss`.
        all_pairs_up_to: N; above it `pairs` are drawn anew at each call.
        seed: of the draws.

    >>> GSSLoss(0.5)(torch.eye(2)).item()
    -0.125
    """

    def __init__(
        self,
        beta: float,
        alpha: float = 1.0,
        *,
        all_pairs_up_to: int = 30_000,
        pairs: int = PAIRS,
        block: int = BLOCK,
        precision: Precision = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check(beta, alpha, block, precision)
        self.beta, self.alpha, self.block, self.precision = beta, alpha, block, precision
        self.all_pairs_up_to, self.pairs = all_pairs_up_to, pairs
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(N, D) -> the mean over all pairs, or over those that were drawn."""
        if len(embeddings) <= self.all_pairs_up_to:
            return gss_loss(embeddings, self.beta, self.alpha, block=self.block, precision=self.precision)
        return sampled_gss_loss(
            embeddings,
            self.beta,
            self.alpha,
            pairs=self.pairs,
            generator=self._generator,
            block=self.block,
            precision=self.precision,
        )

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}, alpha={self.alpha:g}, precision={self.precision!r}"


class _AllPairs(Function):
    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, beta: float, alpha: float, block: int, bf16: bool) -> Tensor:
        size = len(embeddings)
        factors = embeddings.bfloat16() if bf16 else embeddings
        gradient = torch.zeros_like(embeddings) if ctx.needs_input_grad[0] else None
        total = 0.0
        products = _Products(block, size, embeddings.dtype, factors.dtype)
        blocks = [slice(start, min(start + block, size)) for start in range(0, size, block)]
        for number, rows in enumerate(blocks):
            for others in blocks[number:]:
                mirrored = others != rows  # such pairs stand for their mirror images, too
                part, pushes = products.pushes(factors[rows], factors[others], beta)
                total += 2 * part if mirrored else part
                if gradient is not None:
                    _add_product(gradient[rows], pushes, factors[others])
                    if mirrored:
                        _add_product(gradient[others], pushes.t(), factors[rows])
        if gradient is not None:
            ctx.save_for_backward(gradient.mul_(-2 * alpha / size**2))
        return embeddings.new_tensor(-alpha / 2 * total / size**2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * of_loss, None, None, None, None


class _SomePairs(Function):
    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, beta: float, alpha: float, block: int, bf16: bool
    ) -> Tensor:
        some, others = (left.bfloat16(), right.bfloat16()) if bf16 else (left, right)
        gradients = (torch.zeros_like(left), torch.zeros_like(right))
        total, pairs = 0.0, len(left) * len(right)
        products = _Products(block, max(len(left), len(right)), left.dtype, some.dtype)
        for first in range(0, len(left), block):
            for second in range(0, len(right), block):
                rows, columns = slice(first, first + block), slice(second, second + block)
                part, pushes = products.pushes(some[rows], others[columns], beta)
                total += part
                _add_product(gradients[0][rows], pushes, others[columns])
                _add_product(gradients[1][columns], pushes.t(), some[rows])
        ctx.save_for_backward(*(gradient.mul_(-alpha / pairs) for gradient in gradients))
        return left.new_tensor(-alpha / 2 * total / pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor) -> tuple[Tensor | None, ...]:
        of_left, of_right = ctx.saved_tensors
        return of_left * of_loss, of_right * of_loss, None, None, None, None


class _Products:
    """Memory for the products of up to `block` rows with as many, which is taken once and stays in the cache."""

    def __init__(self, block: int, size: int, dtype: torch.dtype, rounded: torch.dtype) -> None:
        self._exact = torch.empty(min(block, size) ** 2, dtype=dtype)
        self._rounded = self._exact if rounded == dtype else torch.empty(len(self._exact), dtype=rounded)

    def pushes(self, rows: Tensor, others: Tensor, beta: float) -> tuple[float, Tensor]:
        """The sum of (ReLU(s) - beta)^2 over s = rows . others; and (s - beta) [s > 0], until the next call."""
        shape = (len(rows), len(others))
        rounded, s = (part[: shape[0] * shape[1]].view(shape) for part in (self._rounded, self._exact))
        torch.mm(rows, others.t(), out=rounded)
        if rounded.dtype != s.dtype:
            s.copy_(rounded)
        stopped = int((s <= 0).sum())
        F.threshold(s, 0.0, beta, inplace=True).sub_(beta)
        # a row is short enough to be added up as it is; the rows' sums are not
        squares = float(torch.linalg.vector_norm(s, dim=1).double().square().sum())
        return squares + stopped * beta**2, s if rounded.dtype == s.dtype else rounded.copy_(s)


def _add_product(target: Tensor, left: Tensor, right: Tensor) -> None:
    if left.dtype == target.dtype:
        target.addmm_(left, right)
    else:
        target.add_(torch.mm(left, right))


def check_precision(precision: str) -> None:
    """LowqError where it is not one of `Precision`.

    >>> check_precision("bf16")
    """
    if precision not in get_args(Precision):
        raise LowqError(f"precision={precision!r} is unknown; choose {' or '.join(get_args(Precision))}")


def _check(beta: float, alpha: float, block: int, precision: str) -> None:
    if not math.isfinite(beta):
        raise LowqError(f"GSS loss: beta={beta}; choose a similarity, such as the 98th percentile")
    if not 0 < alpha < math.inf:
        raise LowqError(f"GSS loss: alpha={alpha}; choose a number above 0, such as 1")
    if block < 1:
        raise LowqError(f"GSS loss: block={block}; take at least 1 row at a time")
    check_precision(precision)
