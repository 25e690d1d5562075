"""The toy recipe as a module, found by other processes too; and little places to train on."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from lowq_core.data.labels import ImageSet
from lowq_core.training.tuples import TrainingTuples, from_labels


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("toy")


@pytest.fixture
def data(tmp_path: Path) -> TrainingTuples:
    """Five places, four views each, of 96 x 72 pixels or upright."""
    folder, generator = tmp_path / "photos", np.random.default_rng(5)
    folder.mkdir()
    names = []
    for place in range(5):
        base = generator.integers(0, 256, (6, 8, 3))
        for view in range(4):
            patches = np.clip(base + generator.normal(0, 20, base.shape), 0, 255).astype(np.uint8)
            size = (72, 96) if view == 3 else (96, 72)
            names.append(f"{place}{view}.png")
            Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC).save(folder / names[-1])
    images = ImageSet("places", folder, tuple(names), np.repeat(np.arange(5), 4), tuple("abcde"))
    return from_labels(images, seed=0)
