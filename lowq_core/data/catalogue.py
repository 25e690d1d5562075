"""Benchmarks by name or by path."""

from __future__ import annotations

from pathlib import Path

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.check import Expected, check
from lowq_core.data.datasets import DATASETS, Dataset, data_root, get_dataset, locate, need_root
from lowq_core.data.fetch import fetch
from lowq_core.data.folder import R1M_LIST, read_folder, with_distractors
from lowq_core.data.labels import leave_one_out, read_labels, read_table
from lowq_core.data.revisited import GND_SUFFIXES, read_revisited
from lowq_core.errors import LowqError

__all__ = ["Dataset", "Expected", "check", "data_root", "fetch", "list_datasets", "load_benchmark"]


def list_datasets() -> list[Dataset]:
    """The entries of the catalogue, in the order to show them.

    >>> [dataset.name for dataset in list_datasets()][:3]
    ['papertown', 'rparis_mini', 'roxford5k']
    """
    return list(DATASETS.values())


def load_benchmark(
    name_or_path: str | Path, images: Path | None = None, distractors: Path | None = None
) -> Benchmark:
    """The benchmark of that name, or the one described by a file or folder.

    Args:
        name_or_path: a name of the catalogue, found below LOWQ_DATA (`<name>+r1m` adds the million
            distractors); a ground truth `gnd.json`, `.pkl` or `.mat`; a labels CSV, whose pictures are
            searched for one another (leave-one-out; of its split `test` only, where it has one); or a folder
            that holds one of these, or one sub-folder of pictures for each label.
        images: folder of the pictures, where they do not lie beside the ground truth.
        distractors: folder of pictures that match no query, added to the database.

    Raises:
        LowqError: no such benchmark (the sentence says which files are expected where), or one that is wrong.

    >>> load_benchmark("rparis5k")
    Traceback (most recent call last):
    lowq_core.errors.LowqError: 'rparis5k': is neither a file or folder nor a benchmark; choose one of papertown, \
rparis_mini, roxford5k, rparis6k, instre, sfm120k, gldv2, porto, ds4002, reichstag, eth80
    """
    name = str(name_or_path)
    base, plus, _ = name.partition("+r1m")
    if base in DATASETS and DATASETS[base].read is not None:
        benchmark = _by_name(DATASETS[base], images)
        if plus:
            benchmark = with_distractors(benchmark, _r1m(name))
    else:
        benchmark = _by_path(Path(name), images)
    return with_distractors(benchmark, distractors) if distractors is not None else benchmark


def _by_name(dataset: Dataset, images: Path | None) -> Benchmark:
    assert dataset.read is not None
    if not dataset.files:
        return dataset.read(Path(), images)
    gnd = dataset.files[0]
    places = [images, images.parent] if images is not None else []
    for place in places:  # a folder of pictures often has its ground truth in it or beside it
        if any((place / name).is_file() for name in gnd.split("|")):
            return dataset.read(place, images)
    root = need_root(dataset.name, None)
    if not locate(dataset, gnd, root).exists():
        raise LowqError(
            f"{dataset.name}: {dataset.folder(root)} has to hold {gnd.replace('|', ' or ')} and the pictures; "
            f"{dataset.mend}"
        )
    return dataset.read(dataset.folder(root), images)


def _by_path(path: Path, images: Path | None) -> Benchmark:
    if path.is_dir():
        return _by_folder(path, images)
    if path.suffix in GND_SUFFIXES:
        return read_revisited(path, images)
    if path.suffix == ".csv":
        rows = read_table(path, ["image"])
        split = "test" if any(row.get("split") == "test" for row in rows) else None
        return leave_one_out(read_labels(path, split, images=images))
    names = ", ".join(name for name, dataset in DATASETS.items() if dataset.read is not None)
    if path.exists():
        raise LowqError(
            f"{path}: is no ground truth; give a .json, .pkl, .mat or .csv, a folder, or one of {names}"
        )
    raise LowqError(f"{str(path)!r}: is neither a file or folder nor a benchmark; choose one of {names}")


def _by_folder(folder: Path, images: Path | None) -> Benchmark:
    gnds = sorted(path for path in folder.glob("gnd_*") if path.suffix in GND_SUFFIXES)
    if len({path.stem for path in gnds}) > 1:
        raise LowqError(
            f"{folder}: holds {gnds[0].name} and {gnds[-1].name}; give the path of the one you mean"
        )
    if gnds:
        return read_revisited(gnds[0], images)
    if (folder / "labels.csv").is_file():
        return _by_path(folder / "labels.csv", images)
    pictures = read_folder(folder)
    if len(pictures.label_names) < 2:
        raise LowqError(f"{folder}: has one sub-folder of pictures; it needs one for each of several labels")
    return leave_one_out(pictures)


def _r1m(name: str) -> Path:
    folder = get_dataset("revisitop1m").folder(need_root(name, None))
    if not (folder / R1M_LIST).is_file():
        raise LowqError(f"{name}: {folder} has to hold {R1M_LIST} and jpg; run `lowq data fetch revisitop1m`")
    return folder
