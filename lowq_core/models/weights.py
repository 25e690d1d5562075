"""Files of weights: read without running code from them, and copied into networks that they fit."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lowq_core.errors import LowqError


def read_state(file: Path) -> dict[str, Tensor]:
    """The state dict in a `.pth` or `.safetensors` file, read without running code from it.

    Raises:
        LowqError: the file is missing, or holds anything but a flat mapping of names to tensors.
    """
    if not file.is_file():
        raise LowqError(f"{file}: no such file of weights; check the path")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise LowqError(f"{file}: not a file of weights ({_first_line(error)}); download it again") from None
    except Exception as error:  # safetensors raises its own type, which derives from Exception
        raise LowqError(f"{file}: cannot be read as weights ({_first_line(error)}); replace it") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise LowqError(f"{file}: holds a {type(state).__name__}, not a state dict of tensors; replace it")
    return dict(state)


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], file: Path, ignore: tuple[str, ...] = ()
) -> None:
    """Copy `state` into `module`; LowqError that names `file` and the first key or shape that does not fit."""
    own = module.state_dict()
    given = {key: value for key, value in state.items() if not key.startswith(ignore or ("\0",))}
    # Counters of training steps; old checkpoints lack them and evaluation does not read them.
    needed = [key for key in own if not key.endswith("num_batches_tracked")]
    missing = [key for key in needed if key not in given]
    extra = [key for key in given if key not in own]
    if missing or extra:
        which = f"lacks {missing[0]!r}" if missing else f"holds the unknown {extra[0]!r}"
        raise LowqError(
            f"{file}: {which} ({len(missing)} missing, {len(extra)} unknown names); choose weights of this "
            f"architecture"
        )
    for key in given:
        if own[key].shape != given[key].shape:
            raise LowqError(
                f"{file}: {key!r} has shape {tuple(given[key].shape)}, but the architecture wants "
                f"{tuple(own[key].shape)}; choose weights of this architecture"
            )
    module.load_state_dict(given, strict=False)


def weights_digest(module: nn.Module) -> str:
    """sha256 over names, shapes and values of everything `module` computes with.

    >>> weights_digest(nn.Linear(2, 2)) == weights_digest(nn.Linear(2, 2))
    False
    """
    digest = hashlib.sha256()
    for key, value in [*module.named_parameters(), *module.named_buffers()]:
        if not key.endswith("num_batches_tracked"):
            array = value.detach().cpu().contiguous().numpy()
            digest.update(f"{key} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
