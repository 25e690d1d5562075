"""Arrays of many rows in several files, read as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


def as_rows(files: Sequence[Path], columns: int | slice = slice(None)) -> NDArray[np.float32] | Rows:
    """Columns of the (n, D) arrays in `files`, one behind the other: a memory map, or `Rows` over several."""
    if len(files) == 1:
        whole: NDArray[np.float32] = np.load(files[0], mmap_mode="r")[:, columns]
        return whole
    return Rows([_Mapped(file, columns) for file in files])


class _Mapped:
    """Columns of an array in a file, mapped anew at each access: thousands of parts hold no file open."""

    def __init__(self, file: Path, columns: int | slice) -> None:
        self._file, self._columns = file, columns
        self.shape = self._map().shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        return self._map()[rows]

    def _map(self) -> NDArray[np.float32]:
        mapped: NDArray[np.float32] = np.load(self._file, mmap_mode="r")[:, self._columns]
        return mapped


class Rows:
    """Several float32 arrays behind one another, indexed as one by rows; what is asked for is copied.

    >>> rows = Rows([np.zeros((2, 3), np.float32), np.ones((1, 3), np.float32)])
    >>> rows.shape, rows[1:][:, 0].tolist(), rows[[2, 0]][:, 0].tolist(), rows[-1].tolist()
    ((3, 3), [0.0, 1.0], [1.0, 0.0], [1.0, 1.0, 1.0])
    """

    dtype = np.dtype(np.float32)

    def __init__(self, arrays: Sequence[NDArray[np.float32] | _Mapped]) -> None:
        self._arrays = list(arrays)
        self._starts = np.cumsum([0, *(len(array) for array in arrays)])
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *arrays[0].shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("several parts cannot be one array without a copy")
        return self._between(0, len(self)).astype(dtype or self.dtype, copy=False)

    def __getitem__(self, rows: int | slice | ArrayLike) -> NDArray[np.float32]:
        """Rows by number, slice, or array of numbers or of booleans."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._between(start, max(start, stop))
            rows = np.arange(start, stop, step)
        numbers = np.asarray(rows)
        if numbers.dtype == bool:
            if numbers.shape != (len(self),):
                raise IndexError(f"mask of shape {numbers.shape} on {len(self)} rows")
            numbers = np.flatnonzero(numbers)
        flat = np.atleast_1d(numbers).astype(np.int64).ravel()
        if flat.size and (flat.min() < -len(self) or flat.max() >= len(self)):
            raise IndexError(f"row {flat[(flat < -len(self)) | (flat >= len(self))][0]} of {len(self)}")
        flat = np.where(flat < 0, flat + len(self), flat)
        part = np.searchsorted(self._starts, flat, side="right") - 1
        out = np.empty((flat.size, *self.shape[1:]), self.dtype)
        for i in np.unique(part):
            here = part == i
            out[here] = self._arrays[i][flat[here] - self._starts[i]]
        return out.reshape(*numbers.shape, *self.shape[1:])

    def _between(self, start: int, stop: int) -> NDArray[np.float32]:
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for begin, array in zip(self._starts, self._arrays, strict=False):
            low, high = max(start, begin), min(stop, begin + len(array))
            if low < high:
                out[low - start : high - start] = array[low - begin : high - begin]
        return out
