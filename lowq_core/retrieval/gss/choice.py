"""Options of GSS chosen on a validation benchmark, epochs among them: one training is scored at many epochs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.gss.retriever import GSS
from lowq_core.retrieval.knn import NeighbourIndex
from lowq_core.retrieval.unit import as_unit_descriptors


@dataclass(frozen=True)
class Trial:
    """One network at one epoch.

    Attributes:
        options: of `GSS` for exactly this network, `epochs` among them.
        score: what the caller's function said.
        loss: NaN where nothing was trained.
    """

    options: dict[str, Any]
    score: float
    loss: float

    @property
    def epochs(self) -> int:
        return int(self.options["epochs"])


@dataclass(frozen=True)
class Choice:
    """All trials, in the order of the grid, then of the epochs.

    Attributes:
        best: the one of the highest score, the first of equal ones: so the one of fewest epochs in its training.
    """

    best: Trial
    trials: tuple[Trial, ...]


def choose(
    database: ArrayLike,
    score: Callable[[GSS], float],
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    every: int = 10,
    neighbours: ArrayLike | None = None,
    **fixed: Any,
) -> Choice:
    """Train on the index of a validation benchmark with all combinations of `grid`, and score on the way.

    Never do this on the benchmark whose numbers are reported. The graph's search is made once for all.

    Args:
        database: (N, D) of the validation benchmark.
        score: of a retriever, larger is better: ranks the validation queries and evaluates, for example.
        grid: lists of values of `GSS`'s options; not of `epochs`, which are tried along each training.
        every: score before the first epoch, after every so many, and after the last.
        neighbours: as in `GSS.fit`.
        fixed: options that are the same for all; `epochs` are how many to train at most.

    Raises:
        LowqError: an unknown option, one in both, an empty list, a score that is not a number.

    >>> database = np.float32([[1, 0], [0.8, 0.6], [0, 1], [0, -1]])
    >>> choice = choose(database, lambda gss: float(gss.k == 2), {"k": [2, 3]}, query_k=1, epochs=4, every=2)
    >>> choice.best.options["k"], choice.best.epochs, [trial.epochs for trial in choice.trials]
    (2, 0, [0, 2, 4, 0, 2, 4])
    """
    grid = dict(grid or {})
    _check(grid, fixed)
    rows = as_unit_descriptors(database, "database")
    settings = [dict(zip(grid, values, strict=True)) | fixed for values in itertools.product(*grid.values())]
    lists = neighbours if neighbours is not None else _lists(rows, settings)
    trials: list[Trial] = []
    for options in settings:
        scored: list[tuple[int, float]] = []

        def watch(epoch: int, gss: GSS, scored: list[tuple[int, float]] = scored) -> None:
            scored.append((epoch, _number(score(gss))))

        gss = GSS(**options).fit(rows, neighbours=lists, watch=watch, every=every)
        for epoch, value in scored:
            loss = float(gss.history[epoch]) if len(gss.history) else float("nan")
            trials.append(Trial(options | {"epochs": epoch}, value, loss))
    return Choice(max(trials, key=lambda trial: trial.score), tuple(trials))


def _lists(rows: NDArray[np.float32], settings: Sequence[Mapping[str, Any]]) -> NDArray[np.int64] | None:
    """The longest lists that any setting wants, each picture first in its own; None where they differ by more."""
    wanted = [GSS(**options) for options in settings]
    searches = {gss.search for gss in wanted}
    most = max(gss.k for gss in wanted)
    if len(searches) > 1 or not 1 < most < len(rows):
        return None  # and `fit` says what is wrong with such a k
    found = NeighbourIndex(rows, searches.pop()).among(most - 1)
    return np.hstack([np.arange(len(rows))[:, None], found.ids])


def _check(grid: Mapping[str, Sequence[Any]], fixed: Mapping[str, Any]) -> None:
    known = GSS()._options()
    for name in (*grid, *fixed):
        if name not in known:
            raise LowqError(f"choose: GSS has no option {name!r}; it has {', '.join(known)}")
    if "epochs" in grid:
        raise LowqError("choose: epochs are tried along each training; give the most, as epochs=200")
    for name, values in grid.items():
        if name in fixed or len(values) == 0:
            raise LowqError(f"choose: {name}: give values in the grid, one or more, or one value outside it")


def _number(score: float) -> float:
    if np.isnan(score):
        raise LowqError("choose: the score is NaN; score with a measure that is defined for every ranking")
    return float(score)
