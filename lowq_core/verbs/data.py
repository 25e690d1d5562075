"""`lowq data list | check | fetch | make`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, subcommand


@dataclass(frozen=True)
class DataList:
    """The data sets that lowq reads, and whether they are here."""

    def run(self) -> int:
        from lowq_core.data.catalogue import list_datasets

        for dataset in list_datasets():
            print(f"{dataset.name:14s} {'here' if dataset.present() else '-':5s} {dataset.what}")
        return 0


@dataclass(frozen=True)
class DataCheck:
    """Which files a data set consists of, where they are expected, and what is wrong with those found."""

    name: Positional[str]
    """Name of the data set, or the folder of a noise benchmark."""
    root: Path | None = None
    """Folder of the data sets (default: LOWQ_DATA)."""

    def run(self) -> int:
        from lowq_core.methods.noise_sets import check

        expected = check(self.name, self.root)
        for item in expected:
            print(f"{'ok' if item.ok else 'WRONG':6s} {item.path}  {item.found}")
        return 0 if all(item.ok for item in expected) else 1


@dataclass(frozen=True)
class DataFetch:
    """Download a data set: resumes where it stopped, verifies digests."""

    name: Positional[str]
    """Name of the data set."""
    root: Path | None = None
    """Folder of the data sets (default: LOWQ_DATA)."""

    def run(self) -> int:
        from lowq_core.data.catalogue import fetch

        print(fetch(self.name, self.root))
        return 0


@dataclass(frozen=True)
class DataMake:
    """Make a noise benchmark: the queries of a benchmark, cropped and degraded, as PNG with a manifest."""

    name: Positional[str]
    """noise-BENCHMARK: a benchmark's name (noise-rparis is noise-rparis6k, noise-roxford noise-roxford5k), or the
    path of a ground truth."""
    images: Path | None = None
    """Folder of the pictures, where the ground truth does not lie beside them."""
    out: Path | None = None
    """Folder to write to; what it holds already is kept (default: one in the store)."""
    noises: tuple[str, ...] = ("all",)
    """known, held_out, all, or names (see `lowq list degradations`)."""
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    """How strong, each from 1 to 5."""

    def run(self) -> int:
        from lowq_core.methods.noise_sets import make

        print(make(self.name, self.images, self.out, self.noises, self.severities))
        return 0


@dataclass(frozen=True)
class Data:
    """Data sets: list, check, fetch, make."""

    action: (
        Annotated[DataList, subcommand("list", prefix_name=False)]
        | Annotated[DataCheck, subcommand("check", prefix_name=False)]
        | Annotated[DataFetch, subcommand("fetch", prefix_name=False)]
        | Annotated[DataMake, subcommand("make", prefix_name=False)]
    )

    def run(self) -> int:
        return self.action.run()
