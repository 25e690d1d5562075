"""Items loaded ahead of their use, in order, on threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from lowq_core.extraction.engine import in_order

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def loaded(load: Callable[[T], R], items: Sequence[T], ahead: int = 4) -> Iterator[Iterator[R]]:
    """`load` of each item, in order; at most `ahead` results wait to be used, so memory does not grow.

    Decoding and resizing release Python's lock, so they run beside the network's own threads, whose number is
    left as it is: changing it while the network computes could change the order of its sums. The threads have
    ended when the block ends. An error of `load` is raised where its result is asked for.

    >>> with loaded(abs, [-1, 2, -3]) as results:
    ...     list(results)
    [1, 2, 3]
    """
    pool = ThreadPoolExecutor(min(ahead, os.cpu_count() or 1), "lowq-load")
    try:
        yield in_order(pool, load, items, ahead)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
