"""Pictures to GeM descriptors: our engines against the usual loop, and memory against the number of pictures.

The usual loop is that of the field's code: one picture at a time is decoded and goes through the network in
float32, eager, in the default layout, at three scales (1, 0.71, 0.5), on all cores. Pictures are JPEG files of
640 x 480, made here. ResNet-50 has random weights with lively normalisation layers: time and agreement do not
depend on training. The usual loop runs in a process of its own, because our engine changes malloc's settings
for its whole process and would speed the loop up as well.

What bf16 costs in accuracy is measured on the rendered benchmark (its smallest size with --quick): extraction of its
pictures and evaluation of GeM and R-MAC, in float32 and in bf16. A mAP that moves by more than 0.2 points at any
level ends the run with an error (not with --quick, whose dozen queries are too few to judge by); so does memory that
grows with the number of pictures.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from _harness import Case, main
from PIL import Image

from lowq_core.data.benchmark import Benchmark
from lowq_core.extraction.config import EmbedConfig
from lowq_core.extraction.engine import Engine, in_parallel
from lowq_core.extraction.extract import extract
from lowq_core.images import Picture, to_array
from lowq_core.methods.data import benchmark_of
from lowq_core.methods.grammar import parse_method
from lowq_core.methods.pipeline import Pipeline, quiet
from lowq_core.models.backbone import backbone
from lowq_core.models.embedder import Embedder
from lowq_core.reproduce.profiles import profile
from lowq_core.reproduce.store import Store

SCALES = (1.0, 2**-0.5, 0.5)
MAP_LIMIT = 0.2
"""Points that arithmetic in bf16 may cost, at any level."""
PROMISED = {
    ("lite0", "torch", "float32"): 2.0,
    ("resnet50", "torch", "float32"): 1.5,
    ("lite0", "torch", "bf16"): 3.5,
    ("resnet50", "torch", "bf16"): 2.4,
    ("lite0", "openvino", "bf16"): 4.5,
    ("resnet50", "openvino", "bf16"): 3.0,
    ("lite0", "openvino", "float32"): None,
    ("resnet50", "openvino", "float32"): None,
}


@functools.cache
def photos(count: int, width: int, height: int) -> list[Picture]:
    """JPEG files with edges at all scales, kept until the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="lowq-benchmark-"))
    generator = np.random.default_rng(0)
    made = []
    for i in range(count):
        image = np.zeros((height, width, 3))
        for cell in (4, 16, 64):
            coarse = generator.integers(0, 85, (height // cell + 1, width // cell + 1, 3))
            image += coarse.repeat(cell, 0).repeat(cell, 1)[:height, :width]
        path = folder / f"{i:05d}.jpg"
        Image.fromarray(image.astype(np.uint8)).save(path, quality=90)
        made.append(Picture(path, path.name))
    return made


@functools.cache
def network(name: str) -> Embedder:
    torch.manual_seed(0)
    trunk = backbone(name, None if name == "lite0" else "random")
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and name != "lite0":
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return Embedder(trunk, ("gem",), scales=SCALES).eval()


Job = tuple[Embedder, Engine, list[Picture]]


def usual_loop(embedder: Embedder, engine: Engine, pictures: list[Picture]) -> np.ndarray:
    if "--measure-memory" in sys.argv:
        return loop(embedder, pictures)
    return other_process().submit(loop_of, embedder.trunk.name, pictures).result()


def loop(embedder: Embedder, pictures: list[Picture]) -> np.ndarray:
    vectors = []
    with torch.inference_mode():
        for picture in pictures:
            array = np.asarray(picture.load(640), np.float32) / 255
            x = torch.from_numpy(array).permute(2, 0, 1).contiguous().unsqueeze(0)
            vectors.append(embedder(x)["gem"][0].numpy())
    return np.stack(vectors)


def loop_of(name: str, pictures: list[Picture]) -> np.ndarray:
    return loop(network(name), pictures)


@functools.cache
def other_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def our_way(embedder: Embedder, engine: Engine, pictures: list[Picture]) -> np.ndarray:
    with in_parallel(lambda p: engine(to_array(p.load(640))), pictures) as results:
        return np.stack([vectors["gem"] for vectors in results])


def agreement(limit: float) -> Callable[[np.ndarray, np.ndarray], str]:
    def check(theirs: np.ndarray, ours: np.ndarray) -> str:
        difference = float(np.abs(theirs - ours).max())
        cosine = float((theirs * ours).sum(1).min())
        if difference > limit:
            raise SystemExit(f"descriptors differ by {difference:.1e}, more than {limit:.0e}")
        return f"difference {difference:.1e}, cosine at least {cosine:.5f}"

    return check


def prepare(name: str, engine: str, precision: str, count: int) -> Job:
    embedder = network(name)
    config = EmbedConfig(backbone=name, heads=("gem",), scales=SCALES, engine=engine, precision=precision)
    return embedder, Engine(embedder, config), photos(count, 640, 480)


def to_disk(count: int) -> None:
    config = EmbedConfig(heads=("gem",), size=160)
    with tempfile.TemporaryDirectory() as out:
        extract(photos(512, 160, 120)[:count], config, out, progress=False, part_size=32)


def scores(town: Benchmark, profile: str, scales: tuple[float, ...], precision: str) -> dict[str, float]:
    """mAP in percent of both poolings at all levels, everything computed anew."""
    with tempfile.TemporaryDirectory() as store:
        pipeline = Pipeline.for_profile(
            profile, store=Store(Path(store)), say=quiet, scales=scales, precision=precision
        )
        reports = {name: pipeline.evaluate(parse_method(name), town) for name in ("gem", "rmac")}
    return {
        f"{name} {level}": report.map("clean", level) or 0.0
        for name, report in reports.items()
        for level in ("easy", "medium", "hard")
    }


def same_scores(theirs: dict[str, float], ours: dict[str, float], limit: float) -> str:
    moved = {name: abs(ours[name] - value) for name, value in theirs.items()}
    most = max(moved, key=lambda name: moved[name])
    if moved[most] > limit:
        raise SystemExit(f"mAP of {most} moves by {moved[most]:.2f} points, more than {limit}")
    return f"mAP within {moved[most]:.2f} ({most})"


def cases_of_scores(quick: bool) -> list[Case]:
    name = "smoke" if quick else "mini"
    town = functools.cache(lambda: benchmark_of(profile(name), "papertown"))
    return [
        Case(
            what="mAP of gem and rmac, torch bf16",
            size=f"papertown {name}, {len(scales)} scales"
            if len(scales) > 1
            else f"papertown {name}, 1 scale",
            peer_name="the same in float32",
            prepare=lambda: (town(),),
            peer=functools.partial(scores, profile=name, scales=scales, precision="float32"),
            ours=functools.partial(scores, profile=name, scales=scales, precision="bf16"),
            check=functools.partial(same_scores, limit=math.inf if quick else MAP_LIMIT),
            repeats=1,
            memory=False,
        )
        for scales in ((1.0,), SCALES)
    ]


def cases(quick: bool) -> list[Case]:
    count = 4 if quick else 12
    found = [
        Case(
            what=f"extraction {name}, {engine} {precision}",
            size=f"{count} x 640x480, 3 scales",
            peer_name="loop, batch 1, float32, eager",
            prepare=functools.partial(prepare, name, engine, precision, count),
            peer=usual_loop,
            ours=our_way,
            check=agreement(1e-6 if precision == "float32" else 5e-2),
            promise=promise,
            skip=""
            if engine == "torch" or importlib.util.find_spec("openvino")
            else "openvino is not installed",
        )
        for (name, engine, precision), promise in PROMISED.items()
    ]
    few, many = (32, 128) if quick else (64, 512)
    found.append(
        Case(
            what="memory of extraction to disk",
            size=f"{many} pictures against {few}",
            peer_name=f"our own extraction of {few}",
            peer=lambda: to_disk(few),
            ours=lambda: to_disk(many),
            prepare=lambda: (photos(512, 160, 120), to_disk(8))[:0],
            repeats=1,
            memory_slack=(many - few) * 160 * 120 * 3 / 2**20,  # what the further pictures alone would take
        )
    )
    return [*found, *cases_of_scores(quick)]


if __name__ == "__main__":
    main(cases, __doc__)
