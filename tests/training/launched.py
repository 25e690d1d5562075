"""What `torchrun` starts: HOW, or AdapNet with one of its margins, trained on a folder of little pictures, named by
place and view."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from lowq_core.data.labels import ImageSet
from lowq_core.models.adapnet import AdapNetConfig
from lowq_core.models.how_config import HowConfig
from lowq_core.training.adapnet import train_adapnet
from lowq_core.training.adapnet_settings import AdapNetTraining
from lowq_core.training.classes import TrainingClasses
from lowq_core.training.how import HowTraining, train_how
from lowq_core.training.tuples import from_labels


def train(kind: str, photos: Path, out: Path) -> None:
    names = tuple(sorted(path.name for path in photos.glob("*.png")))
    places = np.array([int(name[0]) for name in names])
    data = from_labels(ImageSet("places", photos, names, places, tuple("abcde")), seed=0)
    if kind == "how":
        how = HowConfig(dim=8, smoothing="learnable")
        told = HowTraining(
            how, epochs=2, queries_per_epoch=6, pool=14, negatives=2, batch=4, size=64, lr=1e-4
        )
        train_how(told, data, out)
    else:
        config = AdapNetConfig(branches=2)
        net = AdapNetTraining(config, classification=kind, epochs=2, batch=8, group=4, size=64, lr=1e-4)
        train_adapnet(net, TrainingClasses("places", data.pictures, data.clusters), out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
