"""What a pipeline does with words about what takes long."""

from __future__ import annotations

import sys

SHOWN_FROM = 300
"""Pictures from which on a bar shows the progress, where words go to stderr."""


def to_stderr(words: str) -> None:
    """Say what takes long, where a pipe does not carry it on."""
    print(words, file=sys.stderr, flush=True)


def quiet(words: str) -> None:
    """Say nothing: for notebooks, whose outputs are kept."""
