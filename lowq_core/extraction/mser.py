"""Maximally stable extremal regions (Matas et al., BMVC 2002) of many small maps at once.

OpenCV's MSER is made for photos: on maps of some dozen cells a side it finds next to nothing. Here all maps lie in
one mosaic, so one labelling a grey level serves all of them that change there. The measures are VLFeat's, as its
documentation has them.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
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

    >>> tree = extremal_tree(np.array([[[9, 9, 0, 3]]], np.uint8))
    >>> tree.area.tolist(), tree.level.tolist(), tree.parent.tolist()
    ([2.0, 1.0, 4.0], [9, 3, 0], [2, 2, 2])
    """
    count, height, width = maps.shape
    mosaic = np.zeros((count, height + 1, width), np.uint8)  # a dark row under each map keeps it apart
    mosaic[:, :height] = maps
    flat = mosaic.ravel()
    cells = np.argsort(-flat.astype(np.int16), kind="stable")[: np.count_nonzero(flat)]
    levels, starts = np.unique(-flat[cells].astype(np.int16), return_index=True)
    moments = _moments(cells, height + 1, width)
    limit = len(cells) + count  # a region has a cell of its own level
    tree = Tree(
        np.full(limit, -1), np.zeros(limit, np.int64), np.zeros(limit, np.int64), np.zeros((limit, 6)),
        np.zeros(limit, np.int64),
    )  # fmt: skip
    made, outer, cell_of = 0, np.empty(0, np.int64), np.empty(0, np.int64)
    labels = np.zeros(mosaic.shape, np.int32)
    label = labels.ravel()
    ends = np.append(starts, len(cells))
    for level, start, stop in zip((-levels).tolist(), ends[:-1], ends[1:], strict=True):
        # few of many maps have cells of this level; in all others no region grows, and no label is set
        changed = np.unique(cells[start:stop] // ((height + 1) * width))
        bright = (mosaic[changed].reshape(-1, width) >= level).view(np.uint8)
        labels[changed] = cv2.connectedComponents(bright, connectivity=4)[1].reshape(-1, height + 1, width)
        # regions that grow at this level or begin with it
        grown, first, which = np.unique(label[cells[start:stop]], return_index=True, return_inverse=True)
        rows = made + np.arange(len(grown))
        tree.level[rows] = tree.peak[rows] = level
        tree.channel[rows] = cells[start + first] // ((height + 1) * width)
        np.add.at(tree.sums, rows[which], moments[start:stop])
        # what they swallow of the outermost regions so far
        into = np.searchsorted(grown, label[cell_of]).clip(max=len(grown) - 1)
        inside = grown[into] == label[cell_of]
        children, parents = outer[inside], rows[into[inside]]
        tree.parent[children] = parents
        np.add.at(tree.sums, parents, tree.sums[children])
        np.maximum.at(tree.peak, parents, tree.peak[children])
        outer = np.concatenate([outer[~inside], rows])
        cell_of = np.concatenate([cell_of[~inside], cells[start + first]])
        made += len(grown)
        labels[changed] = 0
    return _rooted(tree, made, outer, (count, height, width))


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


def _moments(cells: NDArray[np.int64], height: int, width: int) -> NDArray[np.float64]:
    """(n, 6) of each cell: 1, x, y, x^2, x y, y^2 in its map."""
    x, y = (cells % width).astype(np.float64), (cells // width % height).astype(np.float64)
    return np.column_stack([np.ones(len(cells)), x, y, x * x, x * y, y * y])


def _rooted(tree: Tree, made: int, outer: NDArray[np.int64], shape: tuple[int, int, int]) -> Tree:
    """The tree cut to the regions made, with each map as a whole on top."""
    count, height, width = shape
    roots = made + np.arange(count)
    tree.parent[outer] = roots[tree.channel[outer]]
    tree.parent[roots], tree.channel[roots] = roots, np.arange(count)
    tree.sums[roots] = _moments(np.arange(height * width), height, width).sum(axis=0)
    np.maximum.at(tree.peak, tree.parent[outer], tree.peak[outer])
    size = made + count
    return Tree(
        tree.parent[:size], tree.level[:size], tree.channel[:size], tree.sums[:size], tree.peak[:size]
    )


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
