"""What a notebook needs of the engine, behind one object."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from lowq_core.errors import LowqError
from lowq_core.files import write_bytes, write_text
from lowq_core.reproduce import places, provenance
from lowq_core.reproduce.ledger import Record, compare, published, read_published, read_records, write_records
from lowq_core.reproduce.profiles import Profile, profile
from lowq_core.reproduce.scorecard import read_claims, scorecard
from lowq_core.reproduce.store import Store
from lowq_core.reproduce.tables import Table, from_dicts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Report(Protocol):
    """What `record_report` reads: the numbers of a method on a benchmark, by condition and level."""

    @property
    def benchmark(self) -> str: ...
    @property
    def per_query(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def configuration(self) -> Mapping[str, Any]: ...
    def map(self, condition: str, level: str) -> float | None: ...
    def interval(self, condition: str, level: str) -> tuple[float, float] | None: ...


@dataclass
class Session:
    """One run of one notebook.

    Attributes:
        notebook: the notebook's file name without extension.
        profile: how much is computed, on which data.
        store: the cached steps.
        build: the folder of everything made under this profile.
    """

    notebook: str
    profile: Profile
    store: Store
    build: Path
    started: float
    _records: list[Record] = field(default_factory=list)

    def record(
        self,
        table: str,
        row: str,
        metric: str,
        value: float | None,
        *,
        low: float | None = None,
        high: float | None = None,
        per_query: Sequence[float | None] = (),
        seeds: Sequence[int] = (),
        data: str = "",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Note one number; `write` puts all of them into the ledger. The arguments are those of `Record`.

        Raises:
            LowqError: the same table, row and metric a second time.
        """
        if any((r.table, r.row, r.metric) == (table, row, metric) for r in self._records):
            raise LowqError(f"{self.notebook}: {table} / {row} / {metric} is recorded twice; record it once")
        chosen = asdict(self.profile) | dict(config or {})
        self._records.append(
            Record(
                table=table,
                row=row,
                metric=metric,
                value=_number(value),
                low=_number(low),
                high=_number(high),
                per_query=tuple(_number(entry) for entry in per_query),
                seeds=tuple(seeds),
                notebook=self.notebook,
                profile=self.profile.name,
                data=data,
                config=_digest(chosen),
                commit=provenance.commit(),
                machine=provenance.machine(),
                seconds=round(time.perf_counter() - self.started, 1),
            )
        )

    def record_report(
        self, table: str, row: str, report: Report, data: str = "", seeds: Sequence[int] = ()
    ) -> None:
        """Note every number of a method's report: one record a condition and level, with its queries."""
        for condition, levels in report.per_query.items():
            for level, values in levels.items():
                suffix = "" if condition == "clean" else f"@{condition}"
                low, high = report.interval(condition, level) or (None, None)
                self.record(
                    table,
                    row,
                    f"{report.benchmark}/{level}{suffix}",
                    report.map(condition, level),
                    low=low,
                    high=high,
                    per_query=[float(value) for value in values],
                    seeds=seeds,
                    data=data,
                    config=report.configuration,
                )

    def write(self) -> None:
        """Put everything recorded into the ledger, in place of what an earlier run of this notebook put there."""
        write_records(self.notebook, self.profile.name, self._records)

    def compare(self, table: str, metrics: Sequence[str] = ("easy", "medium", "hard", "map")) -> Table:
        """Published numbers of `table` (their data) beside those measured in this notebook (this data).

        Args:
            metrics: the measures shown, without the benchmark; a full table has too many columns to read.
        """
        typed = published(table=table) if any(entry.table == table for entry in read_published()) else []
        ours = [r for r in self._records if r.table == table and r.measure in metrics]
        beside = [entry for entry in typed if entry.measure in metrics]
        return compare(ours, beside, self._label(beside=bool(beside)))

    def verdicts(self, table: str) -> Table:
        """What this notebook's records say of the claims about `table`."""
        claims = [claim for claim in read_claims() if claim.table == table]
        return scorecard(self._records, claims, samples=self.profile.samples)

    def scorecard(self) -> Table:
        """What the records of all notebooks of this profile say of every claim."""
        return scorecard(read_records(self.profile.name), samples=self.profile.samples)

    def show_table(self, rows: Sequence[Mapping[str, Any]], caption: str = "") -> Table:
        """A list of dictionaries as a table that shows itself."""
        return from_dicts(rows, caption)

    def save_figure(
        self, fig: Figure, stem: str, data: Sequence[Mapping[str, Any]], caption: str = "", dpi: int = 160
    ) -> None:
        """Write a figure, the numbers it draws (CSV) and what it is (JSON), under one stem.

        A figure that holds pictures becomes PNG (of 256 colours and `dpi` dots per inch, so that it stays small
        enough to be kept with the sources), any other SVG. They lie in `build/<profile>/figures`, and for
        the mini profile in the project's `figures` too; equal numbers give equal files.

        Raises:
            LowqError: a stem that does not start with the notebook's number.
        """
        if not stem.startswith(self.notebook[:3]):
            raise LowqError(
                f"figure {stem!r}: its name has to start with {self.notebook[:3]!r}, as its notebook's"
            )
        from matplotlib import rc_context  # loaded only where something is drawn

        suffix = "png" if any(axes.images for axes in fig.axes) else "svg"
        drawn = io.BytesIO()
        metadata = {"Date": None} if suffix == "svg" else {"Software": None}
        with rc_context({"svg.hashsalt": "lowq"}):  # equal figures give equal files
            fig.savefig(drawn, format=suffix, dpi=dpi, bbox_inches="tight", metadata=metadata)
        if suffix == "png":
            drawn = _few_colours(drawn)
        numbers = _csv(data)
        told = {
            "figure": f"{stem}.{suffix}",
            "caption": caption,
            "notebook": self.notebook,
            "profile": self.profile.name,
            "numbers": f"{stem}.csv",
            "sha256": hashlib.sha256(numbers).hexdigest(),
        }
        folders = [self.build / "figures"] + ([places.figures()] if self.profile.name == "mini" else [])
        for folder in folders:
            write_bytes(folder / f"{stem}.{suffix}", drawn.getvalue())
            write_bytes(folder / f"{stem}.csv", numbers)
            write_text(folder / f"{stem}.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")

    def provenance(self) -> Table:
        """What this run stands on: commit, versions, machine, time."""
        packages = ", ".join(f"{name} {version}" for name, version in provenance.versions().items())
        rows = {
            "notebook": self.notebook,
            "profile": f"{self.profile.name}: {self.profile.what}",
            "commit": provenance.commit(),
            "machine": provenance.machine(),
            "packages": packages,
            "seconds": f"{time.perf_counter() - self.started:.1f}",
            "records": str(len(self._records)),
        }
        return Table(("", ""), tuple(rows.items()))

    def _label(self, *, beside: bool) -> str:
        if self.profile.name == "smoke":
            return "Profile smoke: shows that everything runs; its numbers are no evidence."
        if not beside:
            return f"Profile {self.profile.name}. No published numbers of these rows are at hand."
        return f"Profile {self.profile.name}. The two groups are of different pictures: compare rows, not columns."


