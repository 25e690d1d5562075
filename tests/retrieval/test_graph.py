"""GSS's graph against dense formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.retrieval.graph import Adjacency, query_rows, read_lists, union_graph
from lowq_core.retrieval.knn import nearest_neighbours


def unit(seed: int, rows: int, dim: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, dim)) + 0.7
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def dense(graph: Adjacency) -> np.ndarray:
    table = np.zeros((graph.size, graph.size))
    for i, (start, stop) in enumerate(zip(graph.offsets, graph.offsets[1:], strict=False)):
        assert (np.diff(graph.columns[start:stop]) > 0).all()
        table[i, graph.columns[start:stop]] = graph.weights[start:stop]
    return table


def dense_by_formula(database: np.ndarray, lists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A, mirrored; A + I; D^(-1/2) on both sides."""
    S = database.astype(np.float64) @ database.astype(np.float64).T
    A = np.zeros_like(S)
    for i, row in enumerate(lists):
        for j in row:
            if j >= 0 and j != i and S[i, j] > 0:
                A[i, j] = A[j, i] = S[i, j]
    A += np.eye(len(A))
    d = A.sum(axis=1)
    return A / np.sqrt(np.outer(d, d)), d


@given(seed=st.integers(0, 999), rows=st.integers(2, 40), k=st.integers(1, 8), dim=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_against_the_dense_formula(seed: int, rows: int, k: int, dim: int) -> None:
    generator = np.random.default_rng(seed)
    database = unit(seed, rows, dim)
    lists = generator.integers(-1, rows, (rows, k))  # own ids, repeated ones, none, negative cosines
    graph = union_graph(database, lists)
    table, degrees = dense_by_formula(database, lists)
    np.testing.assert_allclose(dense(graph), table, atol=1e-6)
    np.testing.assert_allclose(graph.degrees, degrees, atol=1e-5)
    np.testing.assert_array_equal(dense(graph), dense(graph).T)
    assert graph.columns.dtype == np.int32
    assert graph.weights.dtype == np.float32


@given(seed=st.integers(0, 999), rows=st.integers(2, 30))
@settings(max_examples=20, deadline=None)
def test_a_permutation_of_the_pictures_permutes_the_graph(seed: int, rows: int) -> None:
    database = unit(seed, rows, 5)
    lists = nearest_neighbours(database, min(3, rows - 1)).ids
    order = np.random.default_rng(seed).permutation(rows)
    place = np.argsort(order)
    moved = union_graph(database[order], place[lists[order]])
    np.testing.assert_allclose(
        dense(moved), dense(union_graph(database, lists))[np.ix_(order, order)], atol=1e-7
    )


@given(seed=st.integers(0, 999), rows=st.integers(1, 30), queries=st.integers(1, 4), k=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_query_rows_are_those_of_the_whole_directed_matrix(
    seed: int, rows: int, queries: int, k: int
) -> None:
    """Queries first: [[0, A_q], [0, A_x]] + I, row sums, D^(-1/2) on both sides."""
    generator = np.random.default_rng(seed)
    X, Q = unit(seed, rows, 6), unit(seed + 1, queries, 6)
    lists, query_lists = generator.integers(0, rows, (rows, 2)), generator.integers(-1, rows, (queries, k))
    _, degrees = dense_by_formula(X, lists)
    whole = np.eye(queries + rows)
    for q, row in enumerate(query_lists):
        for j in row[row >= 0]:
            whole[q, queries + j] = max(Q[q].astype(np.float64) @ X[j].astype(np.float64), 0)
    d = np.concatenate([whole[:queries].sum(axis=1), degrees])
    whole = whole[:queries] / np.sqrt(np.outer(d[:queries], d))
    found = query_rows(Q, X, query_lists, degrees)
    table = np.zeros_like(whole)
    table[np.arange(queries), np.arange(queries)] = found.own
    for q in range(queries):
        np.add.at(table[q], queries + found.ids[q], found.weights[q])
    np.testing.assert_allclose(table, whole, atol=1e-6)


def test_zero_rows_are_isolated() -> None:
    database = unit(0, 6, 4)
    database[2] = 0
    table = dense(union_graph(database, nearest_neighbours(database, 3).ids))
    np.testing.assert_array_equal(table[2], np.eye(6)[2])
    rows = query_rows(np.zeros((1, 4), np.float32), database, [[0, 1]], np.ones(6))
    assert rows.own.tolist() == [1.0]
    assert rows.weights.tolist() == [[0.0, 0.0]]


def test_lists_from_a_file(tmp_path: Path) -> None:
    lists = np.array([[0, 1], [1, 0]], np.uint16)
    np.save(tmp_path / "roxford5k_index_ransac_graph.npy", lists)
    found = read_lists(tmp_path / "roxford5k_index_ransac_graph.npy")
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, lists)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(LowqError, match="no such file"):
        read_lists(tmp_path / "none.npy")
    for name, array, sentence in (
        ("float", np.ones((2, 2)), "float64 of shape"),
        ("flat", np.ones(3, int), r"shape \(3,\)"),
        ("negative", np.array([[0], [-2]]), "row 1 names picture -2"),
        ("objects", np.array([[None]]), "cannot be read as .npy"),
    ):
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
        with pytest.raises(LowqError, match=sentence):
            read_lists(tmp_path / f"{name}.npy")
    (tmp_path / "text.npy").write_text("0 1")
    with pytest.raises(LowqError, match="cannot be read"):
        read_lists(tmp_path / "text.npy")
    np.savez(tmp_path / "two.npz", a=np.ones((1, 1), int))
    with pytest.raises(LowqError, match="several arrays"):
        read_lists(tmp_path / "two.npz")


def test_bad_lists() -> None:
    database = unit(0, 4, 3)
    with pytest.raises(LowqError, match="neighbours: 3 rows for 4 pictures"):
        union_graph(database, np.zeros((3, 2), int))
    with pytest.raises(LowqError, match="row 1 names picture 4; number them from 0, below 4"):
        union_graph(database, [[0], [4], [0], [0]])
    with pytest.raises(LowqError, match="query neighbours: 2 rows for 1 pictures"):
        query_rows(database[:1], database, [[0], [1]], np.ones(4))
    with pytest.raises(LowqError, match="float64"):
        union_graph(database, np.zeros((4, 2)))
