"""Restorers: better than the degraded picture where they should be, nothing done where nothing is asked for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lowq_core.degrade import HELD_OUT, degrade
from lowq_core.errors import LowqError
from lowq_core.images import open_image, resize_longer, to_array
from lowq_core.restore import RESTORERS, restore
from lowq_core.restore.measures import (
    MASK,
    QUALITIES,
    impulses,
    jpeg_quality,
    noise_sigma,
    range_of_light,
)


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((image.astype(float) - clean) ** 2)))


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A made-up facade of 240 x 320: sky, windows, a gable, a texture of bricks; levels 10 to 245."""
    y, x = np.mgrid[0:240, 0:320].astype(float)
    wall = 150 + 30 * np.sin(x / 9) * np.sin(y / 7)
    wall[(x % 40 > 12) & (x % 40 < 30) & (y % 60 > 20) & (y % 60 < 50)] = 40
    sky = 245 - y / 2
    gable = y > 30 + np.abs(x - 160) / 2
    grey = np.where(gable, wall, sky)
    scene = np.stack([grey, grey * 0.9, np.where(gable, grey * 0.7, grey)], axis=2)
    scene[200:, :, :] = 10
    return np.rint(np.clip(scene, 10, 245)).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(lowq_data: Path) -> list[np.ndarray]:
    paths = sorted((lowq_data / "distractors" / "jpg").glob("*.jpg"))[10::190]
    return [to_array(resize_longer(open_image(path), 320)) for path in paths]


# measures


@pytest.mark.parametrize("sigma", [1, 2, 5, 10, 20, 35])
def test_noise_sigma_of_known_noise(sigma: float) -> None:
    generator = np.random.default_rng(1)
    y, x = np.mgrid[0:200, 0:260]
    slope = np.repeat((70 + y / 4 + x / 5)[..., None], 3, axis=2)  # the mask does not answer to slopes
    noisy = np.rint(slope + generator.normal(0, sigma, slope.shape))
    assert noise_sigma(np.clip(noisy, 0, 255).astype(np.uint8)) == pytest.approx(sigma, rel=0.06)


def test_noise_sigma_against_a_naive_loop(scene: np.ndarray) -> None:
    noisy = degrade(scene[:40, 100:150], "gaussian", 1, seed=3)
    variances = []
    for channel in range(3):
        plane = noisy[..., channel].astype(int)
        answers = []
        for i in range(1, plane.shape[0] - 1):
            for j in range(1, plane.shape[1] - 1):
                patch = plane[i - 1 : i + 2, j - 1 : j + 2]
                if patch.min() > 0 and patch.max() < 255:
                    answers.append(abs(int((patch * MASK).sum())))
        variances.append((np.median(answers) / 0.6745 / 6) ** 2)
    assert noise_sigma(noisy) == pytest.approx(np.sqrt(np.mean(variances) - 1 / 12))


def test_noise_sigma_of_little_pictures_and_clipped_ones() -> None:
    for shape in ((1, 1, 3), (2, 50, 3), (50, 2, 3)):
        assert noise_sigma(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)) == 0
    assert noise_sigma(np.full((9, 9, 3), 255, np.uint8)) == 0
    assert noise_sigma(np.full((9, 9, 3), 7, np.uint8)) == 0


@pytest.mark.parametrize(("severity", "share"), [(1, 0.03), (3, 0.09), (5, 0.27)])
def test_impulses_are_counted(scene: np.ndarray, severity: int, share: float) -> None:
    assert not impulses(scene).any()
    middle = np.clip(scene, 80, 175)  # black and white stand out of all of it
    noisy = degrade(middle, "impulse", severity, seed=0)
    hit = noisy != middle
    assert hit.mean() == pytest.approx(share, rel=0.05)
    assert not (impulses(noisy) & ~hit).any()
    outvoted = cv2.blur(hit.astype(np.float32), (5, 5), borderType=cv2.BORDER_REPLICATE) > 0.5
    np.testing.assert_array_equal(impulses(noisy) | outvoted, hit | outvoted)  # the median is of clean values
    assert impulses(noisy).mean() > 0.99 * hit.mean()


