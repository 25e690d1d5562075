"""Memory that is freed stays at hand, instead of going back to the system after every layer."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

_OPTIONS = {  # name -> number of the option, see mallopt(3), and its value
    "M_MMAP_THRESHOLD": (-3, 1 << 30),
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
    "M_ARENA_MAX": (-8, 1),
}


@cache
def keep_freed_memory() -> bool:
    """Have glibc reuse the memory of freed maps; returns whether that was set.

    By default each map of some megabytes is handed back to the system when it is freed, and the next layer's
    map is faulted in anew page by page: a fifth of the processor time of EfficientNet-Lite0 at 640 x 480. The
    setting holds for the whole process and cannot be undone; peak memory was the same with and without. Where
    the environment sets malloc (`MALLOC_*`, `GLIBC_TUNABLES`), or under another C library, nothing is done.

    >>> keep_freed_memory() == keep_freed_memory()
    True
    """
    chosen = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if chosen or platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return all(libc.mallopt(number, value) for number, value in _OPTIONS.values())


def malloc_options() -> dict[str, int]:
    """The options that `keep_freed_memory` has set in this process, by their names; empty where it has set none."""
    asked = keep_freed_memory.cache_info().currsize > 0  # asking must not set them
    return {name: value for name, (_, value) in _OPTIONS.items()} if asked and keep_freed_memory() else {}


def release_memory() -> None:
    """Hand back what `keep_freed_memory` kept."""
    if keep_freed_memory():
        ctypes.CDLL(None).malloc_trim(0)
