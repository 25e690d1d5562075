"""Digests of pictures: what a cached step was computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.pictures import database_pictures, query_pictures
from lowq_core.files import sha256
from lowq_core.images import Picture


def pictures_digest(pictures: Sequence[Picture]) -> str:
    """SHA-256 over names, boxes, noises, restorers and file contents, in order; a missing file counts as such."""
    digest = hashlib.sha256()
    for picture in pictures:
        content = file_digest(picture.path)
        told = (picture.name, picture.bbx, picture.noise, picture.restorer, content)
        digest.update(repr(told).encode())
    return digest.hexdigest()


def benchmark_digest(benchmark: Benchmark) -> str:
    """What numbers on `benchmark` stand on: a digest of its pictures, boxes and ground truth."""
    truth = [array_digest(np.r_[q.easy, -1, q.hard, -1, q.junk]) for q in benchmark.queries]
    pictures = pictures_digest([*database_pictures(benchmark), *query_pictures(benchmark)])
    return hashlib.sha256("".join([pictures, *truth]).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, remembered until the file changes; a word where it cannot be read."""
    return _content(path, *stamp(path))


def array_digest(values: NDArray[Any]) -> str:
    """SHA-256 of an array's numbers."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of change, which outdate what was remembered of a file; zeros where there is none."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=100_000)
def _content(path: Path, size: int, modified: int) -> str:
    if (size, modified) == (0, 0):
        return "missing"
    try:
        return sha256(path)
    except OSError:  # reading the picture will say why
        return "unreadable"
