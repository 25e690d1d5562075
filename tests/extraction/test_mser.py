"""The component tree and what is stable in it, against flooding every level by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lowq_core.extraction.mser import extremal_tree, stable_regions

Cells = frozenset[tuple[int, int]]


def flooded(grey: np.ndarray) -> dict[Cells, int]:
    """Every extremal region of one map as a set of (y, x), with the highest level at which it is one."""
    found: dict[Cells, int] = {frozenset(map(tuple, np.argwhere(grey >= 0).tolist())): 0}
    for level in range(1, int(grey.max()) + 1):
        labels, count = ndimage.label(grey >= level)
        for label in range(1, count + 1):
            cells = frozenset(map(tuple, np.argwhere(labels == label).tolist()))
            if any(grey[cell] == level for cell in cells):
                found[cells] = level
    return found


def random_maps(seed: int, count: int, levels: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(generator.standard_normal((count, 7, 9)), (0, 1, 1))
    scaled = (smooth - smooth.min()) / np.ptp(smooth) * levels - levels // 3
    return scaled.clip(0).astype(np.uint8)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 3), levels=st.sampled_from([4, 20, 200]))
@settings(max_examples=40, deadline=None)
def test_tree_against_flooding(seed: int, count: int, levels: int) -> None:
    maps = random_maps(seed, count, levels)
    tree = extremal_tree(maps)
    rows = np.arange(len(tree.parent))
    for channel, grey in enumerate(maps):
        regions = flooded(grey)
        mine = rows[tree.channel == channel]
        inner = mine[tree.parent[mine] != mine]
        # the map as a whole is on top, also where a brighter level fills it
        wanted = [(len(cells), level) for cells, level in regions.items() if level > 0]
        wanted.sort()
        assert sorted(zip(tree.area[inner].astype(int), tree.level[inner], strict=True)) == wanted
        found = {key: row for row in inner for key in [moments_key(tree.sums[row])]}
        for cells, level in regions.items():
            if level == 0:
                continue
            places = np.array(sorted(cells))[:, ::-1].astype(float)
            row = np.array([found[moments_key(moments(places))]])
            np.testing.assert_allclose(tree.centres(row)[0], places.mean(axis=0), atol=1e-9)
            np.testing.assert_allclose(
                tree.covariances(row)[0], np.cov(places.T, bias=True).reshape(2, 2), atol=1e-9
            )
            assert tree.peak[row[0]] == max(grey[y, x] for y, x in cells)
            larger = [other for other in regions if cells < other]
            parent = min(larger, key=len, default=frozenset(map(tuple, np.argwhere(grey >= 0).tolist())))
            assert tree.area[tree.parent[row[0]]] == len(parent)


def moments(places: np.ndarray) -> np.ndarray:
    x, y = places.T
    return np.array([len(x), x.sum(), y.sum(), (x * x).sum(), (x * y).sum(), (y * y).sum()])


def moments_key(sums: np.ndarray) -> tuple[int, ...]:
    return tuple(np.rint(sums).astype(int).tolist())


@given(seed=st.integers(0, 10_000), delta=st.integers(1, 12), levels=st.sampled_from([20, 60]))
@settings(max_examples=40, deadline=None)
def test_stable_against_the_definition(seed: int, delta: int, levels: int) -> None:
    """Without the last step (`diversity`): variation, its minimum along the branch, and area."""
    grey = random_maps(seed, 1, levels)[0]
    regions = flooded(grey)
    total = grey.size

    def variation(cells: Cells) -> float:
        around = [
            other for other, level in regions.items() if cells <= other and level >= regions[cells] - delta
        ]
        return (len(max(around, key=len)) - len(cells)) / len(cells)

    def stable(cells: Cells) -> bool:
        larger = [other for other in regions if cells < other]
        if larger:
            parent = min(larger, key=len)
            if regions[cells] - regions[parent] <= 1 and not variation(cells) < variation(parent):
                return False
        children = [
            other
            for other, level in regions.items()
            if other < cells and level - regions[cells] <= 1 and not any(other < m < cells for m in regions)
        ]
        if any(variation(child) < variation(cells) for child in children):
            return False
        return variation(cells) <= 0.5 and 0.02 * total <= len(cells) <= 0.75 * total

    tree = extremal_tree(grey[None])
    rows = stable_regions(tree, delta=delta, diversity=0, area=(0.02, 0.75))
    found = sorted(moments_key(tree.sums[row]) for row in rows)
    wanted = [
        moments_key(moments(np.array(sorted(cells))[:, ::-1].astype(float)))
        for cells in regions
        if regions[cells] > 0 and stable(cells)
    ]
    assert found == sorted(wanted)


def test_diversity_keeps_the_more_stable() -> None:
    """By hand: a plateau of 16 cells at 100 that grows by little at 90 and by nothing down to 30."""
    grey = np.zeros((12, 12), np.uint8)
    grey[3:8, 3:7] = 90  # 20 cells
    grey[3:7, 3:7] = 100  # 16 of them
    tree = extremal_tree(grey[None])
    every = stable_regions(tree, delta=5, diversity=0)
    assert tree.area[every].tolist() == [16, 20]
    assert tree.area[stable_regions(tree, delta=5)].tolist() == [20]  # equally stable: the larger
    assert tree.area[stable_regions(tree, delta=15)].tolist() == [20]  # 16 grows to 20 within 15 levels
    assert tree.area[stable_regions(tree, delta=5, diversity=0.1)].tolist() == [16, 20]


def test_maps_do_not_touch() -> None:
    maps = np.full((3, 4, 5), 7, np.uint8)
    tree = extremal_tree(maps)
    assert tree.area.tolist() == [20] * 6
    assert tree.channel.tolist() == [0, 1, 2, 0, 1, 2]
    alone = [extremal_tree(random_maps(seed, 1, 50)) for seed in range(3)]
    together = extremal_tree(np.concatenate([random_maps(seed, 1, 50) for seed in range(3)]))
    for channel, tree in enumerate(alone):
        mine = together.sums[together.channel == channel]
        np.testing.assert_array_equal(mine, tree.sums)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 6), (1, 5, 1)])
def test_small_and_dark_maps(shape: tuple[int, int, int]) -> None:
    for value in (0, 9):
        tree = extremal_tree(np.full(shape, value, np.uint8))
        assert len(stable_regions(tree, delta=3)) == 0
