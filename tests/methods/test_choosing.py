"""Options are chosen by what they do on validation sets, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lowq_core.errors import LowqError
from lowq_core.evaluation.protocols import evaluate
from lowq_core.methods.choosing import Trial, best, trials
from lowq_core.methods.data import benchmark_of
from lowq_core.methods.parts import Method
from lowq_core.methods.pipeline import Pipeline, quiet
from lowq_core.methods.report import with_groups
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.augmentation import DatabaseAugmentation
from lowq_core.retrieval.expansion import AverageQE

pytestmark = pytest.mark.usefixtures("one_thread")


def test_trials_are_the_grid_on_the_validation_sets(tmp_path: Path) -> None:
    pipeline = Pipeline.for_profile("smoke", store=Store(tmp_path), say=quiet, size=64)
    found = trials(pipeline, Method("spoc", search="aqe"), {"n": (1, 3)})
    assert [dict(trial.options) for trial in found] == [{"n": 1}, {"n": 3}]
    validation = benchmark_of(pipeline.profile, "papertown_val")
    for trial in found:
        method = Method("spoc", search="aqe", options=trial.options)
        report = with_groups(pipeline.evaluate(method, validation, {"gaussian": (5,), "motion_blur": (5,)}))
        assert trial.clean == pytest.approx(report.map("clean", "medium"))
        noisy = [report.map(noise, "medium") for noise in ("gaussian", "motion_blur")]
        assert trial.known == pytest.approx(np.mean(noisy))
    assert best(found).score == max((trial.clean + trial.known) / 2 for trial in found)


def test_an_augmentation_is_tried_with_its_own_options(tmp_path: Path) -> None:
    pipeline = Pipeline.for_profile("smoke", store=Store(tmp_path), say=quiet, size=64)
    plain = Method("spoc")
    validation = benchmark_of(pipeline.profile, "papertown_val")
    database, queries = pipeline.database(plain, validation), pipeline.queries(plain, validation)
    found = trials(pipeline, Method("spoc", augmented=True), {"n": (1, 3)})
    for trial, n in zip(found, (1, 3), strict=True):
        ids = DatabaseAugmentation(n=n).fit(database).rank(queries).ids
        assert trial.clean == pytest.approx(evaluate(ids, validation).map["medium"])
    assert found[0].clean != found[1].clean
    both = Method("spoc", augmented=True, augmentation=(("n", 1),), search="aqe", options=(("n", 2),))
    ids = AverageQE(n=2).fit(DatabaseAugmentation(n=1).transform(database)).rank(queries).ids
    report = pipeline.evaluate(both, validation)
    assert report.map("clean", "medium") == pytest.approx(evaluate(ids, validation).map["medium"])
    assert (report.method, report.configuration["augmentation"]) == ("spoc+dba+aqe", {"n": 1})


def test_without_trials_there_is_no_best() -> None:
    with pytest.raises(LowqError, match="the list is empty"):
        best([])
    first, second = Trial((("k", 1),), 50.0, 30.0), Trial((("k", 2),), 60.0, 20.0)
    assert best([first, second]) is first
