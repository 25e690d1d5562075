"""A profile's benchmarks and training pairs, by name."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lowq_core.data.benchmark import Benchmark
from lowq_core.errors import LowqError
from lowq_core.methods import data as module
from lowq_core.methods.data import (
    PAIRS_PER_LABEL,
    benchmark_of,
    training_classes,
    training_pairs,
    training_tuples,
)
from lowq_core.reproduce.profiles import PROFILES, profile
from lowq_core.training.classes import TrainingClasses

SMOKE = profile("smoke")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOWQ_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def labels_csv(folder: Path, rows: list[str], header: str = "image,landmark,split") -> None:
    folder.mkdir(parents=True)
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    for row in rows:
        (folder / row.split(",")[0]).touch()


def test_papertown_has_the_size_of_the_profile(monkeypatch, tmp_path: Path) -> None:
    asked = []

    def town(split: str, scale: str) -> Benchmark:
        asked.append((split, scale))
        return Benchmark("papertown", ("a",), (), tmp_path)

    monkeypatch.setattr(module, "town", town)
    for name in ("papertown", "papertown_val"):
        for size in ("smoke", "mini"):
            benchmark_of(profile(size), name)
    assert asked == [("test", "smoke"), ("test", "mini"), ("val", "smoke"), ("val", "mini")]
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "d.png").touch()
    assert benchmark_of(SMOKE, "papertown", distractors=tmp_path / "more").images == ("a", "d.png")
    with pytest.raises(LowqError, match="brings its own pictures"):
        benchmark_of(SMOKE, "papertown", images=tmp_path)


def test_distractors_by_name(root: Path, tiny: Path, monkeypatch) -> None:
    shutil.copytree(tiny, root / "rparis_mini")
    (root / "rparis_mini" / "gnd_tiny.json").rename(root / "rparis_mini" / "gnd_rparis_mini.json")
    plain = benchmark_of(SMOKE, "rparis_mini")
    assert (plain.name, len(plain.images)) == ("rparis_mini", 13)
    with pytest.raises(LowqError, match=r"rparis_mini\+distractors: .*distractors has to hold"):
        benchmark_of(SMOKE, "rparis_mini+distractors")
    (root / "distractors").mkdir()
    (root / "distractors" / "d.png").touch()
    more = benchmark_of(SMOKE, "rparis_mini+distractors")
    assert (more.name, len(more.images), more.images[:13]) == ("rparis_mini+distractors", 14, plain.images)
    assert more.queries == plain.queries
    monkeypatch.delenv("LOWQ_DATA")
    with pytest.raises(LowqError, match="set LOWQ_DATA"):
        benchmark_of(SMOKE, "rparis_mini+distractors")


def test_rendered_scenes_with_distractors_have_the_size_of_the_profile(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "town", lambda split, scale: Benchmark(f"{split}-{scale}", ("a",), (), root))
    (root / "distractors").mkdir()
    (root / "distractors" / "d.png").touch()
    for name, split in (("papertown", "test"), ("papertown_val", "val")):
        more = benchmark_of(SMOKE, f"{name}+distractors")
        assert (more.name, more.images) == (f"{split}-smoke+distractors", ("a", "d.png"))


def test_a_path_that_ends_like_a_name(tiny: Path) -> None:
    folder = tiny.rename(tiny.with_name("town+distractors"))
    assert len(benchmark_of(SMOKE, str(folder)).images) == 13


def test_pairs_of_labels_never_mix_labels(root: Path) -> None:
    names = [f"{label}{number}.png,{label},train" for label in "abcd" for number in range(ord(label) - 95)]
    labels_csv(root / "porto", [*names, "t1.png,t,test", "t2.png,t,test"])
    labels_csv(
        root / "ds4002", [f"{label}{n}.png,{label}" for label in "ab" for n in range(3)], "image,landmark"
    )
    chosen = profile("smoke", train=("porto", "ds4002"))
    pairs = training_pairs(chosen)
    assert len(pairs.pictures) == 2 + 3 + 4 + 5 + 6
    folders = [picture.path.parent.name for picture in pairs.pictures]
    label = [f"{folder}/{picture.name[0]}" for folder, picture in zip(folders, pairs.pictures, strict=True)]
    seen = set()
    for one, other in zip(pairs.queries, pairs.positives, strict=True):
        assert one != other
        assert label[one] == label[other]
        seen.add(label[one])
    assert seen == {"porto/a", "porto/b", "porto/c", "porto/d", "ds4002/a", "ds4002/b"}
    again = training_pairs(chosen)
    np.testing.assert_array_equal(pairs.queries, again.queries)


def test_a_big_label_does_not_outweigh_the_others(root: Path) -> None:
    labels_csv(
        root / "porto", [f"a{n}.png,a,train" for n in range(60)] + ["b0.png,b,train", "b1.png,b,train"]
    )
    pairs = training_pairs(profile("smoke", train=("porto",)))
    counts = np.bincount(pairs.queries >= 60)
    assert counts[0] <= PAIRS_PER_LABEL
    assert counts[1] >= 1


def test_sfm120k_brings_its_own_pairs(root: Path) -> None:
    ids = [f"{number:032x}" for number in range(4)]
    folder = root / "sfm120k"
    for name in ids:
        path = folder / "ims" / name[-2:] / name[-4:-2] / name[-6:-4] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "retrieval-SfM-120k-whiten.pkl").write_bytes(
        pickle.dumps({"cids": ids, "qidxs": [0, 3], "pidxs": [2, 1]})
    )
    pairs = training_pairs(profile("smoke", train=("sfm120k",)))
    found = [
        (pairs.pictures[q].path.name, pairs.pictures[p].path.name)
        for q, p in zip(pairs.queries, pairs.positives, strict=True)
    ]
    assert found == [(ids[0], ids[2]), (ids[3], ids[1])]


def test_classes_of_every_kind_of_set(root: Path) -> None:
    labels_csv(root / "porto", ["a0.png,a,train", "a1.png,a,train", "b0.png,b,train", "t.png,t,test"])
    tables = {
        "train/train.csv": "id,url,landmark_id\naaa1,u,30\nbbb2,u,5\nccc3,u,5\nddd4,u,200\n",
        "train/train_clean.csv": "landmark_id,images\n5,ccc3 bbb2\n200,ddd4\n",
    }
    for name, text in tables.items():
        path = root / "gldv2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("aaa1", "bbb2", "ccc3", "ddd4"):
        path = root / "gldv2" / "train" / name[0] / name[1] / name[2] / f"{name}.jpg"
        path.parent.mkdir(parents=True)
        path.touch()
    ids = [f"{number:032x}" for number in range(3)]
    for name in ids:
        path = root / "sfm120k" / "ims" / name[-2:] / name[-4:-2] / name[-6:-4] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    train = {"cids": ids, "cluster": [7, 7, 9], "qidxs": [0], "pidxs": [1]}
    (root / "sfm120k" / "retrieval-SfM-120k.pkl").write_bytes(pickle.dumps({"train": train}))
    published = training_tuples(replace(SMOKE, train=("sfm120k",)))
    assert [picture.path.name for picture in published.pictures] == ids, "the first of its list are taken"

    def classes_of(*names: str) -> TrainingClasses:
        return training_classes(replace(SMOKE, tuned=replace(SMOKE.tuned, train=names)))

    assert classes_of("porto").labels.tolist() == [0, 0, 1]
    assert classes_of("gldv2").labels.tolist() == [0, 0, 1]
    assert classes_of("gldv2-noisy_labels").count == 3
    assert classes_of("sfm120k").labels.tolist() == [0, 0, 1]
    everything = classes_of("porto", "gldv2", "sfm120k")
    assert everything.labels.tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5]
    assert len({picture.path for picture in everything.pictures}) == 9
    with pytest.raises(LowqError, match="'dirty' is no reading"):
        classes_of("gldv2-dirty")


def test_a_labels_csv_of_ones_own(root: Path, tmp_path: Path) -> None:
    """By its path, or by that of its folder; with a split its training part, without one all of it."""
    labels_csv(tmp_path / "mine", ["a0.png,a,train", "a1.png,a,train", "b0.png,b,train", "t.png,t,test"])
    labels_csv(tmp_path / "more", ["c0.png,c", "c1.png,c", "d0.png,d"], "image,object")
    (tmp_path / "more" / "labels.csv").rename(tmp_path / "more" / "objects.csv")
    names = (str(tmp_path / "mine"), str(tmp_path / "more" / "objects.csv"))
    chosen = profile("smoke", train=names, tuned=replace(SMOKE.tuned, train=names))
    classes = training_classes(chosen)
    assert classes.labels.tolist() == [0, 0, 1, 2, 2, 3]
    wanted = [tmp_path / "mine" / name for name in ("a0.png", "a1.png", "b0.png")]
    wanted += [tmp_path / "more" / name for name in ("c0.png", "c1.png", "d0.png")]
    assert [picture.path for picture in classes.pictures] == wanted
    pairs = training_pairs(chosen)
    assert {(int(q), int(p)) for q, p in zip(pairs.queries, pairs.positives, strict=True)} <= {
        (0, 1),
        (1, 0),
        (3, 4),
        (4, 3),
    }
    assert {p.path for p in training_tuples(chosen).pictures} == set(wanted)
    for given, why in (
        (str(tmp_path / "none.csv"), r"none\.csv': is neither a data set nor a labels CSV; check the path"),
        (str(tmp_path), r"labels\.csv: cannot be read"),
    ):
        with pytest.raises(LowqError, match=why):
            training_pairs(profile("smoke", train=(given,)))


def test_training_pictures_that_are_not_here(root: Path, monkeypatch) -> None:
    with pytest.raises(LowqError, match=r"porto/labels\.csv: cannot be read"):
        training_pairs(profile("smoke", train=("porto",)))
    monkeypatch.delenv("LOWQ_DATA")
    with pytest.raises(LowqError, match="set LOWQ_DATA"):
        training_pairs(profile("smoke", train=("porto",)))


@pytest.mark.parametrize("name", list(PROFILES))
def test_no_profile_chooses_on_what_it_is_measured_on(name: str) -> None:
    chosen = PROFILES[name]
    assert not set(chosen.validation) & {*chosen.benchmarks, *chosen.distractors}
    assert all(more.partition("+")[0] in chosen.benchmarks for more in chosen.distractors)
