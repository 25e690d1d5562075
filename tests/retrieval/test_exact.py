"""Exact search against the definition and faiss."""

import json
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.retrieval import exact
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.exact import ExactSearch
from lowq_core.retrieval.saved import MANIFEST


def descriptors(seed: int, rows: int, dim: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def by_definition(database: np.ndarray, queries: np.ndarray, k: int) -> Ranking:
    """Each inner product in float64, rounded, a stable sort."""
    exact = [[np.dot(q.astype(np.float64), x.astype(np.float64)) for x in database] for q in queries]
    scores = np.array(exact, np.float32)
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Ranking(ids, np.take_along_axis(scores, ids, axis=1))


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 400),
    dim=st.integers(1, 12),
    k=st.integers(1, 400),
    block=st.sampled_from([1, 7, 64, 16_384]),
    kinds=st.sampled_from([1, 3, 100]),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_definition(seed: int, rows: int, dim: int, k: int, block: int, kinds: int) -> None:
    """Few `kinds` of pictures mean many exact duplicates, which have to come by index."""
    k = min(k, rows)
    database = descriptors(seed, kinds, dim)[np.random.default_rng(seed).integers(0, kinds, rows)]
    queries = descriptors(seed + 1, 3, dim)
    expected = by_definition(database, queries, k)
    found = ExactSearch(block=block).fit(database).rank(queries, k)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("k", [1, 10, 50])
@pytest.mark.parametrize("order", ["random", "rising", "falling"])
def test_equals_faiss_in_any_order_of_the_database(k: int, order: str) -> None:
    database, queries = descriptors(0, 20_000, 32), descriptors(1, 9, 32)
    if order != "random":
        database = database[np.argsort(database @ queries[0])]
    if order == "falling":
        database = database[::-1].copy()
    index = faiss.IndexFlatIP(32)
    index.add(database)
    scores, ids = index.search(queries, k)
    found = ExactSearch(block=512).fit(database).rank(queries, k)
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)
    for q, place in np.argwhere(found.ids != ids):  # only near-ties may differ, by faiss' rounding
        one, other = database[[found.ids[q, place], ids[q, place]]].astype(np.float64) @ queries[q]
        assert abs(one - other) < 1e-6


def test_small_pool_is_emptied_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that gets better with every block makes each one raise the entrance."""
    database = descriptors(0, 30_000, 8)
    queries = descriptors(1, 2, 8)
    database = database[np.argsort(database @ queries[0])]
    shrunk = []
    shrink = exact._Pool.shrink
    monkeypatch.setattr(exact._Pool, "shrink", lambda pool: (shrunk.append(1), shrink(pool))[1])
    found = ExactSearch(block=4_096).fit(database).rank(queries, 5)
    assert len(shrunk) > 1
    np.testing.assert_array_equal(found.ids, by_definition(database, queries, 5).ids)


def test_scores_do_not_depend_on_company() -> None:
    database, queries = descriptors(0, 3_000, 48), descriptors(1, 300, 48)
    search = ExactSearch().fit(database)
    whole, some = search.rank(queries), search.rank(queries, 20)
    np.testing.assert_array_equal(some.ids, whole.ids[:, :20])
    np.testing.assert_array_equal(some.scores, whole.scores[:, :20])
    alone = search.rank(queries[290:291], 20)
    np.testing.assert_array_equal(alone.ids[0], some.ids[290])
    np.testing.assert_array_equal(alone.scores[0], some.scores[290])


def test_unnormalised_and_zero_descriptors() -> None:
    database = descriptors(0, 2_000, 16) * np.random.default_rng(0).gamma(1, 100, (2_000, 1)).astype(
        np.float32
    )
    database[::3] = 0
    queries = np.vstack([descriptors(1, 2, 16) * 1000, np.zeros((1, 16), np.float32)])
    found, expected = ExactSearch().fit(database).rank(queries, 10), by_definition(database, queries, 10)
    np.testing.assert_array_equal(found.ids, expected.ids)
    assert found.ids[2].tolist() == list(range(10))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions(dtype: type) -> None:
    database = descriptors(0, 500, 16).astype(dtype)
    found = ExactSearch().fit(database).rank(database[:5], 1)
    assert found.ids[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_memory_map_is_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", descriptors(0, 100, 8))
    mapped = np.load(tmp_path / "d.npy", mmap_mode="r")
    assert np.shares_memory(ExactSearch().fit(mapped)._database, mapped)


def test_saved_and_loaded(tmp_path: Path) -> None:
    search = ExactSearch(block=100).fit(descriptors(0, 300, 8))
    search.save(tmp_path / "index")
    search.save(tmp_path / "index")  # over itself
    loaded = ExactSearch.load(tmp_path / "index")
    assert loaded.block == 100
    assert isinstance(loaded._database.base, np.memmap) or isinstance(loaded._database, np.memmap)
    queries = descriptors(1, 4, 8)
    np.testing.assert_array_equal(loaded.rank(queries, 7).ids, search.rank(queries, 7).ids)
    assert sorted(file.name for file in (tmp_path / "index").iterdir()) == ["database.npy", MANIFEST]


def saved(folder: Path) -> Path:
    ExactSearch().fit(descriptors(0, 20, 4)).save(folder)
    return folder


def test_damaged_part_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    data = bytearray((folder / "database.npy").read_bytes())
    data[-1] ^= 1
    (folder / "database.npy").write_bytes(data)
    with pytest.raises(LowqError, match=r"database\.npy: does not match the digest"):
        ExactSearch.load(folder)


def test_missing_part_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    (folder / "database.npy").unlink()
    with pytest.raises(LowqError, match=r"database\.npy: is missing"):
        ExactSearch.load(folder)


def test_something_else_is_saved_there(tmp_path: Path) -> None:
    with pytest.raises(LowqError, match=f"holds no {MANIFEST}"):
        ExactSearch.load(tmp_path)
    folder = saved(tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"kind": "Diffusion"}))
    with pytest.raises(LowqError, match="holds a Diffusion, not a ExactSearch"):
        ExactSearch.load(folder)
    (folder / MANIFEST).write_text("{")
    with pytest.raises(LowqError, match="cannot be read"):
        ExactSearch.load(folder)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LowqError, match="cannot be written"):
        ExactSearch().fit([[1.0]]).save(tmp_path / "file" / "index")


def test_used_before_fit(tmp_path: Path) -> None:
    with pytest.raises(LowqError, match="call fit"):
        ExactSearch().rank([[1.0]])
    with pytest.raises(LowqError, match="call fit"):
        ExactSearch().save(tmp_path)


@pytest.mark.parametrize(
    ("queries", "k", "sentence"),
    [
        ([[1.0, 0.0, 0.0]], 1, "queries: dimension 3, but the database has 2"),
        ([[1.0, np.nan]], 1, "queries: row 0"),
        ([[1.0, 0.0]], 4, "k=4"),
        ([[1.0, 0.0]], 0, "k=0"),
    ],
)
def test_bad_queries(queries: list[object], k: int, sentence: str) -> None:
    with pytest.raises(LowqError, match=sentence):
        ExactSearch().fit([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).rank(queries, k)


def test_bad_block() -> None:
    with pytest.raises(LowqError, match="block=0"):
        ExactSearch(block=0)


def test_a_last_block_better_than_all_before_it() -> None:
    rising = np.linspace(0.1, 1, 40_000, dtype=np.float32)[:, None]
    best = ExactSearch(block=20_000).fit(rising).rank([[1.0]], 3)
    assert best.ids.tolist() == [[39_999, 39_998, 39_997]]
