"""AdapNet's paired training with its degradations against the same loop with them switched off.

The loop that trains: crops are cut, degraded and loaded ahead on threads, both pictures of a pair go through the
network and back, the optimiser steps. Switched off, the second picture of a pair is a copy of the first: what is left
out is the noise alone. Promised: at least 0.9 of the pictures a second, so degrading is not the bottleneck. Pictures
are made up (640 x 480, JPEG); the network is Lite0 with ImageNet's weights and all its stages trained, crops have
224 pixels.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from _harness import Case, main
from PIL import Image, ImageFilter

from lowq_core.images import Picture
from lowq_core.models.adapnet import AdapNetConfig, adapnet
from lowq_core.training.adapnet_recipe import AdapNetRecipe
from lowq_core.training.adapnet_settings import AdapNetTraining
from lowq_core.training.classes import TrainingClasses
from lowq_core.training.loop import run

PROMISE = 0.9


@functools.lru_cache(maxsize=1)
def folder() -> tempfile.TemporaryDirectory[str]:
    """Goes with the process."""
    return tempfile.TemporaryDirectory(prefix="lowq-training-")


def photos(count: int) -> TrainingClasses:
    """`count` JPEGs of blurred noise, two a landmark."""
    generator = np.random.default_rng(0)
    pictures = []
    for number in range(count):
        path = Path(folder().name) / f"{number}.jpg"
        pixels = generator.integers(0, 256, (480, 640, 3), dtype=np.uint8)
        Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(3)).save(path, quality=92)
        pictures.append(Picture(path, path.name))
    return TrainingClasses("made up", tuple(pictures), np.arange(count) // 2)


def epoch(training: AdapNetTraining, data: TrainingClasses, degraded: bool) -> None:
    recipe = AdapNetRecipe(training, data, adapnet(training.config))
    if not degraded:
        recipe.crops = replace(recipe.crops, noises=())
    with tempfile.TemporaryDirectory() as out:
        run(recipe, training.schedule, out)


def cases(quick: bool) -> list[Case]:
    size, count, batch = (96, 16, 8) if quick else (224, 96, 24)
    training = AdapNetTraining(AdapNetConfig(), epochs=1, batch=batch, group=batch, size=size)
    return [
        Case(
            what="an epoch of paired training",
            size=f"{count} pictures, {size} pixels",
            peer_name="degradations off",
            prepare=lambda: (training, photos(count)),
            peer=functools.partial(epoch, degraded=False),
            ours=functools.partial(epoch, degraded=True),
            promise=PROMISE,
            repeats=9,  # runs of the same differ by a fifth and more
            memory=False,
        )
    ]


if __name__ == "__main__":
    main(cases, __doc__)
