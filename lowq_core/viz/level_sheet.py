"""Queries beside their easy, hard and junk pictures, on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lowq_core.data.benchmark import Benchmark, Box
from lowq_core.errors import LowqError
from lowq_core.images import open_image
from lowq_core.viz.style import AMBER, BLUE, GREEN, GREY, house_style

COLOURS = {"query": BLUE, "easy": GREEN, "hard": AMBER, "junk": GREY}
EACH = {"easy": 2, "hard": 3, "junk": 1}
"""Pictures of each level in a row."""


def level_sheet(benchmark: Benchmark, queries: Sequence[int] = range(4)) -> Figure:
    """A figure with one row a query: the query with its box, then 2 easy, 3 hard and 1 junk picture.

    The frame's colour and the caption give the level; a place stays empty where a query has fewer pictures
    of one. Works for any benchmark with the three levels.

    Args:
        benchmark: whose ground truth is shown.
        queries: indices of its queries, at least one.

    Raises:
        LowqError: no queries, or an index past the last one.
    """
    if not len(queries) or min(queries) < 0 or max(queries) >= len(benchmark.queries):
        raise LowqError(
            f"queries={list(queries)}: {benchmark.name} has {len(benchmark.queries)} queries; "
            f"name at least one index from 0 to {len(benchmark.queries) - 1}"
        )
    levels = ["query"] + [level for level, count in EACH.items() for _ in range(count)]
    with house_style():
        figure, grid = plt.subplots(
            len(queries), len(levels), figsize=(1.55 * len(levels), 1.35 * len(queries)), squeeze=False
        )
        for axes, number in zip(grid, queries, strict=True):
            query = benchmark.queries[number]
            _picture(axes[0], benchmark, query.image, "query", query.bbx)
            column = 1
            for level, count in EACH.items():
                ids = getattr(query, level)[:count]
                for place in range(count):
                    if place < len(ids):
                        _picture(axes[column], benchmark, benchmark.images[ids[place]], level, None)
                    else:
                        axes[column].set_axis_off()
                    column += 1
    return figure


def _picture(axis: Axes, benchmark: Benchmark, image: str, level: str, bbx: Box | None) -> None:
    axis.imshow(open_image(benchmark.path(image)))
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.set_title(level, loc="center", fontsize=7, color="black", pad=2)
    for spine in axis.spines.values():
        spine.set(visible=True, color=COLOURS[level], linewidth=2.5)
    if bbx is not None:
        x1, y1, x2, y2 = bbx
        axis.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=COLOURS["query"], linewidth=1.2)
        )
