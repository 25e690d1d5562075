"""Figures hold what they were given, readable, and leave matplotlib as it was."""

from __future__ import annotations

import matplotlib
import numpy as np
from PIL import Image

from lowq_core.viz.charts import intervals, lines, number_grid
from lowq_core.viz.ranks import FRAMES, Tile, rank_list


def test_rank_list_frames_by_mark_and_signs_without_colour() -> None:
    picture = Image.new("RGB", (40, 20), "navy")
    row = [Tile(picture, "query", "query"), Tile(picture, "0.9", "right"), Tile(picture, "0.8", "wrong")]
    figure = rank_list([row, row[:2]], ["a", "b"])
    axes = figure.axes
    assert len(axes) == 6
    assert axes[1].spines["left"].get_edgecolor() == matplotlib.colors.to_rgba(FRAMES["right"])
    assert [axis.get_title(loc="center")[:1] for axis in axes[1:3]] == ["+", "x"]
    assert not axes[5].axison


def test_number_grid_prints_each_number_and_leaves_nan_blank() -> None:
    figure = number_grid([[10.2, np.nan], [55.0, 90.4]], ["r", "s"], ["x", "y"], "mAP in %")
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["10", "55", "90"]


def test_intervals_have_a_panel_a_group() -> None:
    figure = intervals({"Medium": {"gem": (50, 40, 60)}, "Hard": {"gem": (20, 10, 30)}}, "mAP in %")
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["Medium", "Hard"]


def test_line_names_do_not_overlap() -> None:
    figure = lines(
        {"p": {"a": [1, 2], "b": [1, 2], "c": [3, 2.01]}}, [1, 5], "severity", "mAP in %", columns=1
    )
    figure.canvas.draw()
    heights = sorted(text.xyann[1] for text in figure.axes[0].texts)
    low, high = figure.axes[0].get_ylim()
    assert np.diff(heights).min() > 0.05 * (high - low)
