"""Growth with the size of the database: power laws a regime each, and a figure of them on logarithmic axes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from lowq_core.files import write_text
from lowq_core.viz.style import PALETTE, house_style


class Power(NamedTuple):
    """value ~ pictures^exponent over some sizes: `sizes` says which; value = e^constant pictures^exponent."""

    sizes: str
    exponent: float
    constant: float
    low: float
    high: float


def powers(rows: Sequence[Mapping[str, Any]], column: str, limit: float | None = None) -> list[Power]:
    """Least squares of the logarithms, one fit for the sizes up to `limit` and one above, if two or more are there.

    Args:
        rows: one a size, with `pictures`, and `extrapolated` where it was not measured, which is left out.
        limit: pictures above which `column` is made in another way; None where it never is.
    """
    measured = [(row["pictures"], max(row[column], 1e-6)) for row in rows if not row.get("extrapolated")]
    sides = [("", measured)]
    if limit is not None:
        sides = [
            (f" up to {limit:,}", [point for point in measured if point[0] <= limit]),
            (f" above {limit:,}", [point for point in measured if point[0] > limit]),
        ]
    found = []
    for sizes, points in sides:
        if len(points) > 1:
            exponent, constant = np.polyfit(*np.log(np.array(points)).T, 1)
            found.append(Power(sizes, float(exponent), float(constant), points[0][0], points[-1][0]))
    return found


def draw_growth(
    rows: Sequence[Mapping[str, Any]],
    panels: Mapping[str, Mapping[str, str]],
    path: Path,
    limits: Mapping[str, float] | None = None,
) -> None:
    """Write `path` (SVG or PNG) of points, fitted powers as lines and their exponents; and the rows beside it as CSV.

    Args:
        rows: as for `powers`; what was not measured is drawn hollow.
        panels: label of the vertical axis -> column of `rows` -> name in the legend.
        limits: column -> where it changes its way, see `powers`.
    """
    with house_style():
        figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.2), squeeze=False)
        for axis, (label, columns) in zip(axes[0], panels.items(), strict=True):
            for (column, name), colour in zip(columns.items(), PALETTE, strict=False):
                points = [(row["pictures"], row[column], not row.get("extrapolated")) for row in rows]
                x, y, measured = (np.array(values) for values in zip(*points, strict=True))
                fits = powers(rows, column, (limits or {}).get(column))
                told = ",\n".join(f"N^{fit.exponent:.2f}{fit.sizes}" for fit in fits)
                axis.loglog(x, y, ":", color=colour)
                axis.loglog(x[measured], y[measured], "o", color=colour, label=f"{name}: {told}")
                axis.loglog(x[~measured], y[~measured], "o", color=colour, markerfacecolor="white")
                for fit in fits:
                    ends = np.array([fit.low, fit.high])
                    axis.loglog(ends, np.exp(fit.constant) * ends**fit.exponent, color=colour)
            axis.set(xlabel="pictures", ylabel=label)
            axis.legend(fontsize=7)
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path.with_suffix(".csv"), text.getvalue())
