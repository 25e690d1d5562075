"""`lowq`: thin verbs, each one call that a notebook could make.

Heavy modules are imported by the verb that needs them, so that `lowq --help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional, subcommand

from lowq_core.errors import LowqError


@dataclass(frozen=True)
class Reproduce:
    """Execute the notebooks of a profile: figures, result records, scorecard and an HTML index."""

    notebooks: Positional[tuple[str, ...]] = ()
    """Numbers or names (03, 03_global_baselines); none means all."""
    profile: str = "mini"
    """smoke, mini, real (photos under LOWQ_DATA) or paper (the papers' data sets)."""
    jobs: int = 2
    """How many notebooks run at a time."""
    force: bool = False
    """Run also what is up to date."""
    timeout: float | None = None
    """Wall-clock seconds that one notebook may take (default: the profile's)."""

    def run(self) -> int:
        from lowq_core.reproduce.runner import reproduce

        report = reproduce(
            self.notebooks, self.profile, jobs=self.jobs, force=self.force, timeout=self.timeout
        )
        return 0 if report.passed else 1


@dataclass(frozen=True)
class Evaluate:
    """Score a method on a benchmark, on clean queries and under degradations."""

    benchmark: str
    """Name (see `lowq list benchmarks`), path of a ground truth (.json, .pkl, .mat, labels .csv), or folder
    of a noise benchmark."""
    images: Path | None = None
    """Folder of the pictures, where the ground truth does not lie beside them."""
    method: str = "gem"
    """Parts joined by + (see `lowq list methods`), or a checkpoint's path."""
    degrade: str | None = None
    """NAME:SEVERITY, a comma-joined list, or all:5; without a severity the mean over 1 to 5. (Default: none,
    or all that a noise benchmark holds.)"""
    distractors: Path | None = None
    """Folder of pictures that match no query, added to the database."""
    profile: str | None = None
    """Recipe of sizes and training; real where LOWQ_DATA is set, else mini."""
    size: int | None = None
    """Longer side of the pictures in pixels (default: the profile's)."""
    scales: tuple[float, ...] | None = None
    """Scales of the multi-scale descriptor (default: the profile's)."""
    engine: Literal["torch", "cuda", "openvino"] = "torch"
    """What computes the descriptors."""
    precision: Literal["float32", "bf16"] = "float32"
    """Arithmetic of the descriptors' computation."""
    strict: bool = False
    """Stop at the first picture that cannot be read."""
    json: Path | None = None
    """Write map, interval, per_query and configuration to this file."""

    def run(self) -> int:
        from lowq_core.files import write_text
        from lowq_core.methods.data import benchmark_of
        from lowq_core.methods.grammar import parse_method
        from lowq_core.methods.noises import parse_degrade, stored_noises
        from lowq_core.methods.pipeline import Pipeline
        from lowq_core.viz.tables import report_table

        method = parse_method(self.method)
        noises = parse_degrade(self.degrade) if self.degrade else {}
        pipeline = Pipeline.for_profile(
            self.profile,
            size=self.size,
            scales=self.scales,
            engine=self.engine,
            precision=self.precision,
            strict=self.strict,
        )
        benchmark = benchmark_of(pipeline.profile, self.benchmark, self.images, self.distractors)
        if benchmark.stored is not None and not noises:
            noises = stored_noises(benchmark.stored.conditions)
        report = pipeline.evaluate(method, benchmark, noises)
        print(report_table(report))
        if self.json:
            write_text(self.json, json.dumps(report.to_json(), indent=1) + "\n")
        return 0


@dataclass(frozen=True)
class Extract:
    """Write the global descriptors of a folder's pictures: memory-mapped parts and a manifest."""

    images: Positional[Path]
    """Folder of pictures, at any depth."""
    out: Positional[Path]
    """Folder for the descriptors; finished parts found there are kept."""
    backbone: str = "lite0"
    """lite0 (embedded), resnet18, resnet50 or resnet101 (with torchvision's weights)."""
    weights: Path | None = None
    """A weights file or published checkpoint instead."""
    heads: tuple[str, ...] = ("gem",)
    """Poolings, one set of descriptors each: mac, spoc, gem, rmac."""
    size: int = 640
    """Longer side in pixels; never enlarged."""
    scales: tuple[float, ...] = (1.0,)
    """Scales of the multi-scale descriptor."""
    engine: Literal["torch", "cuda", "openvino"] = "torch"
    """What computes the descriptors."""
    precision: Literal["float32", "bf16"] = "float32"
    """Arithmetic."""
    shard: str = "1/1"
    """This part of the work, as 3/10; the last one to finish completes the set."""
    strict: bool = False
    """Stop at the first picture that cannot be read."""

    def run(self) -> int:
        from lowq_core.extraction.config import EmbedConfig
        from lowq_core.methods.folders import extract_folder

        config = EmbedConfig(
            backbone=self.backbone,
            heads=self.heads,
            size=self.size,
            scales=self.scales,
            engine=self.engine,
            precision=self.precision,
            weights=str(self.weights) if self.weights else None,
        )
        print(extract_folder(self.images, self.out, config, self.shard, self.strict))
        return 0


@dataclass(frozen=True)
class Find:
    """Find the pictures of a folder that show what one (bad) picture shows."""

    query: Positional[Path]
    """The picture to find, however bad."""
    images: Positional[Path]
    """Folder of pictures to search."""
    method: str = "gem"
    """See `lowq list methods`."""
    k: int | None = None
    """How many to show (default: ten, or all where the folder holds fewer)."""
    bbx: tuple[float, float, float, float] | None = None
    """Box x1 y1 x2 y2 of the object in the query, in pixels."""
    profile: str | None = None
    """Recipe of sizes and training; real where LOWQ_DATA is set, else mini."""

    def run(self) -> int:
        from lowq_core.methods.folders import find
        from lowq_core.methods.pipeline import Pipeline

        pipeline = Pipeline.for_profile(self.profile)
        found = find(self.query, self.images, self.method, self.k, self.bbx, pipeline)
        for rank, (name, score) in enumerate(found, 1):
            print(f"{rank:4d}  {score:.4f}  {name}")
        return 0


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
    """noise-BENCHMARK: a benchmark's name, or the path of a ground truth."""
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


@dataclass(frozen=True)
class List:
    """What there is to choose from."""

    what: Positional[Literal["methods", "benchmarks", "degradations", "notebooks", "profiles"]]
    """The kind of thing."""

    def run(self) -> int:
        from lowq_core.methods.listing import listing

        rows = listing(self.what)
        width = max(len(name) for name, _ in rows)
        for name, what in rows:
            print(f"{name:{width}s}  {what}")
        return 0


@dataclass(frozen=True)
class Doctor:
    """What is installed, what is missing, and how to mend it."""

    def run(self) -> int:
        from lowq_core.reproduce.environment import doctor

        findings = doctor()
        for finding in findings:
            print(f"{'ok' if finding.ok else 'WRONG':6s} {finding.what:32s} {finding.found}")
            if not finding.ok:
                print(f"{'':6s} -> {finding.mend}")
        return 0 if all(finding.ok for finding in findings) else 1


FULL = {errno.ENOSPC, errno.EDQUOT}
WRONG_PLACE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
}

