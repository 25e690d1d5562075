"""Reports as tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lowq_core.evaluation.bootstrap import Interval, paired_bootstrap
from lowq_core.methods.report import LEVELS, MethodReport, gap_interval, over_seeds
from lowq_core.reproduce.tables import Table


def report_table(report: MethodReport) -> str:
    """mAP in percent with its 95 % interval, a row a condition."""
    heads = ("", *(level.capitalize() for level in LEVELS))
    rows = (
        (condition, *(cell(report, condition, level) for level in LEVELS)) for condition in report.per_query
    )
    title = (
        f"{report.method} on {report.benchmark}: mAP in %, 95 % interval over {len(report.queries)} queries"
    )
    return f"{title}\n{Table(heads, tuple(rows))}"


def cell(report: MethodReport, condition: str, level: str, decimals: int = 1) -> str:
    """`68.8 (51.2-84.0)`, or a dash where the level has no positives; `decimals` are those of the interval."""
    value, interval = report.map(condition, level), report.interval(condition, level)
    if value is None or interval is None:
        return "-"
    return f"{value:.1f} ({interval[0]:.{decimals}f}-{interval[1]:.{decimals}f})"


def condition_rows(
    reports: Mapping[tuple[str, str], MethodReport], conditions: Sequence[str]
) -> list[dict[str, str]]:
    """One dictionary a report: benchmark, row, then `cell`s of E, M and H for those conditions it has.

    Args:
        reports: (benchmark, row) -> report.
    """
    return [
        {"benchmark": benchmark, "row": row}
        | {
            f"{condition} {level[0].upper()}": cell(report, condition, level, decimals=0)
            for condition in conditions
            if condition in report.per_query
            for level in LEVELS
        }
        for (benchmark, row), report in reports.items()
    ]


def seed_rows(
    reports: Mapping[str, Sequence[MethodReport]], conditions: Sequence[str]
) -> list[dict[str, str]]:
    """One dictionary a row: for each condition and level the mean over seeds, its interval over queries, and
    the standard deviation over seeds.

    Args:
        reports: row -> one report a seed.
    """
    return [
        {"row": row}
        | {
            f"{condition} {level[0].upper()}": _with_spread(of_seeds, condition, level)
            for condition in conditions
            for level in LEVELS
        }
        for row, of_seeds in reports.items()
    ]


def difference_rows(
    reports: Mapping[str, MethodReport],
    against: str,
    conditions: Sequence[str],
    levels: Sequence[str] = ("medium", "hard"),
    *,
    samples: int = 10_000,
) -> list[dict[str, str]]:
    """One dictionary a row but `against`: points gained over it, with the 95 % interval of the paired bootstrap
    over queries.

    Args:
        reports: row -> its report; all of the same queries.
    """
    base = reports[against].per_query
    return [
        {"row": row}
        | {
            f"{condition} {level[0].upper()}": "{0.value:+.1f} ({0.low:+.1f} to {0.high:+.1f})".format(
                paired_bootstrap(report.per_query[condition][level], base[condition][level], samples=samples)
            )
            for condition in conditions
            for level in levels
        }
        for row, report in reports.items()
        if row != against
    ]


def gap_rows(
    reports: Mapping[str, MethodReport],
    against: str,
    conditions: Sequence[str],
    level: str = "medium",
    *,
    samples: int = 10_000,
) -> list[dict[str, str]]:
    """One dictionary a row but `against`: how much of what each condition takes from that the row gives back, in
    percent, with the 95 % interval over queries; a dash where it takes nothing. See `gap_closed`.

    Args:
        reports: row -> its report; all of the same queries.
    """
    return [
        {"row": row}
        | {
            condition: _share(gap_interval(report, reports[against], condition, level, samples=samples))
            for condition in conditions
        }
        for row, report in reports.items()
        if row != against
    ]


def interval_panels(
    reports: Mapping[str, MethodReport],
    conditions: Sequence[str],
    levels: Sequence[str] = ("medium", "hard"),
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """What `charts.intervals` draws of them, a panel a condition and level: mAP, low and high end of each row."""
    return {
        f"{condition}, {level.capitalize()}": {
            row: _with_ends(report, condition, level) for row, report in reports.items()
        }
        for level in levels
        for condition in conditions
    }


def panel_rows(
    panels: Mapping[str, Mapping[str, tuple[float, float, float]]], value: str = "map"
) -> list[dict[str, Any]]:
    """The numbers of `charts.intervals`, one dictionary a point, to be saved beside the figure.

    >>> panel_rows({"clean": {"gem": (60.0, 50.0, 70.0)}})
    [{'panel': 'clean', 'row': 'gem', 'map': 60.0, 'low': 50.0, 'high': 70.0}]
    """
    return [
        {"panel": panel, "row": row, value: middle, "low": low, "high": high}
        for panel, drawn in panels.items()
        for row, (middle, low, high) in drawn.items()
    ]


def _share(found: Interval | None) -> str:
    return "–" if found is None else f"{found.value:+.0f} % ({found.low:+.0f} to {found.high:+.0f})"


def _with_ends(report: MethodReport, condition: str, level: str) -> tuple[float, float, float]:
    found, interval = report.map(condition, level), report.interval(condition, level)
    if found is None or interval is None:
        return np.nan, np.nan, np.nan
    return found, *interval


def _with_spread(reports: Sequence[MethodReport], condition: str, level: str) -> str:
    shown = cell(over_seeds(reports), condition, level, decimals=0)
    values = [report.map(condition, level) for report in reports]
    if shown == "-" or len(reports) < 2:
        return shown
    return f"{shown} ±{np.std(np.array(values, float), ddof=1):.1f}"
