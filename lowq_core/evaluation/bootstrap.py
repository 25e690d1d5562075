"""How far a mean over queries could move had other queries been drawn: percentile bootstrap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError

_BLOCK = 1 << 22  # numbers drawn at once, so that memory does not grow with queries x samples


@dataclass(frozen=True)
class Interval:
    """A mean, or a ratio of means, with its bootstrap interval, in the units of what was averaged."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    values: ArrayLike, *, confidence: float = 0.95, samples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean of `values` and its percentile bootstrap interval (Efron 1979).

    Args:
        values: (Q,) one number a query; NaN (a query without positives) is left out.
        confidence: share of resampled means inside the interval, between 0 and 1.
        samples: resampled sets of queries.
        seed: of the resampling; equal arguments give equal intervals.

    Raises:
        LowqError: no defined value, or confidence / samples out of range.

    >>> bootstrap_interval([50.0, 50.0, float("nan")])
    Interval(value=50.0, low=50.0, high=50.0)
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise LowqError(f"values: shape {array.shape}; give one number a query, (Q,)")
    array = array[~np.isnan(array)]
    means, tail = _resampled(array, confidence, samples, seed)
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(array.mean()), float(low), float(high))


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95, samples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean difference a - b over the same queries, with its interval.

    Queries are resampled together, so what makes a query hard for both cancels. A query that is NaN in
    either is left out. The difference is decided at this confidence where the interval excludes 0.

    Args:
        a, b: (Q,) per-query values of two methods, in the same order of queries.

    Raises:
        LowqError: different lengths; else as `bootstrap_interval`.

    >>> paired_bootstrap([60.0, 80.0], [50.0, 70.0])
    Interval(value=10.0, low=10.0, high=10.0)
    """
    first, second = _paired(a, b)
    return bootstrap_interval(first - second, confidence=confidence, samples=samples, seed=seed)


def paired_ratio(
    a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95, samples: int = 10_000, seed: int = 0
) -> Interval:
    """mean(a) / mean(b) over the same queries, with its interval.

    Queries are resampled together, and each sample has one ratio, that of its two means. A query that is NaN in
    either is left out. Where a sample's mean of b is not above 0 its ratio could be anything: it counts as below the
    low end and as above the high one, so with many of them the interval is without end.

    Args:
        a, b: (Q,) per-query values, in the same order of queries; mean(b) above 0.

    Raises:
        LowqError: different lengths, a mean of b that is not above 0; else as `bootstrap_interval`.

    >>> paired_ratio([10.0, 20.0], [20.0, 40.0])
    Interval(value=0.5, low=0.5, high=0.5)
    """
    both = np.stack(_paired(a, b), axis=-1)
    if both.ndim != 2:
        raise LowqError(f"a: shape {both.shape[:-1]}; give one number a query, (Q,)")
    both = both[~np.isnan(both).any(axis=1)]
    means, tail = _resampled(both, confidence, samples, seed)
    top, bottom = both.mean(axis=0)
    if not bottom > 0:
        raise LowqError(f"b: its mean is {bottom:g}; a share can be taken of what is above 0 only")
    sound = means[:, 1] > 0
    ratios = means[:, 0] / np.where(sound, means[:, 1], 1.0)
    low = np.quantile(np.where(sound, ratios, -np.inf), tail, method="lower")
    high = np.quantile(np.where(sound, ratios, np.inf), 1 - tail, method="higher")
    return Interval(float(top / bottom), float(low), float(high))


def _paired(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape:
        raise LowqError(f"a has shape {first.shape}, b {second.shape}; pair results of the same queries")
    return first, second


def _resampled(
    values: NDArray[np.float64], confidence: float, samples: int, seed: int
) -> tuple[NDArray[np.float64], float]:
    """Means of (Q, ...) values over resampled queries, (samples, ...), and the share of them beyond either end."""
    if not 0 < confidence < 1:
        raise LowqError(f"confidence={confidence}: has to lie between 0 and 1, for example 0.95")
    if samples < 1:
        raise LowqError(f"samples={samples}: give at least 1, for example 10000")
    if not len(values):
        raise LowqError(
            "values: none is defined (all NaN or none given); an interval needs at least one query"
        )
    means = np.concatenate(list(_resampled_means(values, samples, np.random.default_rng(seed))))
    return means, (1 - confidence) / 2


def _resampled_means(
    values: NDArray[np.float64], samples: int, generator: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    rows = max(1, _BLOCK // values.size)
    for start in range(0, samples, rows):
        drawn = generator.integers(0, len(values), (min(rows, samples - start), len(values)))
        yield values[drawn].mean(axis=1)
