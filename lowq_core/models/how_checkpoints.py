"""HOW networks on disk: our own files, and the published ones, read without running code from them.

A published file is a pickle of `{'net_params': {...}, 'state_dict': {...}, ...}`: `net_params` names the
architecture, how many of its last stages are left out, the dimension and the smoothing kernel; `state_dict`
numbers the trunk's layers (`features.4.0.conv1.weight`, ...) and calls the whitening `dim_reduction`. Older ones have
`meta` instead of `net_params`, and call it `whiten`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lowq_core.errors import LowqError
from lowq_core.models.backbone import Backbone, backbone
from lowq_core.models.checkpoints import read_checkpoint, trunk_key
from lowq_core.models.how import HOW
from lowq_core.models.how_config import HowConfig
from lowq_core.models.saved import read_network, save_network
from lowq_core.models.weights import load_into

_KIND = "how"


def save_how(model: HOW, path: str | Path) -> None:
    """Write `model` to `path` as safetensors, its config in the metadata; whole or not at all.

    Equal networks give equal bytes.

    Raises:
        LowqError: the file cannot be written, for example because the disk is full.
    """
    described = {
        "config": dataclasses.asdict(model.config),
        "mean": model.trunk.mean.flatten().tolist(),
        "std": model.trunk.std.flatten().tolist(),
    }
    save_network(model, _KIND, described, path)


def load_how(path: str | Path) -> HOW:
    """The network that `save_how` wrote to `path`, or a published one, in evaluation mode.

    Raises:
        LowqError: no such file, not such a network, a published one on another trunk than ResNet-18, ResNet-50
            or ResNet-101 with up to one stage left out, names or shapes that do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise LowqError(f"{path}: no such HOW network; train one and save it there, or check the path")
    return _load_own(path) if path.suffix == ".safetensors" else _load_published(path)


def _load_own(path: Path) -> HOW:
    described, state = read_network(path, _KIND)
    try:
        config = HowConfig(**described["config"])
        mean, std = (tuple(float(v) for v in described[name]) for name in ("mean", "std"))
    except LowqError as error:
        raise LowqError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError):
        raise LowqError(f"{path}: not a saved HOW network; train one and save it again") from None
    return _filled(config, mean, std, state, path)


def _load_published(path: Path) -> HOW:
    content = read_checkpoint(path)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
        raise LowqError(f"{path}: holds no 'state_dict'; give a checkpoint as published with HOW")
    params = content.get("net_params") or _old_params(content.get("meta"))
    try:
        skipped = int(params["skip_layer"])
        name = f"{params['architecture']}{'-' * skipped}"
        mean, std = (tuple(float(v) for v in values) for values in params["runtime"]["mean_std"])
        dim = int(params["dim_reduction"]["dim"])
        kernel = int(params["smoothing"]["kernel_size"]) if params["smoothing"] else 0
    except (KeyError, TypeError, ValueError):
        raise LowqError(
            f"{path}: lacks part of the network's description ('net_params'); give a checkpoint as published with HOW"
        ) from None
    if name not in ("resnet18", "resnet50", "resnet50-", "resnet101"):
        raise LowqError(
            f"{path}: trunk {params['architecture']!r} without its last {skipped} stages is not supported; "
            f"use one of resnet18, resnet50, resnet50 less one stage, resnet101"
        )
    smoothing = {"smoothing": "average", "kernel": kernel} if kernel else {"smoothing": "none"}
    try:
        config = HowConfig(backbone=name, dim=dim, **smoothing)
    except LowqError as error:
        raise LowqError(f"{path}: {error}") from None
    state = {our_key(key): value for key, value in content["state_dict"].items()}
    return _filled(config, mean, std, state, path)


def our_key(key: str) -> str:
    """The name here of a parameter in a published HOW checkpoint.

    >>> our_key("features.4.0.conv1.weight"), our_key("dim_reduction.bias")
    ('trunk.body.layer1.0.conv1.weight', 'whitening.bias')
    """
    prefix, _, rest = key.partition(".")
    if prefix == "features":
        return f"trunk.body.{trunk_key(key)}"
    return f"whitening.{rest}" if prefix in ("dim_reduction", "whiten") else key


def _old_params(meta: Any) -> dict[str, Any]:
    """An older checkpoint's `meta` in the form of the newer `net_params`; empty where it is something else."""
    try:
        return {
            "architecture": meta["architecture"],
            "skip_layer": meta["skip_layer"],
            "dim_reduction": {"dim": meta["dim"]},
            "smoothing": {"kernel_size": meta["feat_pool_k"]},
            "runtime": {"mean_std": [meta["mean"], meta["std"]]},
        }
    except (KeyError, TypeError):
        return {}


def _filled(
    config: HowConfig,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    state: Mapping[str, Tensor],
    path: Path,
) -> HOW:
    if len(mean) != 3 or len(std) != 3:
        raise LowqError(f"{path}: mean {mean} and std {std} are not of three channels; replace the file")
    plain = backbone(config.backbone, weights="random")
    trunk = Backbone(plain.name, plain.body, plain.channels, mean, std, plain.stride)
    model = HOW(config, trunk)
    load_into(model, state, path)
    return model.eval()
