"""Conjugate gradients for many systems at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def conjugate_gradients(
    apply: Callable[[NDArray[Any]], NDArray[Any]],
    right: NDArray[Any],
    *,
    axis: int,
    iterations: int = 20,
    tolerance: float = 1e-6,
) -> NDArray[Any]:
    """Solve many symmetric positive definite systems, each from 0, until |r| <= tolerance |b| or `iterations`.

    These are the textbook iterations (Hestenes & Stiefel 1952), with a step length for each system; one that has
    converged stands still. Only the products take a matrix, so they can be of one with many right-hand sides, or
    of a block-diagonal one.

    Args:
        apply: the product of the matrices with vectors shaped like `right`.
        right: right-hand sides, two-dimensional.
        axis: along which each system's vector runs, 0 or 1.
        iterations: at most so many.
        tolerance: relative to each right-hand side.

    >>> matrix = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> conjugate_gradients(lambda v: v @ matrix, np.array([[1.0, 0.0]]), axis=1).round(3).tolist()
    [[0.6, -0.2]]
    """
    dot = "ij,ij->j" if axis == 0 else "ij,ij->i"
    solution = np.zeros_like(right)
    residual, direction = right.copy(), right.copy()
    change = np.empty_like(right)  # new memory for each product would cost more than the product
    energy = np.einsum(dot, residual, residual)
    enough = tolerance**2 * energy
    for _ in range(iterations):
        going = energy > enough
        if not going.any():
            break
        product = apply(direction)
        curvature = np.einsum(dot, direction, product)
        step = np.divide(energy, curvature, out=np.zeros_like(energy), where=going & (curvature > 0))
        step = np.expand_dims(step, axis)
        solution += np.multiply(step, direction, out=change)
        residual -= np.multiply(step, product, out=change)
        before, energy = energy, np.einsum(dot, residual, residual)
        ratio = np.divide(energy, before, out=np.zeros_like(energy), where=going)
        direction *= np.expand_dims(ratio, axis)
        direction += residual
    return solution
