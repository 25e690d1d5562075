"""The data sets that the field works with: what they are, where their files lie, where they come from."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.gldv2 import read_gldv2
from lowq_core.data.instre import read_instre
from lowq_core.data.labels import leave_one_out, read_labels
from lowq_core.data.revisited import GND_SUFFIXES, read_revisited
from lowq_core.data.sfm120k import read_val_eccv2020
from lowq_core.errors import LowqError


@dataclass(frozen=True)
class Source:
    """One file on the web: fetched to `to` below the data set's folder, or unpacked into the folder `to`.

    `digest` is `sha256:<hex>` or `md5:<hex>` where the source publishes it, `digest_url` the file where it does
    so; without both, the digest of the first download is recorded and later ones are held to it.
    """

    url: str
    to: str
    unpack: bool = False
    digest: str | None = None
    digest_url: str | None = None


@dataclass(frozen=True)
class Dataset:
    """One entry of the catalogue.

    Attributes:
        name: what `load_benchmark`, `check` and `fetch` call it.
        what: one line about it.
        licence: what its source says.
        files: what it needs in its folder; `a|b` means one of them.
        folders: where it is looked for below the root, first match; it is fetched to the first.
        read: the benchmark in a folder, with the pictures in another one or None. None for what is no
            benchmark.
        sources: where it comes from; empty where it cannot be fetched.
        by_hand: how to get it where it cannot be fetched.
        size: of the downloads.
    """

    name: str
    what: str
    licence: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    read: Callable[[Path, Path | None], Benchmark] | None = None
    sources: tuple[Source, ...] = ()
    by_hand: str = "it is not published; put it there"
    size: str = ""

    @property
    def mend(self) -> str:
        """How to get what is missing."""
        return f"run `lowq data fetch {self.name}`" if self.sources else self.by_hand

    def folder(self, root: Path) -> Path:
        """Where the data set lies below `root`, or where it will be fetched to."""
        return next((root / name for name in self.folders if (root / name).is_dir()), root / self.folders[0])

    def present(self, root: Path | None = None) -> bool:
        """Whether all its files are there (the pictures are not counted; `check` does)."""
        if not self.files:
            return True
        root = root or data_root()
        return root is not None and all(locate(self, choice, root).exists() for choice in self.files)


def data_root() -> Path | None:
    """The folder of the data sets, from the environment variable LOWQ_DATA."""
    value = os.environ.get("LOWQ_DATA")
    return Path(value) if value else None


def need_root(name: str, root: Path | None) -> Path:
    """`root`, or that of the environment; LowqError where there is neither."""
    root = root or data_root()
    if root is None:
        raise LowqError(f"{name}: no folder of data sets is given; set LOWQ_DATA to the one that holds it")
    return root


def locate(dataset: Dataset, choice: str, root: Path) -> Path:
    """The file of `choice` ("a|b": one of them) that is there, or the first where none is."""
    folder = dataset.folder(root)
    candidates = [folder / name for name in choice.split("|")]
    candidates += [root / "revisitop_gnd" / name for name in choice.split("|") if name.startswith("gnd_")]
    return next((path for path in candidates if path.exists()), candidates[0])


def get_dataset(name: str) -> Dataset:
    """The catalogue's entry; LowqError that lists the names where there is none.

    >>> get_dataset("instre").what
    '27,293 pictures, 1,250 queries of 250 objects, mAP'
    """
    try:
        return DATASETS[name]
    except KeyError:
        raise LowqError(f"{name!r} is no data set; choose one of {', '.join(DATASETS)}") from None


def _gnd(name: str) -> str:
    return "|".join(f"gnd_{name}{suffix}" for suffix in GND_SUFFIXES)


def _revisited(name: str) -> Callable[[Path, Path | None], Benchmark]:
    def read(folder: Path, images: Path | None) -> Benchmark:
        candidates = [folder / choice for choice in _gnd(name).split("|")]
        candidates += [folder.parent / "revisitop_gnd" / path.name for path in candidates]
        path = next((path for path in candidates if path.is_file()), candidates[0])
        return read_revisited(path, images or folder, name)

    return read


def _labels(split: str | None = None, column: str = "landmark") -> Callable[[Path, Path | None], Benchmark]:
    def read(folder: Path, images: Path | None) -> Benchmark:
        return leave_one_out(read_labels(folder / "labels.csv", split, column, images))

    return read


def _papertown(folder: Path, images: Path | None) -> Benchmark:
    from lowq_core.data.papertown import town  # here, because rendering needs OpenCV

    if images is not None:
        raise LowqError(f"{images}: papertown is rendered and brings its own pictures; leave the folder out")
    return town("test")


def _gldv2_archives(part: str, count: int) -> tuple[Source, ...]:
    base = "https://s3.amazonaws.com/google-landmark"
    return tuple(
        Source(
            f"{base}/{part}/images_{number:03d}.tar",
            part,
            unpack=True,
            digest_url=f"{base}/md5sum/{part}/md5.images_{number:03d}.txt",
        )
        for number in range(count)
    )


_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_CMP = "https://cmp.felk.cvut.cz"
_PTAK = "http://ptak.felk.cvut.cz"
_GOOGLE = "https://s3.amazonaws.com/google-landmark"
_OWN = "its photos carry no licence of their own; for local evaluation only"

_ENTRIES = (
    Dataset(
        "papertown",
        "rendered landmarks, embedded: needs no files",
        "MIT, as this package",
        files=(),
        folders=("papertown",),
        read=_papertown,
        by_hand="it is rendered when it is first used",
    ),
    Dataset(
        "rparis_mini",
        "238 pictures and 12 queries of rParis6k, with their ground truth",
        _OWN,
        files=(_gnd("rparis_mini"), "jpg"),
        folders=("rparis_mini",),
        read=_revisited("rparis_mini"),
    ),
    Dataset(
        "roxford5k",
        "revisited Oxford: 4,993 pictures, 70 queries, easy / medium / hard",
        "photos from Flickr, copyright of their authors, for research",
        files=(_gnd("roxford5k"), "jpg"),
        folders=("roxford5k", "datasets/roxford5k", "test/roxford5k"),
        read=_revisited("roxford5k"),
        sources=(
            Source(f"{_CMP}/revisitop/data/datasets/roxford5k/gnd_roxford5k.pkl", "gnd_roxford5k.pkl"),
            Source(f"{_VGG}/oxbuildings/oxbuild_images-v1.tgz", "jpg", unpack=True),
        ),
        size="1.9 GB",
    ),
    Dataset(
        "rparis6k",
        "revisited Paris: 6,322 pictures, 70 queries, easy / medium / hard",
        "photos from Flickr, copyright of their authors, for research",
        files=(_gnd("rparis6k"), "jpg"),
        folders=("rparis6k", "datasets/rparis6k", "test/rparis6k"),
        read=_revisited("rparis6k"),
        sources=(
            Source(f"{_CMP}/revisitop/data/datasets/rparis6k/gnd_rparis6k.pkl", "gnd_rparis6k.pkl"),
            Source(f"{_VGG}/parisbuildings/paris_1-v1.tgz", "jpg", unpack=True),
            Source(f"{_VGG}/parisbuildings/paris_2-v1.tgz", "jpg", unpack=True),
        ),
        size="about 2.5 GB",
    ),
    Dataset(
        "revisitop1m",
        "R1M: 1,001,001 distractors, added to a benchmark as <name>+r1m",
        "photos from YFCC100M, Creative Commons",
        files=("revisitop1m.txt", "jpg"),
        folders=("revisitop1m", "datasets/revisitop1m", "test/revisitop1m"),
        sources=(
            Source(f"{_PTAK}/revisitop/revisitop1m/revisitop1m.txt", "revisitop1m.txt"),
            *(
                Source(f"{_PTAK}/revisitop/revisitop1m/jpg/revisitop1m.{number}.tar.gz", "jpg", unpack=True)
                for number in range(1, 101)
            ),
        ),
        size="100 archives",
    ),
    Dataset(
        "instre",
        "27,293 pictures, 1,250 queries of 250 objects, mAP",
        "for research",
        files=("gnd_instre.mat|gnd_instre.pkl|gnd_instre.json", "INSTRE-S1", "INSTRE-S2", "INSTRE-M"),
        folders=("instre", "datasets/instre", "test/instre"),
        read=read_instre,
        by_hand="its authors give it by FTP: ftp.irisa.fr, local/texmex/corpus/instre, gnd_instre.mat and "
        "instre.tar.gz, the latter unpacked there",
    ),
    Dataset(
        "sfm120k",
        "training pairs of SfM-120k, and the validation benchmark of HOW",
        "photos from Flickr, copyright of their authors, for research",
        files=(
            "retrieval-SfM-120k.pkl",
            "retrieval-SfM-120k-whiten.pkl",
            "retrieval-SfM-120k-val-eccv2020.pkl",
            "ims",
        ),
        folders=("sfm120k", "train/retrieval-SfM-120k", "retrieval-SfM-120k"),
        read=read_val_eccv2020,
        sources=(
            *(
                Source(f"{_CMP}/cnnimageretrieval/data/train/dbs/{name}", name)
                for name in ("retrieval-SfM-120k.pkl", "retrieval-SfM-120k-whiten.pkl")
            ),
            Source(
                f"{_PTAK}/personal/toliageo/share/how/dataset/retrieval-SfM-120k-val-eccv2020.pkl",
                "retrieval-SfM-120k-val-eccv2020.pkl",
            ),
            Source(f"{_CMP}/cnnimageretrieval/data/train/ims/ims.tar.gz", "ims", unpack=True),
        ),
    ),
    Dataset(
        "gldv2",
        "Google Landmarks v2 retrieval: 761,757 pictures, 750 private queries, mAP@100",
        "index and test: CC0 or public domain",
        files=("index/index.csv|index.csv", "test/retrieval_solution_v2.1.csv|retrieval_solution_v2.1.csv"),
        folders=("gldv2", "gldv2_dataset"),
        read=lambda folder, images: read_gldv2(folder, images=images),
        sources=(
            Source(f"{_GOOGLE}/metadata/index.csv", "index/index.csv"),
            Source(f"{_GOOGLE}/ground_truth/retrieval_solution_v2.1.csv", "test/retrieval_solution_v2.1.csv"),
            *_gldv2_archives("test", 20),
            *_gldv2_archives("index", 100),
        ),
        size="about 100 GB",
    ),
    Dataset(
        "gldv2_train",
        "Google Landmarks v2 training pictures: 4.1 million, of which 1.58 million clean",
        "train: CC BY",
        files=("train/train.csv|train.csv", "train/train_clean.csv|train_clean.csv"),
        folders=("gldv2", "gldv2_dataset"),
        sources=(
            Source(f"{_GOOGLE}/metadata/train.csv", "train/train.csv"),
            Source(f"{_GOOGLE}/metadata/train_clean.csv", "train/train_clean.csv"),
            *_gldv2_archives("train", 500),
        ),
        size="about 500 GB",
    ),
    Dataset(
        "porto",
        "five landmarks of Porto; benchmark: leave one out over the split test",
        _OWN,
        files=("labels.csv", "jpg"),
        folders=("porto",),
        read=_labels("test"),
    ),
    Dataset(
        "ds4002",
        "211 thumbnails of seven landmarks, leave one out",
        _OWN,
        files=("labels.csv", "jpg"),
        folders=("ds4002",),
        read=_labels(),
    ),
    Dataset(
        "reichstag",
        "89 photos of the Reichstag and five small landmarks, leave one out",
        _OWN,
        files=("labels.csv", "jpg"),
        folders=("reichstag",),
        read=_labels(),
    ),
    Dataset(
        "eth80",
        "ETH-80: 80 objects, 41 views each, leave one out by object",
        _OWN,
        files=("labels.csv", "jpg"),
        folders=("eth80",),
        read=_labels(column="object"),
    ),
)
DATASETS: dict[str, Dataset] = {entry.name: entry for entry in _ENTRIES}
