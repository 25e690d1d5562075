"""`MethodReport`: how well one method finds, on clean queries and under each noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowq_core.data.benchmark import Benchmark
from lowq_core.degrade import HELD_OUT, KNOWN
from lowq_core.evaluation import result
from lowq_core.evaluation.bootstrap import Interval, bootstrap_interval, paired_ratio
from lowq_core.evaluation.protocols import evaluate, ignored
from lowq_core.retrieval.base import Ranking

LEVELS: tuple[str, ...] = result.LEVELS
PerQuery = dict[str, NDArray[np.float64]]
NoiseAt = tuple[str, int]
"""A noise and its severity."""
Skip = Sequence[NDArray[np.int64]]
"""For each query, pictures of the database that geometry does not look at."""
_GROUPS = (("known", KNOWN), ("held_out", HELD_OUT))


@dataclass(frozen=True)
class MethodReport:
    """Average precisions of one method on one benchmark.

    Attributes:
        method, benchmark: short names.
        queries: names of the queries, in order.
        per_query: condition (`clean`, a noise, `known`, `held_out`) -> level -> (Q,) average precision in
            percent; NaN where a query has no positives at that level.
        configuration: what the numbers stand on (embedding, profile, digests).
    """

    method: str
    benchmark: str
    queries: tuple[str, ...]
    per_query: Mapping[str, PerQuery]
    configuration: Mapping[str, Any]

    def map(self, condition: str, level: str) -> float | None:
        """Mean average precision in percent, None where no query has positives."""
        values = self.per_query[condition][level]
        return None if np.isnan(values).all() else float(np.nanmean(values))

    def interval(self, condition: str, level: str, *, samples: int = 10_000) -> tuple[float, float] | None:
        """95 % bootstrap interval over queries, None where no query has positives."""
        values = self.per_query[condition][level]
        if np.isnan(values).all():
            return None
        found = bootstrap_interval(values, samples=samples)
        return found.low, found.high

    def to_json(self) -> dict[str, Any]:
        """The layout of `lowq evaluate --json`: `map`, `interval`, `per_query` by condition and level."""
        conditions = self.per_query
        return {
            "method": self.method,
            "benchmark": self.benchmark,
            "map": {c: {level: self.map(c, level) for level in LEVELS} for c in conditions},
            "interval": {c: {level: self.interval(c, level) for level in LEVELS} for c in conditions},
            "queries": list(self.queries),
            "per_query": {
                c: {level: _json(values[level]) for level in LEVELS} for c, values in conditions.items()
            },
            "configuration": dict(self.configuration),
        }


def over_conditions(
    per_query_at: Callable[[NoiseAt | None], PerQuery], noises: Mapping[str, Sequence[int]] | None
) -> dict[str, PerQuery]:
    """`clean` and each of `noises` (name -> severities, averaged); `known` and `held_out` where they are whole.

    Args:
        per_query_at: average precisions with a noise (name, severity) on the queries, or with none.

    >>> def at(noise: NoiseAt | None) -> PerQuery:
    ...     return dict.fromkeys(LEVELS, np.array([float(noise[1] if noise else 0)]))
    >>> found = over_conditions(at, {"fog": (1, 3)})
    >>> {condition: values["easy"].tolist() for condition, values in found.items()}
    {'clean': [0.0], 'fog': [2.0]}
    """
    found = {"clean": per_query_at(None)}
    for noise, severities in (noises or {}).items():
        found[noise] = mean_over([per_query_at((noise, level)) for level in severities])
    for group, members in _GROUPS:
        if all(noise in found for noise in members):
            found[group] = mean_over([found[noise] for noise in members])
    return found


def by_level(
    rank: Callable[[Skip | None], Ranking],
    benchmark: Benchmark,
    own: NDArray[np.int64] | None,
    *,
    skip_junk: bool,
) -> PerQuery:
    """Average precisions of one ranking for all levels, or of one for each.

    Args:
        rank: ranks the benchmark's queries.
        own: see `own_pictures`; geometry does not look at these.
        skip_junk: rank once a level, and do not look at what that level deletes, as DELG, CVNet and AMES do: the
            search is told a part of the ground truth then, see `rerank_by_inliers`.
    """
    if skip_junk:
        found = {level: evaluate(rank(ignored(benchmark, level)).ids, benchmark) for level in result.LEVELS}
        return {str(level): one.per_query[level] for level, one in found.items()}
    ranking = rank(None if own is None else list(own[:, None]))
    return {str(level): values for level, values in evaluate(ranking.ids, benchmark).per_query.items()}


def with_groups(report: MethodReport) -> MethodReport:
    """`report` with `known` and `held_out` as means over those of their noises that it has, be it not all.

    For sweeps over many networks, which take a few noises of each group; say which where the numbers are shown.
    """
    groups = {
        group: [report.per_query[noise] for noise in members if noise in report.per_query]
        for group, members in _GROUPS
    }
    means = {group: mean_over(found) for group, found in groups.items() if found}
    return replace(report, per_query=dict(report.per_query) | means)


def gap_closed(report: MethodReport, base: MethodReport, condition: str, level: str) -> float | None:
    """How much of what noise takes from `base` the method of `report` gives back, in percent.

        100 (mAP(report, noisy) - mAP(base, noisy)) / (mAP(base, clean) - mAP(base, noisy))

    100 is the clean queries' mAP of `base`; below 0 the method makes noisy queries worse. None where the noise takes
    nothing, or a mAP is not defined.

    >>> def of(clean: float, jpeg: float) -> MethodReport:
    ...     found = {"clean": clean, "jpeg": jpeg}
    ...     per_query = {c: dict.fromkeys(LEVELS, np.array([value])) for c, value in found.items()}
    ...     return MethodReport("m", "b", ("q",), per_query, {})
    >>> gap_closed(of(88.0, 72.0), of(90.0, 60.0), "jpeg", "medium")
    40.0
    """
    clean, noisy, found = base.map("clean", level), base.map(condition, level), report.map(condition, level)
    if clean is None or noisy is None or found is None or clean <= noisy:
        return None
    return 100 * (found - noisy) / (clean - noisy)


def gap_interval(
    report: MethodReport, base: MethodReport, condition: str, level: str, *, samples: int = 10_000
) -> Interval | None:
    """`gap_closed` with its 95 % interval over queries; None where that is.

    A query is drawn with all that belongs to it: what it gains, and what the noise took from it.

    >>> def of(clean: float, jpeg: float) -> MethodReport:
    ...     found = {"clean": clean, "jpeg": jpeg}
    ...     per_query = {c: dict.fromkeys(LEVELS, np.array([value])) for c, value in found.items()}
    ...     return MethodReport("m", "b", ("q",), per_query, {})
    >>> gap_interval(of(88.0, 72.0), of(90.0, 60.0), "jpeg", "medium")
    Interval(value=40.0, low=40.0, high=40.0)
    """
    if gap_closed(report, base, condition, level) is None:
        return None
    noisy = base.per_query[condition][level]
    gained, lost = report.per_query[condition][level] - noisy, base.per_query["clean"][level] - noisy
    return paired_ratio(100 * gained, lost, samples=samples)


def over_seeds(reports: Sequence[MethodReport]) -> MethodReport:
    """One report of several training seeds: each query's mean over them. Its intervals are over queries.

    Args:
        reports: of one method on one benchmark under the same conditions, one a seed.

    >>> def of(value: float) -> MethodReport:
    ...     clean = dict.fromkeys(LEVELS, np.array([value]))
    ...     return MethodReport("how", "town", ("q",), {"clean": clean}, {"seed": int(value)})
    >>> over_seeds([of(40.0), of(60.0)]).map("clean", "hard")
    50.0
    """
    first = reports[0]
    averaged = {c: mean_over([report.per_query[c] for report in reports]) for c in first.per_query}
    configuration = dict(first.configuration) | {"seed": [r.configuration.get("seed") for r in reports]}
    return MethodReport(first.method, first.benchmark, first.queries, averaged, configuration)


def mean_over(conditions: list[PerQuery]) -> PerQuery:
    """Per-query mean over several conditions (the noises of a group, the severities of a noise).

    >>> import numpy as np
    >>> a, b = ({level: np.array([x]) for level in LEVELS} for x in (40.0, 60.0))
    >>> mean_over([a, b])["hard"].tolist()
    [50.0]
    """
    return {level: np.mean([condition[level] for condition in conditions], axis=0) for level in LEVELS}


def _json(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
