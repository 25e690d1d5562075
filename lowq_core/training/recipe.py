"""What the training loop is given: a `Recipe`, and a `Schedule`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from lowq_core.errors import LowqError

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
PRECISIONS = ("float32", "bf16")


class Recipe(Protocol[Item, Loaded]):
    """What the loop asks of a training. Under `torchrun` every process has one, made in the same way."""

    @property
    def model(self) -> nn.Module:
        """The network, on the device that it is trained on; its state dict is kept in checkpoints."""

    def optimiser(self) -> torch.optim.Optimizer:
        """A new optimiser over the parameters that are trained, in groups; the first group's rate is logged.

        It steps once a batch, in every process. What a recipe keeps of batches beside weights moves in a hook after
        that step, from sums over all processes: see `lowq_core.training.ranks`.
        """

    def epoch(self, epoch: int) -> Sequence[Item]:
        """What is trained on in epoch `epoch`, counted from 0; the model is in evaluation mode.

        A function of `epoch` and the model alone, equal in every process: choose with a generator seeded by
        the epoch, and share long computations out with `lowq_core.training.ranks`.
        """

    def load(self, item: Item) -> Loaded:
        """Read what `item` stands for. Runs on threads: numpy and PIL, no torch, no shared generators."""

    def loss(self, group: Sequence[Loaded]) -> Tensor:
        """The loss of a group of items that go through the network together; those of a batch are summed."""


@dataclass(frozen=True)
class Schedule:
    """How long and in what portions is trained.

    Attributes:
        epochs: passes over what the recipe gives.
        batch: items for each step of the optimiser.
        group: items of one forward and backward pass. The gradients of a batch's groups are summed; threads
            and several processes share them out.
        decay: factor of the learning rates after each epoch.
        seed: of torch at the start; in epoch e it is seed + e.
        validate_every: epochs from one validation to the next; the last epoch is always validated.
        precision: "float32", or "bf16" to compute the loss under autocast.
        side_by_side: compute the groups of a batch on a thread each where the network is on a CPU, which is
            faster than many threads for one small group. For losses that draw no random numbers.

    Raises:
        LowqError: a count below 1, a decay that is not above 0, an unknown precision.

    >>> Schedule(epochs=2, batch=5).decay
    1.0
    """

    epochs: int
    batch: int = 1
    group: int = 1
    decay: float = 1.0
    seed: int = 0
    validate_every: int = 1
    precision: str = "float32"
    side_by_side: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "group", "validate_every"):
            if getattr(self, name) < 1:
                raise LowqError(f"{name}={getattr(self, name)}: it has to be 1 or more")
        if not self.decay > 0:
            raise LowqError(f"decay={self.decay}: choose a factor above 0; 1 keeps the learning rate")
        if self.precision not in PRECISIONS:
            raise LowqError(f"precision {self.precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
