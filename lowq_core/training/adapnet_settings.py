"""What an AdapNet, or one of its comparators, is trained by: every number of it in one place.

Reconstruction: of arXiv 2405.17718 the eight noises' number, the three terms and the weights' names are certain; the
values below, AdamW and the decay of its rates included, are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

from lowq_core.degrade import KNOWN, SEVERITIES
from lowq_core.errors import LowqError
from lowq_core.losses.margin import MarginLoss
from lowq_core.losses.noiretrieval import NoiRetrieval
from lowq_core.losses.siblings import AdaFace, ArcFace, CosFace, Softmax
from lowq_core.models.adapnet import AdapNetConfig
from lowq_core.training.paired import PairedCrops
from lowq_core.training.recipe import Schedule

MARGINS: dict[str, Callable[..., MarginLoss]] = {
    "softmax": Softmax,
    "cosface": CosFace,
    "arcface": ArcFace,
    "adaface": AdaFace,
    "noiretrieval": NoiRetrieval,
    "mirrored": partial(NoiRetrieval, form="mirrored"),
}
"""What may classify; each takes the same margin, so that rows differ in its form alone."""

ClassStart = Literal["means", "random"]


@dataclass(frozen=True)
class AdapNetTraining:
    """How an AdapNet, or one of its comparators, is trained; equal trainings on equal pictures give equal networks.

    Attributes:
        config: the network's shape; without branches it is a plain GeM network.
        weights: of the trunk at the start: None for ImageNet's, a path, or "random".
        classification: a key of `MARGINS`, or None for no classification.
        alpha, beta: weights of the global and the local InfoNCE; 0 leaves the term out.
        distil: weight of the squared distance to what the untrained network says of the clean picture.
        noises, severities: that copies are degraded by, drawn alike; no noises: clean pictures only.
        epochs: passes.
        pictures_per_epoch: pictures drawn for each epoch; all where there are fewer.
        batch, group: pictures a step, and pictures that go through the network together: InfoNCE's negatives
            come from a group. Under `torchrun` processes share the groups of a batch out.
        lr, lr_new, lr_block: learning rate of the trunk; over it, those of the classifier and of the block.
        weight_decay, decay: of AdamW; factor of the learning rates after each epoch.
        margin, scale: of the classification.
        class_start: "means", or "random" where there are too many pictures for a pass over all; see
            `fit_classifier`.
        temperature: of InfoNCE.
        stop_gradient: whether the clean side of InfoNCE is a goal that the loss must not move.
        size: side of the crops in pixels.
        frozen: first stages of the trunk that are left as they are.
        precision: "float32" or "bf16".
        seed: of new layers and of all draws.

    Raises:
        LowqError: a number out of range, nothing that is made small, an unknown classification.

    >>> AdapNetTraining(AdapNetConfig()).alpha
    1.0
    """

    config: AdapNetConfig = field(default_factory=AdapNetConfig)
    weights: str | None = None
    classification: str | None = "noiretrieval"
    alpha: float = 1.0
    beta: float = 1.0
    distil: float = 0.0
    noises: tuple[str, ...] = KNOWN
    severities: tuple[int, ...] = SEVERITIES
    epochs: int = 10
    pictures_per_epoch: int = 100_000
    batch: int = 128
    group: int = 128
    lr: float = 1e-4
    lr_new: float = 10.0
    lr_block: float = 10.0
    weight_decay: float = 1e-4
    decay: float = 0.9
    margin: float = 0.15
    scale: float = 30.0
    class_start: ClassStart = "means"
    temperature: float = 0.07
    stop_gradient: bool = True
    size: int = 512
    frozen: int = 0
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.classification is not None and self.classification not in MARGINS:
            raise LowqError(
                f"classification {self.classification!r} is unknown; choose one of {', '.join(MARGINS)}, or None"
            )
        for name in ("alpha", "beta", "distil"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise LowqError(f"{name}={getattr(self, name)}: choose a finite number from 0")
        if self.class_start not in get_args(ClassStart):
            raise LowqError(f"class_start {self.class_start!r} is unknown; choose means or random")
        if self.classification is None and not (self.alpha or self.beta or self.distil):
            raise LowqError(
                "nothing to train for: choose a classification, or set alpha, beta or distil above 0"
            )
        if not self.noises and (self.alpha or self.beta):
            raise LowqError(
                f"alpha={self.alpha:g}, beta={self.beta:g}: InfoNCE needs degraded copies; name noises"
            )
        for name in ("lr", "lr_new", "lr_block", "temperature", "scale"):
            if not getattr(self, name) > 0:
                raise LowqError(f"{name}={getattr(self, name)}: it has to be above 0")
        for name in ("weight_decay", "frozen", "margin"):
            if getattr(self, name) < 0:
                raise LowqError(f"{name}={getattr(self, name)}: it has to be 0 or more")
        if self.pictures_per_epoch < 1:
            raise LowqError(f"pictures_per_epoch={self.pictures_per_epoch}: it has to be 1 or more")
        _ = self.schedule, self.crops  # check the rest

    @property
    def schedule(self) -> Schedule:
        """What of it the loop wants to know."""
        return Schedule(
            epochs=self.epochs,
            batch=self.batch,
            group=self.group,
            decay=self.decay,
            seed=self.seed,
            precision=self.precision,
        )

    @property
    def crops(self) -> PairedCrops:
        """How pairs are cut and degraded."""
        return PairedCrops(self.size, self.noises, self.severities)
