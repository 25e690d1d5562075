"""Landmarks by ground truth, and what is drawn of them."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lowq_core.data.benchmark import Benchmark, Query
from lowq_core.errors import LowqError
from lowq_core.viz.plane import graph, landmarks, plane


def benchmark(*positives: tuple[list[int], list[int]]) -> Benchmark:
    none = np.array([], np.int64)
    queries = tuple(
        Query(f"q{i}", None, np.array(e, np.int64), np.array(h, np.int64), none)
        for i, (e, h) in enumerate(positives)
    )
    return Benchmark("drawn", tuple("abcdefgh"), queries, Path("."))


def test_queries_that_share_a_positive_ask_for_one_landmark() -> None:
    of_pictures, of_queries = landmarks(benchmark(([1], [2]), ([5], []), ([], [2, 3]), ([], [])))
    assert of_pictures.tolist() == [-1, 0, 0, 0, -1, 1, -1, -1]
    assert of_queries.tolist() == [0, 1, 0, 2]


def test_everything_is_drawn_once_in_its_colour() -> None:
    generator = np.random.default_rng(0)
    of_pictures, of_queries = landmarks(benchmark(([1], [2]), ([5], [])))
    figure = plane({"GeM": (generator.random((8, 2)), generator.random((2, 2)))}, of_pictures, of_queries)
    others, shown, stars = figure.axes[0].collections
    assert [len(dots.get_offsets()) for dots in (others, shown, stars)] == [5, 3, 2]
    np.testing.assert_array_equal(shown.get_facecolors()[0], stars.get_facecolors()[0])
    assert not np.array_equal(shown.get_facecolors()[0], shown.get_facecolors()[2])
    plt.close(figure)


def test_places_have_to_fit() -> None:
    with pytest.raises(LowqError, match="give two numbers for each"):
        plane({"GeM": (np.zeros((3, 2)), np.zeros((1, 2)))}, [0, 0], [0])
    plt.close("all")


def test_edges_are_drawn_by_what_they_join() -> None:
    """Pictures 0 and 1 show one landmark, 2 another, 3 none: edges begin at the first three alone."""
    places = np.array([[0, 0], [1, 0], [0, 1], [5, 5]])
    neighbours = np.array([[1, 2], [0, 3], [3, 0], [0, 1]])
    figure = graph(places, {"checked": neighbours}, [0, 0, 1, -1])
    right, wrong = (line.get_xydata().reshape(-1, 3, 2) for line in figure.axes[0].lines)
    assert np.isnan(right[:, 2]).all()
    assert np.isnan(wrong[:, 2]).all()
    assert right[:, :2].tolist() == [[[0, 0], [1, 0]], [[1, 0], [0, 0]]]
    assert wrong[:, :2].tolist() == [
        [[0, 0], [0, 1]],
        [[1, 0], [5, 5]],
        [[0, 1], [5, 5]],
        [[0, 1], [0, 0]],
    ]
    assert figure.axes[0].get_title("left") == "checked: 33 % green"
    plt.close(figure)


def test_neighbours_have_to_fit() -> None:
    with pytest.raises(LowqError, match="give two numbers and k neighbours for each"):
        graph(np.zeros((2, 2)), {"checked": np.zeros((3, 1), int)}, [0, 0])
    plt.close("all")
