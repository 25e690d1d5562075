"""Options of searches, chosen on validation sets: clean queries and known noises count alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from lowq_core.degrade import KNOWN
from lowq_core.errors import LowqError
from lowq_core.methods.data import benchmark_of
from lowq_core.methods.parts import Method
from lowq_core.methods.pipeline import Pipeline
from lowq_core.methods.report import with_groups


@dataclass(frozen=True)
class Trial:
    """One setting of a search or an augmentation, tried on the validation sets.

    Attributes:
        options: what differs from the papers'.
        clean, known: Medium mAP in percent (plain mAP where the ground truth has one level), mean over the sets: of
            clean queries, and mean over the known noises.
    """

    options: tuple[tuple[str, Any], ...]
    clean: float
    known: float

    @property
    def score(self) -> float:
        """What decides."""
        return (self.clean + self.known) / 2


def trials(pipeline: Pipeline, method: Method, grid: Mapping[str, Sequence[Any]]) -> list[Trial]:
    """Every combination of `grid` tried for the last part of `method`, on the profile's validation sets.

    What is trained for it shares no landmark with these sets, see `Pipeline.while_choosing`.
    """
    chooser = pipeline.while_choosing()
    profile = pipeline.profile
    noises = {noise: profile.severities for noise in profile.noises if noise in KNOWN}
    benchmarks = [benchmark_of(profile, name) for name in profile.validation]
    found = []
    for values in product(*grid.values()):
        options = tuple(zip(grid, values, strict=True))
        tried = with_options(method, options)
        reports = [with_groups(chooser.evaluate(tried, benchmark, noises)) for benchmark in benchmarks]
        at = {c: [report.map(c, "medium") or 0.0 for report in reports] for c in ("clean", "known")}
        found.append(Trial(options, float(np.mean(at["clean"])), float(np.mean(at["known"]))))
    return found


def with_options(method: Method, options: tuple[tuple[str, Any], ...]) -> Method:
    """`method` with `options` of its last part: the search, the verification, or the augmentation of the database.

    >>> with_options(Method(augmented=True), (("n", 3),)).augmentation
    (('n', 3),)
    """
    if method.augmented and method.search is None and method.verified is None:
        return replace(method, augmentation=options)
    return replace(method, options=options)


def best(tried: Sequence[Trial]) -> Trial:
    """The trial with the highest score, the first of equal ones.

    Raises:
        LowqError: no trials.

    >>> best([Trial((("n", 1),), 80.0, 40.0), Trial((("n", 3),), 78.0, 44.0)]).options
    (('n', 3),)
    """
    if not tried:
        raise LowqError("trials: the list is empty; try at least one setting")
    return max(tried, key=lambda trial: trial.score)
