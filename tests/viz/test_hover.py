"""Dots that carry their pictures."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lowq_core.data.papertown import town
from lowq_core.errors import LowqError
from lowq_core.viz.hover import hover


def test_every_picture_is_a_dot_with_its_name_and_no_script() -> None:
    benchmark = town("val", "smoke")
    count = len(benchmark.images)
    places = np.random.default_rng(0).normal(size=(count, 2)) * [1, 100]
    shown = hover(places, benchmark, np.arange(count) % 3 - 1)
    html = shown._repr_html_()
    assert html.count("<circle") == html.count("data:image/jpeg") == shown.dots == count
    assert all(name in html for name in benchmark.images)
    assert "<script" not in html
    assert "http" not in html
    centres = np.array([[float(v) for v in m] for m in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', html)])
    assert centres.min() >= 0
    assert centres.max() <= 460
    assert (np.argsort(centres[:, 0]) == np.argsort(places[:, 0])).mean() > 0.9
    assert len(set(re.findall(r'fill="([^"]+)"', html))) == 3
    assert "point at a dot" in repr(shown)


def test_places_have_to_be_two_finite_numbers() -> None:
    benchmark = town("val", "smoke")
    for places in (np.zeros((2, 2)), np.full((len(benchmark.images), 2), np.nan)):
        with pytest.raises(LowqError, match="two finite numbers for each"):
            hover(places, benchmark)
