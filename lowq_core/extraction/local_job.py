"""Any extractor of local features over many pictures, to disk or in memory: HOW's, regions, hand-made ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lowq_core.errors import LowqError
from lowq_core.extraction.batch import check_job, extract_parts, pictures_digest
from lowq_core.extraction.engine import in_parallel
from lowq_core.extraction.features import PartStore
from lowq_core.extraction.local_features import KIND, LocalFeatures, PictureFeatures, write_part
from lowq_core.images import Picture, View

PART_SIZE = 64


class Extractor(Protocol):
    """What makes the local features of a picture; called on several threads at once.

    Attributes:
        dim: numbers a descriptor has.
        size: longer side in pixels that pictures are brought down to.
        described: all that decides the features, JSON-able, under `config` at least; becomes a part of the manifest.
    """

    @property
    def dim(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def described(self) -> Mapping[str, Any]: ...

    def __call__(self, view: View) -> PictureFeatures:
        """Features, strongest first, whose places and shapes are in pixels of the view's original."""
        ...


def extract_with(
    extractor: Extractor,
    pictures: Sequence[Picture],
    out: str | Path,
    *,
    shard: tuple[int, int] = (1, 1),
    strict: bool = False,
    progress: bool = True,
    part_size: int = PART_SIZE,
) -> LocalFeatures | None:
    """Local features of `pictures` in the folder `out`; arguments, result and errors as of `extract_local`."""
    pictures = list(pictures)
    check_job(pictures, shard, part_size)
    manifest = {
        "names": [picture.name for picture in pictures],
        "pictures": pictures_digest(pictures),
        "part_size": part_size,
        "dim": extractor.dim,
        "kind": KIND,
        **extractor.described,
    }
    store = PartStore.create(Path(out), manifest)

    def write(part: int, made: list[PictureFeatures | None], failed: dict[str, str]) -> None:
        write_part(store, part, made, extractor.dim, failed, shard[1])

    describe = partial(_describe, extractor)
    whole = extract_parts(pictures, [store], describe, write, shard=shard, strict=strict, progress=progress)
    return LocalFeatures.open(out) if whole else None


def embed_with(extractor: Extractor, pictures: Sequence[Picture]) -> LocalFeatures:
    """Local features of a few pictures in memory.

    Raises:
        LowqError: no pictures, a picture that cannot be read.
    """
    with in_parallel(partial(_describe, extractor), pictures) as results:
        return LocalFeatures.of([picture.name for picture in pictures], list(results))


def _describe(extractor: Extractor, picture: Picture) -> PictureFeatures:
    found = extractor(picture.view(extractor.size))
    if not all(np.isfinite(array).all() for array in found):
        raise LowqError(f"{picture.path}: its features are not finite; check the weights or use float32")
    return found
