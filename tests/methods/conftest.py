"""What the tests of both pipelines start from."""

from __future__ import annotations

import shutil
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


@pytest.fixture
def tiny_porto(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny pictures as if they were Porto's."""
    porto = tmp_path / "data" / "porto"
    shutil.copytree(tiny / "jpg", porto / "jpg")
    names = sorted(path.relative_to(porto / "jpg").as_posix() for path in (porto / "jpg").rglob("*.png"))
    rows = [f"{name},{name[0]},{'test' if name == 'lone.png' else 'train'}" for name in names]
    (porto / "labels.csv").write_text("\n".join(["image,landmark,split", *rows]) + "\n")
    monkeypatch.setenv("LOWQ_DATA", str(tmp_path / "data"))
