"""AdapNet networks on disk, and those of its comparators, which are AdapNets without branches."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lowq_core.errors import LowqError
from lowq_core.models.adapnet import AdapNet, AdapNetConfig, adapnet
from lowq_core.models.saved import is_network, read_network, save_network
from lowq_core.models.weights import load_into

_KIND = "adapnet"


def save_adapnet(model: AdapNet, path: str | Path) -> None:
    """Write `model` to `path` as safetensors, its config in the metadata; whole or not at all.

    Raises:
        LowqError: the file cannot be written, for example because the disk is full.
    """
    save_network(model, _KIND, {"config": dataclasses.asdict(model.config)}, path)


def is_adapnet(path: str | Path) -> bool:
    """Whether `path` is a file that `save_adapnet` wrote."""
    return is_network(path, _KIND)


def load_adapnet(path: str | Path) -> AdapNet:
    """The network that `save_adapnet` wrote to `path`, in evaluation mode.

    Raises:
        LowqError: no such file, not such a network, names or shapes that do not fit.
    """
    path = Path(path)
    described, state = read_network(path, _KIND)
    try:
        config = AdapNetConfig(**described["config"])
    except LowqError as error:
        raise LowqError(f"{path}: {error}") from None
    except (KeyError, TypeError):
        raise LowqError(f"{path}: not a saved AdapNet network; train one and save it again") from None
    model = adapnet(config, weights="random")
    load_into(model, state, path)
    return model.eval()
