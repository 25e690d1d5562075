"""Reports: means and intervals by level, undefined levels as null."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lowq_core.methods.report import (
    LEVELS,
    MethodReport,
    gap_closed,
    gap_interval,
    mean_over,
    over_seeds,
    with_groups,
)
from lowq_core.viz.tables import (
    difference_rows,
    gap_rows,
    interval_panels,
    panel_rows,
    report_table,
    seed_rows,
)


@pytest.fixture
def report() -> MethodReport:
    clean = {
        "easy": np.array([100.0, 50.0, np.nan]),
        "medium": np.array([80.0, 40.0, 60.0]),
        "hard": np.full(3, np.nan),
    }
    noisy = {level: values / 2 for level, values in clean.items()}
    return MethodReport("gem", "town", ("a", "b", "c"), {"clean": clean, "jpeg": noisy}, {"profile": "mini"})


def test_means_leave_out_queries_without_positives(report: MethodReport) -> None:
    assert report.map("clean", "easy") == 75.0
    assert report.map("jpeg", "medium") == 30.0
    assert report.map("clean", "hard") is None
    assert report.interval("clean", "hard") is None


def test_the_interval_holds_the_mean_and_stays_within_the_values(report: MethodReport) -> None:
    low, high = report.interval("clean", "medium")
    assert 40 <= low <= 60 <= high <= 80


def test_json_has_one_shape_for_map_and_interval_and_no_nan(report: MethodReport) -> None:
    written = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert {c: set(v) for c, v in written["map"].items()} == {c: set(LEVELS) for c in ("clean", "jpeg")}
    assert {c: set(v) for c, v in written["interval"].items()} == {c: set(LEVELS) for c in ("clean", "jpeg")}
    assert written["map"]["clean"] == {"easy": 75.0, "medium": 60.0, "hard": None}
    assert written["per_query"]["clean"]["easy"] == [100.0, 50.0, None]


def test_the_mean_over_conditions_is_per_query() -> None:
    rng = np.random.default_rng(0)
    conditions = [{level: rng.random(4) for level in LEVELS} for _ in range(3)]
    mean = mean_over(conditions)
    for level in LEVELS:
        for query in range(4):
            assert mean[level][query] == pytest.approx(sum(c[level][query] for c in conditions) / 3)


def test_the_table_prints_a_dash_where_nothing_is_defined(report: MethodReport) -> None:
    lines = report_table(report).splitlines()
    assert lines[0].startswith("gem on town")
    assert lines[2].split()[0] == "clean"
    assert lines[2].endswith("-")


def seeds(*shifts: float) -> list[MethodReport]:
    """One report a seed: the same two queries, moved by a number."""
    return [
        MethodReport(
            "how",
            "town",
            ("a", "b"),
            {"clean": {level: np.array([20.0, 60.0]) + shift for level in LEVELS}},
            {"seed": seed, "profile": "mini"},
        )
        for seed, shift in enumerate(shifts)
    ]


def test_over_seeds_is_each_querys_mean(report: MethodReport) -> None:
    averaged = over_seeds(seeds(0.0, 3.0, 6.0))
    np.testing.assert_allclose(averaged.per_query["clean"]["hard"], [23.0, 63.0])
    assert averaged.configuration == {"seed": [0, 1, 2], "profile": "mini"}
    same = over_seeds([report, report])
    for level in LEVELS:
        np.testing.assert_array_equal(same.per_query["jpeg"][level], report.per_query["jpeg"][level])


def test_seed_rows_tell_the_spread_over_seeds_from_the_interval_over_queries() -> None:
    (row,) = seed_rows({"how": seeds(0.0, 3.0, 6.0)}, ["clean"])
    assert row["row"] == "how"
    assert row["clean H"] == "43.0 (23-63) ±3.0"
    (alone,) = seed_rows({"how": seeds(0.0)}, ["clean"])
    assert alone["clean H"] == "40.0 (20-60)"


def test_difference_rows_are_paired() -> None:
    reports = dict(zip(("base", "same", "better"), seeds(0.0, 0.0, 5.0), strict=True))
    same, better = difference_rows(reports, "base", ["clean"], ["hard"])
    assert same == {"row": "same", "clean H": "+0.0 (+0.0 to +0.0)"}
    assert better == {"row": "better", "clean H": "+5.0 (+5.0 to +5.0)"}


def test_panels_have_mean_and_ends_and_are_blank_where_nothing_is_defined(report: MethodReport) -> None:
    panels = interval_panels({"row": report}, ["clean", "jpeg"])
    assert list(panels) == ["clean, Medium", "jpeg, Medium", "clean, Hard", "jpeg, Hard"]
    assert panels["jpeg, Medium"]["row"] == (30.0, *(report.interval("jpeg", "medium") or ()))
    assert np.isnan(panels["clean, Hard"]["row"]).all()
    first = panel_rows(panels, "gain")[0]
    assert (first["panel"], first["row"], first["gain"]) == ("clean, Medium", "row", 60.0)
    assert len(panel_rows(panels)) == 4


def test_groups_are_means_of_the_noises_that_are_there(report: MethodReport) -> None:
    values = {noise: dict.fromkeys(LEVELS, np.array([v])) for noise, v in (("jpeg", 40.0), ("speckle", 60.0))}
    found = with_groups(replace(report, per_query=values))
    assert {c: found.map(c, "hard") for c in found.per_query} == {
        "jpeg": 40.0,
        "speckle": 60.0,
        "known": 50.0,
    }


def test_gap_closed(report: MethodReport) -> None:
    def of(clean: float, noisy: float) -> MethodReport:
        both = {"clean": clean, "jpeg": noisy}
        return replace(report, per_query={c: dict.fromkeys(LEVELS, np.array([v])) for c, v in both.items()})

    base = of(90.0, 50.0)
    assert gap_closed(base, base, "jpeg", "hard") == 0
    assert gap_closed(of(10.0, 90.0), base, "jpeg", "hard") == 100
    assert gap_closed(of(90.0, 40.0), base, "jpeg", "hard") == -25
    assert gap_closed(base, of(50.0, 50.0), "jpeg", "hard") is None
    assert gap_closed(report, report, "jpeg", "hard") is None


def test_the_interval_of_the_gap_is_that_of_the_ratio(report: MethodReport) -> None:
    """With two queries a resampled set is one of three, each with a ratio of its own."""

    def of(clean: list[float], noisy: list[float]) -> MethodReport:
        both = {"clean": np.array([*clean, np.nan]), "jpeg": np.array([*noisy, np.nan])}
        return replace(report, per_query={c: dict.fromkeys(LEVELS, v) for c, v in both.items()})

    base, better = of([90.0, 80.0], [50.0, 70.0]), of([88.0, 80.0], [60.0, 76.0])
    found = gap_interval(better, base, "jpeg", "hard", samples=500)
    assert found is not None
    assert found.value == pytest.approx(gap_closed(better, base, "jpeg", "hard"))
    assert (found.low, found.high) == (pytest.approx(100 * 10 / 40), pytest.approx(100 * 6 / 10))
    assert gap_interval(base, of([50.0, 50.0], [60.0, 60.0]), "jpeg", "hard") is None
    rows = gap_rows({"frozen": base, "better": better}, "frozen", ["jpeg"], "hard", samples=500)
    assert rows == [{"row": "better", "jpeg": "+32 % (+25 to +60)"}]
    flat = of([50.0, 50.0], [60.0, 60.0])
    assert gap_rows({"frozen": flat, "better": better}, "frozen", ["jpeg"])[0]["jpeg"] == "–"
