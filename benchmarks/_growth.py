"""A figure of growth: logarithmic axes, one line a column, the fitted exponent beside its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from lowq_core.viz.style import PALETTE, house_style


def draw_growth(
    rows: Sequence[Mapping[str, Any]], panels: Mapping[str, Mapping[str, str]], path: Path
) -> None:
    """Write `path` (SVG or PNG).

    Args:
        rows: one a size, with `pictures`, and `extrapolated` where it was not measured (drawn hollow, not fitted).
        panels: label of the vertical axis -> column of `rows` -> name in the legend.
    """
    with house_style():
        figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.2), squeeze=False)
        for axis, (label, columns) in zip(axes[0], panels.items(), strict=True):
            for (column, name), colour in zip(columns.items(), PALETTE, strict=False):
                points = [(row["pictures"], row[column], not row.get("extrapolated")) for row in rows]
                x, y, measured = (np.array(values) for values in zip(*points, strict=True))
                slope = np.polyfit(np.log(x[measured]), np.log(y[measured]), 1)[0]
                axis.loglog(x, y, color=colour, label=f"{name}, N^{slope:.2f}")
                axis.loglog(x[measured], y[measured], "o", color=colour)
                axis.loglog(x[~measured], y[~measured], "o", color=colour, markerfacecolor="white")
            axis.set(xlabel="pictures", ylabel=label)
            axis.legend(fontsize=8)
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)
