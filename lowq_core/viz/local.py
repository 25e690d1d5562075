"""Local descriptors on pictures: where they are, what a map says of each cell, which of two pictures meet."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from lowq_core.data.benchmark import Box
from lowq_core.viz.style import AMBER, BLUE, GREEN, ORANGE, house_style

Floats = NDArray[np.float64]


def pictures(count: int, columns: int = 4, side: float = 2.4) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels for pictures, without axes."""
    columns = min(columns, count)
    rows = -(-count // columns)
    with house_style():
        figure, axes = plt.subplots(rows, columns, figsize=(columns * side, rows * side), squeeze=False)
    flat = list(axes.flat)
    for axis in flat:
        axis.axis("off")
    return figure, flat[:count]


def features_on(axis: Axes, image: Image.Image, xy: ArrayLike, strength: ArrayLike, title: str = "") -> None:
    """The places of local features, coloured by strength, over a dimmed picture.

    Args:
        xy: (n, 2) pixels of `image`, whose first pixel reaches from 0 to 1.
        strength: (n,) 0 to 1.
    """
    places, values = np.asarray(xy, float), np.asarray(strength, float)
    _show(axis, image, dim=0.45)
    order = np.argsort(values)
    x, y = places[order].T
    axis.scatter(x, y, c=values[order], cmap="inferno", s=9, vmin=0, vmax=1, linewidths=0)
    axis.set_title(title, fontsize=9)


def map_on(
    axis: Axes,
    image: Image.Image,
    values: ArrayLike,
    title: str = "",
    limits: tuple[float, float] | None = None,
) -> None:
    """A map of one number a cell over a picture, with its colour bar.

    Args:
        values: (h, w) of the cells.
        limits: ends of the colours; those of the values by default.
    """
    numbers = np.asarray(values, float)
    _show(axis, image.convert("L"), dim=1.0)
    low, high = limits or (float(numbers.min()), float(numbers.max()))
    drawn = axis.imshow(
        numbers,
        cmap="viridis",
        alpha=0.7,
        vmin=low,
        vmax=high,
        extent=(0, image.width, image.height, 0),
        interpolation="nearest",
    )
    bar = axis.figure.colorbar(drawn, cax=axis.inset_axes((1.02, 0, 0.04, 1)))  # as high as the picture
    bar.ax.tick_params(labelsize=7)
    axis.set_title(title, fontsize=9)


def edges_on(
    axis: Axes, image: Image.Image, place: ArrayLike, others: ArrayLike, weights: ArrayLike, title: str = ""
) -> None:
    """The cells that one cell is connected to, as lines whose colour and width are the edge's weight.

    Args:
        place: (2,) x, y of the cell in pixels of `image`.
        others: (n, 2) places of the connected cells.
        weights: (n,) 0 to 1.
    """
    start, ends, strengths = (np.asarray(values, float) for values in (place, others, weights))
    _show(axis, image, dim=0.6)
    colours = plt.get_cmap("inferno")(0.35 + 0.65 * strengths)
    for end, strength, colour in zip(ends, strengths, colours, strict=True):
        axis.plot(*zip(start, end, strict=True), color=colour, linewidth=0.6 + 1.8 * strength)
        axis.plot(*end, "o", color=colour, markersize=4)
    axis.plot(*start, "o", color=BLUE, markersize=8, markeredgecolor="white")
    axis.set_title(title, fontsize=9)


def match_lines(
    images: tuple[Image.Image, Image.Image],
    xy: tuple[ArrayLike, ArrayLike],
    right: Sequence[bool] | None = None,
    boxes: tuple[Box | None, Box | None] = (None, None),
    found: Box | None = None,
    title: str = "",
) -> Figure:
    """Lines from features of one picture to those that they meet in another.

    Args:
        images: the query's picture and the database's.
        xy: (n, 2) places in each, row by row a match.
        right: whether each match is right: green, or else orange and dashed. Unknown by default: amber.
        boxes: true boxes of the object in each picture, drawn thin.
        found: box found in the second picture, drawn thick.
    """
    left, others = (np.asarray(places, float) for places in xy)
    with house_style():
        figure, axes = plt.subplots(
            1, 2, figsize=(8.4, 3.4), width_ratios=[image.width / image.height for image in images]
        )
    for axis, image, box in zip(axes, images, boxes, strict=True):
        axis.axis("off")
        _show(axis, image, dim=0.7)
        if box is not None:
            _frame(axis, box, BLUE, 1.2)
    if found is not None:
        _frame(axes[1], found, AMBER, 2.4)
    for n, (start, end) in enumerate(zip(left, others, strict=True)):
        good = None if right is None else right[n]
        colour, line = (AMBER, "-") if good is None else (GREEN, "-") if good else (ORANGE, "--")
        join = ConnectionPatch(
            start,
            end,
            "data",
            "data",
            axesA=axes[0],
            axesB=axes[1],
            color=colour,
            linestyle=line,
            linewidth=0.9,
        )
        join.set_in_layout(False)  # else the layout makes room for it beside the second picture
        axes[1].add_artist(join)
    figure.suptitle(title, fontsize=10)
    return figure


def _show(axis: Axes, image: Image.Image, dim: float) -> None:
    """The picture, darkened to `dim` of its light, in its own pixels."""
    axis.imshow(np.asarray(image.convert("RGB"), float) / 255 * dim, extent=(0, image.width, image.height, 0))
    axis.grid(False)


def _frame(axis: Axes, box: Box, colour: str, width: float) -> None:
    x1, y1, x2, y2 = box
    axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width))
