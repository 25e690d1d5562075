"""What the frozen stages of a trunk make of a training's crops: computed once, used by all networks that share them.

A crop and its noise are decided by the seed, and frozen stages stay as they are, so networks that differ in their
loss, or in what comes after those stages, start from the same maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.extraction.engine import in_parallel
from lowq_core.extraction.stage_maps import FirstStages
from lowq_core.files import write_array
from lowq_core.models.backbone import Backbone, backbone
from lowq_core.training.adapnet_settings import AdapNetTraining
from lowq_core.training.classes import TrainingClasses
from lowq_core.training.paired import PairedCrops, PairItem, Pixels

T = TypeVar("T")
Map = NDArray[np.float32]
PLAIN, CLEAN, BAD = "plain.npy", "clean.npy", "bad.npy"
LARGEST = 2 << 30
"""Bytes of maps that are worth keeping; beyond that a training computes them as it goes."""


class FrozenMaps:
    """The maps of one training, memory-mapped.

    Attributes:
        plain: (N, C, h, w) float32, of every picture's undegraded crop, which classifiers start from.
        clean, bad: (M, C, h, w) float32, of every item of every epoch.
    """

    def __init__(self, of_clean: Path, of_bad: Path, training: AdapNetTraining, count: int) -> None:
        self.plain, self.clean, self.bad = (
            np.load(file, mmap_mode="r") for file in (of_clean / PLAIN, of_clean / CLEAN, of_bad / BAD)
        )
        self._rows = {item: row for row, item in enumerate(_items(training, count))}

    def __getitem__(self, item: PairItem) -> tuple[Map, Map]:
        """(C, h, w) each: degraded, clean."""
        row = self._rows[item]
        return self.bad[row], self.clean[row]


def check_frozen(trunk: Backbone, frozen: int) -> None:
    """LowqError where `trunk` has fewer stages than are to be frozen."""
    count = len(trunk.stages())
    if frozen > count:
        raise LowqError(f"frozen={frozen}: {trunk.name} has {count} stages; freeze fewer")


def epoch_items(training: AdapNetTraining, count: int, epoch: int) -> list[PairItem]:
    """Which of `count` pictures an epoch draws, each with the seed of its crop and noise."""
    generator = np.random.default_rng((training.seed, epoch))
    drawn = generator.permutation(count)[: training.pictures_per_epoch]
    seeds = generator.integers(2**62, size=drawn.size)
    return [PairItem(int(index), int(seed)) for index, seed in zip(drawn, seeds, strict=True)]


def plain_crop(training: AdapNetTraining, data: TrainingClasses, index: int) -> Pixels:
    """The undegraded crop of a picture that stands for it where a classifier starts."""
    return PairedCrops(training.size, noises=())(data.pictures[index], seed=index).clean


@torch.no_grad()
def frozen_bytes(training: AdapNetTraining, count: int) -> int:
    """How much room the maps of a training on `count` pictures take."""
    trunk = backbone(training.config.backbone, "random")
    crops = count + 2 * training.epochs * min(count, training.pictures_per_epoch)
    return crops * trunk.start(torch.zeros(1, 3, training.size, training.size), training.frozen).nbytes


def write_clean_maps(training: AdapNetTraining, data: TrainingClasses, out: Path) -> None:
    """Write the maps of all undegraded crops of `training` on `data` into the folder `out`; noises do not count.

    Raises:
        LowqError: a picture that cannot be read, more frozen stages than the trunk has.
    """
    start = _first_stages(training)
    crops = replace(training.crops, noises=())

    def of_picture(index: int) -> Map:
        return start(plain_crop(training, data, index))

    def of_item(item: PairItem) -> Map:
        return start(crops(data.pictures[item.picture], item.seed).clean)

    _write(out / PLAIN, of_picture, range(len(data.pictures)))
    _write(out / CLEAN, of_item, _items(training, len(data.pictures)))


def write_bad_maps(training: AdapNetTraining, data: TrainingClasses, out: Path) -> None:
    """Write the maps of all degraded crops of `training` on `data` into the folder `out`.

    Raises:
        LowqError: as `write_clean_maps`.
    """
    start = _first_stages(training)

    def of_item(item: PairItem) -> Map:
        return start(training.crops(data.pictures[item.picture], item.seed).bad)

    _write(out / BAD, of_item, _items(training, len(data.pictures)))


def _first_stages(training: AdapNetTraining) -> FirstStages:
    trunk = backbone(training.config.backbone, training.weights)
    check_frozen(trunk, training.frozen)
    return FirstStages(trunk, training.frozen)


def _write(file: Path, map_of: Callable[[T], Map], items: Sequence[T]) -> None:
    with in_parallel(map_of, items) as maps:
        write_array(file, np.stack(list(maps)))


def _items(training: AdapNetTraining, count: int) -> Sequence[PairItem]:
    return [item for epoch in range(training.epochs) for item in epoch_items(training, count, epoch)]
