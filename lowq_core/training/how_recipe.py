"""The recipe of HOW: what is drawn, mined, loaded and made small in an epoch; and how its whitening is fitted."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowq_core.errors import LowqError
from lowq_core.extraction.engine import as_tensor, in_parallel, speed_up
from lowq_core.images import Picture, to_array
from lowq_core.losses.contrastive import contrastive_loss
from lowq_core.models.how import HOW
from lowq_core.models.how_config import HowConfig
from lowq_core.models.local_whitening import fit_local_whitening
from lowq_core.training import ranks
from lowq_core.training.mining import mine_negatives
from lowq_core.training.recipe import Schedule
from lowq_core.training.tuples import TrainingTuples

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class HowTraining:
    """How a HOW network is trained; equal trainings on equal pictures give equal networks.

    Attributes:
        config: the network's shape.
        weights: of the trunk at the start: None for ImageNet's, a path, or "random".
        epochs: passes over freshly mined tuples.
        queries_per_epoch: pairs drawn for each epoch; all where there are fewer.
        pool: pictures drawn for each epoch that negatives are mined from; all where there are fewer.
        negatives: negatives of each query.
        batch: tuples a step, whose gradients are summed.
        lr, lr_context: learning rate of the trunk, and that of context and learnable smoothing over it.
        weight_decay, decay: of Adam; factor of the learning rates after each epoch.
        margin: of the loss.
        size: longer side of the pictures in pixels, never enlarged.
        whitening_pictures, whitening_features: the first pictures, and the strongest cells of each, that the
            frozen whitening layer is fitted on.
        shrinkage: of that fit, see `fit_local_whitening`.
        validate_every: epochs from one validation to the next.
        seed: of new layers and of all draws.

    Raises:
        LowqError: a number out of range.

    >>> HowTraining(HowConfig(dim=64), epochs=2).lr_context
    10.0
    """

    config: HowConfig
    weights: str | None = None
    epochs: int = 20
    queries_per_epoch: int = 2000
    pool: int = 20_000
    negatives: int = 5
    batch: int = 5
    lr: float = 5e-6
    lr_context: float = 10.0
    weight_decay: float = 1e-4
    decay: float = 0.99
    margin: float = 0.8
    size: int = 1024
    whitening_pictures: int = 5000
    whitening_features: int = 1000
    shrinkage: float = 0.0
    validate_every: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (
            "queries_per_epoch",
            "pool",
            "negatives",
            "size",
            "whitening_pictures",
            "whitening_features",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise LowqError(f"{name}={getattr(self, name)}: it has to be 1 or more")
        for name in ("lr", "lr_context", "margin"):
            if not getattr(self, name) > 0:
                raise LowqError(f"{name}={getattr(self, name)}: it has to be above 0")
        if self.weight_decay < 0:
            raise LowqError(f"weight_decay={self.weight_decay}: it has to be 0 or more")
        _ = self.schedule  # checks the rest

    @property
    def schedule(self) -> Schedule:
        """What of it the loop wants to know."""
        return Schedule(
            epochs=self.epochs,
            batch=self.batch,
            decay=self.decay,
            seed=self.seed,
            validate_every=self.validate_every,
            side_by_side=True,
        )


class Tuple(NamedTuple):
    """Indices of the pictures of one training tuple."""

    query: int
    positive: int
    negatives: tuple[int, ...]


class HowRecipe:
    """The `Recipe` of HOW: an item is a `Tuple`."""

    def __init__(self, training: HowTraining, data: TrainingTuples, model: HOW) -> None:
        self.training, self.data, self.model = training, data, model
        self.device = _device(model)

    def optimiser(self) -> torch.optim.Optimizer:
        t, model = self.training, self.model
        biases = [p for name, p in model.smoothing.named_parameters() if name.endswith("bias")]
        known = {id(p) for p in biases}
        others = [p for p in model.context_parameters() if id(p) not in known]
        rate = t.lr * t.lr_context
        groups: list[dict[str, Any]] = [
            {"params": model.trunk_parameters(), "lr": t.lr},
            {"params": others, "lr": rate},
            {"params": biases, "lr": rate, "weight_decay": 0.0},
        ]
        return torch.optim.Adam([group for group in groups if group["params"]], weight_decay=t.weight_decay)

    def epoch(self, epoch: int) -> list[Tuple]:
        """Tuples of pairs and a pool drawn anew, negatives mined with the network as it is now."""
        t, data = self.training, self.data
        generator = np.random.default_rng(t.seed + epoch)
        pairs = _draw(generator, data.queries.size, t.queries_per_epoch)
        pool = _draw(generator, len(data.pictures), t.pool)
        queries, positives = data.queries[pairs], data.positives[pairs]
        needed, rows = np.unique(np.concatenate([queries, pool]), return_inverse=True)
        described = describe(self.model, [data.pictures[i] for i in needed], t.size)[rows]
        of_queries, of_pool = np.split(described, [queries.size])
        clusters = data.clusters
        mined = mine_negatives(of_queries, of_pool, clusters[queries], clusters[pool], t.negatives)
        tuples = zip(queries.tolist(), positives.tolist(), pool[mined].tolist(), strict=True)
        return [Tuple(query, positive, tuple(negatives)) for query, positive, negatives in tuples]

    def load(self, item: Tuple) -> list[Pixels]:
        indices = (item.query, item.positive, *item.negatives)
        return [to_array(self.data.pictures[index].load(self.training.size)) for index in indices]

    def loss(self, group: Sequence[Sequence[Pixels]]) -> Tensor:
        return torch.stack([self._tuple_loss(pictures) for pictures in group]).sum()

    def _tuple_loss(self, pictures: Sequence[Pixels]) -> Tensor:
        described = self._described(pictures)
        positive = torch.arange(len(pictures) - 1, device=self.device) == 0
        return contrastive_loss(described[:1], described[None, 1:], positive[None], self.training.margin)

    def _described(self, pictures: Sequence[Pixels]) -> Tensor:
        """(n, D) descriptors; those of one shape go through the network together, nearly twice as fast."""
        shapes = [pixels.shape for pixels in pictures]
        together = [[i for i, shape in enumerate(shapes) if shape == one] for one in dict.fromkeys(shapes)]
        parts = [
            self.model(torch.cat([as_tensor(pictures[i], self.device) for i in indices]))
            for indices in together
        ]
        order = torch.tensor([i for indices in together for i in indices], device=self.device)
        return torch.cat(parts)[order.argsort()]


def fit_whitening(
    model: HOW, training: HowTraining, pictures: Sequence[Picture], scratch: str | Path | None = None
) -> None:
    """Fit the whitening layer of `model` on smoothed features of the first of `pictures`, one scale.

    Args:
        scratch: folder for the features while they are in use (5000 pictures x 1000 features x 512 channels are
            10 GB); None takes the system's.

    Raises:
        LowqError: a picture that cannot be read; features that span fewer axes than the network's `dim`.
    """
    chosen = pictures[: training.whitening_pictures]
    collect = partial(_unwhitened, model, training.size, training.whitening_features)
    with tempfile.TemporaryFile(dir=scratch) as file, in_parallel(collect, chosen) as results:
        for vectors in results:
            file.write(vectors.tobytes())
        file.flush()
        held = np.memmap(file, np.float32, "r").reshape(-1, model.trunk.channels)
        model.set_whitening(*fit_local_whitening(held, model.config.dim, training.shrinkage))


def describe(model: HOW, pictures: Sequence[Picture], size: int) -> NDArray[np.float32]:
    """(N, D) global descriptors of `pictures` at one scale, shared out over the processes.

    Raises:
        LowqError: a picture that cannot be read.
    """
    fast = copy.deepcopy(model).eval()
    speed_up(fast.trunk, "float32")
    rows = torch.zeros(len(pictures), model.config.dim)
    mine = ranks.share(range(len(pictures)))
    with in_parallel(partial(_global, fast, size), [pictures[i] for i in mine]) as results:
        for row, vector in zip(mine, results, strict=True):
            rows[row] = vector
    return ranks.sum_rows(rows).numpy()


@torch.no_grad()
def _global(model: HOW, size: int, picture: Picture) -> Tensor:
    descriptor: Tensor = model(as_tensor(to_array(picture.load(size)), _device(model)))[0].cpu()
    return descriptor


@torch.no_grad()
def _unwhitened(model: HOW, size: int, count: int, picture: Picture) -> NDArray[np.float32]:
    x = as_tensor(to_array(picture.load(size)), _device(model))
    return np.ascontiguousarray(model.unwhitened(x, count).cpu().numpy(), np.float32)


def _device(model: HOW) -> str:
    return str(next(model.parameters()).device)


def _draw(generator: np.random.Generator, of: int, count: int) -> NDArray[np.int64]:
    """`count` different numbers below `of`, in the order drawn; all of them where there are no more."""
    return generator.permutation(of)[:count]
