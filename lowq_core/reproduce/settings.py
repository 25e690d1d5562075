"""What of a profile concerns one family of networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LocalSettings:
    """How a profile makes, trains and searches local features (HOW + ASMK).

    Attributes:
        backbone, dim: trunk and dimensions of the local descriptors.
        size, scales, count: longer side in pixels, relative scales, and features kept of a picture.
        precision, engine: of the trunk when features are extracted.
        seeds: one training run each, where variants are compared.
        noises: known noises under which variants are compared.
        words, codebook_pictures: visual words, and training pictures that they are made of.
        epochs, queries_per_epoch, pool, negatives, batch: of the training, see `HowTraining`.
        lr, train_size: learning rate of the trunk, chosen on `validation`, and longer side of the training
            pictures.
        whitening_pictures, whitening_features: what the whitening layer is fitted on.
        validation: benchmark on which an epoch is selected by `AsmkValidation`; "" keeps the last epoch.
    """

    backbone: str
    dim: int
    size: int
    scales: tuple[float, ...]
    count: int
    precision: str
    words: int
    codebook_pictures: int
    epochs: int
    queries_per_epoch: int
    pool: int
    negatives: int
    batch: int
    lr: float
    train_size: int
    whitening_pictures: int
    whitening_features: int
    seeds: tuple[int, ...]
    noises: tuple[str, ...]
    engine: str = "torch"
    validation: str = ""


@dataclass(frozen=True)
class TunedSettings:
    """How a profile trains trunks for bad pictures (AdapNet and its comparators), and compares many of them.

    Attributes:
        train: names of the training sets, whose landmarks are the classes.
        size, epochs, pictures_per_epoch, batch, group, lr, frozen, decay, precision, class_start: see
            `AdapNetTraining`.
        distil: weight of the distance to what the untrained network says of the clean picture, in every row but
            `distilled`, which has nothing else. 0 as published; a few landmarks alone would teach the trunk to tell
            those few apart and to forget all others.
        seeds: one training run each.
        variant_size: longer side in pixels where many networks are compared.
        variant_noises: degradations of the queries there.
    """

    train: tuple[str, ...]
    size: int
    epochs: int
    pictures_per_epoch: int
    batch: int
    group: int
    lr: float
    frozen: int
    seeds: tuple[int, ...]
    variant_size: int
    variant_noises: tuple[str, ...]
    distil: float = 0.0
    decay: float = 0.9
    precision: str = "float32"
    class_start: Literal["means", "random"] = "means"
