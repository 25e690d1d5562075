"""Counting inliers of many pairs of pictures: each pair once, each picture read as rarely as memory allows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from lowq_core.errors import LowqError
from lowq_core.retrieval.threads import serial_pool

Count = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""Inliers (P,) of (P, 2) pairs: which query (or picture), which picture of the database."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_KEPT = 1024  # pictures in memory: 300 KB each at 600 features of 128 dimensions
_AT_ONCE = 64  # pairs a thread takes


class Pictures(Protocol[T_co]):
    """N pictures made ready for matching, by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> T_co: ...


class Counter(Generic[T]):
    """A `Count` that remembers, so that three protocols, or a graph's two directions, cost one.

    Args:
        queries: pictures asked about; None for the database's own.
        database: pictures of the database.
        compare: inliers of a query's and a picture's features; called on several threads at once.
        progress: show a bar.

    Where the database is compared with itself a pair is counted one way round, the smaller number as the query:
    which of two pictures is called the query changes tentative correspondences and errors a little, and a graph
    ought not to depend on it.

    >>> counter = Counter(None, [3, 5, 6], lambda a, b: a + b)
    >>> counter(np.array([[0, 2], [2, 0], [1, 2]])).tolist(), len(counter.known)
    ([9, 9, 11], 2)
    """

    def __init__(
        self,
        queries: Pictures[T] | None,
        database: Pictures[T],
        compare: Callable[[T, T], int],
        *,
        progress: bool = False,
    ) -> None:
        self.known: dict[tuple[int, int], int] = {}
        self._symmetric = queries is None
        self._sizes = (len(database if queries is None else queries), len(database))
        self._compare, self._progress = compare, progress
        self._right = lru_cache(_KEPT)(database.__getitem__)
        self._left = self._right if queries is None else lru_cache(_KEPT)(queries.__getitem__)

    def __call__(self, pairs: ArrayLike) -> NDArray[np.int64]:
        """(P,) inliers of (P, 2) pairs.

        Raises:
            LowqError: not (P, 2) whole numbers, or a number that no picture has.
        """
        wanted = [tuple(pair) for pair in self._checked(pairs).tolist()]
        new = sorted(set(wanted) - self.known.keys(), key=lambda pair: (pair[1], pair[0]))
        parts = [new[start : start + _AT_ONCE] for start in range(0, len(new), _AT_ONCE)]
        with tqdm(total=len(new), unit="pair", disable=not self._progress) as bar:
            for part, counts in zip(parts, self._in_threads(parts), strict=True):
                self.known.update(zip(part, counts, strict=True))
                bar.update(len(part))
        return np.array([self.known[pair] for pair in wanted], np.int64)

    def _checked(self, pairs: ArrayLike) -> NDArray[np.int64]:
        asked = np.asarray(pairs)
        if asked.size == 0:
            return np.empty((0, 2), np.int64)
        if asked.ndim != 2 or asked.shape[1] != 2 or asked.dtype.kind not in "iu":
            raise LowqError(
                f"pairs: {asked.dtype} of shape {asked.shape}; give whole numbers, (P, 2): query, picture"
            )
        if (asked < 0).any() or (asked >= self._sizes).any():
            raise LowqError(
                f"pairs: numbers up to {asked.max(axis=0).tolist()}, but there are {self._sizes[0]} queries and "
                f"{self._sizes[1]} pictures, from 0; rank the same database that was fitted"
            )
        return np.sort(asked, axis=1) if self._symmetric else asked

    def _in_threads(self, parts: Sequence[Sequence[tuple[int, int]]]) -> Iterator[list[int]]:
        def some(part: Sequence[tuple[int, int]]) -> list[int]:
            return [self._compare(self._left(a), self._right(b)) for a, b in part]

        if len(parts) < 2:
            yield from map(some, parts)
            return
        with serial_pool(min(os.cpu_count() or 1, len(parts))) as pool:
            yield from pool.map(some, parts)
