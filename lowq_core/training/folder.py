"""`RunFolder`: what a training leaves on disk, each file whole or not there.

`config.json` (what is trained, how), `log.jsonl` (a line for each step and each epoch), `checkpoint.pt` (the
state after the last finished epoch; gone once training is over) and `model.safetensors`, the result.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lowq_core.errors import LowqError
from lowq_core.files import sha256, write_bytes, write_text
from lowq_core.training.classes import TrainingClasses
from lowq_core.training.tuples import TrainingTuples


class RunFolder:
    """The folder of one training run.

    Args:
        path: made when first written to.

    >>> import tempfile
    >>> run = RunFolder(Path(tempfile.mkdtemp()) / "run")
    >>> run.claim({"seed": 0})
    >>> run.claim({"seed": 1})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lowq_core.errors.LowqError: ...: holds a run with seed 0, not 1; choose another folder, or delete this one
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.log_file = self.path / "log.jsonl"
        self.checkpoint = self.path / "checkpoint.pt"
        self.model = self.path / "model.safetensors"

    def claim(self, config: Mapping[str, Any], *, write: bool = True) -> None:
        """Note that this is the run of `config` (plain values, as in JSON), or see that it is.

        Args:
            write: whether to write `config.json` where there is none; one process of several does.

        Raises:
            LowqError: the folder holds the run of another config, or one that cannot be told.
        """
        text = json.dumps(config, indent=1) + "\n"
        if not self.config.is_file():
            if self.checkpoint.is_file() or self.model.is_file():
                raise LowqError(f"{self.path}: holds a run without config.json; choose another folder")
            if write:
                write_text(self.config, text)
            return
        try:
            found = json.loads(self.config.read_text())
        except ValueError:
            raise LowqError(f"{self.config}: is not JSON; delete the folder of this run") from None
        for key, old, new in _differences(found, json.loads(text)):
            raise LowqError(
                f"{self.path}: holds a run with {key} {old}, not {new}; choose another folder, or delete this one"
            )

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint by `state`: tensors and plain containers."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_bytes(self.checkpoint, buffer.getvalue())

    def read_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, its tensors on the CPU; None where there is none.

        Raises:
            LowqError: a file that is not such a checkpoint.
        """
        if not self.checkpoint.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError):
            raise LowqError(
                f"{self.checkpoint}: is damaged; delete it, and the training starts anew"
            ) from None
        return state

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line."""
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """The lines of the log, without one that is not finished; empty where there is no log."""
        return list(self._lines())

    def cut_log(self, epochs: int) -> None:
        """Drop the lines of epochs from number `epochs` on: they will be trained again."""
        lines = [json.dumps(record) + "\n" for record in self._lines() if record["epoch"] < epochs]
        write_text(self.log_file, "".join(lines))

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self.log_file.is_file():
            for line in self.log_file.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    yield json.loads(line)


def _differences(found: Any, wanted: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, value here, value there) where two JSON values differ; None for a key that is not there."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in [*wanted, *(name for name in found if name not in wanted)]:
            yield from _differences(found.get(name), wanted.get(name), f"{key}.{name}" if key else name)
    elif found != wanted:
        yield key or "config", json.dumps(found), json.dumps(wanted)


def run_identity(training: Any, data: TrainingTuples | TrainingClasses) -> dict[str, Any]:
    """What tells one run from another, as plain values; starting weights count by their content.

    Args:
        training: a dataclass with a field `weights`: None, "random" or a path.
    """
    weights = training.weights
    if weights not in (None, "random"):
        path = Path(str(weights))
        weights = sha256(path) if path.is_file() else str(weights)
    return {
        "training": asdict(training) | {"weights": weights},
        "data": {"name": data.name, "digest": data.digest},
    }
