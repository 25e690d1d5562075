"""Tensors on disk as safetensors; of our own networks, with what describes the network in the metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lowq_core.errors import LowqError


def save_network(model: nn.Module, kind: str, described: Mapping[str, Any], path: str | Path) -> None:
    """Write the state of `model` to `path`, whole or not at all; equal networks give equal bytes.

    Args:
        kind: of network, such as "how"; `read_network` asks for it.
        described: what JSON can hold, for the metadata.

    Raises:
        LowqError: the file cannot be written, for example because the disk is full.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    # One entry only: safetensors writes several in an order that changes from run to run.
    save_tensors(state, Path(path), {f"lowq {kind}": json.dumps(dict(described))})


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write `tensors`, contiguous ones on the CPU, to `path` as safetensors, whole or not at all.

    Raises:
        LowqError: the file cannot be written, for example because the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors), temporary, None if metadata is None else dict(metadata))
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LowqError(f"{path}: cannot be written ({reason}); make room or choose another folder") from None
    finally:
        temporary.unlink(missing_ok=True)


def is_network(path: str | Path, kind: str) -> bool:
    """Whether `path` is a file that `save_network` wrote for a network of that kind."""
    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            return f"lowq {kind}" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_network(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and state that `save_network` wrote.

    Raises:
        LowqError: no such file, or it holds something else.
    """
    name = {"how": "HOW", "adapnet": "AdapNet"}.get(kind, kind)
    if not path.is_file():
        raise LowqError(f"{path}: no such {name} network; train one and save it there, or check the path")
    try:
        with safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {})[f"lowq {kind}"])
        state = load_file(path)
    except (SafetensorError, KeyError, ValueError, OSError):
        described, state = None, {}
    if not isinstance(described, dict):
        raise LowqError(f"{path}: not a saved {name} network; train one and save it again")
    return described, state
