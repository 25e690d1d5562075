"""Intervals against scipy, a closed form and simulation."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.evaluation import bootstrap
from lowq_core.evaluation.bootstrap import bootstrap_interval, paired_bootstrap, paired_ratio


def test_equals_scipy_percentile_bootstrap() -> None:
    values = np.random.default_rng(3).gamma(2.0, 20.0, 70)
    ours = bootstrap_interval(values, samples=20_000, confidence=0.9, seed=1)
    theirs = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    # a 5 % quantile of 20,000 means has a standard error of sqrt(.05 .95 / 20000) / density
    spread = values.std() / np.sqrt(values.size)
    error = np.sqrt(0.05 * 0.95 / 20_000) / (scipy.stats.norm.pdf(scipy.stats.norm.ppf(0.05)) / spread)
    assert ours.value == pytest.approx(values.mean())
    assert abs(ours.low - theirs.low) < 4 * np.sqrt(2) * error
    assert abs(ours.high - theirs.high) < 4 * np.sqrt(2) * error


def test_equals_normal_theory_for_many_queries() -> None:
    values = np.random.default_rng(0).normal(50, 10, 2_000)
    interval = bootstrap_interval(values, samples=5_000)
    half = 1.96 * values.std() / np.sqrt(values.size)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for trial in range(300):
        interval = bootstrap_interval(generator.normal(0, 1, 60), samples=500, confidence=0.9, seed=trial)
        covered += interval.low <= 0 <= interval.high
    # binomial around 0.885 (percentile intervals run a little short): 5 standard errors
    assert abs(covered / 300 - 0.885) < 5 * np.sqrt(0.885 * 0.115 / 300)


def test_ratio_equals_scipys_paired_bootstrap() -> None:
    generator = np.random.default_rng(4)
    b = generator.gamma(4.0, 5.0, 60)
    a = 0.4 * b + generator.normal(0, 4, 60)
    ours = paired_ratio(a, b, samples=20_000, confidence=0.9, seed=1)
    found = scipy.stats.bootstrap(
        (a, b),
        lambda x, y, axis: x.mean(axis) / y.mean(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    theirs = found.confidence_interval
    error = np.sqrt(0.05 * 0.95 / 20_000) / (
        scipy.stats.norm.pdf(scipy.stats.norm.ppf(0.05)) / found.standard_error
    )
    assert ours.value == pytest.approx(a.mean() / b.mean())
    assert abs(ours.low - theirs.low) < 4 * np.sqrt(2) * error
    assert abs(ours.high - theirs.high) < 4 * np.sqrt(2) * error


def test_a_ratio_pairs_its_queries() -> None:
    generator = np.random.default_rng(7)
    b = generator.gamma(2.0, 10.0, 50)
    exact = paired_ratio(0.3 * b, b)  # each sample has the same ratio, whatever is drawn
    assert (exact.low, exact.high) == (pytest.approx(0.3), pytest.approx(0.3))
    shuffled = paired_ratio(0.3 * generator.permutation(b), b)
    assert shuffled.high - shuffled.low > 0.05
    nan = float("nan")
    gaps = paired_ratio([1.0, nan, 3.0, 9.0], [2.0, 5.0, nan, 6.0], samples=500)
    assert gaps.value == 10 / 8
    assert (gaps.low, gaps.high) == (0.5, 1.5)


def test_a_ratio_whose_denominator_may_vanish_has_no_ends() -> None:
    found = paired_ratio([1.0, 1.0, 1.0], [-5.0, 3.0, 4.0], samples=500)
    assert (found.value, found.low, found.high) == (1.5, -np.inf, np.inf)
    for bottom in ([0.0, 0.0], [-1.0, 0.5]):
        with pytest.raises(LowqError, match="a share can be taken of what is above 0 only"):
            paired_ratio([1.0, 1.0], bottom)
    with pytest.raises(LowqError, match="same queries"):
        paired_ratio([1.0, 2.0], [1.0])
    with pytest.raises(LowqError, match="none is defined"):
        paired_ratio([float("nan")], [1.0])
    with pytest.raises(LowqError, match="one number a query"):
        paired_ratio([[1.0]], [[1.0]])


def test_undefined_queries_are_left_out() -> None:
    values = np.random.default_rng(1).random(40)
    with_gaps = np.insert(values, [0, 7, 30], np.nan)
    assert bootstrap_interval(with_gaps) == bootstrap_interval(values)


def test_pairs_drop_queries_undefined_in_either() -> None:
    nan = float("nan")
    interval = paired_bootstrap([1.0, nan, 3.0, 9.0], [0.0, 5.0, nan, 6.0], samples=500)
    assert interval.value == 2.0
    assert (interval.low, interval.high) == (1.0, 3.0)


def test_pairing_cancels_what_both_share() -> None:
    generator = np.random.default_rng(2)
    hardness = generator.normal(50, 20, 100)
    a, b = hardness + 1 + generator.normal(0, 1, 100), hardness + generator.normal(0, 1, 100)
    paired = paired_bootstrap(a, b)
    assert paired.low > 0
    assert paired.high - paired.low < 0.1 * (bootstrap_interval(a).high - bootstrap_interval(a).low)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_interval_lies_within_the_values(values: list[float], seed: int) -> None:
    interval = bootstrap_interval(values, samples=50, seed=seed)
    assert interval == bootstrap_interval(values, samples=50, seed=seed)
    slack = 1e-9
    assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack


def test_memory_does_not_grow_with_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_BLOCK", 100)
    interval = bootstrap_interval(np.arange(50.0), samples=999)
    assert interval.low < interval.value < interval.high


@pytest.mark.parametrize("values", [[], [float("nan")] * 3])
def test_nothing_defined(values: list[float]) -> None:
    with pytest.raises(LowqError, match="none is defined"):
        bootstrap_interval(values)


@pytest.mark.parametrize(
    ("options", "sentence"), [({"confidence": 95}, "confidence=95"), ({"samples": 0}, "samples=0")]
)
def test_bad_options(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(LowqError, match=sentence):
        bootstrap_interval([1.0], **options)  # type: ignore[arg-type]


def test_bad_shapes() -> None:
    with pytest.raises(LowqError, match="one number a query"):
        bootstrap_interval([[1.0]])
    with pytest.raises(LowqError, match="same queries"):
        paired_bootstrap([1.0, 2.0], [1.0])
