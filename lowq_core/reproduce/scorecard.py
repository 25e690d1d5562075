"""The scorecard: each claim as a direction, decided by a paired interval over the queries, or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.evaluation.bootstrap import Interval, paired_bootstrap
from lowq_core.reproduce.ledger import Record
from lowq_core.reproduce.tables import Table

CLAIMS = Path(__file__).with_name("claims.yaml")
Status = Literal["reproduced", "contradicted", "undecided", "not yet run"]


@dataclass(frozen=True)
class Side:
    """One side of a claim: the per-query values of a row, less those of a second metric where one is named."""

    row: str
    metric: str
    minus: str = ""


@dataclass(frozen=True)
class Claim:
    """`larger` exceeds `smaller` over the same queries, in the results of `table`."""

    id: str
    work: str
    text: str
    source: str
    table: str
    larger: Side
    smaller: Side


@dataclass(frozen=True)
class Verdict:
    """What the records of one benchmark say of a claim.

    Attributes:
        status: `reproduced` or `contradicted` where the 95 % interval of the paired difference excludes 0.
        difference: larger minus smaller in points, None where it could not be formed.
        why: what is missing, where something is.
    """

    claim: Claim
    benchmark: str
    status: Status
    difference: Interval | None = None
    queries: int = 0
    why: str = ""


@cache
def read_claims(path: Path = CLAIMS) -> tuple[Claim, ...]:
    """Every claim, in the order of the file.

    Raises:
        LowqError: an entry that lacks a key or has one too many.

    >>> read_claims()[0].work
    'adapnet'
    """
    return tuple(_claim(entry, path) for entry in yaml.safe_load(path.read_text()))


def judge(claim: Claim, records: Iterable[Record], *, samples: int = 10_000) -> list[Verdict]:
    """One verdict for each benchmark that has a number of both sides; one `not yet run` where none does."""
    numbers = [r for r in records if r.table == claim.table and r.value is not None]
    found = {(r.row, r.benchmark, r.measure): r for r in numbers}
    benchmarks = dict.fromkeys(benchmark for _, benchmark, _ in found)
    verdicts = []
    for benchmark in benchmarks:
        sides = [_records(side, benchmark, found) for side in (claim.larger, claim.smaller)]
        if sides[0] and sides[1]:
            verdicts.append(_compared(claim, benchmark, sides[0], sides[1], samples))
    return verdicts or [Verdict(claim, "", "not yet run")]


def overall(verdicts: Sequence[Verdict]) -> Status:
    """One status of a claim's verdicts: decided where a benchmark decides it and none decides otherwise."""
    statuses = {verdict.status for verdict in verdicts}
    decided = statuses & {"reproduced", "contradicted"}
    if len(decided) == 1:
        return decided.pop()
    return "undecided" if decided or "undecided" in statuses else "not yet run"


def scorecard(
    records: Sequence[Record], claims: Iterable[Claim] | None = None, *, samples: int = 10_000
) -> Table:
    """Every claim with its verdict on each benchmark measured; those not yet run come last."""
    rows: list[tuple[str, ...]] = []
    counts: dict[Status, int] = {}
    judged = [
        judge(claim, records, samples=samples) for claim in (read_claims() if claims is None else claims)
    ]
    for verdicts in sorted(judged, key=lambda verdicts: overall(verdicts) == "not yet run"):
        claim, status = verdicts[0].claim, overall(verdicts)
        counts[status] = counts.get(status, 0) + 1
        for verdict in verdicts:
            rows.append(
                (claim.work, claim.text, claim.source, verdict.benchmark, verdict.status, _words(verdict))
            )
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    caption = f"{sum(counts.values())} claims: {told}. Intervals: 95 %, paired bootstrap over queries."
    profiles = {record.profile for record in records}
    if "smoke" in profiles:
        caption += " Profile smoke: shows that everything runs; its numbers are no evidence."
    columns = ("work", "claim", "source", "measured on", "verdict", "difference in points")
    return Table(columns, tuple(rows), caption)


def _compared(
    claim: Claim, benchmark: str, larger: list[Record], smaller: list[Record], samples: int
) -> Verdict:
    together = [*larger, *smaller]
    if len({record.data for record in together}) > 1:
        return Verdict(claim, benchmark, "undecided", why="the two sides are of different data")
    lengths = {len(record.per_query) for record in together}
    if len(lengths) > 1 or 0 in lengths:
        return Verdict(claim, benchmark, "undecided", why="no values of the same queries were recorded")
    a, b = _per_query(larger), _per_query(smaller)
    queries = int(np.isfinite(a - b).sum())
    if queries < 2:
        return Verdict(claim, benchmark, "undecided", queries=queries, why="fewer than two queries")
    difference = paired_bootstrap(a, b, samples=samples)
    status: Status = "undecided"
    if difference.low > 0:
        status = "reproduced"
    elif difference.high < 0:
        status = "contradicted"
    return Verdict(claim, benchmark, status, difference, queries)


def _records(side: Side, benchmark: str, found: dict[tuple[str, str, str], Record]) -> list[Record]:
    """The record of the side's metric, then that of its `minus`; empty where one is missing."""
    metrics = [side.metric, *([side.minus] if side.minus else [])]
    records = [found.get((side.row, benchmark, metric)) for metric in metrics]
    return [record for record in records if record is not None] if None not in records else []


def _per_query(records: list[Record]) -> NDArray[np.float64]:
    values = [np.array([np.nan if v is None else v for v in record.per_query]) for record in records]
    return values[0] - values[1] if len(values) == 2 else values[0]


def _words(verdict: Verdict) -> str:
    if verdict.difference is None:
        return verdict.why
    found = verdict.difference
    return f"{found.value:+.1f} ({found.low:+.1f} to {found.high:+.1f}), {verdict.queries} queries"


def _claim(entry: dict[str, Any], path: Path) -> Claim:
    try:
        sides = {key: Side(**entry[key]) for key in ("larger", "smaller")}
        return Claim(**entry | sides)
    except (TypeError, KeyError) as error:
        name = entry.get("id", "?") if isinstance(entry, dict) else entry
        raise LowqError(f"{path}: claim {name!r} is not whole ({error}); see the head of the file") from None
