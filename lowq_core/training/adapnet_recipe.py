"""The recipe of AdapNet and of what it is compared with: one network, one loop, other terms of the loss."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lowq_core.extraction.engine import as_tensor, in_parallel
from lowq_core.losses.adapnet import AdapNetLoss, Pairs
from lowq_core.losses.margin import MarginLoss
from lowq_core.losses.quality import NormStatistics, QualityMarginLoss, clipped_norms, norm_sums
from lowq_core.models.adapnet import AdapNet
from lowq_core.models.pooling import l2n
from lowq_core.training import ranks
from lowq_core.training.adapnet_settings import MARGINS, AdapNetTraining
from lowq_core.training.classes import TrainingClasses
from lowq_core.training.frozen_maps import FrozenMaps, check_frozen, epoch_items, plain_crop
from lowq_core.training.paired import PairItem

LOCAL_SIDE = 3
"""Cells along a side that a map is brought down to for the local InfoNCE."""


Crop = NDArray[Any]
"""Pixels (S, S, 3) uint8, or what the frozen stages make of them, (C, h, w) float32."""


class Loaded(NamedTuple):
    """One picture of a batch, degraded and clean, and its class."""

    bad: Crop
    clean: Crop
    label: int


class Trained(nn.Module):
    """What is trained: the network, which is kept, and the classifier, which only training needs."""

    def __init__(self, network: AdapNet, loss: AdapNetLoss) -> None:
        super().__init__()
        self.network, self.loss = network, loss


class AdapNetRecipe:
    """The `Recipe` of AdapNet: an item is a `PairItem`.

    Every picture goes through the network twice, clean and degraded, in one pass, as queries and database do
    later. Both are classified; the degraded one is compared with the clean one globally (GeM) and locally (cells
    of the map brought down to 3 x 3: a cell has to find its own picture's clean cell among those of other landmarks).
    What is local in the paper is not known; this is a reconstruction.

    The statistics of norms move once a batch, by the norms of all its groups, whichever process computed them; a
    group's own quality is taken as if it were the whole batch.

    Args:
        training, data: how, on what.
        network: what is trained, in place.
        maps: what its frozen stages make of the crops, where that is known already.

    Raises:
        LowqError: more frozen stages than the trunk has.
    """

    def __init__(
        self,
        training: AdapNetTraining,
        data: TrainingClasses,
        network: AdapNet,
        maps: FrozenMaps | None = None,
    ) -> None:
        self.training, self.data, self.maps = training, data, maps
        self.device = next(network.parameters()).device
        self.crops = training.crops
        self.model = Trained(network, _loss(training, network.trunk.channels, data.count)).to(self.device)
        self.teacher = copy.deepcopy(network).eval().requires_grad_(False) if training.distil else None
        self._sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # of this batch's norms so far
        check_frozen(network.trunk, training.frozen)
        for stage in network.trunk.stages()[: training.frozen]:
            stage.requires_grad_(False)

    def optimiser(self) -> torch.optim.Optimizer:
        t, network = self.training, self.model.network
        trunk = [*network.trunk.body.parameters(), *network.pool.parameters()]
        block, classifier = network.trunk.refine.parameters(), self.model.loss.parameters()
        rates = [(trunk, t.lr), (block, t.lr * t.lr_block), (classifier, t.lr * t.lr_new)]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.requires_grad], "lr": rate} for parameters, rate in rates
        ]
        optimiser = torch.optim.AdamW(
            [group for group in groups if group["params"]], weight_decay=t.weight_decay
        )
        optimiser.register_step_post_hook(lambda *_: self._take_in_norms())
        return optimiser

    def epoch(self, epoch: int) -> list[PairItem]:
        """Pictures drawn anew, each with the seed of its crop and noise."""
        return epoch_items(self.training, len(self.data.pictures), epoch)

    def load(self, item: PairItem) -> Loaded:
        label = int(self.data.labels[item.picture])
        if self.maps is not None:
            bad, clean = self.maps[item]
            return Loaded(bad, clean, label)
        pair = self.crops(self.data.pictures[item.picture], item.seed)
        return Loaded(pair.bad, pair.clean, label)

    def loss(self, group: Sequence[Loaded]) -> Tensor:
        """The sum over the group's pictures, as the loop wants it."""
        labels = torch.tensor([one.label for one in group], device=self.device)
        clean = self.start([one.clean for one in group])
        if not self.training.noises:
            return self._of_clean(clean, labels) * len(group)
        bad = self.start([one.bad for one in group])
        maps = self._finish(self.model.network, torch.cat([bad, clean]))
        vectors = self.model.network.pool(maps)
        total = self._distillation(vectors, torch.cat([clean, clean]))
        if self.training.classification or self.training.alpha or self.training.beta:
            of_bad, of_clean = vectors.chunk(2)
            of_global = Pairs(of_bad, of_clean, labels)
            total = total + self._classified(vectors, labels.repeat(2), of_global, _cells(maps, labels))
        return total * len(group)

    def describe(self, network: AdapNet, start: Tensor) -> Tensor:
        """What `network` says of pictures whose maps after the frozen stages are `start`: (B, C), not normalised."""
        vectors: Tensor = network.pool(self._finish(network, start))
        return vectors

    def start(self, crops: Sequence[Crop]) -> Tensor:
        """What the frozen stages make of crops; crops of `FrozenMaps` have been through them."""
        if self.maps is not None:
            maps = torch.from_numpy(np.stack(crops)).to(self.device)
            return maps.contiguous(memory_format=torch.channels_last)
        x = torch.cat([as_tensor(pixels, str(self.device)) for pixels in crops])
        x = x.contiguous(memory_format=torch.channels_last)
        return self.model.network.trunk.start(x, self.training.frozen)

    def _finish(self, network: AdapNet, start: Tensor) -> Tensor:
        return network.trunk.finish(start, self.training.frozen)

    def _of_clean(self, clean: Tensor, labels: Tensor) -> Tensor:
        vectors = self.describe(self.model.network, clean)
        total = self._distillation(vectors, clean)
        if self.training.classification:
            total = total + self._classified(vectors, labels)
        return total

    def _classified(self, vectors: Tensor, labels: Tensor, *pairs: Pairs) -> Tensor:
        """The loss of a group. It moves the statistics of norms for itself alone; the batch moves them for good."""
        statistics = self._statistics
        if statistics is None or not statistics.training:
            return self.model.loss(vectors, labels, *pairs).total
        before = copy.deepcopy(statistics.state_dict())
        total: Tensor = self.model.loss(vectors, labels, *pairs).total
        statistics.load_state_dict(before)
        self._sums += norm_sums(clipped_norms(vectors))
        return total

    def _take_in_norms(self) -> None:
        """One update of the statistics by the whole batch's norms, those of other processes among them."""
        if self._statistics is not None:
            self._statistics.update_from(ranks.sum_rows(self._sums))
            self._sums.zero_()

    @property
    def _statistics(self) -> NormStatistics | None:
        head = self.model.loss.classification
        return head.statistics if isinstance(head, QualityMarginLoss) else None

    def _distillation(self, vectors: Tensor, clean: Tensor) -> Tensor:
        """delta * mean squared distance to the teacher's descriptors of `clean`, 0..4."""
        if self.teacher is None:
            return vectors.new_zeros(())
        with torch.no_grad():
            goal = l2n(self.describe(self.teacher, clean).float())
        distance = (l2n(vectors.float()) - goal).square().sum(1)
        return self.training.distil * distance.mean()


def fit_classifier(recipe: AdapNetRecipe) -> None:
    """Start the classifier where the network is: a class's weights are the mean descriptor of its pictures.

    The statistics of norms start with those of the same pictures. From random weights the first steps of a short
    training would only undo what ImageNet taught the trunk. Reconstruction.

    Raises:
        LowqError: a picture that cannot be read.
    """
    head = recipe.model.loss.classification
    if not isinstance(head, MarginLoss) or recipe.training.class_start == "random":
        return
    network = copy.deepcopy(recipe.model.network).eval()

    @torch.no_grad()
    def described(indices: range) -> Tensor:
        crops = [
            recipe.maps.plain[index] if recipe.maps else plain_crop(recipe.training, recipe.data, index)
            for index in indices
        ]
        return recipe.describe(network, recipe.start(crops)).float()

    count, step = len(recipe.data.pictures), recipe.training.group
    with in_parallel(described, [range(i, min(i + step, count)) for i in range(0, count, step)]) as results:
        vectors = torch.cat(list(results))
    labels = torch.from_numpy(recipe.data.labels).to(vectors.device)
    with torch.no_grad():
        sums = torch.zeros_like(head.weight).index_add_(0, labels, l2n(vectors))
        head.weight.copy_(F.normalize(sums))
        if isinstance(head, QualityMarginLoss):
            norms = clipped_norms(vectors)
            head.statistics.mu.copy_(norms.mean())
            head.statistics.sigma.copy_(norms.std())


class _NoClassification(nn.Module):
    """0, for trainings without classes."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return embeddings.new_zeros(())


def _loss(training: AdapNetTraining, dim: int, classes: int) -> AdapNetLoss:
    head: nn.Module = _NoClassification()
    if training.classification is not None:
        of_margin = {} if training.classification == "softmax" else {"margin": training.margin}
        make = partial(MARGINS[training.classification], dim, classes)
        head = make(scale=training.scale, **of_margin)
    return AdapNetLoss(head, training.alpha, training.beta, training.temperature, training.stop_gradient)


def _cells(maps: Tensor, labels: Tensor) -> Pairs:
    """Of maps (2 B, C, h, w), degraded and clean, (B * 9, C) cells; those of one landmark are no negatives."""
    small = F.adaptive_avg_pool2d(maps, LOCAL_SIDE).flatten(2).transpose(1, 2)
    bad, clean = small.flatten(0, 1).chunk(2)
    return Pairs(bad, clean, labels.repeat_interleave(LOCAL_SIDE**2))
