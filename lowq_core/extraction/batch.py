"""The loop over many pictures: parts, shards, resume, and bad pictures that do not stop the others."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from tqdm import tqdm

from lowq_core.errors import LowqError
from lowq_core.extraction.engine import in_parallel
from lowq_core.extraction.features import PartStore
from lowq_core.images import Picture

R = TypeVar("R")
Describe = Callable[[Picture], R]
"""What is made of one picture; LowqError where it cannot be read."""
Write = Callable[[int, list[R | None], dict[str, str]], None]
"""(part, one result a picture or None where it failed, reason by name of those) to disk."""


def check_job(pictures: Sequence[Picture], shard: tuple[int, int], part_size: int) -> None:
    """LowqError where there is no picture, or an impossible shard or part size."""
    if not pictures:
        raise LowqError("pictures: the list is empty; give at least one")
    share, shares = shard
    if not 1 <= share <= shares:
        raise LowqError(f"shard {share}/{shares}: write it as number/of, such as 3/10, counted from 1")
    if part_size < 1:
        raise LowqError(f"part_size={part_size}: put at least one picture in a part")


def extract_parts(
    pictures: Sequence[Picture],
    stores: Sequence[PartStore],
    describe: Describe[R],
    write: Write[R],
    *,
    shard: tuple[int, int],
    strict: bool,
    progress: bool,
) -> bool:
    """Make what is not finished of the shard's parts; parts in which pictures failed are made again.

    The pictures of all parts go through in one stream, so no core waits at the end of a part.

    Args:
        pictures: all of the job, whatever the shard.
        stores: where each part goes, alike in names and part size; a part is finished when it is in all.
        describe: called on several threads at once.
        write: called in the order of the parts.
        shard: number and count, from 1.
        strict: stop at the first picture that cannot be read.
        progress: show a bar.

    Returns:
        Whether the parts of all shards are finished.

    Raises:
        LowqError: a finished part that does not match its digest; with `strict`, a bad picture.
    """
    share, shares = shard
    first = stores[0]
    mine = range(share - 1, first.count, shares)
    todo = [part for part in mine if not all(_is_done(store.read(part)) for store in stores)]
    if todo:
        _make(pictures, first, todo, describe, write, strict, progress)
    return shares == 1 or all(store.read(part) is not None for store in stores for part in range(first.count))


def _make(
    pictures: Sequence[Picture],
    store: PartStore,
    todo: Sequence[int],
    describe: Describe[R],
    write: Write[R],
    strict: bool,
    progress: bool,
) -> None:
    rows = [row for part in todo for row in store.rows(part)]
    with (
        in_parallel(partial(attempt, describe), [pictures[row] for row in rows]) as results,
        tqdm(total=len(rows), unit="picture", disable=not progress) as bar,
    ):
        for part in todo:
            made: list[R | None] = []
            failed: dict[str, str] = {}
            for row in store.rows(part):
                result = next(results)
                bar.update()
                if isinstance(result, LowqError):
                    if strict:
                        raise result
                    failed[pictures[row].name] = str(result)
                made.append(None if isinstance(result, LowqError) else result)
            write(part, made, failed)


def pictures_digest(pictures: Sequence[Picture]) -> str:
    """sha256 of what is read and how, without the folders that the files lie in."""
    rows = []
    for picture in pictures:
        noise = None if picture.noise is None else dataclasses.asdict(picture.noise)
        rows.append((picture.name, picture.bbx, noise, picture.restorer))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def attempt(describe: Describe[R], picture: Picture) -> R | LowqError:
    """A picture's result, or what is wrong with it: one bad picture must not end the work on the others."""
    try:
        return describe(picture)
    except LowqError as error:
        return error


def _is_done(part: dict[str, Any] | None) -> bool:
    return part is not None and not part["failed"]
