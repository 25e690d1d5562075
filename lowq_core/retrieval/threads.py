"""Threads for searches: numpy's work side by side, and libraries that keep to one thread of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

T = TypeVar("T")
R = TypeVar("R")


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`function` of each item, in order, on all processors; numpy's work runs side by side.

    >>> in_threads(abs, [-1, 2])
    [1, 2]
    """
    workers = min(os.cpu_count() or 1, len(items))
    if workers < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


@contextmanager
def serial_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A pool in which each of numpy's matrix products runs on one thread: many at once, not all threads for one.

    >>> with serial_pool(2) as pool:
    ...     list(pool.map(abs, [-1, 2]))
    [1, 2]
    """
    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        yield pool


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """No threads of torch: after a step they stay awake for milliseconds, in the way of those of numpy's products.

    >>> import torch
    >>> with one_torch_thread():
    ...     torch.get_num_threads()
    1
    """
    import torch  # seconds to load, and most searches do without

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
