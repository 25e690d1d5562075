"""Reading the folder of a kept step, which is made again where its owner deletes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from lowq_core.errors import LowqError
from lowq_core.models.saved import is_network

T = TypeVar("T")


def undamaged(folder: Path, read: Callable[[], T]) -> T:
    """What `read` finds in `folder`, which `Store.get` gave.

    The store makes a step again where its folder is not there, and only then. So the mend is to delete all of it:
    were a part deleted alone, it would stay missing.

    Raises:
        LowqError: `read` raises one, finds no file, or one that is cut short or holds something else. What else
            the system may refuse, such as one more open file, is not the step's fault, and passes.

    >>> undamaged(Path("store/sums/0123"), lambda: float("rust"))
    Traceback (most recent call last):
    lowq_core.errors.LowqError: store/sums/0123: is damaged (could not convert string to float: 'rust'); delete \
the folder store/sums/0123, and it is made again
    """
    try:
        return read()
    except LowqError as error:
        what = str(error).partition(";")[0]
    except (ValueError, EOFError, FileNotFoundError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        what = f"{folder}: is damaged ({reason})"
    raise LowqError(f"{what}; delete the folder {folder}, and it is made again")


def kept_network(folder: Path, name: str, kind: str) -> Path:
    """The file `name` in `folder`, which has to be a whole one of `save_network`; only its head is read.

    Raises:
        LowqError: it is not.
    """

    def read() -> Path:
        if not is_network(folder / name, kind):
            raise LowqError(f"{folder / name}: not a whole network")
        return folder / name

    return undamaged(folder, read)
