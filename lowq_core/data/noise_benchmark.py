"""Noise benchmarks: the degraded queries of a benchmark as lossless pictures, as Noise rOxford and Noise rParis are.

Each query is cropped to its box, degraded at native resolution by `lowq_core.degrade`, and kept as PNG, so that
others can search with the very same pixels, whatever their software. A manifest says how each was made.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from lowq_core import __version__
from lowq_core.data.benchmark import Benchmark
from lowq_core.data.check import Expected
from lowq_core.data.download import full_disk
from lowq_core.data.noise_manifest import MANIFEST, NoiseBenchmark, NoisyFile, read_noise_benchmark
from lowq_core.data.pictures import query_pictures
from lowq_core.degrade import NOISES, SEVERITIES, Noise
from lowq_core.errors import LowqError
from lowq_core.files import sha256, write_bytes, write_text
from lowq_core.images import Picture, open_image

__all__ = [
    "check_noise_benchmark",
    "conditions",
    "ground_truth_digest",
    "make_noise_benchmark",
    "read_noise_benchmark",
    "with_stored_queries",
]

Condition = tuple[str, int]
"""A noise and its severity."""


def make_noise_benchmark(
    benchmark: Benchmark,
    folder: Path | str,
    noises: Sequence[str] = NOISES,
    severities: Sequence[int] = SEVERITIES,
    *,
    progress: bool = False,
) -> NoiseBenchmark:
    """The queries of `benchmark` under every noise at every severity, as files below `folder`.

    The pixels are those that `query_pictures(benchmark, (noise, severity))` gives at native resolution, under
    the same seeds. The manifest grows by one noise at one severity at a time, when all its files are there:
    what an earlier call has finished is kept, also where it was cut off or asked for other noises; files that
    are missing or of another length are made again. Two calls at once wait for each other. (The bytes of a PNG
    depend on the version of zlib; its pixels do not.)

    Args:
        benchmark: its name (before any `+`) is part of every seed.
        folder: made where it is not there.
        noises: of `lowq_core.degrade.NOISES`.
        severities: 1 to 5.
        progress: show a bar.

    Returns:
        All that the folder then holds.

    Raises:
        LowqError: no query, noise or severity, or one that is unknown; a query that cannot be read; a folder that
            cannot be written, or that holds something else.

    >>> import tempfile
    >>> from PIL import Image
    >>> from lowq_core.data.benchmark import Query
    >>> folder = Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (64, 48), "teal").save(folder / "q.png")
    >>> town = Benchmark("town", ("a",), (Query("q", (8, 8, 40, 40), [0]),), folder)
    >>> made = make_noise_benchmark(town, folder / "noisy", ["fog", "jpeg"], [3])
    >>> made, [picture.load(None).size for picture in made.pictures("fog", 3)]
    (NoiseBenchmark('town', 1 queries, 2 noises), [(32, 32)])
    """
    folder, benchmark = Path(folder), replace(benchmark, stored=None)
    wanted = conditions(benchmark, noises, severities)
    made = _kept(benchmark, folder)
    if any(condition not in made.conditions for condition in wanted):
        with full_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"):
                made = _kept(benchmark, folder)  # another process may have been faster
                todo = [condition for condition in wanted if condition not in made.conditions]
                made = _make(benchmark, made, todo, progress)
    return made


def with_stored_queries(benchmark: Benchmark, folder: Path | str) -> Benchmark:
    """`benchmark`, whose noisy queries are then the files of the noise benchmark in `folder`.

    Raises:
        LowqError: no noise benchmark there, or one of another benchmark or ground truth.
    """
    made = read_noise_benchmark(folder)
    _check_same(made, benchmark)
    return replace(benchmark, stored=made)


def conditions(
    benchmark: Benchmark, noises: Sequence[str], severities: Sequence[int]
) -> tuple[Condition, ...]:
    """Every one of `noises` at every one of `severities`, each once; LowqError where there is nothing to make.

    >>> from lowq_core.data.benchmark import Query
    >>> conditions(Benchmark("town", ("a",), (Query("a"),), Path()), ["fog"], [5, 1, 5])
    (('fog', 5), ('fog', 1))
    """
    if not benchmark.queries:
        raise LowqError(f"{benchmark.name}: has no queries to degrade; give a benchmark that has")
    if not noises or not severities:
        raise LowqError("noises and severities: one of them is empty; give at least one of each")
    wanted = tuple(dict.fromkeys((noise, severity) for noise in noises for severity in severities))
    for noise, severity in wanted:
        Noise(noise, severity, seed=0)  # refuses what is unknown
    return wanted


def check_noise_benchmark(folder: Path | str) -> list[Expected]:
    """Every file of a noise benchmark held to the digest in its manifest.

    Returns:
        One entry for each noise at each severity that is as it should be, else one for each wrong file.

    Raises:
        LowqError: no manifest, or one that cannot be read.
    """
    made = read_noise_benchmark(folder)
    found = []
    for noise, severity in made.conditions:
        files = made.files_of(noise, severity)
        wrong = [Expected(made.root / file.file, False, why) for file in files if (why := _wrong(made, file))]
        good = Expected(made.root / noise / str(severity), True, f"{len(files)} queries, digests as recorded")
        found += wrong or [good]
    return found


def ground_truth_digest(benchmark: Benchmark) -> str:
    """SHA-256 of the queries, their boxes and the names of the pictures that count as easy, hard and junk.

    The names, not the indices: distractors, or the file format of the ground truth, change nothing.

    >>> from lowq_core.data.benchmark import Query
    >>> town = Benchmark("town", ("a", "b"), (Query("q", easy=[1]),), Path())
    >>> ground_truth_digest(town) == ground_truth_digest(replace(town, images=("a", "b", "more")))
    True
    """
    rows = [
        [query.image, None if query.bbx is None else [float(side) for side in query.bbx]]
        + [[benchmark.images[i] for i in getattr(query, level)] for level in ("easy", "hard", "junk")]
        for query in benchmark.queries
    ]
    return hashlib.sha256(json.dumps([benchmark.measure, rows]).encode()).hexdigest()


def _kept(benchmark: Benchmark, folder: Path) -> NoiseBenchmark:
    """What is finished in `folder`: of each noise at each severity all files, or none."""
    if not (folder / MANIFEST).exists():
        return NoiseBenchmark(folder, _name(benchmark), ground_truth_digest(benchmark), __version__, ())
    made = read_noise_benchmark(folder)
    _check_same(made, benchmark)
    whole = [c for c in made.conditions if all(_is_there(made, file) for file in made.files_of(*c))]
    return made.only(whole)


def _name(benchmark: Benchmark) -> str:
    """Without distractors."""
    return benchmark.name.partition("+")[0]


def _check_same(made: NoiseBenchmark, benchmark: Benchmark) -> None:
    name = _name(benchmark)
    if (made.name, made.ground_truth) != (name, ground_truth_digest(benchmark)):
        other = f"the benchmark {made.name!r}" if made.name != name else f"another ground truth of {name}"
        raise LowqError(f"{made.root}: holds noisy queries of {other}; choose another folder")


def _is_there(made: NoiseBenchmark, file: NoisyFile) -> bool:
    path = made.root / file.file
    return path.is_file() and path.stat().st_size == file.bytes


def _wrong(made: NoiseBenchmark, file: NoisyFile) -> str | None:
    path = made.root / file.file
    mend = "delete it and make the benchmark again"
    if not path.is_file():
        return f"missing; {mend.removeprefix('delete it and ')}"
    found = sha256(path)
    return None if found == file.sha256 else f"its sha256 is {found}, but {file.sha256} is expected; {mend}"


def _make(
    benchmark: Benchmark, made: NoiseBenchmark, todo: Sequence[Condition], progress: bool
) -> NoiseBenchmark:
    if not todo:
        return made
    if made.version != __version__ and made.files:
        raise LowqError(
            f"{made.root}: was begun by lowq {made.version}, and this is {__version__}, whose pictures may differ; "
            f"choose another folder"
        )
    made = replace(made, version=__version__)
    total = len(todo) * len(benchmark.queries)
    pool = ThreadPoolExecutor(os.cpu_count() or 1, "lowq-noise")
    try:
        with tqdm(total=total, unit="picture", disable=not progress) as bar:
            sizes = list(pool.map(_full_size, query_pictures(benchmark)))
            for condition in todo:
                pictures = query_pictures(benchmark, condition)
                files = []
                for file in pool.map(_write, [made.root] * len(sizes), range(len(sizes)), pictures, sizes):
                    files.append(file)
                    bar.update()
                made = made.with_files(files)
                write_text(made.root / MANIFEST, made.to_json())
    finally:
        pool.shutdown(cancel_futures=True)
    return made


def _full_size(picture: Picture) -> tuple[int, int]:
    """Width and height before the crop, upright."""
    return open_image(picture.path).size


def _write(folder: Path, number: int, picture: Picture, full_size: tuple[int, int]) -> NoisyFile:
    assert picture.noise is not None
    stored = io.BytesIO()
    picture.load(None).save(stored, "PNG")
    data = stored.getvalue()
    word = re.sub(r"[^\w.-]+", "_", picture.name, flags=re.ASCII)[-80:]
    file = f"{picture.noise.name}/{picture.noise.severity}/{number:04d}_{word}.png"
    write_bytes(folder / file, data)
    digest = hashlib.sha256(data).hexdigest()
    return NoisyFile(file, picture.name, picture.bbx, picture.noise, full_size, len(data), digest)
