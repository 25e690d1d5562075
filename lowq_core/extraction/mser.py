"""Maximally stable extremal regions (Matas et al., BMVC 2002) of many small maps at once.

OpenCV's MSER is made for photos: on maps of some dozen cells a side it finds next to nothing. Here all maps are
worked on at once, a cell of each at a time. The measures are VLFeat's, as its documentation has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_AREA, _X, _Y, _XX, _XY, _YY = range(6)


class Tree(NamedTuple):
    """All extremal regions of some maps: connected cells, each brighter than all cells around; children first.

    Attributes:
        parent: (R,) the next larger region; the last C, one a map, are the maps as a whole, their own parents.
        level: (R,) grey level of the region's darkest cell; 0 of a whole map.
        channel: (R,) number of the map.
        sums: (R, 6) over the region's cells: 1, x, y, x^2, x y, y^2.
        peak: (R,) the largest grey level in it.
    """

    parent: NDArray[np.int64]
    level: NDArray[np.int64]
    channel: NDArray[np.int64]
    sums: NDArray[np.float64]
    peak: NDArray[np.int64]

    @property
    def area(self) -> NDArray[np.float64]:
        """(R,) cells."""
        return self.sums[:, _AREA]

    def centres(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, 2) mean x, y of the regions' cells."""
        return self.sums[rows][:, [_X, _Y]] / self.sums[rows, _AREA, None]

    def covariances(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, 2, 2) covariance of x, y of the regions' cells."""
        mean = self.centres(rows)
        second = self.sums[rows][:, [_XX, _XY, _XY, _YY]] / self.sums[rows, _AREA, None]
        return second.reshape(-1, 2, 2) - mean[:, :, None] * mean[:, None, :]


def extremal_tree(maps: NDArray[np.uint8]) -> Tree:
    """The extremal regions of (C, h, w) grey maps; cells touch at their sides.

    Union-find, brightest cells first (Berger et al., ICIP 2007): a cell joins the regions beside it and becomes their
    root. Each step takes the next cell of every map, since maps are many and have few cells.

    >>> tree = extremal_tree(np.array([[[9, 9, 0, 3]]], np.uint8))
    >>> tree.area.tolist(), tree.level.tolist(), tree.parent.tolist()
    ([2.0, 1.0, 4.0], [9, 3, 0], [2, 2, 2])
    """
    count, height, width = maps.shape
    size = height * width
    maps_first = size * np.arange(count)[:, None]  # number of each map's first cell
    levels = maps.reshape(count, size).astype(np.int64)
    bright = np.count_nonzero(levels, axis=1)
    order = np.argsort(-levels, axis=1, kind="stable") + maps_first
    steps = [order[bright > step, step] for step in range(bright.max(initial=0))]
    grey = levels.ravel()
    beside = (_beside(height, width) + maps_first[:, :, None]).reshape(-1, 4)
    above = _joined(steps, beside)
    moments = _moments(size, width)
    sums, peak = np.tile(moments, (count, 1)), grey.copy()
    for cells in steps:  # each before the one above it
        inner = cells[above[cells] != cells]
        sums[above[inner]] += sums[inner]
        peak[above[inner]] = np.maximum(peak[above[inner]], peak[inner])
    for cells in reversed(steps):  # of equally bright cells of a region the last one stands for all
        higher = above[above[cells]]
        same = grey[higher] == grey[above[cells]]
        above[cells[same]] = higher[same]
    channels = np.arange(count)
    whole = Tree(
        channels,
        np.zeros(count, np.int64),
        channels,
        np.tile(moments.sum(axis=0), (count, 1)),
        levels.max(axis=1),
    )
    return _regions(Tree(above, grey, np.repeat(channels, size), sums, peak), whole)


