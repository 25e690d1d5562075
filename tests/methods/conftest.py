"""What the tests of both pipelines start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.catalogue import load_benchmark


@pytest.fixture
def town(tiny: Path) -> Benchmark:
    return load_benchmark(tiny / "gnd_tiny.json")


@pytest.fixture
def said() -> list[str]:
    return []
