"""Options are chosen by what they do on validation sets, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lowq_core.errors import LowqError
from lowq_core.methods.choosing import Trial, best, trials
from lowq_core.methods.data import benchmark_of
from lowq_core.methods.parts import Method
from lowq_core.methods.pipeline import Pipeline, quiet
from lowq_core.methods.report import with_groups
from lowq_core.reproduce.store import Store

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


def test_without_trials_there_is_no_best() -> None:
    with pytest.raises(LowqError, match="the list is empty"):
        best([])
    first, second = Trial((("k", 1),), 50.0, 30.0), Trial((("k", 2),), 60.0, 20.0)
    assert best([first, second]) is first
