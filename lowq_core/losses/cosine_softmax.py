"""What a cosine classifier of many classes costs, and no more: one matrix of logits kept, no normalised weights.

`cosine_softmax` hands out, of each sample, the cosine to its own class and the log-sum-exp of all other logits.
That is all a margin needs: with a target logit t, cross-entropy is log(exp(t) + exp(others)) - t. So margins are
arithmetic on B numbers, and the only place where B x C numbers are touched is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lowq_core.errors import LowqError

COSINE_EPS = 1e-3
"""Cosines are clipped to +-(1 - 1e-3), as in AdaFace: there the angle's derivative is at most 22.4."""

BLOCK = 2**20
"""Numbers of the class weights worked on at once: 4 MB of float32, which stay in cache until all is done to them."""

BLOCK_ELSEWHERE = 2**26
"""The same on devices other than the processor, where few large steps are faster than many small ones."""

_clip_gradient = (
    torch.ops.aten.hardtanh_backward.grad_input
)  # a gradient, but 0 where a value is at its limit

_LEAST_NORM = 1e-12
"""A class weight of 0 has the cosine 0 with everything."""


def cosine_softmax(x: Tensor, weight: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Cosine to the own class, and log-sum-exp of scale * cosine over the other classes.

        target_i = cos_i,y(i)     others_i = log sum_{j != y(i)} exp(s cos_ij)
        cos_ij   = clip(x_i . w_j / ||w_j||, -(1 - 1e-3), 1 - 1e-3)

    Forward keeps s cos once, in the type of x; backward makes the softmax of a block of classes at a time, and
    both gradients from it. With P the softmax over the other classes, r = 1 / ||w|| and u, v the gradients that
    arrive at `target` and `others`, the rows of the class weights receive

        dw_j = r_j sum_i s v_i P_ij (x_i - cos_ij r_j w_j),  and  r_y u_i (x_i - cos_iy r_y w_y)  at y = y(i)

    where a clipped cosine has no gradient. The normalised weights are never written down.

    Args:
        x: (B, D) of length 1; float32, or float64 to check the arithmetic.
        weight: (C, D), C at least 2, of any length and any float type.
        labels: (B,) int64, 0..C-1.
        scale: s, above 0.

    Returns:
        target (B,) and others (B,), both in the type of x.

    Raises:
        LowqError: the class weights hold NaN or infinity.

    >>> x, weight = torch.tensor([[0.6, 0.8]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    >>> [round(value.item(), 3) for value in cosine_softmax(x, weight, torch.tensor([0]), 10.0)]
    [0.6, 8.0]
    """
    with torch.autocast(x.device.type, enabled=False):
        return _CosineSoftmax.apply(x, weight, labels, scale)


class _CosineSoftmax(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        logits = x.new_empty(len(weight), len(x))  # a row a class, so that a block of classes is contiguous
        norms = x.new_empty(len(weight))
        limit = scale * (1 - COSINE_EPS)
        for rows in _blocks(weight):
            block, part = weight[rows].to(x.dtype), logits[rows]
            torch.mm(block, x.t(), out=part)
            torch.linalg.vector_norm(block, dim=1, out=norms[rows])
            part.mul_(scale / norms[rows].clamp(min=_LEAST_NORM).unsqueeze(1)).clamp_(-limit, limit)
        if not torch.isfinite(norms).all():
            raise LowqError("class weights: they hold NaN or infinity; lower the learning rate or start anew")
        samples = torch.arange(len(x), device=x.device)
        target = logits[labels, samples]
        # So low that exp gives 0 beside any other class, and finite, as 0 times infinity is NaN.
        logits[labels, samples] = -scale - 1000.0
        others = torch.stack([logits[rows].logsumexp(0) for rows in _blocks(weight)]).logsumexp(0)
        ctx.save_for_backward(x, weight, labels, logits, norms.clamp_(min=_LEAST_NORM), target, others)
        ctx.scale, ctx.limit = scale, limit
        return target / scale, others

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_target: Tensor, of_others: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(of_target.device.type, enabled=False):
            return *_gradients(ctx, of_target, of_others), None, None


def _gradients(ctx: Any, of_target: Tensor, of_others: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x and of the class weights, those that are asked for."""
    x, weight, labels, logits, norms, target, others = ctx.saved_tensors
    of_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
    of_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
    pull = x * (ctx.scale * of_others).unsqueeze(1)
    room = x.new_empty(2, *logits[next(_blocks(weight))].shape)  # touched once, not anew for every block
    for rows in _blocks(weight):
        block, part, r = weight[rows].to(x.dtype), logits[rows], norms[rows].reciprocal()
        softmax, product = room[:, : len(part)]
        torch.sub(part, others, out=softmax).exp_()
        _clip_gradient(softmax, part, -ctx.limit, ctx.limit, grad_input=softmax)
        # That part of the pull that would only change the weight's length:
        along = torch.mul(softmax, part, out=product) @ of_others
        softmax.mul_(r.unsqueeze(1))
        if of_x is not None:
            of_x.addmm_(softmax.t(), block)
        if of_weight is not None:
            gradient = of_weight[rows] if of_weight.dtype == x.dtype else torch.empty_like(block)
            torch.mul(block, (-along * r * r).unsqueeze(1), out=gradient).addmm_(softmax, pull)
            if gradient.dtype != of_weight.dtype:
                of_weight[rows] = gradient
    u = (of_target * (target.abs() < ctx.limit)).unsqueeze(1)
    r = norms[labels].reciprocal().unsqueeze(1)
    own = weight[labels].to(x.dtype) * r
    if of_x is not None:
        of_x.mul_((ctx.scale * of_others).unsqueeze(1)).addcmul_(own, u)
    if of_weight is not None:
        cosine = (target / ctx.scale).unsqueeze(1)
        of_weight.index_add_(0, labels, (r * u * (x - cosine * own)).to(weight.dtype))
    return of_x, of_weight


def _blocks(weight: Tensor) -> Iterator[slice]:
    """The classes, some at a time."""
    numbers = BLOCK if weight.device.type == "cpu" else BLOCK_ELSEWHERE
    step = max(numbers // weight.shape[1], 1)
    return (slice(start, start + step) for start in range(0, len(weight), step))
