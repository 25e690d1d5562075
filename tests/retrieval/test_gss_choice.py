"""Choosing options: every trial is a retriever that can be had again."""

from __future__ import annotations

import numpy as np
import pytest

from lowq_core.errors import LowqError
from lowq_core.retrieval.gss.choice import choose
from lowq_core.retrieval.gss.retriever import GSS


def database(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((5, 8))[np.arange(40) % 5] + generator.standard_normal((40, 8))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def neighbours_of_the_same_place(gss: GSS) -> float:
    ranks = gss.rank(database(), k=6).ids
    return float((ranks % 5 == np.arange(40)[:, None] % 5).mean())


def test_each_trial_is_what_its_options_give() -> None:
    choice = choose(
        database(),
        neighbours_of_the_same_place,
        {"k": [3, 5], "decay": [0.1, 0.5]},
        epochs=4,
        every=2,
        lr=1e-2,
        query_k=3,
    )
    assert [trial.epochs for trial in choice.trials] == 4 * [0, 2, 4]
    assert [trial.options["k"] for trial in choice.trials] == 6 * [3] + 6 * [5]
    for trial in choice.trials:
        again = GSS(**trial.options).fit(database())
        assert neighbours_of_the_same_place(again) == trial.score
        if trial.epochs:
            assert again.history[-1] == pytest.approx(trial.loss, rel=1e-6)
    scores = [trial.score for trial in choice.trials]
    assert choice.best is choice.trials[scores.index(max(scores))]


def test_of_equal_scores_the_fewest_epochs() -> None:
    choice = choose(database(), lambda gss: 1.0, epochs=3, every=1)
    assert choice.best.epochs == 0
    assert len(choice.trials) == 4
    untrained = choose(database(), lambda gss: 1.0, epochs=0)
    assert [trial.epochs for trial in untrained.trials] == [0]
    assert np.isnan(untrained.best.loss)


def test_searches_may_differ() -> None:
    choice = choose(
        database(), lambda gss: float(gss.search == "ivf"), {"search": ["exact", "ivf"]}, epochs=0
    )
    assert choice.best.options["search"] == "ivf"


def test_bad_input() -> None:
    def score(gss: GSS) -> float:
        return 0.0

    for grid, fixed, sentence in (
        ({"depth": [1]}, {}, "no option 'depth'"),
        ({}, {"depth": 1}, "no option 'depth'"),
        ({"epochs": [1]}, {}, "epochs are tried along"),
        ({"k": []}, {}, "k: give values"),
        ({"k": [2]}, {"k": 3}, "k: give values"),
        ({"k": [2, 40]}, {}, "k=40: the database has 40"),
    ):
        with pytest.raises(LowqError, match=sentence):
            choose(database(), score, grid, **({"epochs": 0} | fixed))
    with pytest.raises(LowqError, match="score is NaN"):
        choose(database(), lambda gss: float("nan"), epochs=0)
