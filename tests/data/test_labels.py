from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.data.benchmark import Benchmark, Query, own_pictures
from lowq_core.data.folder import read_folder, with_distractors
from lowq_core.data.labels import ImageSet, leave_one_out, read_labels
from lowq_core.errors import LowqError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def table(folder: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


ROWS = "image,landmark,split\njpg/a.jpg,tower,train\njpg/é.jpg,dome,test\njpg/c.jpg,dome,test\njpg/d.jpg,arch,test\n"


def test_a_table_becomes_a_set(tmp_path: Path) -> None:
    images = read_labels(table(tmp_path, ROWS))
    assert images.name == tmp_path.name
    assert images.images == ("jpg/a.jpg", "jpg/é.jpg", "jpg/c.jpg", "jpg/d.jpg")
    assert images.label_names == ("arch", "dome", "tower")
    assert images.labels.tolist() == [2, 1, 1, 0]
    assert images.labels.dtype == np.int64


def test_a_split_has_labels_of_its_own(tmp_path: Path) -> None:
    images = read_labels(table(tmp_path, ROWS, "city.csv"), "test")
    assert images.name == "city"
    assert images.label_names == ("arch", "dome")
    assert images.labels.tolist() == [1, 1, 0]


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeff" + ROWS.replace("\n", "\r\n"))
    assert read_labels(path, "test").images == ("jpg/é.jpg", "jpg/c.jpg", "jpg/d.jpg")


def test_the_column_of_labels(tmp_path: Path) -> None:
    path = table(tmp_path, "image,category,object\na,fruit,apple1\nb,fruit,apple2\n")
    assert read_labels(path).label_names == ("apple1", "apple2")
    assert read_labels(path, column="category").label_names == ("fruit",)


def test_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label\na,10\nb,9\nc,203094\n")
    images = read_labels(path)
    assert images.label_names == ("9", "10", "203094")
    assert images.labels.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("picture,landmark\na,b\n", {}, "has no column 'image', only picture, landmark"),
        ("image,where\na,b\n", {}, r"has no column of labels \(landmark, object"),
        ("image,landmark\na,b\n", {"column": "building"}, "has no column 'building', only image, landmark"),
        ("image,landmark\na,b\n", {"split": "test"}, "has no column 'split'"),
        (ROWS, {"split": "val"}, "has no split 'val'; choose one of test, train"),
        ("", {}, "has no column 'image', only none"),
        ("image,landmark\n", {}, "has a header and no rows"),
        ("image,landmark\na,x\nb,y\na,x\n", {}, "lists 'a' twice"),
        ("image,landmark\na,\n", {}, "row 2 lacks its image or its landmark"),
        ("image,landmark\na,x\n,y\n", {}, "row 3 lacks its image or its landmark"),
        ("image,landmark\na,x\nb\n", {}, "row 3 has not 2 fields"),
        ("image,landmark\na,x,1\n", {}, "row 2 has not 2 fields"),
        (b"image,landmark\n\xe9,x\n", {}, "is not a CSV in UTF-8"),
        (b"image,landmark\n\x00\x00,x\n\"", {}, "labels.csv: "),
    ],
)  # fmt: skip
def test_wrong_tables_are_one_sentence_with_the_file(
    tmp_path: Path, text: str | bytes, options: dict[str, str], sentence: str
) -> None:
    path = table(tmp_path, text)
    with pytest.raises(LowqError, match=sentence) as caught:
        read_labels(path, **options)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(LowqError, match=r"labels\.csv: cannot be read"):
        read_labels(tmp_path / "labels.csv")


@pytest.mark.parametrize("labels", [[0, 2], [1, 2], [-1, 0], [0.0, 1.0], [0], [[0, 1]]])
def test_labels_have_to_be_contiguous(labels: list[int]) -> None:
    with pytest.raises(LowqError, match=r"re-map them|one each"):
        ImageSet("set", Path("."), ("a", "b"), labels, ("x", "y"))


def test_empty_set() -> None:
    with pytest.raises(LowqError, match="0 pictures"):
        ImageSet("set", Path("."), (), np.empty(0, np.int64), ())


@settings(max_examples=50, deadline=None)
@given(names=st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=20))
def test_leave_one_out_against_its_definition(names: list[str]) -> None:
    pictures = tuple(f"p{index}" for index in range(len(names)))
    images = ImageSet.from_names("any", Path("."), pictures, names)
    assert [images.label_names[label] for label in images.labels] == names
    assert np.array_equal(np.unique(images.labels), np.arange(len(set(names))))
    benchmark = leave_one_out(images)
    assert benchmark.measure == "map"
    assert benchmark.images == pictures
    assert [query.image for query in benchmark.queries] == list(pictures)
    for index, query in enumerate(benchmark.queries):
        others = [j for j, name in enumerate(names) if name == names[index] and j != index]
        assert query.easy.tolist() == others
        assert query.hard.size == 0
        assert query.junk.tolist() == [index]
    own = own_pictures(benchmark)
    assert own is not None
    assert own.tolist() == list(range(len(names)))


