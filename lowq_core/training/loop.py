"""The one training loop; what is trained, on what, comes from a `Recipe`.

The result does not depend on how often a run was interrupted, nor (but for rounding) on how many processes share
the work. Four rules make that so. An epoch starts from a seed of its own and from what the checkpoint holds, so
nothing else has to be remembered. The statistics of batch normalisation are frozen, so the loss of a group is
its own. Gradients are summed, over the groups of a batch and over processes, so it does not matter who computed
which. What else a recipe learns of a batch (AdapNet's statistics of norms) it takes in once, after the step, from
sums over all processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ExponentialLR

from lowq_core.errors import LowqError
from lowq_core.extraction.engine import workers
from lowq_core.training import ranks
from lowq_core.training.folder import RunFolder
from lowq_core.training.loader import loaded
from lowq_core.training.recipe import Item, Loaded, Recipe, Schedule

Validate = Callable[[nn.Module], float]
Mapped = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""`map`, or one whose calls run side by side."""


@dataclass
class Best:
    """The epoch whose weights are kept.

    Attributes:
        epoch: counted from 0; -1 before the first.
        score: of its validation; None where nothing validates, and the last epoch is kept.
        weights: the model's state dict then, on the CPU.
    """

    epoch: int
    score: float | None
    weights: dict[str, Tensor]


def run(
    recipe: Recipe[Item, Loaded],
    schedule: Schedule,
    out: str | Path,
    *,
    start: Callable[[], None] | None = None,
    validate: Validate | None = None,
) -> Best:
    """Train `recipe.model`, which ends with the weights of the best epoch.

    The state after each epoch is kept in `out`. A call with the same arguments after an interruption goes on
    there and ends with the same weights, bit by bit. `out/log.jsonl` has a line {epoch, step, loss, lr, seconds}
    for each step of the optimiser (`loss`: the batch's sum) and a line {epoch, loss, validation, best, seconds}
    for each epoch (`loss`: mean of its items). torch's generator is left as found.

    Args:
        start: changes the model once, before the first epoch (fits a whitening, say). Runs in the first
            process alone, and not when a run goes on.
        validate: the model in evaluation mode -> a score, higher is better. Runs in the first process alone.

    Raises:
        LowqError: the loss, a gradient or a score is not finite; an epoch without items; a damaged checkpoint
            or one of another model; what the recipe raises, a picture that cannot be read, say.
    """
    folder = RunFolder(out)
    devices = sorted({p.device for p in recipe.model.parameters() if p.device.type == "cuda"}, key=str)
    with ranks.joined(), torch.random.fork_rng(devices):
        torch.manual_seed(schedule.seed)
        optimiser = recipe.optimiser()
        scheduler = ExponentialLR(optimiser, schedule.decay)
        training = _Training(recipe, schedule, folder, optimiser, scheduler, validate)
        training.resume_or_start(start)
        while training.done < schedule.epochs:
            training.train_epoch()
        recipe.model.load_state_dict(training.best.weights)
        recipe.model.eval()
        return training.best


