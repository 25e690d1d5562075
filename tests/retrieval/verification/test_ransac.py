"""Transformations recovered from correspondences that are known, by construction or from PaperTown's geometry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.data.papertown.builder import build
from lowq_core.data.papertown.geometry_file import Views
from lowq_core.data.papertown.town import town
from lowq_core.errors import LowqError
from lowq_core.retrieval.verification.ransac import Model, estimate, project

HOMOGRAPHY = np.array([[0.8, 0.1, 60], [-0.1, 0.9, 40], [2e-4, -1e-4, 1]])
AFFINITY = np.array([[0.7, -0.2, 100], [0.3, 1.1, 20], [0, 0, 1]])


def scene(
    seed: int, truth: np.ndarray, right: int = 60, wrong: int = 60, noise: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places in both pictures, and which are right."""
    generator = np.random.default_rng(seed)
    a = generator.uniform(0, 640, (right + wrong, 2))
    b = project(truth, a) + generator.normal(0, noise, a.shape)
    b[right:] = generator.uniform(0, 640, (wrong, 2))
    order = generator.permutation(len(a))
    return a[order], b[order], (np.arange(len(a)) < right)[order]


@given(seed=st.integers(0, 10_000), model=st.sampled_from(["homography", "affine"]))
@settings(max_examples=25, deadline=None)
def test_recovers_what_was_put_in(seed: int, model: Model) -> None:
    truth = HOMOGRAPHY if model == "homography" else AFFINITY
    a, b, right = scene(seed, truth)
    found = estimate(a, b, model=model, threshold=3, seed=seed)
    assert found.transform is not None
    assert found.agree[right].mean() > 0.95
    assert found.agree[~right].mean() < 0.1  # chance
    corners = [[100, 100], [540, 100], [100, 540], [540, 540]]
    assert np.abs(project(found.transform, corners) - project(truth, corners)).max() < 3


def test_inliers_are_those_within_the_threshold() -> None:
    a, b, _ = scene(3, AFFINITY, noise=2)
    found = estimate(a, b, model="affine", threshold=4)
    assert found.transform is not None
    error = np.linalg.norm(project(found.transform, a) - b, axis=1)
    np.testing.assert_array_equal(error[found.agree] <= 4 * 1.1, True)
    assert error[~found.agree].min() > 4 * 0.9  # the mask may be that of the last but one refinement


def test_seeded() -> None:
    a, b, _ = scene(4, HOMOGRAPHY, right=20, wrong=150, noise=2)
    one, again = (estimate(a, b, seed=5) for _ in range(2))
    assert one.transform is not None
    assert again.transform is not None
    np.testing.assert_array_equal(one.transform, again.transform)
    np.testing.assert_array_equal(one.agree, again.agree)


