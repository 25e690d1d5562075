"""Training HOW, with or without context, as published: contrastive loss, hard negatives mined at every epoch.

Source: Tolias, Jenicek, Chum, ECCV 2020, and their released code; ten times the learning rate for context and
learnable smoothing, and no weight decay on the smoothing's biases, are a reconstruction of what is said of the
graph-refined networks ("small for the backbone, large for the rest, 1:10").
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lowq_core.models.how import HOW, how
from lowq_core.models.how_checkpoints import save_how
from lowq_core.models.how_config import HowConfig
from lowq_core.training import ranks
from lowq_core.training.folder import RunFolder, run_identity
from lowq_core.training.how_recipe import HowRecipe, HowTraining, fit_whitening
from lowq_core.training.loop import run
from lowq_core.training.tuples import TrainingTuples

__all__ = ["HowTraining", "eccv20", "train_how"]


def eccv20(config: HowConfig, **overrides: Any) -> HowTraining:
    """The published recipe for a trunk, single fields replaced.

    20 epochs of 2000 queries with 5 negatives from a pool of 20,000, 1024 pixels, selection at every fifth epoch;
    learning rate 5e-6 for ResNet-18, 1e-6 for ResNet-50 without its last block. Others take 5e-6.

    >>> eccv20(HowConfig(backbone="resnet50-")).lr
    1e-06
    """
    lr = 1e-6 if config.backbone == "resnet50-" else 5e-6
    return HowTraining(config, **({"lr": lr} | overrides))


def train_how(
    training: HowTraining,
    data: TrainingTuples,
    out: str | Path,
    validate: Callable[[HOW], float] | None = None,
    *,
    device: str = "cpu",
) -> Path:
    """Train a HOW network; returns the file of its best epoch, for `load_how`.

    First the whitening layer is fitted on smoothed features of the untrained network, then it is frozen. A run
    that was interrupted goes on after its last finished epoch, and ends with the same weights; a finished one is
    returned at once. Under `torchrun` the processes share the pictures out. See `lowq_core.training.loop`.

    Args:
        training: how.
        data: on what.
        out: folder of this one run; it gets `model.safetensors`, `config.json` and `log.jsonl`.
        validate: the network in evaluation mode -> a score, higher is better; the best epoch is kept. Without
            it the last one is. What it measures is not part of the run's config: give each its own folder.
        device: "cpu" or "cuda".

    Raises:
        LowqError: a picture that cannot be read; too few clusters for the negatives; a loss that is not finite;
            `out` holds another run; no GPU for "cuda".
    """
    folder = RunFolder(out)
    with ranks.joined(), torch.random.fork_rng(devices=[]):
        folder.claim(run_identity(training, data), write=ranks.rank() == 0)
        if not folder.model.is_file():
            torch.manual_seed(training.seed)
            model = how(training.config, training.weights).to(ranks.available_device(device))
            recipe = HowRecipe(training, data, model)
            start = partial(fit_whitening, model, training, data.pictures, folder.path)
            run(recipe, training.schedule, folder.path, start=start, validate=_typed(validate))
            if ranks.rank() == 0:
                save_how(model.cpu(), folder.model)
                folder.checkpoint.unlink(missing_ok=True)
        ranks.wait()
    return folder.model


def _typed(validate: Callable[[HOW], float] | None) -> Callable[[nn.Module], float] | None:
    """`validate` for the loop, which knows of modules only."""
    if validate is None:
        return None

    def of_module(model: nn.Module) -> float:
        assert isinstance(model, HOW)
        return validate(model)

    return of_module
