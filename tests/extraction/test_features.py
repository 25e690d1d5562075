"""Features on disk: parts, digests, the view over several parts."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.extraction import features
from lowq_core.extraction.features import Features, PartStore
from lowq_core.extraction.rows import Rows

DATA = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
MANIFEST = {"names": [f"p{i}" for i in range(7)], "part_size": 3, "dim": 4}


def written(folder: Path, parts: tuple[int, ...] = (0, 1, 2), shards: int = 1) -> PartStore:
    store = PartStore.create(folder, MANIFEST)
    for part in parts:
        rows = store.rows(part)
        store.write(part, DATA[rows.start : rows.stop], {"p4": "torn"} if part == 1 else {}, shards)
    return store


def test_round_trip(tmp_path: Path) -> None:
    written(tmp_path)
    opened = Features.open(tmp_path)
    assert opened.names == tuple(MANIFEST["names"])
    assert opened.failed == {"p4": "torn"}
    assert opened.descriptors.shape == (7, 4)
    np.testing.assert_array_equal(np.asarray(opened.descriptors), DATA)
    assert [part["rows"] for part in opened.manifest["parts"]] == [[0, 3], [3, 6], [6, 7]]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["manifest.json", *(f"part-0000{i}.{end}" for i in range(3) for end in ("npy", "json"))]
    )


def test_one_part_is_a_read_only_memory_map(tmp_path: Path) -> None:
    store = PartStore.create(tmp_path, MANIFEST | {"part_size": 7})
    store.write(0, DATA, {}, 1)
    descriptors = Features.open(tmp_path).descriptors
    assert isinstance(descriptors, np.memmap)
    assert not descriptors.flags.writeable


def test_missing_parts_and_shards(tmp_path: Path) -> None:
    written(tmp_path / "a", (0, 2))
    with pytest.raises(LowqError, match="1 of 3 parts are not extracted yet"):
        Features.open(tmp_path / "a")
    written(tmp_path / "b", (1,), shards=3)
    with pytest.raises(LowqError, match="shards 1/3, 3/3 are not finished"):
        Features.open(tmp_path / "b")
    with pytest.raises(LowqError, match="no extracted features"):
        Features.open(tmp_path / "none")


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_part_that_does_not_match_is_named(damage: str, tmp_path: Path) -> None:
    written(tmp_path)
    file = tmp_path / "part-00001.npy"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flip" else content[:-1])
    with pytest.raises(LowqError, match=r"part-00001\.npy: does not match its digest"):
        Features.open(tmp_path)


def test_an_array_without_its_record_does_not_count(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "part-00002.json").unlink()
    with pytest.raises(LowqError, match="1 of 3 parts"):
        Features.open(tmp_path)


def test_another_extraction_in_the_same_folder(tmp_path: Path) -> None:
    written(tmp_path)
    PartStore.create(tmp_path, MANIFEST)
    with pytest.raises(LowqError, match=r"features of another dim \(4, now 5\)"):
        PartStore.create(tmp_path, MANIFEST | {"dim": 5})
    with pytest.raises(LowqError, match="features of another names;"):
        PartStore.create(tmp_path, MANIFEST | {"names": ["x"]})
    for text in ("{", "[]", json.dumps({"names": []})):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(LowqError, match=r"manifest\.json"):
            Features.open(tmp_path)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = written(tmp_path, (0,))

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features, "write_bytes", full)
    with pytest.raises(LowqError, match=r"part-00001\.npy: cannot be written \(No space left on device\)"):
        store.write(1, DATA[3:6], {}, 1)
    assert store.read(0) is not None
    assert store.read(1) is None


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_rows_index_like_one_array(sizes: list[int], data: st.DataObject) -> None:
    whole = np.arange(3 * sum(sizes), dtype=np.float32).reshape(-1, 3)
    rows = Rows(np.split(whole, np.cumsum(sizes)[:-1]))
    n = len(whole)
    numbers = st.integers(-n, n - 1)
    limits = st.none() | st.integers(-n - 2, n + 2)
    index = data.draw(
        st.one_of(
            numbers,
            st.builds(slice, limits, limits, st.sampled_from([None, 1, 2, -1])),
            st.lists(numbers, min_size=0, max_size=6).map(lambda v: np.array(v, np.int64)),
            st.lists(st.booleans(), min_size=n, max_size=n).map(np.array),
        )
    )
    assert len(rows) == n
    np.testing.assert_array_equal(rows[index], whole[index])
    np.testing.assert_array_equal(np.asarray(rows), whole)
    with pytest.raises(IndexError):
        rows[n]
