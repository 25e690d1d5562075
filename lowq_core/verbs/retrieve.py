"""Verbs that work on pictures and their descriptors: `evaluate`, `extract`, `find`, `rerank`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional


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
class Rerank:
    """Rank anybody's descriptors by GSS, diffusion, query expansion and the like."""

    database: Positional[Path]
    """.npy with a row a picture (N x D), or .mat with X (D x N) and, for the queries, Q (D x nq)."""
    queries: Positional[Path | None] = None
    """.npy with a row a query, or .mat with Q (default: Q of the database's .mat)."""
    method: str = "gss"
    """exact, aqe, alphaqe, dqe, dba, dfs, dfst, fsr, dfs-fsr, ime or gss."""
    options: tuple[str, ...] = ()
    """Options of the method as name=value, such as k=5 epochs=100."""
    k: int | None = None
    """How many to return for each query (default: the whole database)."""
    index_graph: Path | None = None
    """.npy with ranked picture numbers (N x K, from 0, -1 for none) that gss connects instead of the nearest, such
    as the *_index_ransac_graph.npy of its authors; the first k count."""
    query_graph: Path | None = None
    """Likewise the pictures that each query starts from (Q x K), such as *_query_ransac_graph.npy; the first
    query_k (n for expansion) count."""
    out: Path = Path("ranking.npz")
    """.npz (ids, scores), .npy (ids) or .csv."""

    def run(self) -> int:
        from lowq_core.methods.arrays import rerank, write_ranking

        ranking = rerank(
            self.database,
            self.queries,
            self.method,
            self.options,
            self.k,
            index_graph=self.index_graph,
            query_graph=self.query_graph,
        )
        print(write_ranking(ranking, self.out))
        return 0
