"""Folders of anybody's photos: describe them all, or find one bad picture among them."""

from __future__ import annotations

from pathlib import Path

from lowq_core.data.benchmark import Box
from lowq_core.data.folder import pictures_of
from lowq_core.errors import LowqError
from lowq_core.extraction.extract import EmbedConfig, extract
from lowq_core.images import Picture
from lowq_core.methods.grammar import parse_method
from lowq_core.methods.pipeline import Pipeline
from lowq_core.retrieval.base import check_k

SHOWN = 10


def folder_pictures(folder: Path) -> list[Picture]:
    """Every picture below `folder`, sorted by name; LowqError where there is none."""
    return [Picture(folder / name, name) for name in pictures_of(folder)]


def extract_folder(
    folder: Path, out: Path, config: EmbedConfig, shard: str = "1/1", strict: bool = False
) -> str:
    """Write the descriptors of every picture below `folder` to `out/HEAD`; what `lowq extract` says of it.

    Args:
        shard: "3/10" does the third of ten shares.

    Raises:
        LowqError: see `extract`; a shard that is not written as number/of.
    """
    number, _, of = shard.partition("/")
    if not (number.isdecimal() and of.isdecimal()):
        raise LowqError(f"--shard {shard}: write it as number/of, such as 3/10, counted from 1")
    features = extract(folder_pictures(folder), config, out, shard=(int(number), int(of)), strict=strict)
    if not features:
        return f"{out}: shard {shard} is done; others are not yet"
    found = next(iter(features.values()))
    bad = "".join(f"\nleft out: {reason}" for reason in found.failed.values())
    return f"{out}: {len(found.names)} pictures, {found.descriptors.shape[1]} dimensions ({', '.join(features)}){bad}"


def find(
    query: Path,
    folder: Path,
    method: str = "gem",
    k: int | None = None,
    bbx: Box | None = None,
    pipeline: Pipeline | None = None,
) -> list[tuple[str, float]]:
    """The `k` pictures of `folder` most similar to `query`: names below the folder and scores, best first.

    Args:
        query: the picture to find, however bad.
        bbx: box of the object in the query, in pixels.
        k: how many; by default ten, or all where the folder holds fewer.

    Raises:
        LowqError: a query that cannot be read, an empty folder, one without a picture that can be read, or k
            outside 1 to the number of pictures.
    """
    wanted = Picture(query, query.name, bbx)
    wanted.load(None)  # an unreadable query is told before anything is computed
    pipeline = pipeline or Pipeline.for_profile()
    chosen = parse_method(method)
    pictures = folder_pictures(folder)
    shown = min(SHOWN, len(pictures)) if k is None else check_k(k, len(pictures))
    found = pipeline.search(chosen, pictures, wanted)
    if not found:
        raise LowqError(f"{folder}: none of its pictures can be read; replace them or give another folder")
    return [(pictures[index].name, score) for index, score in found[:shown]]
