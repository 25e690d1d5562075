"""What a pipeline does with words about what takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from lowq_core.errors import LowqError

Say = Callable[[str], None]

SHOWN_FROM = 300
"""Pictures from which on a bar shows the progress, where words go to stderr."""


def to_stderr(words: str) -> None:
    """Say what takes long, where a pipe does not carry it on."""
    print(words, file=sys.stderr, flush=True)


def quiet(words: str) -> None:
    """Say nothing: for notebooks, whose outputs are kept."""


def shows_progress(say: Say, pictures: int) -> bool:
    """Whether a bar is worth showing: many pictures, and somebody who reads stderr."""
    return pictures > SHOWN_FROM and say is to_stderr


@contextmanager
def telling(say: Say, beginning: str, done: str = "trained") -> Iterator[None]:
    """Say what begins to be made for the store, and after it how long it took.

    >>> said: list[str] = []
    >>> with telling(said.append, "how: training on 3 pictures"):
    ...     pass
    >>> said
    ['how: training on 3 pictures', 'trained in 0 s; it is kept in the store']
    """
    begun = time.perf_counter()
    say(beginning)
    yield
    say(f"{done} in {time.perf_counter() - begun:.0f} s; it is kept in the store")


def tell_failed(failed: Mapping[str, str], strict: bool, say: Say) -> None:
    """Tell of the pictures that could not be read, reason by name.

    Raises:
        LowqError: with `strict`, the first of them. Extraction would have raised it, but the step may have been
            kept by a run that was not strict.
    """
    for name, reason in failed.items():
        if strict:
            raise LowqError(reason)
        say(f"left out: {name}: {reason}")