@pytest.mark.parametrize(("model", "least"), [("homography", 4), ("affine", 3), ("fundamental", 7)])
def test_too_few(model: Model, least: int) -> None:
    a = np.random.default_rng(0).uniform(0, 500, (least, 2))
    for n in range(least):
        found = estimate(a[:n], a[:n], model=model)
        assert found.transform is None
        assert found.agree.tolist() == [False] * n
    if model != "fundamental":
        found = estimate(a, a, model=model)
        assert found.transform is not None
        assert found.agree.all()
        np.testing.assert_allclose(found.transform, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("model", ["homography", "affine"])
def test_a_line_determines_nothing(model: Model) -> None:
    along = np.linspace(0, 400, 60)
    line = np.column_stack([along, 0.5 * along + 10])
    wobbly = line + np.random.default_rng(0).normal(0, 0.3, line.shape)
    for places in (line, wobbly):
        found = estimate(places, places, model=model)
        assert found.transform is None
        assert not found.agree.any()


@pytest.mark.parametrize("model", ["homography", "affine"])
def test_what_everything_would_agree_with(model: Model) -> None:
    """Sending all to one place fits any features that lie together in the picture."""
    generator = np.random.default_rng(0)
    a = generator.uniform(0, 640, (40, 2))
    heap = 300 + generator.uniform(-5, 5, (40, 2))
    assert estimate(a, heap, model=model, threshold=16).transform is None


@pytest.mark.parametrize("model", ["homography", "affine"])
def test_mirrored_pictures_do_not_agree(model: Model) -> None:
    a = np.random.default_rng(0).uniform(0, 640, (80, 2))
    found = estimate(a, a * [-1, 1] + [640, 0], model=model, threshold=2)
    assert found.agree.sum() < 10


def plane_of(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Which points of a building lie in the wall that shows most of those seen."""
    best = np.zeros(len(points), bool)
    for axis in (0, 1):
        for level in np.unique(points[seen, axis].round(2)):
            wall = seen & (np.abs(points[:, axis] - level) < 0.006)
            best = max(best, wall, key=np.sum)
    return best


@pytest.fixture(scope="module")
def views() -> tuple[Views, list[tuple[int, int]]]:
    """PaperTown's geometry, and rows of queries with easy views of theirs."""
    benchmark = town("test", "smoke")
    found = Views.read(build("smoke") / "test" / "geometry.npz")
    pairs = [
        (found.row(query.image), found.row(benchmark.images[query.easy[0]]))
        for query in benchmark.queries
        if len(query.easy)
    ]
    return found, pairs


def cameras_see(
    views: Views, rows: Sequence[int], chosen: np.ndarray, wrong: int
) -> tuple[np.ndarray, np.ndarray]:
    """True places in both views, then `wrong` made-up ones."""
    points = views.points[views.landmark[rows[0]], chosen]
    generator = np.random.default_rng(0)
    places = []
    for row in rows:
        stray = generator.uniform([0, 0], views.size[row], (wrong, 2))
        places.append(np.concatenate([views.camera(row).project(points)[0], stray]))
    return places[0], places[1]


def test_walls_of_papertown(views: tuple[Views, list[tuple[int, int]]]) -> None:
    """A wall is a plane: its true points agree on a homography, among as many wrong ones."""
    geometry, pairs = views
    tried = 0
    for rows in pairs:
        seen = geometry.seen_points(rows[0]) & geometry.seen_points(rows[1])
        wall = plane_of(geometry.points[geometry.landmark[rows[0]]], seen)
        count = int(wall.sum())
        if count < 12:
            continue
        tried += 1
        a, b = cameras_see(geometry, rows, wall, wrong=count)
        found = estimate(a, b, threshold=2)
        assert found.transform is not None
        assert found.agree[:count].mean() > 0.95
        assert np.median(np.linalg.norm(project(found.transform, a[:count]) - b[:count], axis=1)) < 0.5
    assert tried > 3


def test_buildings_of_papertown(views: tuple[Views, list[tuple[int, int]]]) -> None:
    """A building is no plane, but rigid: true points lie on their epipolar lines."""
    geometry, pairs = views
    for rows in pairs:
        seen = geometry.seen_points(rows[0]) & geometry.seen_points(rows[1])
        count = int(seen.sum())
        a, b = cameras_see(geometry, rows, seen, wrong=count // 3)
        found = estimate(a, b, model="fundamental", threshold=1)
        assert found.transform is not None
        assert found.agree[:count].mean() > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "similarity"}, "model"),
        ({"threshold": 0}, "threshold"),
        ({"threshold": np.nan}, "threshold"),
        ({"confidence": 1.0}, "confidence"),
        ({"iterations": 0}, "iterations"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    places = np.random.default_rng(0).uniform(0, 9, (9, 2))
    with pytest.raises(LowqError, match=message):
        estimate(places, places, **options)  # type: ignore[arg-type]


def test_bad_places() -> None:
    places = np.random.default_rng(0).uniform(0, 9, (9, 2))
    with pytest.raises(LowqError, match="9 places in the query, 8"):
        estimate(places, places[:8])
    with pytest.raises(LowqError, match="NaN"):
        estimate(places, places * np.nan)
    with pytest.raises(LowqError, match=r"\(n, 2\)"):
        estimate(places.T, places.T)
