"""Deep spatial matching on regions made by hand, and its parts against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.extraction.local_features import LocalFeatures, PictureFeatures
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.verification.dsm import (
    DeepSpatialMatching,
    _most_agreed,
    _one_to_one,
    _Pairs,
    same_channel,
)
from lowq_core.retrieval.verification.ransac import project

UPRIGHT = np.array([[1.4, 0, 30], [0.2, 1.1, -10], [0, 0, 1]])  # keeps the vertical
CELL = 16.0


def regions(seed: int, n: int, channels: int = 40, scale: float = 1.0) -> PictureFeatures:
    generator = np.random.default_rng(seed)
    factors = np.zeros((n, 2, 2))
    factors[:, 0, 0], factors[:, 1, 1] = generator.uniform(10, 60, (2, n))
    factors[:, 1, 0] = generator.uniform(-20, 20, n)
    return _features(
        generator.integers(0, channels, n), factors, generator.uniform(0, 640, (n, 2)), scale, generator
    )


def _features(
    channel: np.ndarray, factors: np.ndarray, xy: np.ndarray, scale: float, generator: np.random.Generator
) -> PictureFeatures:
    shape = factors @ factors.transpose(0, 2, 1)
    n = len(xy)
    descriptors = np.column_stack(
        [channel, shape[:, 0, 0], shape[:, 0, 1], shape[:, 1, 1], np.full(n, CELL / scale)]
    )
    strength = np.sort(generator.uniform(0.1, 1, n))[::-1]
    return PictureFeatures(descriptors.astype(np.float32), strength, xy, np.full(n, scale))


def moved(
    features: PictureFeatures, transform: np.ndarray, noise: float = 0.0, seed: int = 0
) -> PictureFeatures:
    """The same regions seen through an affinity."""
    generator = np.random.default_rng(seed)
    channel, xx, xy, yy, cell = features.descriptors.astype(float).T
    shape = np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
    turned = transform[:2, :2] @ shape @ transform[:2, :2].T
    table = np.column_stack([channel, turned[:, 0, 0], turned[:, 0, 1], turned[:, 1, 1], cell])
    places = project(transform, features.xy) + generator.normal(0, noise, features.xy.shape)
    return features._replace(descriptors=table.astype(np.float32), xy=places)


def joined(*parts: PictureFeatures) -> PictureFeatures:
    whole = PictureFeatures(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    order = np.argsort(-whole.strength, kind="stable")
    return PictureFeatures(*(array[order] for array in whole))


def database(*pictures: PictureFeatures) -> LocalFeatures:
    return LocalFeatures.of([f"{i}.jpg" for i in range(len(pictures))], list(pictures))


def test_one_correspondence_is_enough_to_propose() -> None:
    """Without noise every right pair proposes the true affinity, whatever else is there."""
    thing = regions(0, 60)
    picture = joined(moved(thing, UPRIGHT), regions(1, 60))
    found = DeepSpatialMatching(threshold=0.05).fit(database(picture, regions(2, 100))).count(thing, 0)
    assert found.transform is not None
    np.testing.assert_allclose(found.transform, UPRIGHT, atol=1e-2)
    assert found.inliers == 60
    left, right = found.pairs.T
    np.testing.assert_allclose(project(UPRIGHT, thing.xy[left]), picture.xy[right], atol=0.1)
    np.testing.assert_array_equal(thing.descriptors[left, 0], picture.descriptors[right, 0])


def test_noise_other_pictures_and_order() -> None:
    thing = regions(0, 50)
    pictures = [
        joined(moved(PictureFeatures(*(a[:n] for a in thing)), UPRIGHT, noise=6, seed=n), regions(9 + n, 60))
        for n in (30, 45, 1)
    ]
    search = DeepSpatialMatching(threshold=1).fit(database(*pictures, regions(3, 0)))
    counts = [search.count(thing, i).inliers for i in range(4)]
    assert counts[0] >= 25
    assert counts[1] >= 38
    assert counts[2] < 12
    assert counts[3] == 0
    ranking = Ranking(np.array([[3, 2, 0, 1]]), np.zeros((1, 4), np.float32))
    assert search.rerank(ranking, database(thing)).ids.tolist() == [[1, 0, 2, 3]]
    assert search.neighbours([[2, 0, 1]], 2, database(thing)).ids.tolist() == [[1, 0]]


def test_identical_pictures() -> None:
    thing = regions(5, 70)
    found = DeepSpatialMatching().fit(database(thing)).count(thing, 0)
    assert found.inliers == 70
    assert found.pairs[:, 0].tolist() == found.pairs[:, 1].tolist()
    assert found.transform is not None
    np.testing.assert_allclose(found.transform, np.eye(3), atol=1e-4)


def test_scales_are_compared_each_with_each() -> None:
    """The query's coarse regions are found among the picture's fine ones; scales do not add up."""
    coarse, fine = regions(1, 40, scale=0.5), regions(2, 25)
    query = joined(coarse, fine)
    seen = moved(PictureFeatures(*(array[:30] for array in coarse)), UPRIGHT)
    table = seen.descriptors.copy()
    table[:, 4] = CELL
    picture = joined(seen._replace(descriptors=table, scale=np.ones(30)), regions(3, 20, scale=0.5))
    found = DeepSpatialMatching(threshold=0.1).fit(database(picture)).count(query, 0)
    assert found.inliers == 30
    assert set(query.scale[found.pairs[:, 0]]) == {0.5}
    assert set(picture.scale[found.pairs[:, 1]]) == {1.0}


def test_zoom_is_limited() -> None:
    thing = regions(0, 30)
    thing.descriptors[:, 0] = np.arange(30)
    near = moved(thing, np.diag([4.0, 4.0, 1.0]))
    assert DeepSpatialMatching(zoom=3).fit(database(near)).count(thing, 0).inliers == 0
    assert DeepSpatialMatching(zoom=5).fit(database(near)).count(thing, 0).inliers == 30


def test_other_channels_do_not_match() -> None:
    thing = regions(0, 20)
    table = thing.descriptors.copy()
    table[:, 0] += 40
    found = DeepSpatialMatching().fit(database(thing._replace(descriptors=table))).count(thing, 0)
    assert found.inliers == 0
    assert found.transform is None
    assert found.pairs.shape == (0, 2)


def test_features_count_once() -> None:
    """Ten regions of one channel in one place meet one such region: one inlier, not ten."""
    heap = _features(
        np.full(10, 3),
        np.tile(20 * np.eye(2), (10, 1, 1)),
        np.full((10, 2), 50.0),
        1.0,
        np.random.default_rng(0),
    )
    one = PictureFeatures(*(array[:1] for array in heap))
    assert DeepSpatialMatching().fit(database(one)).count(heap, 0).inliers == 1
    assert DeepSpatialMatching().fit(database(heap)).count(one, 0).inliers == 1


def test_permuted() -> None:
    thing, other = regions(0, 40), joined(moved(regions(0, 40), UPRIGHT, noise=3), regions(4, 40))
    search = DeepSpatialMatching().fit(database(other, thing))
    again = DeepSpatialMatching().fit(database(thing, other))
    one, same = search.count(thing, 0), again.count(thing, 1)
    assert one.inliers == same.inliers
    assert one.transform is not None
    assert same.transform is not None
    np.testing.assert_array_equal(one.transform, same.transform)
    order = np.random.default_rng(0).permutation(40)
    mixed = PictureFeatures(*(array[order] for array in thing))
    found = search.count(mixed, 0)
    assert sorted((order[a], b) for a, b in found.pairs) == sorted(map(tuple, one.pairs))


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), m=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_same_channel_against_loops(seed: int, n: int, m: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = (np.sort(generator.integers(0, 5, size)) for size in (n, m))
    left, right = same_channel(a, b)
    wanted = [(i, j) for i in range(n) for j in range(m) if a[i] == b[j]]
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == wanted


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_agreement_against_loops(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count, limit = 30, 20.0
    pairs = _Pairs(
        generator.uniform(0, 100, (count, 2)),
        generator.uniform(0, 100, (count, 2)),
        generator.integers(0, 8, count),
        np.sort(generator.integers(0, 12, count)),
    )
    proposed = np.concatenate(
        [np.eye(2) + generator.normal(0, 0.1, (6, 2, 2)), generator.normal(0, 20, (6, 2, 1))], axis=2
    )
    errors = [
        [np.linalg.norm(t[:, :2] @ q + t[:, 2] - p) for q, p in zip(pairs.query, pairs.picture, strict=True)]
        for t in proposed
    ]
    agreed = [len({int(pairs.right[i]) for i in range(count) if row[i] <= limit}) for row in errors]
    assert _most_agreed(proposed, pairs, limit) == int(np.argmax(agreed))
    taken: list[int] = []
    for i in np.argsort(errors[0], kind="stable"):
        free = all(pairs.left[i] != pairs.left[j] and pairs.right[i] != pairs.right[j] for j in taken)
        if errors[0][i] <= limit and free:
            taken.append(int(i))
    assert _one_to_one(pairs, proposed[0], limit).tolist() == taken


def test_saved_and_loaded(tmp_path: Path) -> None:
    thing = regions(0, 30)
    search = DeepSpatialMatching(threshold=1.5, zoom=2.5, proposals=50).fit(database(thing, regions(1, 20)))
    search.save(tmp_path / "dsm")
    again = DeepSpatialMatching.load(tmp_path / "dsm")
    assert (again.threshold, again.zoom, again.proposals) == (1.5, 2.5, 50)
    assert again.count(thing, 0).inliers == 30


def test_bad_input() -> None:
    for options, message in (
        ({"threshold": 0}, "threshold"),
        ({"zoom": 0.5}, "zoom"),
        ({"proposals": 0}, "proposals"),
    ):
        with pytest.raises(LowqError, match=message):
            DeepSpatialMatching(**options)
    thing = regions(0, 5)
    with pytest.raises(LowqError, match="fit first"):
        DeepSpatialMatching().count(thing, 0)
    other = PictureFeatures(np.ones((4, 128)), np.ones(4), np.zeros((4, 2)), np.ones(4))
    with pytest.raises(LowqError, match="no activation regions"):
        DeepSpatialMatching().fit(database(other)).count(other, 0)
    flat = thing._replace(descriptors=thing.descriptors * np.array([1, 0, 0, 1, 1], np.float32))
    with pytest.raises(LowqError, match="no area"):
        DeepSpatialMatching().fit(database(flat)).count(thing, 0)
    with pytest.raises(LowqError, match="NaN"):
        DeepSpatialMatching().fit(database(thing)).count(thing._replace(xy=thing.xy * np.nan), 0)
