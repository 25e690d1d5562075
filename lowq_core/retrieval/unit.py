"""Unit vectors and zero vectors, which stand for pictures that could not be read."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.base import Ranking, as_descriptors, check_k
from lowq_core.retrieval.exact import ExactSearch

UNREADABLE = np.float32(-3)
"""Score of a picture whose descriptor is zero: below everything that a picture with one can have."""

_TOLERANCE = 1e-3  # of a length; float16 keeps it
_AT_ONCE = 1 << 22  # numbers


def as_unit_descriptors(values: ArrayLike, what: str, *, dim: int | None = None) -> NDArray[np.float32]:
    """`as_descriptors`, and each row L2-normalised (to 1e-3) or zero, as for a picture that cannot be read.

    Raises:
        LowqError: as `as_descriptors`, or a row of another length than 1 and 0.

    >>> as_unit_descriptors([[0.6, 0.8], [0.0, 0.0]], "database").shape
    (2, 2)
    """
    array = as_descriptors(values, what, dim=dim)
    step = max(1, _AT_ONCE // array.shape[1])
    for start in range(0, len(array), step):
        lengths = np.sqrt(_squares(array[start : start + step], "ij,ij->i"))
        wrong = (np.abs(lengths - 1) > _TOLERANCE) & (lengths > 0)
        if wrong.any():
            row = int(wrong.argmax())
            columns = np.sqrt(_squares(array, "ij,ij->j"))
            turned = len(array) > 1 and bool((np.abs(columns - 1) <= _TOLERANCE).all())
            mend = "it looks transposed, pass its .T" if turned else "divide each row by its length"
            raise LowqError(f"{what}: row {start + row} has length {lengths[row]:.4g}, not 1; {mend}")
    return array


def normalised(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Rows of (N, D) divided by their lengths; a zero row stays zero.

    >>> normalised(np.array([[0.0, 2.0], [0.0, 0.0]])).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0).astype(np.float32)


def zero_rows(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """Indices of the rows of (N, D) that are zero.

    >>> zero_rows(np.array([[1, 0], [0, 0]], np.float32)).tolist()
    [1]
    """
    return np.flatnonzero(~rows.any(axis=1))


class UnitSearch:
    """`ExactSearch` among unit vectors, in which zero descriptors are found last, by index, with score -3.

    >>> UnitSearch().fit([[0.0, 0.0], [-1.0, 0.0]]).rank([[1.0, 0.0]]).ids.tolist()
    [[1, 0]]
    """

    def __init__(self) -> None:
        self._search = ExactSearch()
        self._zero: NDArray[np.int64] = np.empty(0, np.int64)
        self.database: NDArray[np.float32] = np.empty((0, 0), np.float32)

    def fit(self, database: ArrayLike) -> Self:
        """Take (N, D) unit vectors and zero rows; see `as_unit_descriptors` for what is refused."""
        self.database = as_unit_descriptors(database, "database")
        self._zero = zero_rows(self.database)
        self._search.fit(self.database)
        return self

    def rank(self, queries: ArrayLike, k: int | None = None) -> Ranking:
        """The k best for each of (Q, D) queries of any length, all N where k is None; equal scores by index."""
        size = len(self.database)
        k = check_k(k, size)
        found = self._search.rank(queries, min(size, k + len(self._zero)))
        if not len(self._zero):
            return found
        last = np.isin(found.ids, self._zero)
        order = np.argsort(last, axis=1, kind="stable")[:, :k]
        scores = np.where(last, UNREADABLE, found.scores)
        return Ranking(
            np.take_along_axis(found.ids, order, axis=1), np.take_along_axis(scores, order, axis=1)
        )


def _squares(array: NDArray[np.float32], axes: str) -> NDArray[np.float64]:
    return np.asarray(np.einsum(axes, array, array, dtype=np.float64))
