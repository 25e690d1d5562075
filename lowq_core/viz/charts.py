"""Charts that several notebooks draw: intervals, grids of numbers, lines over severity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lowq_core.viz.style import AMBER, BLUE, GREEN, ORANGE, PALETTE, house_style

_TICKS = 10  # or fewer places on an axis are all named


def intervals(
    groups: Mapping[str, Mapping[str, tuple[float, float, float]]], xlabel: str, columns: int = 3
) -> Figure:
    """Points with intervals: one panel a group, one line a row; panels above one another share their axis.

    Args:
        groups: panel title -> row label -> (value, low, high).
        xlabel: name and unit of the value.
    """
    labels = list(next(iter(groups.values())))
    columns = min(columns, len(groups))
    lines = -(-len(groups) // columns)
    with house_style():
        size = (2.3 * columns + 1.0, lines * (0.22 * len(labels) + 0.5) + 0.4)
        figure, axes = plt.subplots(lines, columns, figsize=size, sharex="col", sharey=True, squeeze=False)
        for axis, (title, rows) in zip(axes.flat, groups.items(), strict=False):
            for y, label in enumerate(labels):
                value, low, high = rows[label]
                axis.plot([low, high], [y, y], color=PALETTE[y % 7], linewidth=2)
                axis.plot(value, y, "o", color=PALETTE[y % 7], markersize=5)
            axis.set(title=title, yticks=range(len(labels)), yticklabels=labels)
        for axis in axes[-1]:
            axis.set_xlabel(xlabel)
        axes[0][0].invert_yaxis()
    return figure


def number_grid(
    values: ArrayLike, rows: Sequence[str], columns: Sequence[str], label: str, decimals: int = 0
) -> Figure:
    """A heat map whose cells carry their numbers; NaN stays blank.

    Args:
        values: (rows, columns) numbers.
        label: what the colour bar measures, with its unit.
        decimals: of the numbers in the cells.
    """
    numbers = np.asarray(values, float)
    with house_style():
        figure, axis = plt.subplots(figsize=(0.52 * len(columns) + 1.8, 0.3 * len(rows) + 1.5))
        drawn = axis.imshow(numbers, cmap="cividis", aspect="auto")
        middle = (np.nanmin(numbers) + np.nanmax(numbers)) / 2
        for (row, column), number in np.ndenumerate(numbers):
            if np.isfinite(number):
                ink = "white" if number < middle else "black"
                axis.text(
                    column, row, f"{number:.{decimals}f}", ha="center", va="center", color=ink, fontsize=7
                )
        axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(rows)), rows)
        axis.grid(False)
        figure.colorbar(drawn, label=label, pad=0.02)
    return figure


def lines(
    series: Mapping[str, Mapping[str, ArrayLike]],
    x: Sequence[float],
    xlabel: str,
    ylabel: str,
    columns: int = 2,
) -> Figure:
    """Small multiples of lines over `x`, each line named at its end.

    Args:
        series: panel title -> line label -> values, one for each of `x`.
    """
    rows = -(-len(series) // columns)
    with house_style():
        figure, axes = plt.subplots(
            rows, columns, figsize=(4.4 * columns, 2.9 * rows), sharex=True, sharey=True, squeeze=False
        )
        for axis, (title, drawn) in zip(axes.flat, series.items(), strict=False):
            ends = []
            for index, (label, values) in enumerate(drawn.items()):
                values = np.asarray(values, float)
                axis.plot(
                    x, values, marker="o", color=PALETTE[index % 7], linestyle="-" if index < 7 else "--"
                )
                ends.append((values[-1], label, PALETTE[index % 7]))
            _name_ends(axis, x[-1], ends)
            axis.set(title=title, xlabel=xlabel)
            if len(x) <= _TICKS:
                axis.set_xticks(list(x))
        for line in axes:
            line[0].set_ylabel(ylabel)
    return figure


def _name_ends(axis: Axes, x: float, ends: list[tuple[float, str, str]]) -> None:
    """Write each line's name beside its last point, pushed apart so that no two names overlap."""
    low, high = axis.get_ylim()
    gap = (high - low) * 0.062
    placed = -np.inf
    for y, label, color in sorted(ends):
        placed = max(y, placed + gap)
        axis.annotate(
            f" {label}", (x, y), (x, placed), color=color, fontsize=7, va="center", annotation_clip=False
        )


def labelled_points(
    points: Mapping[str, tuple[float, float]], known: Sequence[str], xlabel: str, ylabel: str
) -> Figure:
    """A scatter of named points; those of `known` are round and blue, the others square and orange."""
    with house_style():
        figure, axis = plt.subplots(figsize=(6.2, 4.0))
        for member, marker, color, label in ((True, "o", BLUE, "known"), (False, "s", ORANGE, "held out")):
            chosen = {name: at for name, at in points.items() if (name in known) is member}
            if chosen:
                axis.scatter(*zip(*chosen.values(), strict=True), marker=marker, color=color, label=label)
            for name, at in chosen.items():
                left = _crowded(at, list(points.values()))
                axis.annotate(
                    name.replace("_", " "),
                    at,
                    (-4 if left else 4, 3),
                    textcoords="offset points",
                    fontsize=7,
                    ha="right" if left else "left",
                )
        axis.set(xlabel=xlabel, ylabel=ylabel)
        axis.margins(0.12)
        axis.legend()
    return figure


def _crowded(at: tuple[float, float], points: Sequence[tuple[float, float]]) -> bool:
    """Whether another point lies where the name to the right of `at` would be written."""
    spread = np.ptp(np.asarray(points), axis=0) + 1e-12
    away = (np.asarray(points) - at) / spread
    return bool(((away[:, 0] > 0) & (away[:, 0] < 0.16) & (np.abs(away[:, 1]) < 0.05)).any())


def verdict_bars(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """One stacked bar a work: how many of its claims have which verdict; the numbers are written in."""
    colors = {"reproduced": GREEN, "contradicted": ORANGE, "undecided": AMBER, "not yet run": "#DDDDDD"}
    with house_style():
        figure, axis = plt.subplots(figsize=(6.4, 0.42 * len(counts) + 1.2))
        left = np.zeros(len(counts))
        for verdict, color in colors.items():
            widths = np.array([found.get(verdict, 0) for found in counts.values()])
            axis.barh(range(len(counts)), widths, left=left, color=color, label=verdict, height=0.7)
            for y, (start, width) in enumerate(zip(left, widths, strict=True)):
                if width:
                    axis.text(start + width / 2, y, str(width), ha="center", va="center", fontsize=8)
            left += widths
        axis.set_yticks(range(len(counts)), list(counts))
        axis.invert_yaxis()
        axis.set_xlabel("claims")
        axis.grid(False)
        axis.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return figure
