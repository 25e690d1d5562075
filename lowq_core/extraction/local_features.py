"""`LocalFeatures`: many vectors for each picture, on disk like `Features` or in memory.

Beside each part's descriptors, `part-00000.npy`, lies `part-00000.places.npy` (rows x 4 float32: x, y, scale,
strength), and the part's `.json` remembers how many features each picture has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.extraction.features import PartStore, failures
from lowq_core.extraction.rows import Rows, as_rows

KIND = "local"
_PLACES = "places"


class PictureFeatures(NamedTuple):
    """Local features of one picture, strongest first; the arrays as in `LocalFeatures`."""

    descriptors: NDArray[np.float32]
    strength: NDArray[np.float32]
    xy: NDArray[np.float32]
    scale: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """Local features of N pictures, M in all; those of picture i are rows offsets[i] to offsets[i + 1].

    What was opened from disk is read-only and read as needed: memory maps, or `Rows` over several parts.

    Attributes:
        names: the pictures' names, in order.
        descriptors: (M, D) float32, not L2-normalised.
        strength: (M,) float32, attention over the largest in the picture; falling within a picture.
        xy: (M, 2) float32, middle of what the feature sees in pixels of the upright original (of the whole
            picture also where a box was cut from it), whose first pixel reaches from 0 to 1.
        scale: (M,) float32, factor of the extracted picture's size at which it was found.
        offsets: (N + 1,) int64, from 0 to M. A picture that failed has no features.
        manifest: what `manifest.json` holds, and under `parts` each part's files and sha256; empty in memory.
        failed: reason by name of the pictures that could not be read.
    """

    names: tuple[str, ...]
    descriptors: NDArray[np.float32] | Rows
    strength: NDArray[np.float32] | Rows
    xy: NDArray[np.float32] | Rows
    scale: NDArray[np.float32] | Rows
    offsets: NDArray[np.int64]
    manifest: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The features in folder `path`, every part checked against its digests.

        Raises:
            LowqError: no such folder, global features in it, parts or shards still missing, a part that does
                not match its digest.
        """
        folder = Path(path)
        store = PartStore.open(folder, KIND)
        found = store.read_all()
        counts = [count for part in found for count in part["counts"]]
        places = [folder / name for part in found for name in part["beside"]]
        return cls(
            names=store.names,
            descriptors=as_rows([folder / part["file"] for part in found]),
            strength=as_rows(places, 3),
            xy=as_rows(places, slice(0, 2)),
            scale=as_rows(places, 2),
            offsets=_offsets(counts),
            manifest=store.manifest | {"parts": found},
            failed=failures(found),
        )

    @classmethod
    def of(cls, names: Sequence[str], pictures: Sequence[PictureFeatures]) -> Self:
        """Features in memory, one entry a picture.

        Raises:
            LowqError: no pictures.

        >>> one = PictureFeatures(np.zeros((2, 8)), np.ones(2), np.zeros((2, 2)), np.ones(2))
        >>> LocalFeatures.of(["a.jpg", "b.jpg"], [one, one]).offsets.tolist()
        [0, 2, 4]
        """
        if not pictures:
            raise LowqError("pictures: the list is empty; give at least one")
        joined = (np.concatenate(arrays).astype(np.float32) for arrays in zip(*pictures, strict=True))
        descriptors, strength, xy, scale = joined
        counts = [len(features.strength) for features in pictures]
        return cls(tuple(names), descriptors, strength, xy, scale, _offsets(counts))

    def __len__(self) -> int:
        """N."""
        return len(self.names)

    def __getitem__(self, i: int) -> PictureFeatures:
        """The features of one picture, by its number."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"picture {i} of {len(self)}")
        i %= len(self)
        rows = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return PictureFeatures(self.descriptors[rows], self.strength[rows], self.xy[rows], self.scale[rows])


def write_part(
    store: PartStore,
    part: int,
    pictures: Sequence[PictureFeatures | None],
    dim: int,
    failed: dict[str, str],
    shards: int,
) -> None:
    """Finish a part: one entry a picture, None where it failed; LowqError on a full disk."""
    there = [features for features in pictures if features is not None]
    descriptors = [np.empty((0, dim), np.float32), *(features.descriptors for features in there)]
    places = [np.empty((0, 4), np.float32)]
    places += [np.column_stack([f.xy, f.scale, f.strength]).astype(np.float32) for f in there]
    counts = [0 if features is None else len(features.strength) for features in pictures]
    store.write(
        part,
        np.concatenate(descriptors),
        failed,
        shards,
        beside={_PLACES: np.concatenate(places)},
        known={"counts": counts},
    )


def _offsets(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *counts], dtype=np.int64)
