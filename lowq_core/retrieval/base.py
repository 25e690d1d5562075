"""The call shape that all retrievers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError

_CHECKED_AT_ONCE = 1 << 22  # numbers, so that checking a memory map takes little memory


@dataclass(frozen=True)
class Ranking:
    """What a retriever returns for Q queries.

    Attributes:
        ids: (Q, k) int64, database indices, best first; equal scores are ordered by index.
        scores: (Q, k) float32, not increasing along a row.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]


class Retriever(Protocol):
    """`fit(database) -> self`, `rank(queries, k=None) -> Ranking`; options are keyword-only in the constructor."""

    def fit(self, database: ArrayLike) -> Self: ...

    def rank(self, queries: ArrayLike, k: int | None = None) -> Ranking: ...

    def save(self, path: Path) -> None: ...

    @classmethod
    def load(cls, path: Path) -> Self: ...


class Started(Protocol):
    """A retriever whose queries can start from given pictures instead of those nearest by descriptor.

    `neighbours`: (Q, K) int, numbers of database pictures, ranked, such as geometric verification finds; the first
    of them count, as many as the nearest would.
    """

    def rank(
        self, queries: ArrayLike, k: int | None = None, *, neighbours: ArrayLike | None = None
    ) -> Ranking: ...


class Sliced(Protocol):
    """(M, D) float32 that is read a slice of rows at a time: an array, or several parts on disk."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]: ...


class LocalDescriptors(Protocol):
    """Local descriptors of N pictures, behind one another.

    Attributes:
        descriptors: (M, D) float32.
        offsets: (N + 1,) int64 from 0 to M: rows `offsets[i]` to `offsets[i + 1]` belong to picture i.
    """

    @property
    def descriptors(self) -> Sliced: ...

    @property
    def offsets(self) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class LocalArrays:
    """The plainest `LocalDescriptors`: two arrays in memory or memory-mapped, and names if there are any.

    >>> pictures = LocalArrays.of([np.ones((3, 2), np.float32), np.zeros((0, 2), np.float32)])
    >>> pictures.descriptors.shape, pictures.offsets.tolist()
    ((3, 2), [0, 3, 3])
    """

    descriptors: NDArray[np.float32]
    offsets: NDArray[np.int64]
    names: tuple[str, ...] | None = None

    @classmethod
    def of(cls, pictures: Sequence[NDArray[np.float32]], names: Sequence[str] | None = None) -> Self:
        """One (n_i, D) array a picture, at least one; they are copied."""
        offsets = np.cumsum([0, *(len(one) for one in pictures)], dtype=np.int64)
        return cls(np.concatenate(pictures), offsets, None if names is None else tuple(names))


def as_descriptors(values: ArrayLike, what: str, *, dim: int | None = None) -> NDArray[np.float32]:
    """`values` as a C-contiguous (N, D) float32 array, checked.

    An array that is one already, a memory map included, is not copied.

    Raises:
        LowqError: not two-dimensional, not numbers, empty, of another dimension than `dim`, or not finite.

    >>> as_descriptors([[3, 4]], "database").dtype
    dtype('float32')
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise LowqError(
            f"{what}: {array.dtype} of shape {array.shape}; descriptors have to be numbers, one row a picture, (N, D)"
        )
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise LowqError(f"{what}: shape {array.shape} is empty; it needs at least one row and one column")
    if dim is not None and array.shape[1] != dim:
        hint = "it looks transposed, pass its .T" if array.shape[0] == dim else "use one model for both"
        raise LowqError(f"{what}: dimension {array.shape[1]}, but the database has {dim}; {hint}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is named below
        array = np.ascontiguousarray(array, np.float32)
    rows = max(1, _CHECKED_AT_ONCE // array.shape[1])
    for start in range(0, array.shape[0], rows):
        finite = np.isfinite(array[start : start + rows]).all(axis=1)
        if not finite.all():
            row = start + int(finite.argmin())
            raise LowqError(f"{what}: row {row} holds NaN or infinity; extract it again or drop it")
    return array


def check_k(k: int | None, size: int) -> int:
    """`k`, or `size` where it is None; LowqError outside 1..size.

    >>> check_k(None, 5)
    5
    """
    if k is None:
        return size
    if not 1 <= k <= size:
        raise LowqError(f"k={k}: the database has {size} pictures; choose k between 1 and {size}")
    return k