Command = (
    Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Extract, subcommand("extract")]
    | Annotated[Find, subcommand("find")]
    | Annotated[Data, subcommand("data")]
    | Annotated[List, subcommand("list")]
    | Annotated[Doctor, subcommand("doctor")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; 0 done, 1 not all passed, 2 an input that its owner can mend.

    >>> main(["list", "profiles"])  # doctest: +ELLIPSIS
    smoke ...
    0
    """
    command = tyro.cli(
        Command,
        prog="lowq",
        description="Image retrieval from bad pictures: reproduce the works, evaluate, extract, find.",
        args=argv,
        config=(OmitArgPrefixes,),
    )
    try:
        status = command.run()
        sys.stdout.flush()
        return status
    except LowqError as error:
        print(f"lowq: {error}", file=sys.stderr)
    except BrokenPipeError:  # the reader of the output has seen enough, as `head` has
        _drop_output()
        return 0
    except OSError as error:
        if error.errno not in WRONG_PLACE | FULL:
            raise
        if error.filename is None:
            _drop_output()
        print(f"lowq: {_told(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("lowq: stopped; what was finished is kept, run the same command to go on", file=sys.stderr)
        return 130
    return 2


def _told(error: OSError) -> str:
    where = error.filename or "output"
    if error.errno in FULL:
        return f"{where}: the disk is full; free some space and run again"
    return (
        f"{where}: cannot be read or written ({error.strerror}); give another path or change its permissions"
    )


def _drop_output() -> None:
    """Keep Python from writing what is left at exit, which would fail once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