class _Training:
    """A run under way: everything that a checkpoint holds, and what it takes to go one epoch on."""

    def __init__(
        self,
        recipe: Recipe[Any, Any],
        schedule: Schedule,
        folder: RunFolder,
        optimiser: torch.optim.Optimizer,
        scheduler: ExponentialLR,
        validate: Validate | None,
    ) -> None:
        self.recipe, self.schedule, self.folder = recipe, schedule, folder
        self.optimiser, self.scheduler, self.validate = optimiser, scheduler, validate
        self.model = recipe.model
        self.device = next(self.model.parameters()).device
        self.done = 0
        self.best = Best(-1, None, {})

    def resume_or_start(self, start: Callable[[], None] | None) -> None:
        state = self.folder.read_checkpoint()
        ranks.wait()  # all have looked before the first process writes
        if state is None:
            if start is not None and ranks.rank() == 0:
                self.model.eval()
                start()
            ranks.broadcast(self.model.state_dict().values())
            self._save()
        else:
            self._restore(state)
        if ranks.rank() == 0:
            self.folder.cut_log(self.done)

    def train_epoch(self) -> None:
        """One epoch: items, steps, validation, checkpoint."""
        epoch, began = self.done, time.perf_counter()
        torch.manual_seed(self.schedule.seed + epoch)
        self.model.eval()
        items = self.recipe.epoch(epoch)
        if not len(items):
            raise LowqError(f"epoch {epoch}: there is nothing to train on; give the recipe more pictures")
        freeze_statistics(self.model.train())
        loss = self._steps(epoch, items) / len(items)
        self.scheduler.step()
        self.done += 1
        score = self._score(epoch)
        best = self.validate is None or (
            score is not None and (self.best.score is None or score > self.best.score)
        )
        if best:
            self.best = Best(epoch, score, _on_cpu(self.model.state_dict()))
        seconds = round(time.perf_counter() - began, 3)
        self._log(epoch=epoch, loss=loss, validation=score, best=best, seconds=seconds)
        self._save()

    def _steps(self, epoch: int, items: Sequence[Any]) -> float:
        """All steps of an epoch; the sum of its losses."""
        batches = [list(ranks.share(groups)) for groups in _plan(items, self.schedule)]
        own = [item for groups in batches for group in groups for item in group]
        total = 0.0
        threads = self.schedule.side_by_side and self.device.type == "cpu"
        with workers() if threads else nullcontext(map) as mapped, loaded(self.recipe.load, own) as results:
            for step, groups in enumerate(batches):
                began = time.perf_counter()
                rate = self.optimiser.param_groups[0]["lr"]
                self.optimiser.zero_grad(set_to_none=True)
                loss = self._accumulate(mapped, [[next(results) for _ in group] for group in groups])
                self._check_finite(loss, epoch, step)
                self.optimiser.step()
                total += loss
                seconds = round(time.perf_counter() - began, 4)
                self._log(epoch=epoch, step=step, loss=loss, lr=rate, seconds=seconds)
        return total

    def _accumulate(self, mapped: Mapped, groups: Sequence[Sequence[Any]]) -> float:
        """Loss and gradients of a batch, of which this process has `groups`, summed over all processes.

        Sums are made in the groups' order also where they are computed side by side, so equal runs stay equal
        bit by bit.
        """
        total = torch.zeros((), device=self.device)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        for loss, gradients in mapped(partial(self._gradients, trained), groups):
            total += loss
            for parameter, gradient in zip(trained, gradients, strict=True):
                if gradient is not None:
                    known = parameter.grad
                    parameter.grad = gradient if known is None else known.add_(gradient)
        return ranks.sum_gradients(self.model.parameters(), total).item()

    def _gradients(
        self, trained: Sequence[nn.Parameter], group: Sequence[Any]
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """A group's loss and the gradient of each of `trained`, None where it does not depend on it."""
        bf16 = self.schedule.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            loss = self.recipe.loss(group)
        return loss.detach(), torch.autograd.grad(loss, trained, allow_unused=True)

    def _check_finite(self, loss: float, epoch: int, step: int) -> None:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients).item()
        for what, value in (("loss", loss), ("gradient's norm", norm)):
            if not math.isfinite(value):
                raise LowqError(
                    f"epoch {epoch}, step {step}: the {what} is {value}; lower the learning rate or check the data"
                )

    def _score(self, epoch: int) -> float | None:
        """The validation's score in every process; None where this epoch is not validated."""
        last = self.done == self.schedule.epochs
        if self.validate is None or not (last or self.done % self.schedule.validate_every == 0):
            return None
        self.model.eval()
        score = math.nan
        if ranks.rank() == 0:
            with torch.no_grad():
                score = float(self.validate(self.model))
        score = ranks.broadcast_number(score)
        if not math.isfinite(score):
            raise LowqError(f"epoch {epoch}: the validation's score is {score}; check its benchmark")
        return score

    def _log(self, **record: Any) -> None:
        if ranks.rank() == 0:
            self.folder.log(record)

    def _save(self) -> None:
        if ranks.rank() == 0:
            best = {"epoch": self.best.epoch, "score": self.best.score, "weights": self.best.weights}
            self.folder.write_checkpoint(
                {
                    "done": self.done,
                    "model": self.model.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "scheduler": self.scheduler.state_dict(),
                    "best": best,
                }
            )

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.scheduler.load_state_dict(state["scheduler"])
            self.done, self.best = state["done"], Best(**state["best"])
        except (KeyError, TypeError, ValueError, RuntimeError):
            raise LowqError(
                f"{self.folder.checkpoint}: is of another model; choose another folder, or delete this one"
            ) from None


def freeze_statistics(model: nn.Module) -> None:
    """Put batch normalisation into evaluation mode; scale and shift are still trained.

    >>> model = nn.Sequential(nn.BatchNorm2d(3)).train()
    >>> freeze_statistics(model)
    >>> model.training, model[0].training, model[0].weight.requires_grad
    (True, False, True)
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _plan(items: Sequence[Item], schedule: Schedule) -> list[list[Sequence[Item]]]:
    """Batches of groups of items, in order; the last ones may be smaller."""
    batches = _chunks(items, schedule.batch)
    return [_chunks(batch, schedule.group) for batch in batches]


def _chunks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}
