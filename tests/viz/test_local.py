"""What is drawn over pictures lies where it was found, and right is told from wrong without colour too."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import ConnectionPatch, Rectangle
from PIL import Image

from lowq_core.viz.local import edges_on, features_on, map_on, match_lines, pictures


@pytest.fixture
def image() -> Image.Image:
    return Image.new("RGB", (60, 40), "white")


def test_pictures_are_panels_without_axes() -> None:
    figure, axes = pictures(5, columns=3)
    assert len(axes) == 5
    assert len(figure.axes) == 6
    assert not any(axis.axison for axis in figure.axes)


def test_features_lie_at_their_pixels_and_the_strongest_on_top(image: Image.Image) -> None:
    _, (axis,) = pictures(1)
    xy = np.array([[1.0, 2.0], [30.0, 20.0], [59.0, 39.0]])
    features_on(axis, image, xy, [0.9, 0.1, 0.5], "strongest")
    (dots,) = axis.collections
    np.testing.assert_array_equal(dots.get_offsets(), xy[[1, 2, 0]])
    assert axis.images[0].get_extent() == [0, 60, 40, 0]
    assert axis.get_title() == "strongest"


def test_a_map_covers_the_picture(image: Image.Image) -> None:
    _, (axis,) = pictures(1)
    map_on(axis, image, [[0.0, 1.0], [2.0, 3.0]], limits=(0, 4))
    shown = axis.images[1]
    assert shown.get_extent() == [0, 60, 40, 0]
    assert shown.get_clim() == (0, 4)
    np.testing.assert_array_equal(shown.get_array(), [[0, 1], [2, 3]])
    map_on(axis, image, [[1.0, 1.0]])


def test_edges_start_at_the_place(image: Image.Image) -> None:
    _, (axis,) = pictures(1)
    edges_on(axis, image, (10, 10), [(20, 20), (30, 5)], [1.0, 0.2])
    lines = [line for line in axis.lines if len(line.get_xdata()) == 2]
    assert [line.get_xydata().tolist() for line in lines] == [[[10, 10], [20, 20]], [[10, 10], [30, 5]]]
    assert lines[0].get_linewidth() > lines[1].get_linewidth()
    edges_on(axis, image, (10, 10), np.empty((0, 2)), [])


def test_matches_join_the_two_pictures(image: Image.Image) -> None:
    figure = match_lines(
        (image, image),
        ([(1, 2), (3, 4)], [(5, 6), (7, 8)]),
        [True, False],
        boxes=(None, (0, 0, 10, 10)),
        found=(1, 1, 9, 9),
    )
    joins = [artist for artist in figure.axes[1].get_children() if isinstance(artist, ConnectionPatch)]
    assert [(tuple(join.xy1), tuple(join.xy2)) for join in joins] == [((1, 2), (5, 6)), ((3, 4), (7, 8))]
    assert joins[0].get_linestyle() != joins[1].get_linestyle()
    frames = [
        artist
        for artist in figure.axes[1].patches
        if isinstance(artist, Rectangle) and artist.get_width() in (8, 10)
    ]
    assert len(frames) == 2
