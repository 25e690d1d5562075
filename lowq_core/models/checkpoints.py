"""Published GeM networks: checkpoints in the layout of cirtorch, read without running code from them.

Such a file is a pickle of `{'meta': {...}, 'state_dict': {...}}`: `meta` names the architecture, the pooling,
whether the network whitens, and may carry whitenings learned afterwards, `Lw[dataset][ss|ms] = {m, P}`;
`state_dict` numbers the trunk's layers (`features.0.weight`, `features.4.0.conv1.weight`, ...).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.models.backbone import Backbone, backbone
from lowq_core.models.embedder import Embedder
from lowq_core.models.pooling import GeM
from lowq_core.models.weights import load_into
from lowq_core.models.whitening import Whitening

_LAYERS = {0: "conv1", 1: "bn1", 4: "layer1", 5: "layer2", 6: "layer3", 7: "layer4"}
"""Position among the children of torchvision's ResNet -> name; 2 and 3 (ReLU, pooling) have no weights."""


@dataclass(frozen=True)
class Checkpoint:
    """A published network.

    Attributes:
        architecture: a name of `lowq_core.models.backbone.BACKBONES`.
        pooling: the head it was trained with.
        embedder: ready to use, in evaluation mode.
        whitenings: learned whitenings by `dataset/ss` (single scale) and `dataset/ms` (multi-scale).
    """

    architecture: str
    pooling: str
    embedder: Embedder
    whitenings: dict[str, Whitening]


def is_checkpoint(path: str | Path) -> bool:
    """Whether `path` is a readable file in this layout (rather than a bare state dict, say)."""
    if not Path(path).is_file() or Path(path).suffix == ".safetensors":
        return False
    try:
        content = read_checkpoint(Path(path))
    except LowqError:
        return False
    return isinstance(content, dict) and {"meta", "state_dict"} <= content.keys()


def load_checkpoint(
    path: str | Path, heads: Sequence[str] | None = None, scales: Sequence[float] = (1.0,)
) -> Checkpoint:
    """The network in `path`.

    Args:
        path: file as published (`.pth`).
        heads: pooling heads wanted; None takes the one it was trained with. GeM gets the learned exponent.
        scales: as for `Embedder`.

    Raises:
        LowqError: no such file, not such a checkpoint, an architecture other than ResNet-18, -50 or -101,
            regional pooling or local whitening (not supported), names or shapes that do not fit, or other
            heads than the trained one where the network whitens.
    """
    path = Path(path)
    content = read_checkpoint(path)
    if not isinstance(content, dict) or not {"meta", "state_dict"} <= content.keys():
        raise LowqError(
            f"{path}: holds no 'meta' and 'state_dict'; give a checkpoint as published by cirtorch"
        )
    meta, state = content["meta"], content["state_dict"]
    if not isinstance(meta, dict) or not isinstance(state, dict):
        raise LowqError(f"{path}: 'meta' or 'state_dict' is not a mapping; download the checkpoint again")
    architecture, pooling = str(meta.get("architecture")), str(meta.get("pooling"))
    if architecture not in ("resnet18", "resnet50", "resnet101"):
        raise LowqError(
            f"{path}: architecture {architecture!r} is not supported; use one of resnet18, resnet50, resnet101"
        )
    for option in ("regional", "local_whitening"):
        if meta.get(option):
            raise LowqError(
                f"{path}: made with {option}, which is not supported; use a checkpoint without it"
            )
    whiten = _whiten_layer(path, state) if meta.get("whitening") else None
    heads = (pooling,) if heads is None else tuple(heads)
    if whiten is not None and heads != (pooling,):
        raise LowqError(
            f"{path}: whitens its {pooling} inside the network; ask for heads=({pooling!r},) only"
        )
    trunk = _trunk(path, architecture, meta, state)
    embedder = Embedder(trunk, heads, scales=scales, whiten=whiten).eval()
    if "gem" in heads and "pool.p" in state:
        gem = embedder.heads["gem"]
        assert isinstance(gem, GeM)
        load_into(gem, {"p": state["pool.p"].reshape(-1)}, path)
    return Checkpoint(architecture, pooling, embedder, _whitenings(path, meta))


def trunk_key(key: str) -> str:
    """The name here of a trunk's parameter there.

    >>> trunk_key("features.4.0.conv1.weight")
    'layer1.0.conv1.weight'
    """
    prefix, position, rest = key.split(".", 2)
    layer = _LAYERS.get(int(position)) if position.isdigit() else None
    return f"{layer or f'{prefix}.{position}'}.{rest}"


def _trunk(path: Path, architecture: str, meta: dict[str, Any], state: dict[str, Tensor]) -> Backbone:
    plain = backbone(architecture, weights="random")
    mapped = {trunk_key(key): value for key, value in state.items() if key.startswith("features.")}
    load_into(plain.body, mapped, path)
    mean, std = (tuple(float(v) for v in meta.get(name, ())) for name in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3:
        return plain
    return Backbone(architecture, plain.body, plain.channels, mean, std).eval()


def _whiten_layer(path: Path, state: dict[str, Tensor]) -> nn.Linear:
    values = {key: state.get(f"whiten.{key}") for key in ("weight", "bias")}
    weight = values["weight"]
    if weight is None or weight.ndim != 2:
        raise LowqError(f"{path}: says it whitens but lacks 'whiten.weight'; download the checkpoint again")
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    load_into(layer, {key: value for key, value in values.items() if value is not None}, path)
    return layer


def _whitenings(path: Path, meta: dict[str, Any]) -> dict[str, Whitening]:
    found = {}
    for dataset, variants in (meta.get("Lw") or {}).items():
        for scales, entry in variants.items():
            if not isinstance(entry, dict) or not {"m", "P"} <= entry.keys():
                raise LowqError(
                    f"{path}: Lw of {dataset} ({scales}) lacks m or P; download the checkpoint again"
                )
            found[f"{dataset}/{scales}"] = Whitening(entry["m"], entry["P"])
    return found


def read_checkpoint(path: Path) -> Any:
    """The plain data in a pickled checkpoint: containers, numbers, strings, tensors, arrays; no code is run.

    Raises:
        LowqError: no such file, or it holds anything else.
    """
    if not path.is_file():
        raise LowqError(f"{path}: no such checkpoint; check the path")
    try:
        with torch.serialization.safe_globals(_plain_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise LowqError(f"{path}: not a checkpoint of plain data ({reason}); download it again") from None


def _empty_dict(*default: object) -> dict[Any, Any]:
    return {}


def _plain_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What pickled arrays, numbers and logs of scores call: allowed, because they can only make plain data."""
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    dtypes = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")]
    return [
        # The module's name of numpy 1, in which the published files were written, and of numpy 2.
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
        (multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
        (multiarray.scalar, "numpy.core.multiarray.scalar"),
        (multiarray.scalar, "numpy._core.multiarray.scalar"),
        np.ndarray,
        np.dtype,
        *dtypes,
        # `defaultdict(list)`, in which HOW's training keeps its scores, becomes a dict.
        (_empty_dict, "collections.defaultdict"),
        list,
    ]
