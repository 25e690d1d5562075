"""A profile's benchmarks and training pictures, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.catalogue import load_benchmark
from lowq_core.data.datasets import DATASETS, need_root
from lowq_core.data.folder import with_distractors
from lowq_core.data.gldv2 import Reading, read_training_set
from lowq_core.data.labels import ImageSet, read_labels, read_table
from lowq_core.data.named import DISTRACTORS, RENDERED, distractors_folder, training_dataset
from lowq_core.data.noise_benchmark import read_noise_benchmark, with_stored_queries
from lowq_core.data.noise_manifest import MANIFEST
from lowq_core.data.papertown import town, training_set
from lowq_core.data.pictures import set_pictures
from lowq_core.data.sfm120k import read_tuples
from lowq_core.errors import LowqError
from lowq_core.images import Picture
from lowq_core.models.whitening import pairs_from_labels
from lowq_core.reproduce.profiles import Profile
from lowq_core.training.classes import TrainingClasses, join_classes
from lowq_core.training.tuples import TrainingTuples, from_labels, from_tuples, join

PAIRS_PER_LABEL = 400


def benchmark_of(
    profile: Profile, name: str, images: Path | None = None, distractors: Path | None = None
) -> Benchmark:
    """The benchmark that a profile calls `name`.

    `papertown` and `papertown_val` are rendered at the profile's size; `<name>+distractors` adds the pictures
    of LOWQ_DATA's folder `distractors`; the folder of a noise benchmark is the benchmark that it was made of, by
    name or by the ground truth that lies in the folder, with its files as noisy queries; anything else, a path
    also, is for `load_benchmark`.

    Args:
        images: folder of the pictures, where the ground truth does not lie beside them.
        distractors: folder of pictures that match no query, added to the database.

    Raises:
        LowqError: see `load_benchmark`.
    """
    if (Path(name) / MANIFEST).is_file():
        made = read_noise_benchmark(name)
        if made.own_truth.is_file():
            made_of = load_benchmark(made.own_truth, images, distractors)
        else:
            made_of = benchmark_of(profile, made.name, images, distractors)
        return with_stored_queries(made_of, name)
    if name in RENDERED and images is None:
        benchmark = town(RENDERED[name], profile.town)
        return benchmark if distractors is None else with_distractors(benchmark, distractors)
    base = name.removesuffix(DISTRACTORS)
    if base != name and not Path(name).exists():
        benchmark = with_distractors(benchmark_of(profile, base, images), _distractors(name))
        return benchmark if distractors is None else with_distractors(benchmark, distractors)
    return load_benchmark(name, images, distractors)


@dataclass(frozen=True, eq=False)
class TrainingPairs:
    """Pictures to fit a whitening on.

    Attributes:
        pictures: N of them.
        queries, positives: (P,) int64 indices into `pictures`; pair i shows one landmark twice.
    """

    pictures: list[Picture]
    queries: NDArray[np.int64]
    positives: NDArray[np.int64]


def training_pairs(profile: Profile) -> TrainingPairs:
    """The matching pairs of all of the profile's training sets, by name or by the path of a labels CSV.

    SfM-120k brings its own pairs; of a labelled set all pictures of one label are paired, see
    `pairs_from_labels`.

    Raises:
        LowqError: a set that is not here.
    """
    pictures: list[Picture] = []
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for name in profile.train:
        more, queries, positives = _pairs_of(name, profile)
        pairs.append((queries + len(pictures), positives + len(pictures)))
        pictures += more
    return TrainingPairs(pictures, *(np.concatenate(side) for side in zip(*pairs, strict=True)))


def training_tuples(profile: Profile) -> TrainingTuples:
    """The pairs of all of the profile's training sets with the landmark of each picture, for training networks.

    Whitening and codebook take the first of the pictures. Those of SfM-120k alone stay in the order of its list, as
    published; labelled sets list landmark after landmark, so theirs are shuffled.

    Raises:
        LowqError: a set that is not here.
    """
    parts = []
    for name in profile.train:
        if name == "sfm120k":
            parts.append(from_tuples(read_tuples(_folder(name), "train")))
        else:
            parts.append(from_labels(_labelled(name, profile), profile.seeds[0], PAIRS_PER_LABEL))
    joined = join(parts)
    return joined if profile.train == ("sfm120k",) else joined.shuffled(profile.seeds[0])


def training_classes(profile: Profile) -> TrainingClasses:
    """The pictures of the training sets for bad pictures (`profile.tuned.train`), each set's landmarks classes.

    `gldv2` is the clean part of Google Landmarks v2, `gldv2-` and a reading another part of it, see
    `lowq_core.data.gldv2.READINGS`. A set of one's own is named by the path of its labels CSV, or of the folder that
    holds it as `labels.csv`.

    Raises:
        LowqError: a set that is not here.
    """
    parts = []
    for name in profile.tuned.train:
        if name == "sfm120k":
            tuples = from_tuples(read_tuples(_folder(name), "train"))
            parts.append(TrainingClasses(name, tuples.pictures, tuples.clusters))
        else:
            images = _labelled(name, profile)
            parts.append(TrainingClasses(name, tuple(set_pictures(images)), images.labels))
    return join_classes(parts)


def _pairs_of(name: str, profile: Profile) -> tuple[list[Picture], NDArray[np.int64], NDArray[np.int64]]:
    if name == "sfm120k":
        tuples = read_tuples(_folder(name), "whiten")
        pictures = [Picture(tuples.root / image, image) for image in tuples.images]
        return pictures, tuples.queries, tuples.positives
    images = _labelled(name, profile)
    return set_pictures(images), *pairs_from_labels(images.labels, profile.seeds[0], PAIRS_PER_LABEL)


def _labelled(name: str, profile: Profile) -> ImageSet:
    """PaperTown's training set, or the training part of a labels CSV: all of it where the CSV has no split."""
    if name == "papertown":
        return training_set(profile.town)
    if name.partition("-")[0] == "gldv2":
        reading = name.partition("-")[2] or "clean"
        return read_training_set(_folder(name), cast(Reading, reading))
    labels = _labels_csv(name)
    split = "train" if "split" in read_table(labels, ["image"])[0] else None
    return read_labels(labels, split)


def _labels_csv(name: str) -> Path:
    """Of a set of the catalogue, or of one's own, named by its path."""
    if name in DATASETS:
        return _folder(name) / "labels.csv"
    path = Path(name)
    if not path.exists():
        raise LowqError(
            f"training set {name!r}: is neither a data set nor a labels CSV; check the path, or choose one of "
            f"{', '.join(DATASETS)}"
        )
    return path / "labels.csv" if path.is_dir() else path


def _folder(name: str) -> Path:
    return training_dataset(name).folder(need_root(name, None))


def _distractors(name: str) -> Path:
    folder = distractors_folder(name)
    if not folder.is_dir():
        raise LowqError(f"{name}: {folder} has to hold the distractors' pictures; put them there")
    return folder
