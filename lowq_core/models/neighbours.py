"""Sums over neighbouring cells, differentiable, without a copy of the features for each neighbour.

Who neighbours whom is a sparse symmetric pattern; the sums are sparse-dense products. So the gradient needs
the features and one number per pair, where gathering neighbours first would keep a vector per pair.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_WIDTH = 32
"""Channels handled at a time where cells are not rows in memory (maps with the channels first): those are
copied first, and this bounds the copies. With twice as many it is not faster, with half as many it is slower."""


class Neighbours(NamedTuple):
    """A symmetric pattern of E different pairs (i, j) among N cells, sorted by i, then j.

    All int32, which the sparse products use as they are.

    Attributes:
        offsets: (N + 1,); the pairs of cell i are numbers offsets[i] to offsets[i + 1].
        firsts: (E,); i of each pair.
        others: (E,); j of each pair.
        reverse: (E,); the number of the pair (j, i).
    """

    offsets: Tensor
    firsts: Tensor
    others: Tensor
    reverse: Tensor


def weighted_sums(weights: Tensor, features: Tensor, neighbours: Neighbours) -> Tensor:
    """y[b, i] = sum over the pairs e = (i, j) of weights[b, e] features[b, j].

    Args:
        weights: (B, E), float32 or float64; pair (i, j) may weigh otherwise than (j, i).
        features: (B, N, C), of the same type; any strides, which the result takes over.

    Returns:
        (B, N, C). Keeps nothing for the gradient but its own arguments.

    >>> pair = Neighbours(*(torch.tensor(i).int() for i in ([0, 1, 2], [0, 1], [1, 0], [1, 0])))
    >>> weighted_sums(torch.tensor([[2.0, 3.0]]), torch.tensor([[[1.0], [10.0]]]), pair).tolist()
    [[[20.0], [3.0]]]
    """
    sums: Tensor = _WeightedSums.apply(weights, features, *_structure(neighbours))
    return sums


def dot_products(features: Tensor, neighbours: Neighbours) -> Tensor:
    """<features[b, i], features[b, j]> for each pair (i, j): (B, N, C) -> (B, E).

    >>> pair = Neighbours(*(torch.tensor(i).int() for i in ([0, 1, 2], [0, 1], [1, 0], [1, 0])))
    >>> dot_products(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), pair).tolist()
    [[11.0, 11.0]]
    """
    products: Tensor = _DotProducts.apply(features, *_structure(neighbours))
    return products


def _structure(neighbours: Neighbours) -> tuple[Tensor, Tensor, Tensor]:
    return neighbours.offsets, neighbours.others, neighbours.reverse


class _WeightedSums(Function):
    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, features: Tensor, offsets: Tensor, others: Tensor, reverse: Tensor
    ) -> Tensor:
        ctx.save_for_backward(weights, features, offsets, others, reverse)
        return _sums(weights, features, offsets, others)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, features, offsets, others, reverse = ctx.saved_tensors
        of_weights = of_features = None
        if ctx.needs_input_grad[0]:
            of_weights = _products(gradient, features, offsets, others)
        if ctx.needs_input_grad[1]:
            of_features = _sums(weights.index_select(1, reverse), gradient, offsets, others)
        return of_weights, of_features, None, None, None


class _DotProducts(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, offsets: Tensor, others: Tensor, reverse: Tensor) -> Tensor:
        ctx.save_for_backward(features, offsets, others, reverse)
        return _products(features, features, offsets, others)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, offsets, others, reverse = ctx.saved_tensors
        both = gradient + gradient.index_select(1, reverse)
        return _sums(both, features, offsets, others), None, None, None


def _sums(weights: Tensor, features: Tensor, offsets: Tensor, others: Tensor) -> Tensor:
    result = torch.empty_like(features)
    for values, x, y in zip(weights, features, result, strict=True):
        matrix = _matrix(offsets, others, values)
        if x.is_contiguous() and y.is_contiguous():
            y.addmm_(matrix, x, beta=0)  # torch.mm would make zeros of this size first, here and below
            continue
        for part in _parts(x):
            columns = x[:, part].contiguous()
            y[:, part] = torch.empty_like(columns).addmm_(matrix, columns, beta=0)
    return result


def _products(left: Tensor, right: Tensor, offsets: Tensor, others: Tensor) -> Tensor:
    """<left[b, i], right[b, j]> for each pair: (B, N, C) twice -> (B, E)."""
    result = left.new_zeros(len(left), len(others))
    for values, x, y in zip(result, left, right, strict=True):
        for part in [slice(None)] if x.is_contiguous() and y.is_contiguous() else _parts(x):
            matrix = _matrix(offsets, others, values)
            columns = y[:, part].contiguous().t()
            values.copy_(torch.sparse.sampled_addmm(matrix, x[:, part].contiguous(), columns).values())
    return result


def _parts(x: Tensor) -> Iterator[slice]:
    return (slice(start, start + _WIDTH) for start in range(0, x.shape[1], _WIDTH))


def _matrix(offsets: Tensor, others: Tensor, values: Tensor) -> Tensor:
    _say_beta_once()
    cells = len(offsets) - 1
    return torch.sparse_csr_tensor(offsets, others, values, (cells, cells), check_invariants=False)


@functools.cache
def _say_beta_once() -> None:
    """torch warns at a process's first CSR tensor that they are "in beta"; nobody can act on that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)
