"""Nearest neighbours against the definition and faiss."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.retrieval import exact_graph
from lowq_core.retrieval.exact import ExactSearch
from lowq_core.retrieval.exact_graph import ExactGraph, bfloat16_is_fast
from lowq_core.retrieval.inner_products import pair_similarities
from lowq_core.retrieval.knn import (
    NeighbourIndex,
    Neighbours,
    nearest_neighbours,
    neighbours_of,
    recall_of,
    without_own,
)


def unit(seed: int, rows: int, dim: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def clustered(seed: int, rows: int, dim: int, clusters: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((clusters, dim))
    values = centres[generator.integers(0, clusters, rows)] + generator.standard_normal((rows, dim)) / 2
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def by_definition(queries: np.ndarray, database: np.ndarray, k: int, own: bool) -> Neighbours:
    """One product at a time in float64, rounded; a stable sort."""
    scores = np.array(
        [[np.float32(np.dot(q, x)) for x in database.astype(np.float64)] for q in queries.astype(np.float64)]
    )
    if own:
        np.fill_diagonal(scores, -np.inf)
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Neighbours(ids, np.take_along_axis(scores, ids, axis=1))


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(2, 150),
    dim=st.integers(1, 20),
    k=st.integers(1, 149),
    kinds=st.sampled_from([1, 3, 1_000]),
    zeros=st.booleans(),
    precision=st.sampled_from(["float32", "bf16"]),
    scale=st.sampled_from([1.0, 1e-12, 1e19]),
)
@settings(max_examples=80, deadline=None)
def test_among_equals_the_definition(
    seed: int, rows: int, dim: int, k: int, kinds: int, zeros: bool, precision: str, scale: float
) -> None:
    """Few `kinds` mean duplicates, which come by index; the largest numbers are too large for the quick product."""
    k = min(k, rows - 1)
    database = unit(seed, kinds, dim)[np.random.default_rng(seed).integers(0, kinds, rows)] * np.float32(
        scale
    )
    if zeros:
        database[:: max(1, rows // 3)] = 0
    with np.errstate(over="ignore"):
        expected = by_definition(database, database, k, own=True)
        ids, scores = ExactGraph(database, precision).neighbours(k)
    np.testing.assert_array_equal(ids, expected.ids)
    np.testing.assert_array_equal(scores, expected.similarities)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(("k", "rows"), [(1, 2_500), (50, 2_500), (50, 2_501), (300, 2_537)])
def test_groups_and_blocks_equal_faiss(
    k: int, rows: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes at which scores are grouped, groups do not come out even, and blocks of rows are several."""
    monkeypatch.setattr(exact_graph, "_BUFFER", 1 << 20)
    database = clustered(1, rows, 24, 40)
    asked = slice(0, rows, 31)
    ids, scores = ExactGraph(database, precision).neighbours(k)
    index = faiss.IndexFlatIP(24)
    index.add(database)
    theirs, their_ids = index.search(database[asked], k + 1)
    for q, row in enumerate(range(0, rows, 31)):
        kept = their_ids[q] != row
        np.testing.assert_allclose(scores[row], theirs[q][kept][:k], atol=1e-6)
        assert row not in ids[row]
        differ = np.flatnonzero(ids[row] != their_ids[q][kept][:k])
        exact = database.astype(np.float64) @ database[row].astype(np.float64)
        assert np.abs(exact[ids[row][differ]] - exact[their_ids[q][kept][:k][differ]]).max(initial=0) < 1e-6


def test_neighbours_that_one_bfloat16_cannot_tell_apart() -> None:
    """A thousand rows at nearly the same angle: the quick product ties or swaps them, the answer does not."""
    generator = np.random.default_rng(0)
    database = np.ones(64) + generator.standard_normal((3_000, 64)) * 1e-4
    database = (database / np.linalg.norm(database, axis=1, keepdims=True)).astype(np.float32)
    ids, _ = ExactGraph(database, "bf16").neighbours(10)
    exact = (database.astype(np.float64) @ database[:50].astype(np.float64).T).T.astype(np.float32)
    exact[np.arange(50), np.arange(50)] = -np.inf
    np.testing.assert_array_equal(ids[:50], np.argsort(-exact, axis=1, kind="stable")[:, :10])


@given(
    st.integers(0, 99), st.integers(1, 60), st.integers(1, 12), st.integers(1, 60), st.sampled_from([1, 2e9])
)
@settings(max_examples=25, deadline=None)
def test_of_queries(seed: int, rows: int, queries: int, k: int, scale: float) -> None:
    database, asked = unit(seed, rows, 7), unit(seed + 1, queries, 7) * np.float32(scale)
    k = min(k, rows)
    found, expected = neighbours_of(asked, database, k), by_definition(asked, database, k, own=False)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.similarities, expected.similarities)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("k", [1, 10, 2_000])
