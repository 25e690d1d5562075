"""Pairs: the same crop twice, one of them degraded; a function of the seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lowq_core.errors import LowqError
from lowq_core.images import Picture
from lowq_core.training.paired import OVERSAMPLING, PairedCrops


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    """Red tells the column, green the row."""
    rows, columns = np.mgrid[0:240, 0:250]
    pixels = np.stack([columns, rows, np.full_like(rows, 128)], 2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "ramp.png")
    return Picture(tmp_path / "ramp.png", "ramp")


def test_without_noises_both_are_alike(picture: Picture) -> None:
    pair = PairedCrops(32, noises=())(picture, seed=3)
    assert pair.clean.shape == (32, 32, 3)
    assert np.array_equal(pair.clean, pair.bad)


def test_both_show_the_same_crop(picture: Picture) -> None:
    """Pixelate moves no edge: means over quarters of the crop stay near."""
    crops = PairedCrops(32, noises=("pixelate",), severities=(1,))
    for seed in range(20):
        pair = crops(picture, seed)
        assert not np.array_equal(pair.clean, pair.bad)
        quarters = [p.reshape(2, 16, 2, 16, 3).mean((1, 3)) for p in (pair.clean.astype(float), pair.bad)]
        np.testing.assert_allclose(quarters[0], quarters[1], atol=3)


def test_crops_differ_in_place_size_and_side(picture: Picture) -> None:
    crops = PairedCrops(16, noises=())
    found = [crops(picture, seed).clean.astype(int) for seed in range(60)]
    assert all(np.array_equal(crops(picture, seed).clean, found[seed]) for seed in range(3))
    flipped = [bool(p[:, 0, 0].mean() > p[:, -1, 0].mean()) for p in found]
    assert 15 < sum(flipped) < 45
    widths = np.array([abs(p[:, -1, 0].mean() - p[:, 0, 0].mean()) for p in found])
    assert widths.min() > 250 * 0.5  # half the area at an aspect of 3/4 leaves 0.61 of the width
    assert widths.max() - widths.min() > 40
    corners = [min(p[0, 0, 0], p[0, -1, 0]) for p in found]
    assert max(corners) - min(corners) > 20


def test_noises_and_severities_are_drawn_alike(picture: Picture) -> None:
    crops = PairedCrops(8, noises=("low_light", "jpeg", "pixelate"), severities=(1, 5))
    drawn = [crops(picture, seed) for seed in range(90)]
    counts = np.bincount([pair.noise for pair in drawn], minlength=3)
    assert (counts > 15).all()  # 30 each expected; fewer than 15 happens once in 2,000 draws
    dark = [pair.bad.mean() / pair.clean.mean() for pair in drawn if pair.noise == 0]
    assert min(dark) < np.median(dark) < max(dark)


def test_noise_is_put_on_before_the_picture_is_made_small(picture: Picture) -> None:
    """Independent noise of a fine pixel averages out over four of them: half of it is left."""
    crops = PairedCrops(64, noises=("gaussian",), severities=(1,))
    errors = [pair.bad.astype(float) - pair.clean for pair in (crops(picture, seed) for seed in range(8))]
    spread = np.std([e[8:-8, 8:-8, 2] for e in errors])
    assert OVERSAMPLING == 2
    assert spread < 0.75 * 0.08 * 255


@given(width=st.integers(1, 60), height=st.integers(1, 60), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_any_size(tmp_path_factory: pytest.TempPathFactory, width: int, height: int, seed: int) -> None:
    file = tmp_path_factory.mktemp("any") / "any.png"
    Image.new("RGB", (width, height), (10, 200, 30)).save(file)
    pair = PairedCrops(9)(Picture(file, "any"), seed)
    assert pair.clean.shape == pair.bad.shape == (9, 9, 3)
    assert (pair.clean == (10, 200, 30)).all()


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(LowqError, match="there is no noise 'rain'"):
        PairedCrops(8, noises=("rain",))
    with pytest.raises(LowqError, match="severities"):
        PairedCrops(8, severities=(0,))
    with pytest.raises(LowqError, match="severities"):
        PairedCrops(8, severities=())
    with pytest.raises(LowqError, match="size=0"):
        PairedCrops(0)
    with pytest.raises(LowqError, match="least"):
        PairedCrops(8, least=0.0)
    with pytest.raises(LowqError, match="no such picture"):
        PairedCrops(8)(Picture(tmp_path / "none.png", "none"), 0)
