"""malloc is set once, and only where nobody else has set it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROBE = """
import platform
from lowq_core.extraction.memory import keep_freed_memory, malloc_options, release_memory
before = bool(malloc_options())
release_memory()
print(keep_freed_memory(), before, bool(malloc_options()), platform.libc_ver()[0])
"""


@pytest.mark.parametrize("name", [None, "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_environment_wins(name: str | None) -> None:
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("MALLOC_") and key != "GLIBC_TUNABLES"
    }
    if name is not None:
        environment[name] = "131072" if name.startswith("MALLOC_") else "glibc.malloc.check=0"
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True
    )
    changed, before, after, *libc = done.stdout.split()
    assert changed == after == str(name is None and libc == ["glibc"])
    assert before == "False"  # to ask which options are set does not set them
