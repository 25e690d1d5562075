from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowq_core.data.benchmark import own_pictures
from lowq_core.data.gldv2 import read_gldv2, read_training_set
from lowq_core.data.sfm120k import read_tuples, read_val_eccv2020
from lowq_core.errors import LowqError

CIDS = ["00000000000000aabbcc", "00000000000000aabbdd", "00000000000000eeffcc", "000000000000001122cc"]
PART = {"cids": CIDS, "cluster": [7, 7, 9, 9], "qidxs": [0, 2], "pidxs": [1, 3]}


def put(folder: Path, name: str, content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder


def test_sfm120k_pairs(tmp_path: Path) -> None:
    val = PART | {"qidxs": np.array([3]), "pidxs": np.array([2])}
    folder = put(tmp_path, "retrieval-SfM-120k.pkl", {"train": PART, "val": val})
    train = read_tuples(folder)
    assert train.images[0] == "cc/bb/aa/00000000000000aabbcc"
    assert train.root == tmp_path / "ims"
    assert list(zip(train.queries.tolist(), train.positives.tolist(), strict=True)) == [(0, 1), (2, 3)]
    assert train.clusters is not None
    assert train.clusters.tolist() == [7, 7, 9, 9]
    assert read_tuples(folder, "val").queries.tolist() == [3]


def test_sfm120k_whitening_has_no_clusters(tmp_path: Path) -> None:
    whiten = {key: PART[key] for key in ("cids", "qidxs", "pidxs")}
    tuples = read_tuples(put(tmp_path, "retrieval-SfM-120k-whiten.pkl", whiten), "whiten")
    assert tuples.clusters is None
    assert tuples.positives.tolist() == [1, 3]


def test_sfm120k_validation_counts_the_query_as_junk(tmp_path: Path) -> None:
    content = {"cids": CIDS, "qidx": [0, 2], "gnd": [{"ok": [1], "junk": [3]}, {"ok": np.array([2, 3])}]}
    benchmark = read_val_eccv2020(put(tmp_path, "retrieval-SfM-120k-val-eccv2020.pkl", content))
    assert benchmark.measure == "map"
    first, second = benchmark.queries
    assert first.image == "cc/bb/aa/00000000000000aabbcc"
    assert (first.easy.tolist(), first.junk.tolist()) == ([1], [0, 3])
    assert (second.easy.tolist(), second.junk.tolist()) == ([2, 3], [])  # it lists itself as a positive
    own = own_pictures(benchmark)
    assert own is not None
    assert own.tolist() == [0, -1]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"qidxs": [0, 4]}, "qidxs runs from 0 to 4, but it lists 4 pictures"),
        ({"pidxs": [1]}, "2 qidxs and 1 pidxs"),
        ({"cluster": [1]}, "1 clusters for 4 cids"),
        ({"pidxs": [0.5, 1.5]}, "list of indices"),
    ],
)
def test_sfm120k_wrong_content(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    folder = put(tmp_path, "retrieval-SfM-120k.pkl", {"train": PART | changed})
    with pytest.raises(LowqError, match=sentence):
        read_tuples(folder)
    with pytest.raises(LowqError, match="has no 'val'"):
        read_tuples(folder, "val")
    with pytest.raises(LowqError, match=r"whiten\.pkl: cannot be read"):
        read_tuples(folder, "whiten")
    content = {"cids": CIDS, "qidx": [0], "gnd": []}
    with pytest.raises(LowqError, match="1 queries but ground truth for 0"):
        read_val_eccv2020(put(tmp_path, "retrieval-SfM-120k-val-eccv2020.pkl", content))


def gldv2(folder: Path, beside: bool = True) -> Path:
    """The data set in small; its CSVs beside the pictures, or all in one folder."""
    tables = {
        "train/train.csv": "id,url,landmark_id\naaa1,u,30\nbbb2,u,5\nccc3,u,5\nddd4,u,200\n",
        "train/train_clean.csv": "landmark_id,images\n5,ccc3 bbb2\n200,ddd4\n",
        "index/index.csv": "id\n0000\n1111\n2222\n",
        "test/retrieval_solution_v2.1.csv": (
            "id,images,Usage\nabcd,2222 0000,Private\nbcde,1111,Public\nffff,None,Ignored\n"
        ),
    }
    for name, text in tables.items():
        path = folder / (name if beside else Path(name).name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize("beside", [True, False])
def test_gldv2_readings(tmp_path: Path, beside: bool) -> None:
    folder = gldv2(tmp_path, beside)
    clean = read_training_set(folder)
    assert clean.images == ("train/c/c/c/ccc3.jpg", "train/b/b/b/bbb2.jpg", "train/d/d/d/ddd4.jpg")
    assert clean.label_names == ("5", "200")
    assert clean.labels.tolist() == [0, 0, 1]
    everything = read_training_set(folder, "noisy_labels")
    assert everything.label_names == ("5", "30", "200")
    assert everything.labels.tolist() == [1, 0, 0, 2]
    known = read_training_set(folder, "noisy_classes")
    assert known.label_names == clean.label_names
    assert known.images == ("train/b/b/b/bbb2.jpg", "train/c/c/c/ccc3.jpg", "train/d/d/d/ddd4.jpg")
    noisy = read_training_set(folder, "noisy_pictures")
    assert noisy.images == clean.images
    assert noisy.labels.tolist() == clean.labels.tolist()


def test_gldv2_retrieval(tmp_path: Path) -> None:
    benchmark = read_gldv2(gldv2(tmp_path))
    assert benchmark.measure == "map@100"
    assert benchmark.images == ("index/0/0/0/0000.jpg", "index/1/1/1/1111.jpg", "index/2/2/2/2222.jpg")
    assert [query.image for query in benchmark.queries] == ["test/a/b/c/abcd.jpg"]
    assert benchmark.queries[0].easy.tolist() == [0, 2]
    both = read_gldv2(tmp_path, ("Private", "Public"))
    assert [query.easy.tolist() for query in both.queries] == [[0, 2], [1]]
    with pytest.raises(LowqError, match="no query of usage Ignored, only Ignored, Private, Public"):
        read_gldv2(tmp_path, ("Ignored",))


def test_gldv2_wrong_content(tmp_path: Path) -> None:
    with pytest.raises(LowqError, match=r"holds no index\.csv"):
        read_gldv2(tmp_path)
    with pytest.raises(LowqError, match=r"holds no train_clean\.csv"):
        read_training_set(tmp_path)
    folder = gldv2(tmp_path)
    with pytest.raises(LowqError, match="'dirty' is no reading"):
        read_training_set(folder, "dirty")  # type: ignore[arg-type]
    (folder / "train/train_clean.csv").write_text("landmark_id,images\n5,ccc3\n200,ccc3\n")
    with pytest.raises(LowqError, match=r"ccc3\.jpg' twice"):
        read_training_set(folder)
    (folder / "index/index.csv").write_text("id\n0000\n")
    with pytest.raises(LowqError, match=r"query abcd lists 2222, which index\.csv has not"):
        read_gldv2(folder)
