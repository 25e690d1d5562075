"""Conjugate gradients for many systems at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def conjugate_gradients(
    apply: Callable[[Array], Array],
    right: Array,
    *,
    dot: Callable[[Array, Array], Array],
    spread: Callable[[Array], Array] = lambda values: values,
    iterations: int = 20,
    tolerance: float = 1e-6,
) -> NDArray[Any]:
    """Solve many symmetric positive definite systems, each from 0, until |r| <= tolerance |b| or `iterations`.

    These are the textbook iterations (Hestenes & Stiefel 1952), with a step length for each system; one that has
    converged stands still. Where a system's numbers lie in the arrays is the caller's business: columns of one
    matrix's right-hand sides, or unknowns of a block-diagonal matrix in any order.

    Args:
        apply: the product of the matrix, or matrices, with vectors shaped like `right`.
        right: right-hand sides.
        dot: the inner products of two such arrays, one for each system.
        spread: one number for each system, to what multiplies such an array.
        iterations: at most so many.
        tolerance: relative to each right-hand side.

    >>> matrix = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> dot = lambda a, b: np.einsum("ij,ij->j", a, b)
    >>> conjugate_gradients(lambda v: matrix @ v, np.array([[1.0], [0.0]]), dot=dot).round(3).tolist()
    [[0.6], [-0.2]]
    """
    solution = np.zeros_like(right)
    residual, direction = right.copy(), right.copy()
    change = np.empty_like(right)  # new memory for each product would cost more than the product
    energy = dot(residual, residual)
    enough = tolerance**2 * energy
    for _ in range(iterations):
        going = energy > enough
        if not going.any():
            break
        product = apply(direction)
        curvature = dot(direction, product)
        step = spread(np.divide(energy, curvature, out=np.zeros_like(energy), where=going & (curvature > 0)))
        solution += np.multiply(step, direction, out=change)
        residual -= np.multiply(step, product, out=change)
        before, energy = energy, dot(residual, residual)
        direction *= spread(np.divide(energy, before, out=np.zeros_like(energy), where=going))
        direction += residual
    return solution
