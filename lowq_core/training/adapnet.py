"""Training AdapNet and its comparators: pairs of a picture and its degraded copy.

Source: arXiv 2405.17718 for the three terms and the pairs; what the recipe could not be told by it is marked as
reconstruction where it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lowq_core.errors import LowqError
from lowq_core.models.adapnet import AdapNet, adapnet
from lowq_core.models.adapnet_checkpoints import save_adapnet
from lowq_core.training import ranks
from lowq_core.training.adapnet_recipe import AdapNetRecipe, Trained, fit_classifier
from lowq_core.training.adapnet_settings import AdapNetTraining
from lowq_core.training.classes import TrainingClasses
from lowq_core.training.folder import RunFolder, run_identity
from lowq_core.training.frozen_maps import FrozenMaps
from lowq_core.training.loop import run

__all__ = ["ROWS", "AdapNetTraining", "row", "train_adapnet", "untrained"]

ROWS: dict[str, dict[str, Any]] = {
    "finetuned": {"classification": "arcface", "alpha": 0.0, "beta": 0.0, "noises": (), "branches": 0},
    "augmented": {"classification": "arcface", "alpha": 0.0, "beta": 0.0, "branches": 0},
    "distilled": {"classification": None, "alpha": 0.0, "beta": 0.0, "distil": 1.0, "branches": 0},
    "qcb": {"classification": "arcface"},
    "ngb": {"alpha": 0.0, "beta": 0.0, "branches": 0},
    "adapnet": {},
}
"""What the rows of the tables change of `AdapNetTraining`, and of its config (`branches`).

`augmented` is the ablation's baseline: degradations as plain augmentation. `qcb` adds the block and the InfoNCE that
trains it, `ngb` the margin by quality; `adapnet` has both.
"""


def row(name: str, base: AdapNetTraining) -> AdapNetTraining:
    """The training of a row: `base` with what the row changes, all else equal.

    Raises:
        LowqError: an unknown row.

    >>> row("augmented", AdapNetTraining()).config.branches
    0
    """
    if name not in ROWS:
        raise LowqError(f"training row {name!r} is unknown; choose one of {', '.join(ROWS)}")
    changes = dict(ROWS[name])
    branches = changes.pop("branches", base.config.branches)
    return replace(base, config=replace(base.config, branches=branches), **changes)


def untrained(training: AdapNetTraining) -> AdapNet:
    """The network that `training` starts from, its new layers as its seed draws them."""
    with torch.random.fork_rng(devices=[]):
        return _start(training)


def train_adapnet(
    training: AdapNetTraining,
    data: TrainingClasses,
    out: str | Path,
    validate: Callable[[AdapNet], float] | None = None,
    *,
    maps: FrozenMaps | None = None,
    device: str = "cpu",
) -> Path:
    """Train a network; returns the file of its best epoch, for `load_adapnet`.

    A run that was interrupted goes on after its last finished epoch, and ends with the same weights; a finished one
    is returned at once. Under `torchrun` the processes share the groups of a batch out. See
    `lowq_core.training.loop`.

    Args:
        training: how.
        data: on what.
        out: folder of this one run; it gets `model.safetensors`, `config.json` and `log.jsonl`.
        validate: the network in evaluation mode -> a score, higher is better; the best epoch is kept. Without
            it the last one is.
        maps: what the frozen stages make of the same pictures with the same settings, which saves most of the time.
        device: "cpu" or "cuda".

    Raises:
        LowqError: a picture that cannot be read; a loss that is not finite; `out` holds another run; no GPU for
            "cuda".
    """
    folder = RunFolder(out)
    with ranks.joined(), torch.random.fork_rng(devices=[]):
        folder.claim(run_identity(training, data), write=ranks.rank() == 0)
        if not folder.model.is_file():
            network = _start(training).to(ranks.available_device(device))
            recipe = AdapNetRecipe(training, data, network, maps)
            start = partial(fit_classifier, recipe)
            run(recipe, training.schedule, folder.path, start=start, validate=_of_network(validate))
            if ranks.rank() == 0:
                save_adapnet(network.cpu(), folder.model)
                folder.checkpoint.unlink(missing_ok=True)
        ranks.wait()
    return folder.model


def _start(training: AdapNetTraining) -> AdapNet:
    torch.manual_seed(training.seed)
    return adapnet(training.config, training.weights)


def _of_network(validate: Callable[[AdapNet], float] | None) -> Callable[[nn.Module], float] | None:
    """`validate` for the loop, whose model has the classifier as well."""
    if validate is None:
        return None

    def of_trained(model: nn.Module) -> float:
        assert isinstance(model, Trained)
        return validate(model.network)

    return of_trained