def test_of_queries_in_a_database_that_is_grouped(k: int, precision: str) -> None:
    database, asked = clustered(2, 6_001, 32, 50), clustered(3, 40, 32, 50)
    ids, scores = ExactGraph(database, precision).of(asked, k)
    expected = ExactSearch().fit(database).rank(asked, k)
    np.testing.assert_array_equal(ids, expected.ids)
    np.testing.assert_array_equal(scores, expected.scores)


@pytest.mark.parametrize("search", ["hnsw", "ivf"])
def test_approximate_searches(search: str) -> None:
    database = clustered(0, 3_000, 16, 60)
    index = NeighbourIndex(database, search)  # type: ignore[arg-type]
    found = index.among(10)
    assert found.ids.shape == found.similarities.shape == (3_000, 10)
    assert found.ids.dtype == np.int64
    assert found.similarities.dtype == np.float32
    assert not (found.ids == np.arange(3_000)[:, None]).any()
    assert all(len(set(row)) == 10 for row in found.ids.tolist())
    assert (np.diff(found.similarities, axis=1) <= 0).all()
    np.testing.assert_array_equal(found.similarities, pair_similarities(database, database, found.ids))
    truth = nearest_neighbours(database, 10)
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.ids, truth.ids, strict=True)])
    assert share > 0.8
    assert index.recall(10, sample=3_000) == pytest.approx(share, abs=0.02)
    assert recall_of(database, 10, search="exact") == 1.0


@pytest.mark.parametrize("search", ["exact", "hnsw", "ivf"])
def test_duplicates_and_zeros_never_leave_a_gap(search: str) -> None:
    """HNSW gets lost among equal rows: what it does not fill is searched exactly."""
    database = np.repeat(unit(0, 3, 8), 200, axis=0)
    database[5::7] = 0
    found = nearest_neighbours(database, 30, search=search)  # type: ignore[arg-type]
    assert found.ids.min() >= 0
    assert not (found.ids == np.arange(600)[:, None]).any()
    assert all(len(set(row)) == 30 for row in found.ids.tolist())
    if search == "exact":
        assert found.ids[5].tolist() == [i for i in range(31) if i != 5]  # to a row of zeros all are alike


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_numbers(dtype: type) -> None:
    database = unit(0, 30, 8).astype(dtype)
    found, expected = nearest_neighbours(database, 5), nearest_neighbours(database.astype(np.float32), 5)
    np.testing.assert_array_equal(found.ids, expected.ids)


def test_memory_map(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", unit(0, 50, 8))
    mapped = np.load(tmp_path / "d.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        nearest_neighbours(mapped, 5).ids, nearest_neighbours(np.array(mapped), 5).ids
    )


def test_either_precision_may_be_chosen() -> None:
    assert bfloat16_is_fast() in (True, False)
    database = unit(0, 500, 16)
    one, other = (ExactGraph(database, precision).neighbours(5) for precision in ("float32", "bf16"))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


def test_bad_input() -> None:
    database = unit(0, 5, 4)
    for k in (0, -1, 5, 6):
        with pytest.raises(LowqError, match=f"k={k}.*5 pictures"):
            nearest_neighbours(database, k)
    with pytest.raises(LowqError, match="k=6: the database has 5"):
        neighbours_of(database, database, 6)
    with pytest.raises(LowqError, match="search='annoy' is unknown; choose exact, hnsw, ivf"):
        nearest_neighbours(database, 2, search="annoy")  # type: ignore[arg-type]
    with pytest.raises(LowqError, match="queries: dimension 3, but the database has 4"):
        neighbours_of(database[:, :3], database, 2)
    with pytest.raises(LowqError, match="row 2 holds NaN"):
        nearest_neighbours(np.where(np.arange(5)[:, None] == 2, np.nan, database), 2)
    with pytest.raises(LowqError, match="recall: k=5"):
        recall_of(database, 5)


@given(seed=st.integers(0, 10_000), size=st.integers(1, 9), width=st.integers(1, 9))
def test_without_own_by_a_loop(seed: int, size: int, width: int) -> None:
    generator = np.random.default_rng(seed)
    width = min(size, width)
    ids = np.array([generator.permutation(size)[:width] for _ in range(5)])
    own = generator.integers(-1, size, 5)
    for row, one, left in zip(ids.tolist(), own.tolist(), without_own(ids, own).tolist(), strict=True):
        others = [picture for picture in row if picture != one]
        assert left == others + [-1] * (width - len(others))
