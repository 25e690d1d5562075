"""`Features`: descriptors on disk, in parts that are finished or not there.

A folder holds `manifest.json` (what is extracted, how: names, model, weights digest, preprocessing) and, for
each part of some hundred pictures, `part-00000.npy` (rows x D float32) with `part-00000.json` (its sha256, and
the pictures that failed). The `.json` is written after the `.npy`, both under a temporary name first, so a part
counts as finished exactly when its `.json` is there. Shards of one job write different parts of one folder;
nothing needs to be merged afterwards. Local features (`extraction.local`) lie in the same way, with a second
array beside each part.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.extraction.rows import Rows, as_rows
from lowq_core.files import sha256, write_bytes, write_text

MANIFEST = "manifest.json"
GLOBAL = "global"


@dataclass(frozen=True)
class Features:
    """One descriptor for each picture, read from disk as needed.

    Attributes:
        names: the pictures' names, in order.
        descriptors: (N, D) float32, read-only: a memory map, or `Rows` over several. The row of a picture
            that failed is zero.
        manifest: what `manifest.json` holds, and under `parts` each part's file, rows and sha256.
        failed: reason by name of the pictures that could not be read.
    """

    names: tuple[str, ...]
    descriptors: NDArray[np.float32] | Rows
    manifest: dict[str, Any]
    failed: dict[str, str]

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The features in folder `path`, every part checked against its digest.

        Raises:
            LowqError: no such folder, parts or shards still missing, a part that does not match its digest.
        """
        folder = Path(path)
        store = PartStore.open(folder)
        found = store.read_all()
        return cls(
            names=store.names,
            descriptors=as_rows([folder / part["file"] for part in found]),
            manifest=store.manifest | {"parts": found},
            failed=failures(found),
        )


def failures(parts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Reason by name of the pictures that failed, over all parts."""
    return {name: reason for part in parts for name, reason in part["failed"].items()}


class PartStore:
    """The folder of one `Features` or `LocalFeatures` while it is being written; their `open` reads it.

    Args:
        folder: where.
        manifest: `names` and `part_size`, `kind` where the features are not global, and whatever else tells
            one extraction from another.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest
        self.names = tuple(manifest["names"])
        self.size = int(manifest["part_size"])
        self.count = max(1, -(-len(self.names) // self.size))

    @classmethod
    def create(cls, folder: Path, manifest: dict[str, Any]) -> Self:
        """A new folder, or one that was begun with the same manifest.

        Raises:
            LowqError: the folder holds features made of other pictures or in another way.
        """
        manifest = json.loads(json.dumps(manifest))
        if (folder / MANIFEST).exists():
            old = _read_json(folder / MANIFEST)
            differing = sorted(
                key for key in manifest.keys() | old.keys() if manifest.get(key) != old.get(key)
            )
            if differing:
                key = differing[0]
                shown = (
                    "" if key in ("names", "pictures") else f" ({old.get(key)!r}, now {manifest.get(key)!r})"
                )
                raise LowqError(
                    f"{folder}: holds features of another {key}{shown}; extract into another "
                    f"folder or delete this one"
                )
        else:
            _or_full_disk(
                folder, lambda: write_text(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
            )
        return cls(folder, manifest)

    @classmethod
    def open(cls, folder: Path, kind: str = GLOBAL) -> Self:
        """An existing folder; LowqError where it holds no manifest, or features of another kind."""
        if not (folder / MANIFEST).is_file():
            raise LowqError(
                f"{folder}: holds no extracted features (no {MANIFEST}); run the extraction first"
            )
        manifest = _read_json(folder / MANIFEST)
        if not {"names", "part_size"} <= manifest.keys():
            raise LowqError(
                f"{folder / MANIFEST}: lacks names or part_size; delete the folder and extract again"
            )
        if manifest.get("kind", GLOBAL) != kind:
            raise LowqError(
                f"{folder}: holds {manifest.get('kind', GLOBAL)} features, not {kind} ones; give the folder of those"
            )
        return cls(folder, manifest)

    def rows(self, part: int) -> range:
        """Numbers of the pictures in a part."""
        return range(part * self.size, min(len(self.names), (part + 1) * self.size))

    def read(self, part: int) -> dict[str, Any] | None:
        """What is known of a finished part, None where it is not finished.

        Raises:
            LowqError: a file of the part is gone or does not match its digest.
        """
        record = self.folder / f"part-{part:05d}.json"
        if not record.exists():
            return None
        known = _read_json(record)
        digests = {record.with_suffix(".npy").name: known.get("sha256"), **known.get("beside", {})}
        for name, digest in digests.items():
            file = self.folder / name
            if not file.exists() or sha256(file) != digest:
                raise LowqError(
                    f"{file}: does not match its digest; delete {record.name} beside it and extract again"
                )
        return known

    def read_all(self) -> list[dict[str, Any]]:
        """What is known of every part; LowqError where some are not finished or do not match their digest."""
        parts = [self.read(i) for i in range(self.count)]
        missing = [i for i, part in enumerate(parts) if part is None]
        if missing:
            raise LowqError(f"{self.folder}: {_what_is_missing(missing, parts)}")
        return [part for part in parts if part is not None]

    def write(
        self,
        part: int,
        rows: NDArray[np.float32],
        failed: dict[str, str],
        shards: int,
        *,
        beside: Mapping[str, NDArray[np.float32]] | None = None,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        """Finish a part.

        Args:
            part: its number.
            rows: its array.
            failed: reason by name of its pictures that failed.
            shards: how many share the job.
            beside: more arrays, by the word that goes into their files' names.
            known: what else to remember of it.

        Raises:
            LowqError: a full disk.
        """
        record = self.folder / f"part-{part:05d}.json"
        file = record.with_suffix(".npy")
        more = {record.with_suffix(f".{word}.npy"): array for word, array in (beside or {}).items()}

        def all_of_it() -> None:
            # While the arrays are replaced the part does not count as finished.
            record.unlink(missing_ok=True)
            for path, array in {file: rows, **more}.items():
                write_bytes(path, _npy(array))
            content = {
                "file": file.name,
                "rows": [self.rows(part).start, self.rows(part).stop],
                "sha256": sha256(file),
                "failed": failed,
                "shards": shards,
                **({"beside": {path.name: sha256(path) for path in more}} if more else {}),
                **(known or {}),
            }
            write_text(record, json.dumps(content, indent=1) + "\n")

        _or_full_disk(file, all_of_it)


def _npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, np.float32))
    return buffer.getvalue()


def _what_is_missing(missing: Sequence[int], parts: Sequence[dict[str, Any] | None]) -> str:
    shards = max((part["shards"] for part in parts if part is not None), default=1)
    if shards == 1:
        return (
            f"{len(missing)} of {len(parts)} parts are not extracted yet; run the same extraction again, it "
            f"goes on where it stopped"
        )
    late = ", ".join(f"{number}/{shards}" for number in sorted({i % shards + 1 for i in missing}))
    return f"shards {late} are not finished; run the same extraction with each of these as --shard"


def _or_full_disk(path: Path, write: Any) -> None:
    try:
        write()
    except OSError as error:
        raise LowqError(
            f"{path}: cannot be written ({error.strerror}); make room or choose another folder, "
            f"finished parts are kept"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LowqError(f"{path}: cannot be read ({error}); delete it and extract again") from None
    if not isinstance(content, dict):
        raise LowqError(
            f"{path}: holds a {type(content).__name__}, not a mapping; delete it and extract again"
        )
    return content
