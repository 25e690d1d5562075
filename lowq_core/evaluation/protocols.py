"""Easy, Medium and Hard: from rankings or scores to average precision per query and its means."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.data.benchmark import Benchmark, Measure
from lowq_core.errors import LowqError
from lowq_core.evaluation.average_precision import plain_terms, trapezoid_terms
from lowq_core.evaluation.positions import EASY, HARD, Found, Labels, RankReader, from_scores
from lowq_core.evaluation.result import LEVELS, Evaluation, Level

__all__ = ["LEVELS", "Evaluation", "Level", "evaluate", "evaluate_scores", "ignored"]

_POSITIVE: dict[Level, tuple[int, ...]] = {"easy": (EASY,), "medium": (EASY, HARD), "hard": (HARD,)}
_SOUGHT = {
    level: np.isin(np.arange(256), codes) for level, codes in _POSITIVE.items()
}  # label code -> sought?

_THREADED = 1 << 22  # numbers in all, from which threads pay


def evaluate(ranks: ArrayLike, benchmark: Benchmark, *, ks: Sequence[int] = (1, 5, 10)) -> Evaluation:
    """Score rank lists against the ground truth.

    Levels (Radenovic et al. 2018): `easy` seeks easy pictures, `medium` easy and hard, `hard` hard ones; junk
    and positives of the other level are deleted from the list. Single-level ground truth (all positives in
    `easy`) has the same value in `easy` and `medium`, and none in `hard`: report `medium`.
    Measure: trapezoidal AP for `revisited` and `map`, plain AP cut at 100 for `map@100`.

    Args:
        ranks: (Q, n) whole numbers, indices into `benchmark.images`, best first. n may be less than the
            database: positives that are not listed count as never found.
        benchmark: database, queries and measure.
        ks: for which k to keep precision at k.

    Raises:
        LowqError: wrong shape or type, an index outside the database, a labelled picture listed twice.

    >>> from pathlib import Path
    >>> from lowq_core.data.benchmark import Query
    >>> town = Benchmark("town", ("a", "b", "c"), (Query("q", easy=[0], hard=[2], junk=[1]),), Path("."))
    >>> evaluate([[1, 2, 0]], town).map
    {'easy': 100.0, 'medium': 100.0, 'hard': 100.0}
    """
    lists = np.asarray(ranks)
    if np.issubdtype(lists.dtype, np.floating):
        raise LowqError(f"ranks: {lists.dtype} numbers are scores, not indices; call evaluate_scores")
    if not np.issubdtype(lists.dtype, np.integer):
        raise LowqError(f"ranks: {lists.dtype}; give whole-number indices into the database")
    _check_shape(lists, benchmark, "ranks")
    if lists.dtype == np.uint64:
        lists = lists.astype(np.int64)

    def read(queries: range) -> list[Found]:
        reader = RankReader(benchmark)
        return [
            reader.read(lists[q], Labels.of(benchmark.queries[q]), _what("ranks", benchmark, q))
            for q in queries
        ]

    return _evaluation(_in_threads(read, lists), benchmark, ks)


def evaluate_scores(scores: ArrayLike, benchmark: Benchmark, *, ks: Sequence[int] = (1, 5, 10)) -> Evaluation:
    """As `evaluate`, from similarities, without sorting the database.

    Equal scores are ordered by index, so this agrees with `evaluate` of a stable sort.

    Args:
        scores: (Q, N) real numbers, one column a picture of the database, larger is better; -inf is allowed.

    Raises:
        LowqError: wrong shape or type, NaN.

    >>> from pathlib import Path
    >>> from lowq_core.data.benchmark import Query
    >>> town = Benchmark("town", ("a", "b", "c"), (Query("q", easy=[0, 2]),), Path("."))
    >>> evaluate_scores([[0.1, 0.5, 0.9]], town).map["hard"] is None
    True
    """
    table = np.asarray(scores)
    if table.dtype.kind not in "fiu":
        raise LowqError(f"scores: {table.dtype}; give real numbers")
    _check_shape(table, benchmark, "scores")
    if table.shape[1] != len(benchmark.images):
        raise LowqError(
            f"scores: {table.shape[1]} columns, but {benchmark.name} has {len(benchmark.images)} pictures; "
            f"score each picture of the database"
        )

    def read(queries: range) -> list[Found]:
        return [
            from_scores(table[q], Labels.of(benchmark.queries[q]), _what("scores", benchmark, q))
            for q in queries
        ]

    return _evaluation(_in_threads(read, table), benchmark, ks)


def ignored(benchmark: Benchmark, level: Level) -> list[NDArray[np.int64]]:
    """For each query what `level` deletes from a ranking: junk, and the positives of the other level.

    >>> from pathlib import Path
    >>> from lowq_core.data.benchmark import Query
    >>> town = Benchmark("town", ("a", "b", "c"), (Query("q", easy=[0], hard=[2], junk=[1]),), Path("."))
    >>> [ignored(town, level)[0].tolist() for level in LEVELS]
    [[1, 2], [1], [0, 1]]
    """
    others = {"easy": "hard", "medium": "junk", "hard": "easy"}[level]
    return [np.union1d(query.junk, getattr(query, others)) for query in benchmark.queries]


def _evaluation(found: list[Found], benchmark: Benchmark, ks: Sequence[int]) -> Evaluation:
    """All levels from the places of labelled pictures, over all queries at once."""
    sizes = np.array([one.places.size for one in found], np.int64)
    query = np.repeat(np.arange(len(found)), sizes)
    places = np.concatenate([one.places for one in found]) if found else np.empty(0, np.int64)
    codes = np.concatenate([one.codes for one in found]) if found else np.empty(0, np.uint8)
    totals = {
        "easy": np.array([one.easy.size for one in benchmark.queries], np.int64),
        "hard": np.array([one.hard.size for one in benchmark.queries], np.int64),
    }
    totals["medium"] = totals["easy"] + totals["hard"]
    per_query, precision = {}, {}
    for level in LEVELS:
        sought = _SOUGHT[level][codes]
        owner = query[sought]
        hits = _counted_within(owner, len(found))
        deleted = np.flatnonzero(sought) - (np.cumsum(sizes) - sizes)[owner] - hits  # above it, in its list
        kept = places[sought] - deleted
        per_query[level] = 100 * _average_precisions(kept, hits, owner, totals[level], benchmark.measure)
        precision[level] = {int(k): 100 * _precisions(kept, owner, totals[level], int(k)) for k in ks}
    return Evaluation(benchmark.name, benchmark.measure, per_query, precision)


def _average_precisions(
    places: NDArray[np.int64],
    hits: NDArray[np.int64],
    owner: NDArray[np.int64],
    totals: NDArray[np.int64],
    measure: Measure,
) -> NDArray[np.float64]:
    """(Q,) AP from the places of all queries' hits, `hits` counting those above within the query `owner`."""
    if measure == "map@100":
        terms, totals = plain_terms(places, hits) * (places < 100), np.minimum(totals, 100)
    else:
        terms = trapezoid_terms(places, hits)
    return _ratio(np.bincount(owner, terms, totals.size), totals)


