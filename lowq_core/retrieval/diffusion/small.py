"""Many small systems, cut out of one sparse matrix, that are solved together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lowq_core.retrieval.diffusion.conjugate import Array, conjugate_gradients

_OUTSIDE, _INSIDE = -2, -1  # of a set; numbers from 0 on are those of the unknowns


class SmallSystems:
    """Rows and columns of a matrix that belong to sets of pictures, and solutions for the first picture of each.

    Args:
        system: (N, N), symmetric positive definite, no empty row.

    >>> system = sparse.csr_array(np.array([[2.0, 1, 0], [1, 2, 0], [0, 0, 4]]))
    >>> SmallSystems(system).solved(np.array([[2, 0], [0, 1]], np.int32), 20, 1e-6).round(3).tolist()
    [[0.25, 0.0], [0.667, -0.333]]
    """

    def __init__(self, system: sparse.csr_array) -> None:
        self._system = system
        self._places = np.empty(0, np.int32)

    def solved(self, sets: NDArray[np.int32], iterations: int, tolerance: float) -> Array:
        """(B, T) solutions of A_b x = e_1, A_b the rows and columns of set b of B, of T different pictures each.

        By conjugate gradients, see `conjugate_gradients`.
        """
        size = self._system.shape[0]
        members = sets.astype(np.int64) + np.arange(0, len(sets) * size, size)[:, None]
        if len(self._places) < len(sets) * size:  # it is large, and most of it is not touched: keep it
            self._places = np.full(len(sets) * size, _OUTSIDE, np.int32)
        self._places[members] = _INSIDE
        block, unknowns = self._reached(members[:, 0])
        owners = unknowns // size
        right = np.zeros(len(unknowns))
        right[: len(sets)] = 1
        values: Array = conjugate_gradients(
            block.__matmul__,
            right,
            dot=lambda a, b: np.asarray(np.bincount(owners, a * b, minlength=len(sets)), np.float64),
            spread=lambda one: one.take(owners),
            iterations=iterations,
            tolerance=tolerance,
        )
        solutions: Array = np.zeros(sets.shape)
        self._places[members] = np.arange(sets.size).reshape(sets.shape)
        solutions.ravel()[self._places[unknowns]] = values
        self._places[members] = _OUTSIDE
        return solutions

    def _reached(self, first: NDArray[np.int64]) -> tuple[sparse.csr_array, NDArray[np.int64]]:
        """The block-diagonal matrix of what is connected with the `first` of each set, inside the set; its unknowns.

        A picture p of set b is p + b N. Unknowns are numbered in the order in which a breadth-first search
        comes to them, so that the rows of the matrix are found in order.
        """
        size, places, frontier, count = self._system.shape[0], self._places, first, len(first)
        places[first] = np.arange(count)
        unknowns, lengths, columns, values = [first], [np.zeros(1, np.int32)], [], []
        while len(frontier):
            picture = frontier % size
            rows = self._system[picture]
            ends = np.repeat(frontier - picture, np.diff(rows.indptr)) + rows.indices
            inside = places.take(ends) > _OUTSIDE
            lengths.append(np.add.reduceat(inside, rows.indptr[:-1], dtype=np.int32))
            kept = np.flatnonzero(inside)
            ends = ends.take(kept)
            columns.append(ends)
            values.append(rows.data.take(kept))
            new = ends.take(np.flatnonzero(places.take(ends) == _INSIDE))
            order = np.arange(len(new), dtype=np.int32)
            places[new] = order  # of the same picture the last one stays
            frontier = new.take(np.flatnonzero(places.take(new) == order))
            places[frontier] = np.arange(count, count + len(frontier))
            count += len(frontier)
            unknowns.append(frontier)
        arrays = (
            np.concatenate(values),
            places.take(np.concatenate(columns)),
            np.cumsum(np.concatenate(lengths)),
        )
        return sparse.csr_array(arrays, shape=(count, count)), np.concatenate(unknowns)
