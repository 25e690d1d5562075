"""SfM-120k: pictures of 3-D reconstructions with matching pairs (Radenovic et al., TPAMI 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lowq_core.data.benchmark import Benchmark, Query
from lowq_core.data.pickles import read_pickle
from lowq_core.errors import LowqError

Split = Literal["train", "val", "whiten"]
_FILES = {
    "train": "retrieval-SfM-120k.pkl",
    "val": "retrieval-SfM-120k.pkl",
    "whiten": "retrieval-SfM-120k-whiten.pkl",
    "val-eccv2020": "retrieval-SfM-120k-val-eccv2020.pkl",
}


@dataclass(frozen=True, eq=False)
class Tuples:
    """Pictures and the matching pairs among them.

    Attributes:
        name: which part it is.
        root: folder `ims`.
        images: paths of the pictures below `root`.
        queries, positives: (P,) int64 each, indices into `images`; pair i is queries[i] and positives[i].
        clusters: (N,) int64, the 3-D model of each picture: negatives come from other models. None for the
            whitening set, which has no negatives.
    """

    name: str
    root: Path
    images: tuple[str, ...]
    queries: NDArray[np.int64]
    positives: NDArray[np.int64]
    clusters: NDArray[np.int64] | None


def read_tuples(folder: Path | str, split: Split = "train") -> Tuples:
    """The training pairs (`train`), those for validation (`val`), or those to learn whitening on (`whiten`).

    Args:
        folder: holds `retrieval-SfM-120k.pkl`, `retrieval-SfM-120k-whiten.pkl` and the pictures below `ims`.

    Raises:
        LowqError: file missing or of another shape, or a pair that points past the list.
    """
    path = Path(folder) / _FILES[split]
    content = read_pickle(path)
    if split != "whiten":
        content = _take(content, split, path)
    images = _images(_take(content, "cids", path))
    queries, positives = (
        _ids(_take(content, key, path), len(images), key, path) for key in ("qidxs", "pidxs")
    )
    if queries.shape != positives.shape:
        raise LowqError(f"{path}: has {queries.size} qidxs and {positives.size} pidxs; they have to be pairs")
    clusters = None
    if split != "whiten":
        clusters = np.asarray(_take(content, "cluster", path)).astype(np.int64)
        if clusters.shape != (len(images),):
            raise LowqError(f"{path}: has {clusters.size} clusters for {len(images)} cids; it needs one each")
    return Tuples(f"sfm120k-{split}", Path(folder) / "ims", images, queries, positives, clusters)


def read_val_eccv2020(folder: Path | str, pictures: Path | None = None) -> Benchmark:
    """The validation benchmark of HOW (Tolias et al., ECCV 2020): queries are pictures of the database, mAP.

    A query finds itself first, so it is junk for itself (and no search begins with it, see `own_pictures`) unless
    the ground truth lists it as a positive.

    Args:
        folder: holds `retrieval-SfM-120k-val-eccv2020.pkl` and the pictures below `ims`.
        pictures: the folder `ims`, where it is another one.
    """
    path = Path(folder) / _FILES["val-eccv2020"]
    content = read_pickle(path)
    images = _images(_take(content, "cids", path))
    own = _ids(_take(content, "qidx", path), len(images), "qidx", path)
    gnd = list(_take(content, "gnd", path))
    if len(gnd) != own.size:
        raise LowqError(f"{path}: has {own.size} queries but ground truth for {len(gnd)}; it needs one each")
    queries = []
    for index, entry in zip(own.tolist(), gnd, strict=True):
        easy = _ids(_take(entry, "ok", path), len(images), "ok", path)
        junk = _ids(entry.get("junk", ()), len(images), "junk", path)
        queries.append(Query(images[index], easy=easy, junk=np.setdiff1d(np.append(junk, index), easy)))
    root = pictures or Path(folder) / "ims"
    return Benchmark("sfm120k-val-eccv2020", images, tuple(queries), root, "map")


def picture_path(cid: str) -> str:
    """Where the picture `cid` lies below `ims`: in folders of its last six characters, by twos.

    >>> picture_path("0123456789abcdef")
    'ef/cd/ab/0123456789abcdef'
    """
    return f"{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"


def _images(cids: Any) -> tuple[str, ...]:
    return tuple(picture_path(str(cid)) for cid in cids)


def _take(content: Any, key: str, path: Path) -> Any:
    if not isinstance(content, Mapping) or key not in content:
        raise LowqError(f"{path}: has no {key!r} where SfM-120k has one; get the file again")
    return content[key]


def _ids(values: Any, size: int, key: str, path: Path) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size and (array.dtype.kind not in "iu" or array.ndim != 1):
        raise LowqError(
            f"{path}: {key} is {array.dtype} of shape {array.shape}; it has to be a list of indices"
        )
    if array.size and not 0 <= array.min() <= array.max() < size:
        raise LowqError(
            f"{path}: {key} runs from {array.min()} to {array.max()}, but it lists {size} pictures"
        )
    return array.astype(np.int64)