def test_queries_from_elsewhere_have_no_picture_of_their_own() -> None:
    queries = (Query("q", easy=[0], junk=[1]), Query("a", easy=[0], junk=[1]))  # the ground truth seeks "a"
    assert own_pictures(Benchmark("two", ("a", "b"), queries, Path("."))) is None


def test_folder_of_folders(tmp_path: Path) -> None:
    touch(tmp_path, "tower/1.jpg", "dôme/1.JPG", "dôme/far/2.png", "dôme/notes.txt", "empty/readme.md")
    images = read_folder(tmp_path)
    assert images.label_names == ("dôme", "tower")
    assert images.images == ("dôme/1.JPG", "dôme/far/2.png", "tower/1.jpg")
    assert images.labels.tolist() == [0, 0, 1]
    assert all(images.path(image).is_file() for image in images.images)
    with pytest.raises(LowqError, match="holds no picture called 'tower/2'"):
        images.path("tower/2")


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(LowqError, match="no such folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(LowqError, match="holds no pictures"):
        read_folder(tmp_path)
    touch(tmp_path, "loose.jpg", "tower/1.jpg")
    with pytest.raises(LowqError, match=r"loose\.jpg lies in no sub-folder"):
        read_folder(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Benchmark:
    root = touch(tmp_path / "small", "jpg/a.jpg", "jpg/b.jpg", "jpg/q.jpg", "jpg/spare.jpg")
    return Benchmark("small", ("a", "b"), (Query("q", easy=[0], hard=[1]),), root)


def test_distractors_follow_and_are_negative(tmp_path: Path, small: Benchmark) -> None:
    folder = touch(tmp_path / "far", "jpg/y.jpg", "jpg/x.jpg")
    for given_folder in (folder, folder / "jpg"):
        larger = with_distractors(small, given_folder)
        assert larger.name == "small+far"
        assert larger.images[:2] == small.images
        assert [larger.path(image) for image in larger.images[2:]] == [
            folder / "jpg/x.jpg",
            folder / "jpg/y.jpg",
        ]
        assert larger.queries == small.queries
        assert larger.path("q") == small.path("q")
    twice = with_distractors(larger, touch(tmp_path / "more", "z.jpg"))
    assert twice.name == "small+far+more"
    assert twice.path(twice.images[-1]) == tmp_path / "more/z.jpg"


def test_r1m_follows_its_list(tmp_path: Path, small: Benchmark) -> None:
    folder = touch(tmp_path / "revisitop1m", "jpg/0d3/x.jpg", "jpg/001/y.jpg", "jpg/001/unlisted.jpg")
    (folder / "revisitop1m.txt").write_text("0d3/x.jpg\n001/y.jpg\n")
    larger = with_distractors(small, folder)
    assert larger.name == "small+r1m"
    assert larger.images == ("a", "b", "0d3/x.jpg", "001/y.jpg")
    assert larger.path("0d3/x.jpg") == folder / "jpg/0d3/x.jpg"
    (folder / "revisitop1m.txt").write_text("\n")
    with pytest.raises(LowqError, match="lists no pictures"):
        with_distractors(small, folder)


@pytest.mark.parametrize("name", ["a.jpg", "q.png", "jpg/spare.jpg"])
def test_a_distractor_called_like_a_picture(tmp_path: Path, small: Benchmark, name: str) -> None:
    folder = touch(tmp_path / "far", "x.jpg", name)
    with pytest.raises(LowqError, match="is called like a picture of small"):
        with_distractors(small, folder)


def test_distractors_below_the_folder_of_pictures(tmp_path: Path, small: Benchmark) -> None:
    folder = touch(small.root / "far", "x.jpg")
    assert with_distractors(small, folder).path("x.jpg") == folder / "x.jpg"


def test_porto_leaves_one_out(lowq_data: Path) -> None:
    images = read_labels(lowq_data / "porto" / "labels.csv", "test")
    train = read_labels(lowq_data / "porto" / "labels.csv", "train")
    assert len(images.images) + len(train.images) == 1898
    assert len(images.label_names) == 5
    assert all(images.path(image).is_file() for image in images.images)
