"""Where beta of the GSS loss stands: a percentile of all similarities, or of a part drawn for all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lowq_core.errors import LowqError

PAIRS = 1 << 24
"""Pairs that stand for all of them where there are too many."""

_BLOCK = 1024  # rows whose products with as many others are held at a time
_DIGIT = 16  # bits by which products are told apart in one pass over them
_WHOLE = {torch.float32: torch.int32, torch.float64: torch.int64}


@torch.no_grad()
def similarity_percentile(
    embeddings: Tensor,
    percentile: float = 98.0,
    *,
    exact_up_to: int = 10_000,
    pairs: int = PAIRS,
    seed: int = 0,
) -> float:
    """The percentile of all N^2 products e_i . e_j, before ReLU, (i, i) among them; as numpy interpolates it.

    GSS takes the 98th of the untrained network's outputs for its beta. Products are made in blocks, and made
    twice (float64: four times) instead of kept, so that the time grows with N^2 and the memory does not.

    Args:
        embeddings: (N, D).
        percentile: 0 to 100.
        exact_up_to: N; above it `pairs` of them are drawn as in `sampled_gss_loss`.

    Raises:
        LowqError: embeddings that are not (N, D) of a float type, a percentile outside 0 to 100.

    >>> similarity_percentile(torch.eye(2), 50.0)
    0.5
    """
    check_percentile(percentile)
    check_embeddings(embeddings)
    left = right = embeddings
    if len(embeddings) > exact_up_to:
        generator = torch.Generator().manual_seed(seed)
        rows, columns = rectangle(len(embeddings), pairs, generator)
        left, right = embeddings[rows], embeddings[columns]
    place = percentile / 100 * (len(left) * len(right) - 1)
    low, high = _order_statistics(left, right, (math.floor(place), math.ceil(place)))
    return low + (high - low) * (place - math.floor(place))


def _order_statistics(left: Tensor, right: Tensor, ranks: Sequence[int]) -> list[float]:
    """The products left_i . right_j of these ranks among all, 0 the smallest.

    Their bits are found from the upper end, `_DIGIT` at a time: a pass counts the next digits of those products
    whose upper bits are the ones sought, and where the counts, added up, exceed the rank is the digit.
    """
    width = torch.finfo(left.dtype).bits
    sought = [(0, rank) for rank in ranks]  # upper bits, rank among the products that have them
    for shift in range(width - _DIGIT, -1, -_DIGIT):
        first = shift + _DIGIT == width
        counts = {upper: torch.zeros(1 << _DIGIT, dtype=torch.long) for upper, _ in sought}
        for keys, times in _keys(left, right):
            for upper, count in counts.items():
                alike = keys if first else keys[keys >> (shift + _DIGIT) == upper]
                digits = (alike >> shift) & ((1 << _DIGIT) - 1)
                count += times * torch.bincount(digits, minlength=1 << _DIGIT)
        if first:  # the sign is part of the first digit: negative ones come before
            counts = {upper: count.roll(1 << (_DIGIT - 1)) for upper, count in counts.items()}
        found = []
        for upper, rank in sought:
            below = counts[upper].cumsum(0)
            digit = int(torch.searchsorted(below, rank, right=True))
            before = int(below[digit - 1]) if digit else 0
            found.append(((upper << _DIGIT) + digit - (first << (_DIGIT - 1)), rank - before))
        sought = found
    keys = torch.tensor([upper for upper, _ in sought], dtype=_WHOLE[left.dtype])
    numbers: list[float] = _flipped(keys).view(left.dtype).tolist()
    return numbers


def _keys(left: Tensor, right: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Whole numbers in the order of the products, a block of them at a time, and how often the block counts."""
    same = left is right
    for start in range(0, len(left), _BLOCK):
        for other in range(start if same else 0, len(right), _BLOCK):
            products = left[start : start + _BLOCK] @ right[other : other + _BLOCK].t()
            mirrored = same and other > start
            yield _flipped(products.view(-1).view(_WHOLE[left.dtype])), 2 if mirrored else 1


def _flipped(bits: Tensor) -> Tensor:
    """The bits of numbers as whole numbers of the same order, and back: all but the sign of negative ones turned."""
    return bits ^ ((bits >> (torch.iinfo(bits.dtype).bits - 1)) & torch.iinfo(bits.dtype).max)


def rectangle(size: int, pairs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows and columns, each drawn evenly without repetition, that have about so many pairs.

    >>> [len(part) for part in rectangle(10, 12, torch.Generator())]
    [3, 4]
    """
    if pairs < 1:
        raise LowqError(f"pairs={pairs}: draw at least 1")
    rows = min(size, math.isqrt(pairs))
    columns = min(size, pairs // rows)
    return torch.randperm(size, generator=generator)[:rows], torch.randperm(size, generator=generator)[
        :columns
    ]


def check_percentile(percentile: float) -> None:
    """LowqError where it is not from 0 to 100.

    >>> check_percentile(98)
    """
    if not 0 <= percentile <= 100:
        raise LowqError(f"percentile={percentile}: choose one from 0 to 100, such as 98")


def check_embeddings(embeddings: Tensor) -> None:
    """LowqError where they are not (N, D) of float32 or float64."""
    if (
        embeddings.ndim != 2
        or embeddings.numel() == 0
        or embeddings.dtype not in (torch.float32, torch.float64)
    ):
        raise LowqError(
            f"GSS loss: embeddings {tuple(embeddings.shape)} {embeddings.dtype}; give (N, D), float32 or float64"
        )
