"""How two aggregated residuals compare: codes, similarity in [-1, 1], selectivity."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

GRID = 2.0**30
"""Selectivities, and what they are weighed to, are whole multiples of 1 / GRID, so their sums are exact."""


def binarise(residuals: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The signs of residuals as bits: 1 where positive, 0 where zero or negative.

    Args:
        residuals: (n, D).

    Returns:
        (n, 8 ceil(D / 64)) uint8; element 0 is the highest bit of byte 0, and padding is zero.

    >>> binarise(np.array([[1, -1, 1, 0]], np.float32)).tolist()
    [[160, 0, 0, 0, 0, 0, 0, 0]]
    """
    packed = np.packbits(residuals > 0, axis=1)
    size = 8 * -(-residuals.shape[1] // 64)
    return packed if packed.shape[1] == size else np.pad(packed, ((0, 0), (0, size - packed.shape[1])))


def code_bits(dim: int) -> int:
    """What a Hamming distance is divided by: 32 ceil(dim / 32), as in the reference implementation.

    So for a dimension
    that is no multiple of 32 padding counts as agreement: two opposite codes of 100 dimensions
    have similarity 1 - 2 * 100 / 128 = -0.56, not -1. HOW's 128 dimensions are not affected.

    >>> code_bits(128), code_bits(100)
    (128, 128)
    """
    return 32 * -(-dim // 32)


def normalise(residuals: NDArray[np.float32]) -> NDArray[np.float32]:
    """V / (|V| + 1e-6) for each row of (n, D); a zero row stays zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", residuals, residuals))
    return residuals / (norms + np.float32(1e-6))[:, None]


def selectivity(similarity: ArrayLike, alpha: float, threshold: float) -> NDArray[np.float64]:
    """sigma(u) = u^alpha where u >= threshold, else 0 (ICCV 2013), for 0 <= threshold <= 1.

    It is rounded to multiples of 2^-30 (1e-9): sums of thousands of such numbers are exact in float64, so a
    score does not depend on the order in which it is added up.

    >>> selectivity([-0.5, 0.0, 0.5, 1.0], alpha=3, threshold=0).tolist()
    [0.0, 0.0, 0.125, 1.0]
    """
    u = np.asarray(similarity, np.float64)
    return on_grid(np.power(u, alpha, out=np.zeros_like(u), where=u >= threshold))


def on_grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values` rounded to multiples of 2^-30."""
    return np.rint(values * GRID) / GRID


def hamming_table(dim: int, alpha: float, threshold: float) -> NDArray[np.float64]:
    """Selectivity of each possible Hamming distance h of two codes: sigma(1 - 2 h / code_bits(dim)).

    >>> hamming_table(32, 1.0, 0.0)[[0, 8, 16, 17, 32]].tolist()
    [1.0, 0.5, 0.0, 0.0, 0.0]
    """
    bits = code_bits(dim)
    return selectivity((bits - 2.0 * np.arange(bits + 1)) / bits, alpha, threshold)