@pytest.mark.parametrize("quality", [5, 7, 10, 18, 25, 40, 55])
def test_jpeg_quality(scene: np.ndarray, quality: int) -> None:
    _, data = cv2.imencode(".jpg", scene[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    stored = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    assert jpeg_quality(stored) == quality
    assert jpeg_quality(stored[3:, 5:]) is None  # the grid is elsewhere
    assert quality in QUALITIES


def test_jpeg_quality_where_there_is_none(scene: np.ndarray) -> None:
    assert jpeg_quality(scene) is None
    assert jpeg_quality(degrade(scene, "gaussian", 3, seed=0)) is None
    assert jpeg_quality(degrade(scene[:31], "jpeg", 3, seed=0)) is None  # too small to tell
    for level in (0, 3, 77, 255):
        assert jpeg_quality(np.full((64, 64, 3), level, np.uint8)) is None


def test_range_of_light(scene: np.ndarray) -> None:
    low, high = range_of_light(scene)
    assert (low, high) == pytest.approx((10, 244), abs=3)
    flat = range_of_light(np.rint(100 + 0.2 * (scene - 100.0)).astype(np.uint8))
    assert flat == pytest.approx((100 + 0.2 * (low - 100), 100 + 0.2 * (high - 100)), abs=1)


# restorers


BETTER = [
    ("nlm", "gaussian", 1, 3.0),
    ("nlm", "gaussian", 3, 5.0),
    ("nlm", "gaussian", 5, 5.0),
    ("nlm", "speckle", 2, 3.0),
    ("nlm", "shot", 2, 3.0),
    ("median", "impulse", 1, 10.0),
    ("median", "impulse", 5, 10.0),
    ("deblock", "jpeg", 1, 0.1),
    ("deblock", "jpeg", 5, 0.1),
    ("light", "low_light", 2, 3.0),
    ("light", "low_light", 5, 3.0),
    ("light", "contrast", 2, 1.0),
]
"""Restorer, what it is made for, and by how many dB it has to better the mean over pictures."""


@pytest.mark.parametrize(("method", "noise", "severity", "gain"), BETTER)
def test_better_than_the_degraded_picture(
    scene: np.ndarray, method: str, noise: str, severity: int, gain: float
) -> None:
    degraded = degrade(scene, noise, severity, seed=1)
    before = psnr(degraded, scene)
    assert psnr(restore(degraded, method), scene) > before + gain
    if (noise, severity) != ("contrast", 2):  # not flat enough for it
        assert psnr(restore(degraded, "auto"), scene) > before + gain


@pytest.mark.parametrize(("method", "noise", "severity", "gain"), BETTER)
def test_better_on_photos(
    photos: list[np.ndarray], method: str, noise: str, severity: int, gain: float
) -> None:
    degraded = [degrade(photo, noise, severity, seed=1) for photo in photos]
    before = np.mean([psnr(image, photo) for image, photo in zip(degraded, photos, strict=True)])
    after = [psnr(restore(image, method), photo) for image, photo in zip(degraded, photos, strict=True)]
    assert np.mean(after) > before + gain


def test_auto_leaves_clean_pictures_alone(scene: np.ndarray) -> None:
    np.testing.assert_array_equal(restore(scene, "auto"), scene)


def test_auto_leaves_photos_nearly_alone(photos: list[np.ndarray]) -> None:
    apart = [np.abs(restore(photo, "auto").astype(int) - photo).mean() for photo in photos]
    assert np.median(apart) == 0
    assert max(apart) < 3


@pytest.mark.parametrize("noise", HELD_OUT)
def test_auto_does_not_harm_what_it_was_not_made_for(scene: np.ndarray, noise: str) -> None:
    degraded = degrade(scene, noise, 3, seed=1)
    assert psnr(restore(degraded, "auto"), scene) > psnr(degraded, scene) - 0.5


def test_median_changes_impulses_only(scene: np.ndarray) -> None:
    noisy = degrade(scene, "impulse", 3, seed=2)
    changed = restore(noisy, "median") != noisy
    assert not (changed & ~impulses(noisy)).any()


def test_light_keeps_colours_and_what_is_bright_enough() -> None:
    wide = np.repeat(np.linspace(5, 250, 64).astype(np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    np.testing.assert_array_equal(restore(wide, "light"), wide)
    dim = (wide * 0.3).astype(np.uint8)
    lit = restore(dim, "light")
    assert np.percentile(lit, 99) > 220
    assert (lit[..., 0] == lit[..., 2]).all()
    assert (np.diff(lit[0, :, 0].astype(int)) >= 0).all()


def test_what_shows_nothing_is_given_back(scene: np.ndarray) -> None:
    for method in ("nlm", "deblock", "median"):
        np.testing.assert_array_equal(restore(scene, method), scene)
    grey = np.full((20, 30, 3), 60, np.uint8)
    for method in RESTORERS:
        np.testing.assert_array_equal(restore(grey, method), grey)


@settings(max_examples=40, deadline=None)
@given(
    image=arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    method=st.sampled_from(sorted(RESTORERS)),
)
def test_any_picture(image: np.ndarray, method: str) -> None:
    before = image.copy()
    found = restore(image, method)
    assert (found.shape, found.dtype) == (image.shape, np.uint8)
    assert found.flags.c_contiguous
    assert not np.shares_memory(found, image)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(restore(image, method), found)


@pytest.mark.parametrize("method", sorted(RESTORERS))
def test_any_memory_layout(scene: np.ndarray, method: str) -> None:
    noisy = degrade(scene[:60, :80], "gaussian", 2, seed=0)
    wanted = restore(noisy, method)
    backwards = np.ascontiguousarray(noisy[..., ::-1])[..., ::-1]
    for same in (np.asfortranarray(noisy), backwards):
        np.testing.assert_array_equal(restore(same, method), wanted)


def test_bad_names_and_pictures() -> None:
    good = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(LowqError, match="there is no restorer 'sharpen'; choose among nlm, median"):
        restore(good, "sharpen")
    for bad in (good.astype(float), good[..., 0], good[..., :2], good[:0], good.astype(np.uint16)):
        with pytest.raises(LowqError, match=r"image is .* of shape .*; give an RGB picture"):
            restore(bad, "auto")
    with pytest.raises(LowqError, match="image is list; give an RGB picture"):
        restore([[1]], "auto")  # type: ignore[arg-type]