def _precisions(
    places: NDArray[np.int64], owner: NDArray[np.int64], totals: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    """(Q,) `precision_at` of all queries."""
    if k < 1:
        raise LowqError(f"ks: {k} looks at no result; give 1 or more")
    last = np.zeros(totals.size, np.int64)
    np.maximum.at(last, owner, places + 1)
    all_found = np.bincount(owner, minlength=totals.size) == totals
    looked_at = np.where(all_found & (totals > 0), np.minimum(last, k), k)
    inside = places < looked_at[owner]
    return np.where(totals > 0, np.bincount(owner, inside, totals.size) / looked_at, np.nan)


def _counted_within(owner: NDArray[np.int64], queries: int) -> NDArray[np.int64]:
    """For sorted `owner`, how many entries of the same owner come before each."""
    counts = np.bincount(owner, minlength=queries)
    return np.arange(owner.size) - (np.cumsum(counts) - counts)[owner]


def _ratio(sums: NDArray[Any], totals: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(totals > 0, sums / np.maximum(totals, 1), np.nan)


def _in_threads(read: Callable[[range], list[Found]], table: NDArray[Any]) -> list[Found]:
    """`read` over all rows of `table`, in slices on several threads where that pays (numpy drops the GIL)."""
    workers = min(os.cpu_count() or 1, table.shape[0], 1 + table.size // _THREADED)
    if workers <= 1:
        return read(range(table.shape[0]))
    bounds = [table.shape[0] * worker // workers for worker in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        parts = pool.map(read, [range(start, stop) for start, stop in itertools.pairwise(bounds)])
        return [found for part in parts for found in part]


def _check_shape(table: NDArray[Any], benchmark: Benchmark, what: str) -> None:
    queries, size = len(benchmark.queries), len(benchmark.images)
    if table.ndim != 2:
        raise LowqError(f"{what}: shape {table.shape}; give one row a query, ({queries}, n)")
    if size == 0:
        raise LowqError(f"{benchmark.name}: the database is empty; it needs at least one picture")
    if table.shape[0] != queries:
        mend = "it looks transposed, pass its .T" if table.shape[1] == queries else "give one row a query"
        raise LowqError(f"{what}: {table.shape[0]} rows, but {benchmark.name} has {queries} queries; {mend}")
    if table.shape[1] > size:
        raise LowqError(
            f"{what}: {table.shape[1]} columns, but {benchmark.name} has {size} pictures; cut them"
        )


def _what(argument: str, benchmark: Benchmark, query: int) -> str:
    return f"{argument}[{query}] (query {benchmark.queries[query].image!r})"