def stable_regions(
    tree: Tree,
    *,
    delta: int,
    variation: float = 0.5,
    diversity: float = 0.7,
    area: tuple[float, float] = (0.001, 0.75),
) -> NDArray[np.int64]:
    """Rows of the maximally stable regions, children first.

    A region's variation is the share by which it grows when the level falls by `delta`. It is stable where this is
    less than its parent's one level below and no more than that of its children one level above.

    Args:
        delta: levels, 1 or more.
        variation: the most that is stable.
        diversity: of two nested stable regions whose areas differ by a smaller share of the larger one, the less
            stable goes; the smaller where they are equally stable.
        area: the least and the most of a region, as shares of the map.
    """
    sizes = tree.area
    rows = np.arange(len(sizes))
    later = rows
    for _ in range(delta):  # a parent is darker by one level at least
        up = tree.parent[later]
        later = np.where(tree.level[up] >= tree.level - delta, up, later)
    change = (sizes[later] - sizes) / sizes
    next_to = (tree.parent != rows) & (tree.level - tree.level[tree.parent] <= 1)
    better = change < change[tree.parent]
    stable = np.ones(len(sizes), bool)
    stable[rows[next_to & ~better]] = False
    stable[tree.parent[next_to & better]] = False
    whole = sizes[tree.channel - (tree.channel.max() + 1)]  # the maps themselves come last
    stable &= (change <= variation) & (sizes >= area[0] * whole) & (sizes <= area[1] * whole)
    _diversify(tree, stable, change, diversity)
    return np.flatnonzero(stable)


def _beside(height: int, width: int) -> NDArray[np.int64]:
    """(cells, 4): the cells above, below, left and right of each cell; beyond the border the cell itself."""
    cell = np.arange(height * width).reshape(height, width)
    around = np.pad(cell, 1, mode="edge")
    sides = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
    return np.stack(sides, axis=-1).reshape(-1, 4)


def _joined(steps: Sequence[NDArray[np.int64]], beside: NDArray[np.int64]) -> NDArray[np.int64]:
    """The cell that each cell's region became a part of next; itself where there is none."""
    above = np.arange(len(beside))
    root, seen = above.copy(), np.zeros(len(beside), bool)
    for cells in steps:
        near = np.where(seen[beside[cells]], beside[cells], cells[:, None])
        top = root[near]
        while not np.array_equal(higher := root[top], top):
            top = higher
        above[top] = root[top] = root[near] = cells[:, None]
        seen[cells] = True
    return above


def _moments(size: int, width: int) -> NDArray[np.float64]:
    """(size, 6) of each cell of a map: 1, x, y, x^2, x y, y^2."""
    y, x = (part.astype(np.float64) for part in np.divmod(np.arange(size), width))
    return np.column_stack([np.ones(size), x, y, x * x, x * y, y * y])


def _regions(cells: Tree, whole: Tree) -> Tree:
    """Of a tree of cells those that stand for a region, with the maps as a whole on top."""
    above, grey = cells.parent, cells.level
    tops = above == np.arange(len(grey))
    made = np.flatnonzero((grey > 0) & (tops | (grey[above] < grey)))
    made = made[np.argsort(-grey[made], kind="stable")]
    number = np.empty(len(grey), np.int64)
    number[made] = np.arange(len(made))
    parent = np.where(tops[made], len(made) + cells.channel[made], number[above[made]])
    regions = Tree(parent, grey[made], cells.channel[made], cells.sums[made], cells.peak[made])
    on_top = whole._replace(parent=len(made) + whole.parent)
    return Tree(*(np.concatenate(both) for both in zip(regions, on_top, strict=True)))


def _diversify(tree: Tree, stable: NDArray[np.bool_], change: NDArray[np.float64], diversity: float) -> None:
    """Unmark, of stable regions that nearly coincide, all but the most stable."""
    parent, area = tree.parent.tolist(), tree.area.tolist()
    for row in np.flatnonzero(stable).tolist():
        while stable[row]:
            above = parent[row]
            while not stable[above] and parent[above] != above:
                above = parent[above]
            if not stable[above] or above == row:
                break
            if area[above] - area[row] >= diversity * area[above]:
                break
            stable[above if change[above] > change[row] else row] = False
