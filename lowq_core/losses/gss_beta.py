"""Where beta of the GSS loss stands: a percentile of all similarities, or of a part drawn for all."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from lowq_core.errors import LowqError

PAIRS = 1 << 24
"""Pairs that stand for all of them where there are too many."""


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

    GSS takes the 98th of the untrained network's outputs for its beta.

    Args:
        embeddings: (N, D).
        percentile: 0 to 100.
        exact_up_to: N; above it `pairs` of them are drawn as in `sampled_gss_loss`. All pairs of 10,000 take 400 MB.

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
    products = torch.empty(len(left), len(right), dtype=embeddings.dtype)
    torch.mm(left, right.t(), out=products)
    values = products.view(-1).numpy()
    place = percentile / 100 * (values.size - 1)
    below, above = math.floor(place), math.ceil(place)
    values.partition(sorted({below, above}))
    low, high = np.float64(values[below]), np.float64(values[above])
    return float(low + (high - low) * (place - below))


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
