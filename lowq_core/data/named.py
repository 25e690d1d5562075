"""The names by which profiles and `lowq evaluate` call data, and which of it is not there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lowq_core.data.datasets import Dataset, get_dataset, locate, need_root

DISTRACTORS = "+distractors"
"""Ends a benchmark's name: with the pictures of LOWQ_DATA's folder `distractors`."""
R1M = "+r1m"
"""Ends a benchmark's name: with the million distractors."""
RENDERED = {"papertown": "test", "papertown_val": "val"}
"""Names of what is rendered, with its split."""


def training_dataset(name: str) -> Dataset:
    """The catalogue's entry of the training set `name`: `gldv2`, also with a reading, is `gldv2_train`.

    Raises:
        LowqError: no such data set.

    >>> training_dataset("gldv2-noisy_classes").name
    'gldv2_train'
    """
    return get_dataset("gldv2_train" if name.partition("-")[0] == "gldv2" else name)


def missing(benchmarks: Iterable[str], training: Iterable[str] = ()) -> list[str]:
    """What of the named benchmarks and training sets is not below LOWQ_DATA: which files are expected where.

    Files and folders are looked for as the catalogue names them; pictures are not counted, `check` does that.

    Raises:
        LowqError: no such data set, or LOWQ_DATA is not set and something else than rendered scenes is named.

    >>> missing(["papertown", "papertown_val"], ["papertown"])
    []
    """
    found: list[str] = []
    for name in benchmarks:
        base, plus, added = name.partition("+")
        if base not in RENDERED:
            found += _missing(get_dataset(base))
        if plus + added == R1M:
            found += _missing(get_dataset("revisitop1m"))
        elif plus + added == DISTRACTORS and not (folder := distractors_folder(name)).is_dir():
            found.append(f"{folder} has to hold pictures that show nothing of the queries")
    for name in training:
        found += _missing(training_dataset(name))
    return list(dict.fromkeys(found))


def distractors_folder(name: str) -> Path:
    """Where the pictures lie that `name`, a benchmark's with `+distractors`, adds to its database.

    Raises:
        LowqError: LOWQ_DATA is not set.
    """
    return need_root(name, None) / DISTRACTORS.removeprefix("+")


def _missing(dataset: Dataset) -> list[str]:
    if not dataset.files:
        return []
    root = need_root(dataset.name, None)
    lacking = [choice for choice in dataset.files if not locate(dataset, choice, root).exists()]
    if not lacking:
        return []
    files = ", ".join(choice.replace("|", " or ") for choice in lacking)
    return [f"{dataset.folder(root)} has to hold {files} ({dataset.mend})"]
