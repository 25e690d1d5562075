"""Training of GSS: the whole index at once, no labels, no queries."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowq_core.errors import LowqError
from lowq_core.losses.gss import GSSLoss, Precision
from lowq_core.losses.gss_beta import PAIRS, check_percentile, similarity_percentile
from lowq_core.models.gss import GSSNetwork, NormalisedGraph
from lowq_core.retrieval.exact_graph import bfloat16_is_fast

TrainingPrecision = Literal["float32", "bf16", "auto"]
"""A `Precision`, or "auto" for the faster one here."""


@dataclass(frozen=True)
class Schedule:
    """How a network is trained, see `GSS` for each."""

    epochs: int = 200
    lr: float = 1e-4
    alpha: float = 1.0
    beta_percentile: float = 98.0
    precision: TrainingPrecision = "float32"
    all_pairs_up_to: int = 30_000
    pairs: int = PAIRS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise LowqError(f"epochs={self.epochs}: choose 0 (untrained) or more")
        if not 0 < self.lr < math.inf:
            raise LowqError(f"lr={self.lr}: choose a number above 0, such as 1e-4")
        if not 0 < self.alpha < math.inf:
            raise LowqError(f"alpha={self.alpha}: choose a number above 0, such as 1")
        if self.all_pairs_up_to < 0 or self.pairs < 1:
            raise LowqError(
                f"all_pairs_up_to={self.all_pairs_up_to}, pairs={self.pairs}: choose 0 or more, and 1 or more"
            )
        if not 0 <= self.seed < 1 << 63:
            raise LowqError(f"seed={self.seed}: choose a whole number from 0 to {(1 << 63) - 1}")
        check_percentile(self.beta_percentile)
        choices = get_args(TrainingPrecision)
        if self.precision not in choices:
            raise LowqError(f"precision={self.precision!r} is unknown; choose one of {', '.join(choices)}")

    @property
    def products(self) -> Precision:
        """The precision that products have here: "auto" is the faster one."""
        if self.precision != "auto":
            return self.precision
        return "bf16" if bfloat16_is_fast() else "float32"


@dataclass(frozen=True)
class Trained:
    """What is left of a training besides the weights.

    Attributes:
        beta: NaN where there were no epochs.
        history: (epochs + 1,) float64, the loss after 0, 1, ... epochs; empty where there were none.
    """

    beta: float
    history: NDArray[np.float64]


class Training:
    """A network being trained, one step of Adam at a time, on the loss over pairs of the index.

    beta is fixed at the start. A x, which stays as it is, is computed once.

    Args:
        network: changed in place.
        x: (N, D) descriptors. graph: theirs.
        schedule: all of it but `epochs`.

    Attributes:
        beta: where the loss turns.
    """

    def __init__(self, network: GSSNetwork, x: Tensor, graph: NormalisedGraph, schedule: Schedule) -> None:
        self._network, self._x, self._graph = network, x, graph
        self._bf16 = schedule.products == "bf16"
        self._first = graph.spread(x)
        with torch.no_grad():
            self.beta = similarity_percentile(
                self._outputs(), schedule.beta_percentile, pairs=schedule.pairs, seed=schedule.seed
            )
        self._loss = GSSLoss(
            self.beta,
            schedule.alpha,
            all_pairs_up_to=schedule.all_pairs_up_to,
            pairs=schedule.pairs,
            precision=schedule.products,
            seed=schedule.seed,
        )
        self._optimizer = torch.optim.Adam(network.parameters(), schedule.lr, fused=True)

    def step(self) -> float:
        """One epoch; the loss before it."""
        self._optimizer.zero_grad()
        loss = self._loss(self._outputs())
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def loss(self) -> float:
        """The loss as it is."""
        return float(self._loss(self._outputs()))

    def _outputs(self) -> Tensor:
        return self._network(
            self._x, lambda h, level: self._graph.spread(h) if level else self._first, bf16=self._bf16
        )


def train(
    network: GSSNetwork,
    x: Tensor,
    graph: NormalisedGraph,
    schedule: Schedule,
    after: Callable[[int], None] | None = None,
) -> Trained:
    """All epochs of `Training`.

    Args:
        after: called with the number of epochs done, 0 first.

    Raises:
        LowqError: the loss is no longer a number.
    """
    if after is not None:
        after(0)
    if schedule.epochs == 0:
        return Trained(math.nan, np.empty(0))
    training = Training(network, x, graph, schedule)
    history = np.empty(schedule.epochs + 1)
    for epoch in range(schedule.epochs):
        history[epoch] = training.step()
        if not math.isfinite(history[epoch]):
            raise LowqError(f"GSS: the loss is {history[epoch]} in epoch {epoch + 1}; choose a smaller lr")
        if after is not None:
            after(epoch + 1)
    history[-1] = training.loss()
    return Trained(training.beta, history)