def start(notebook: str, name: str, **overrides: Any) -> Session:
    """Begin a run of `notebook` under the profile called `name`; `overrides` replace single fields of it.

    Raises:
        LowqError: an unknown profile or field.

    >>> start("00_start_here", "smoke").profile.name
    'smoke'
    """
    chosen = profile(name, **overrides)
    return Session(
        notebook=notebook,
        profile=chosen,
        store=Store(),
        build=places.build() / chosen.name,
        started=time.perf_counter(),
    )


def self_check(yours: Any, expected: Any, rtol: float = 1e-6) -> None:
    """Say whether an exercise's answer agrees with a second route to it; never an error.

    >>> self_check(4.0, (2 + 6) / 2)
    right
    >>> self_check(0, 4.0)
    not yet: yours is 0, a second route gives 4.0
    """
    print(
        "right"
        if _agree(yours, expected, rtol)
        else f"not yet: yours is {yours}, a second route gives {expected}"
    )


def _agree(yours: Any, expected: Any, rtol: float) -> bool:
    try:
        a, b = np.asarray(yours, float), np.asarray(expected, float)
    except (TypeError, ValueError):  # not numbers
        return bool(yours == expected)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=rtol, atol=1e-12, equal_nan=True))


def _few_colours(png: io.BytesIO) -> io.BytesIO:
    small = io.BytesIO()
    Image.open(png).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT).save(small, "png", optimize=True)
    return small


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        for row in rows
    )
    return text.getvalue().encode()
