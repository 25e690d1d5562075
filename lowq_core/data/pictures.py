"""Benchmarks and image sets as lists of `Picture`s, ready to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.finder import picture_stem
from lowq_core.data.labels import ImageSet
from lowq_core.degrade import Noise, noise_seed
from lowq_core.images import Picture


def database_pictures(benchmark: Benchmark) -> list[Picture]:
    """The pictures of the database, in its order.

    One that is missing gets the path where it was expected, so reading it says so and a batch goes on.

    Raises:
        LowqError: none of them is there, or a name fits several files.
    """
    paths = _paths(benchmark, benchmark.images)
    return [Picture(path, image) for path, image in zip(paths, benchmark.images, strict=True)]


def query_pictures(benchmark: Benchmark, noise: tuple[str, int] | None = None) -> list[Picture]:
    """The pictures of the queries, in their order, with their boxes and, where given, noise.

    The noise of a query is seeded with what is the same on every machine: the benchmark's name (before any
    `+`, so distractors change nothing), the picture's name without extension, the noise and its severity. A
    picture that is queried again, with another box, is called `<name>#1`, `#2` and so on.

    Args:
        noise: name and severity 1..5 of a degradation, laid on the cropped query; taken from `benchmark.stored`
            where the benchmark has that.

    Raises:
        LowqError: no query's picture is there, or a name fits several files.
    """
    if noise is not None and benchmark.stored is not None:
        return benchmark.stored.pictures(*noise)
    paths = _paths(benchmark, [query.image for query in benchmark.queries])
    name = benchmark.name.partition("+")[0]
    times: Counter[str] = Counter()
    pictures = []
    for path, query in zip(paths, benchmark.queries, strict=True):
        again = f"#{times[query.image]}" if times[query.image] else ""
        times[query.image] += 1
        laid = None
        if noise is not None:
            laid = Noise(*noise, seed=noise_seed(name, picture_stem(query.image) + again, *noise))
        pictures.append(Picture(path, query.image + again, query.bbx, laid))
    return pictures


def set_pictures(images: ImageSet) -> list[Picture]:
    """The pictures of an image set, in its order; missing ones as in `database_pictures`."""
    paths = _paths(images, images.images)
    return [Picture(path, image) for path, image in zip(paths, images.images, strict=True)]


def _paths(source: Benchmark | ImageSet, images: Sequence[str]) -> list[Path]:
    found = [source.find(image) for image in images]
    if not any(found):
        source.path(images[0])  # raises: it says where the pictures were looked for
    return [path or source.root / image for path, image in zip(found, images, strict=True)]
