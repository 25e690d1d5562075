"""Trunks trained for bad pictures, AdapNet and its comparators, each kept in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from lowq_core.extraction.config import EmbedConfig
from lowq_core.methods.data import training_classes
from lowq_core.methods.digests import array_digest, file_digest, pictures_digest
from lowq_core.methods.kept import kept_network, undamaged
from lowq_core.methods.parts import BLOCK, Tuned
from lowq_core.methods.say import Say, telling, to_stderr
from lowq_core.models.adapnet import AdapNetConfig, between
from lowq_core.models.adapnet_checkpoints import load_adapnet, save_adapnet
from lowq_core.reproduce.profiles import Profile
from lowq_core.reproduce.store import Store
from lowq_core.training.adapnet import AdapNetTraining, row, train_adapnet, untrained
from lowq_core.training.classes import TrainingClasses
from lowq_core.training.frozen_maps import (
    BAD,
    CLEAN,
    LARGEST,
    PLAIN,
    FrozenMaps,
    frozen_bytes,
    write_bad_maps,
    write_clean_maps,
)

MODEL = "model.safetensors"


@dataclass(frozen=True)
class TunedNetworks:
    """Trains networks with one profile's recipe.

    Attributes:
        profile: training data and, in `profile.tuned`, the settings of the training.
        embed: backbone, weights and GeM's exponent at the start.
        store: where finished networks are kept.
        say: told what takes long.
    """

    profile: Profile
    embed: EmbedConfig
    store: Store
    say: Say = to_stderr

    def training(self, tuned: Tuned) -> AdapNetTraining:
        """What is trained for `tuned`."""
        config = AdapNetConfig(self.embed.backbone, p=self.embed.p)
        settings = self.profile.tuned
        base = AdapNetTraining(
            config,
            self.embed.weights,
            epochs=settings.epochs,
            pictures_per_epoch=settings.pictures_per_epoch,
            batch=settings.batch,
            group=settings.group,
            lr=settings.lr,
            distil=settings.distil,
            decay=settings.decay,
            size=settings.size,
            frozen=settings.frozen,
            class_start=settings.class_start,
            precision=settings.precision,
            seed=tuned.seed,
        )
        found, changes = row(tuned.row, base), dict(tuned.changes)
        of_block = {name: changes.pop(name) for name in BLOCK if name in changes}
        return replace(found, config=replace(found.config, **of_block), **changes)

    def network(self, tuned: Tuned) -> Path:
        """The file of the network, for `load_adapnet`; trained once on the profile's training pictures."""
        if tuned.share != 1:
            return self._part_of_the_way(tuned)
        data, training = training_classes(self.profile), self.training(tuned)
        if tuned.drawn is not None:
            data = data.drawn(*tuned.drawn, seed=tuned.seed)

        def make(out: Path) -> None:
            sets = ", ".join(self.profile.tuned.train)
            with telling(self.say, f"{tuned.row}: training on {len(data.pictures)} pictures of {sets}"):
                train_adapnet(training, data, out, maps=self._frozen_maps(training, data))

        folder = self.store.get(
            "adapnet",
            config=asdict(training) | {"weights": None},
            inputs={
                "pictures": pictures_digest(data.pictures),
                "labels": array_digest(data.labels),
                "weights": self._starting_weights(),
            },
            code=["lowq_core.training.adapnet"],
            make=make,
            resume=True,
        )
        return kept_network(folder, MODEL, "adapnet")

    def _part_of_the_way(self, tuned: Tuned) -> Path:
        trained, training = self.network(replace(tuned, share=1.0)), self.training(tuned)
        folder = self.store.get(
            "part_of_the_way",
            config={"share": tuned.share, "seed": training.seed},
            inputs={"network": file_digest(trained), "weights": self._starting_weights()},
            code=["lowq_core.models.adapnet"],
            make=lambda out: save_adapnet(
                between(untrained(training), load_adapnet(trained), tuned.share), out / MODEL
            ),
        )
        return kept_network(folder, MODEL, "adapnet")

    def _frozen_maps(self, training: AdapNetTraining, data: TrainingClasses) -> FrozenMaps | None:
        """What the frozen stages make of the training's crops, kept for all networks that start alike."""
        count = len(data.pictures)
        whole = training.frozen and training.precision == "float32"
        if not whole or frozen_bytes(training, count) > LARGEST:
            return None
        crops = ("size", "seed", "epochs", "pictures_per_epoch", "frozen")
        noises = ("noises", "severities")

        def kept(
            step: str, fields: tuple[str, ...], write: Callable[..., None], files: tuple[str, ...]
        ) -> Path:
            folder = self.store.get(
                step,
                config={"backbone": training.config.backbone}
                | {key: getattr(training, key) for key in fields},
                inputs={"pictures": pictures_digest(data.pictures), "weights": self._starting_weights()},
                code=["lowq_core.training.frozen_maps"],
                make=lambda out: write(training, data, out),
            )
            undamaged(folder, lambda: [np.load(folder / name, mmap_mode="r") for name in files])
            return folder

        clean = kept("clean_maps", crops, write_clean_maps, (PLAIN, CLEAN))
        bad = kept("bad_maps", crops + noises, write_bad_maps, (BAD,))
        return FrozenMaps(clean, bad, training, count)

    def _starting_weights(self) -> str:
        weights = self.embed.weights
        return "ImageNet" if weights is None else file_digest(Path(weights))
