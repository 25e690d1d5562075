"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def write_bytes(path: Path, data: bytes) -> Path:
    """Write `data` under a temporary name beside `path`, then rename: no reader ever sees half of it.

    >>> import tempfile
    >>> write_bytes(Path(tempfile.mkdtemp()) / "new" / "a.bin", b"abc").read_bytes()
    b'abc'
    """
    return _whole(path, lambda temporary: temporary.write_bytes(data))


def write_array(path: Path, array: NDArray[Any]) -> Path:
    """Write `array` as `.npy`, whole as `write_bytes` does; no copy of it is made.

    Given a file, `numpy.save` says of a full disk how much it wrote and not that the disk is full, for which
    `Store` and the command line have a sentence. So it is given something that only has the file's `write`.

    >>> import tempfile
    >>> np.load(write_array(Path(tempfile.mkdtemp()) / "a.npy", np.arange(3))).tolist()
    [0, 1, 2]
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(_Stream(file), array, allow_pickle=False)

    return _whole(path, write)


def write_text(path: Path, text: str) -> Path:
    """`write_bytes` of UTF-8 text."""
    return write_bytes(path, text.encode())


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Stream:
    """A file of which only `write` is known."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write


def _whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file beside `path`, then rename it; an error of the disk names `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # not the temporary name, which means nothing to the owner
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return path
