"""Training tuples from SfM-120k's lists and from labels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lowq_core.data.labels import ImageSet
from lowq_core.data.papertown import training_set
from lowq_core.data.sfm120k import Tuples
from lowq_core.errors import LowqError
from lowq_core.images import Picture
from lowq_core.training.tuples import TrainingTuples, from_labels, from_tuples, join


def pictures(count: int, prefix: str = "") -> tuple[Picture, ...]:
    return tuple(Picture(Path(f"{prefix}{i}.jpg"), f"{prefix}{i}") for i in range(count))


@pytest.fixture
def labelled(tmp_path: Path) -> ImageSet:
    names = tuple(f"{i}.png" for i in range(30))
    for name in names:
        Image.new("RGB", (4, 3)).save(tmp_path / name)
    labels = np.r_[np.repeat([0, 1, 2], 9), 3, 4, 4]
    return ImageSet("thirty", tmp_path, names, labels, tuple("abcde"))


def test_from_labels(labelled: ImageSet) -> None:
    data = from_labels(labelled, seed=0, per_label=20)
    assert [picture.path.name for picture in data.pictures] == list(labelled.images)
    assert (data.queries != data.positives).all()
    pairs = {frozenset(pair) for pair in zip(data.queries.tolist(), data.positives.tolist(), strict=True)}
    assert len(pairs) == data.queries.size  # none twice
    assert Counter(data.clusters[data.queries].tolist()) == {0: 20, 1: 20, 2: 20, 4: 1}
    assert (data.queries < data.positives).any()  # either of the two may be the query
    assert (data.queries > data.positives).any()


def test_from_labels_is_drawn_by_its_seed(labelled: ImageSet) -> None:
    assert from_labels(labelled, 3, 20).digest == from_labels(labelled, 3, 20).digest
    assert from_labels(labelled, 3, 20).digest != from_labels(labelled, 4, 20).digest


def test_papertown() -> None:
    images = training_set("smoke")
    data = from_labels(images, seed=0)
    assert data.name == images.name
    assert np.array_equal(data.clusters, images.labels)
    assert all(picture.path.is_file() for picture in data.pictures)


def test_from_tuples() -> None:
    tuples = Tuples(
        "sfm120k-train", Path("ims"), ("a", "b", "c"), np.array([0]), np.array([2]), np.array([5, 6, 5])
    )
    data = from_tuples(tuples)
    assert [str(picture.path) for picture in data.pictures] == ["ims/a", "ims/b", "ims/c"]
    assert (data.queries.tolist(), data.positives.tolist(), data.clusters.tolist()) == ([0], [2], [5, 6, 5])
    without = Tuples("sfm120k-whiten", Path("ims"), ("a", "b"), np.array([0]), np.array([1]), None)
    with pytest.raises(LowqError, match="has no clusters"):
        from_tuples(without)


def test_shuffled_keeps_every_pair(labelled: ImageSet) -> None:
    data = from_labels(labelled, 0)
    mixed = data.shuffled(3)

    def pairs(tuples: TrainingTuples) -> list[tuple[str, str, int]]:
        named = zip(tuples.queries, tuples.positives, strict=True)
        return [(tuples.pictures[q].name, tuples.pictures[p].name, int(tuples.clusters[q])) for q, p in named]

    assert pairs(mixed) == pairs(data)
    names = [picture.name for picture in mixed.pictures]
    assert sorted(names) == sorted(picture.name for picture in data.pictures)
    assert names != [picture.name for picture in data.pictures]


def test_join() -> None:
    first = TrainingTuples("one", pictures(3), [0], [2], [7, 9, 7])
    second = TrainingTuples("two", pictures(4, "x"), [1, 2], [3, 0], [7, 0, 7, 0])
    both = join([first, second])
    assert both.name == "one+two"
    assert [picture.name for picture in both.pictures] == ["0", "1", "2", "x0", "x1", "x2", "x3"]
    assert (both.queries.tolist(), both.positives.tolist()) == ([0, 4, 5], [2, 6, 3])
    groups = [set(np.flatnonzero(both.clusters == cluster)) for cluster in np.unique(both.clusters)]
    assert groups == [{0, 2}, {1}, {4, 6}, {3, 5}]  # 7 of one set is not 7 of the other
    with pytest.raises(LowqError, match="at least one"):
        join([])


@pytest.mark.parametrize(
    ("queries", "positives", "clusters", "said"),
    [
        ([], [], [0, 0, 1], "one pair or more"),
        ([0], [1, 1], [0, 0, 1], "one pair or more"),
        ([0], [1], [0, 0], "one pair or more"),
        ([0], [3], [0, 0, 1], "it has 3 pictures"),
        ([-1], [1], [0, 0, 1], "it has 3 pictures"),
        ([0], [2], [0, 0, 1], "0 and 2 are a pair of two clusters"),
    ],
)
def test_bad_input(queries, positives, clusters, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(LowqError, match=said):
        TrainingTuples("three", pictures(3), queries, positives, clusters)


def test_a_label_with_one_picture_each_has_no_pairs(labelled: ImageSet) -> None:
    lonely = ImageSet("lonely", labelled.root, labelled.images[:3], np.arange(3), tuple("abc"))
    with pytest.raises(LowqError, match="no class has two pictures"):
        from_labels(lonely, 0)
