"""A fitted retriever on disk: a folder of .npy arrays and a JSON manifest with their digests; no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.files import sha256, write_array, write_text

MANIFEST = "retriever.json"


def write_saved(
    path: Path, kind: str, options: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write `arrays` and the JSON-able `options` of a retriever of class `kind` into the folder `path`.

    Each file appears whole, under its final name, or not at all; the manifest comes last.

    Raises:
        LowqError: the folder cannot be written, for example because the disk is full.
    """
    path = Path(path)
    digests = {}
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            digests[name] = sha256(write_array(path / f"{name}.npy", array))
        manifest = {"kind": kind, "options": dict(options), "sha256": digests}
        write_text(path / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    except OSError as error:
        raise LowqError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another folder"
        ) from error


def read_saved(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Options and memory-mapped arrays that `write_saved` left in `path`.

    Raises:
        LowqError: no or an unreadable manifest, another kind, a missing part, a part that does not match its digest.
    """
    path = Path(path)
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        found, options, digests = manifest["kind"], dict(manifest["options"]), dict(manifest["sha256"])
    except FileNotFoundError:
        raise LowqError(f"{path}: holds no {MANIFEST}; save a retriever there first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LowqError(f"{path / MANIFEST}: cannot be read ({error}); save the retriever again") from None
    if found != kind:
        raise LowqError(f"{path}: holds a {found}, not a {kind}; load it with {found}.load")
    return options, {name: _array(path / f"{name}.npy", digest) for name, digest in digests.items()}


def _array(file: Path, digest: str) -> NDArray[Any]:
    if not file.is_file():
        raise LowqError(
            f"{file}: is missing, though the manifest beside it lists it; save the retriever again"
        )
    if sha256(file) != digest:
        raise LowqError(f"{file}: does not match the digest in {MANIFEST}; save the retriever again")
    array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    return array
