"""The sheet of queries and their levels, on a benchmark of three pictures."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from lowq_core.data.benchmark import Benchmark, Query
from lowq_core.errors import LowqError
from lowq_core.viz.level_sheet import level_sheet


@pytest.fixture
def three(tmp_path: Path) -> Benchmark:
    for name in ("q", "a", "b"):
        Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    query = Query("q", (2.0, 3.0, 20.0, 25.0), np.array([0]), np.array([1]))
    return Benchmark("three", ("a", "b"), (query,), tmp_path)


def test_one_row_a_query_with_its_box_and_levels(three: Benchmark) -> None:
    figure = level_sheet(three, [0, 0])
    assert len(figure.axes) == 2 * 7
    assert [axis.get_title() for axis in figure.axes[:7]] == ["query", "easy", "", "hard", "", "", ""]
    (box,) = figure.axes[0].patches
    assert box.get_bbox().bounds == (2.0, 3.0, 18.0, 22.0)
    plt.close(figure)


@pytest.mark.parametrize("queries", [[], [1], [-1]])
def test_no_such_query(three: Benchmark, queries: list[int]) -> None:
    with pytest.raises(LowqError, match="three has 1 queries"):
        level_sheet(three, queries)
