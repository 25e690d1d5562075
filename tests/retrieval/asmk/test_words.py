"""Word search against brute force in float64: the same words whatever the precision and the size."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.retrieval import exact_graph
from lowq_core.retrieval.asmk.codebook import Codebook

SEARCHES = ["exact", "bf16"]


def vectors(seed: int, rows: int, dim: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)


def by_brute_force(x: np.ndarray, c: np.ndarray, k: int) -> np.ndarray:
    x, c = x.astype(np.float64), c.astype(np.float64)
    distances = np.array([((one - c) ** 2).sum(axis=1) for one in x])
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


@given(
    seed=st.integers(0, 10_000),
    words=st.integers(1, 200),
    dim=st.integers(1, 40),
    k=st.integers(1, 200),
    length=st.sampled_from([1e-3, 1.0, 1e4]),
    search=st.sampled_from(SEARCHES),
)
@settings(max_examples=40, deadline=None)
def test_equals_brute_force(seed: int, words: int, dim: int, k: int, length: float, search: str) -> None:
    k = min(k, words)
    c, x = vectors(seed, words, dim) * np.float32(length), vectors(seed + 1, 20, dim)
    np.testing.assert_array_equal(Codebook(c).assign(x, k, search=search), by_brute_force(x, c, k))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("words", [2_048, 2_500, 5_000])
def test_many_words(words: int, search: str) -> None:
    """Enough for groups, the last of them not full."""
    c, x = vectors(0, words, 64), vectors(1, 300, 64)
    for k in (1, 5, words):
        np.testing.assert_array_equal(
            Codebook(c).assign(x[: 300 if k < words else 3], k, search=search),
            by_brute_force(x[: 300 if k < words else 3], c, k),
        )


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("order", ["random", "nearest first", "nearest last"])
def test_many_tiles(order: str, search: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many that each tile tells little of the k-th best; and the nearest words all in the first or last tile."""
    monkeypatch.setattr("lowq_core.retrieval.asmk.words._WORDS", 128)
    monkeypatch.setattr("lowq_core.retrieval.asmk.words._GROUP", 8)
    c, x = vectors(0, 20_003, 16), vectors(1, 60, 16) / 8 + 1
    if order != "random":
        c = c[np.argsort(((c - 1) ** 2).sum(axis=1))][:: 1 if order == "nearest first" else -1].copy()
    for k in (1, 5, 16):
        np.testing.assert_array_equal(Codebook(c).assign(x, k, search=search), by_brute_force(x, c, k))


@pytest.mark.parametrize("search", SEARCHES)
def test_equals_faiss_on_unit_vectors(search: str) -> None:
    c, x = vectors(0, 4_096, 128), vectors(1, 500, 128)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    c /= 1.2 * np.linalg.norm(c, axis=1, keepdims=True)
    index = faiss.IndexFlatL2(128)
    index.add(c)
    same = Codebook(c).assign(x, 5, search=search) == index.search(x, 5)[1]
    assert same.mean() > 0.999  # faiss' own rounding may swap near-ties


@pytest.mark.parametrize("fast", [False, True])
def test_auto_takes_what_the_processor_is_fast_at(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_graph, "bfloat16_is_fast", lambda: fast)
    book, x = Codebook(vectors(0, 2_048, 16)), vectors(1, 20, 16)
    np.testing.assert_array_equal(book.assign(x, 2), by_brute_force(x, book.centroids, 2))
    assert ("_bf16" in vars(book)) == fast
    assert ("_exact" in vars(book)) != fast


@pytest.mark.parametrize("search", SEARCHES)
def test_equally_near_words_come_in_order(search: str) -> None:
    c = np.repeat(vectors(0, 700, 16), 4, axis=0)
    found = Codebook(c).assign(c[::4], 4, search=search)
    np.testing.assert_array_equal(found, np.arange(2_800).reshape(700, 4))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("far", [0.0, 1e-30, 1e18, 1e25, 3e38])
def test_zeros_and_extremes(far: float, search: str) -> None:
    """Vectors for which a product of low precision is of no use are done otherwise."""
    c, x = vectors(0, 300, 8), vectors(1, 10, 8)
    x[::2] = np.sign(x[::2]) * np.float32(far)
    np.testing.assert_array_equal(Codebook(c).assign(x, 3, search=search), _by_scores(x, c, 3))


def _by_scores(x: np.ndarray, c: np.ndarray, k: int) -> np.ndarray:
    """x.c - |c|^2 / 2, as distances of 1e76 cannot tell words apart in float64."""
    x, c = x.astype(np.float64), c.astype(np.float64)
    return np.argsort(-(x @ c.T - (c**2).sum(axis=1) / 2), axis=1, kind="stable")[:, :k]


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    c, x = vectors(0, 3_000, 32), vectors(1, 200, 32)
    whole = Codebook(c).assign(x, 3)
    monkeypatch.setattr("lowq_core.retrieval.asmk.words._VECTORS", 17)
    np.testing.assert_array_equal(Codebook(c).assign(x, 3), whole)


def test_no_vectors() -> None:
    assert Codebook(vectors(0, 9, 4)).assign(np.empty((0, 4), np.float32), 2).shape == (0, 2)


def test_bad_input() -> None:
    book = Codebook(vectors(0, 9, 4))
    with pytest.raises(LowqError, match="k=10: there are 9 words"):
        book.assign(vectors(1, 2, 4), 10)
    with pytest.raises(LowqError, match="search='hnsw': unknown"):
        book.assign(vectors(1, 2, 4), search="hnsw")
    with pytest.raises(LowqError, match="vectors: dimension 5, but the codebook has 4"):
        book.assign(vectors(1, 2, 5))
    with pytest.raises(LowqError, match="vectors: row 0 holds NaN"):
        book.assign(np.full((1, 4), np.nan))


def test_saved_and_loaded(tmp_path: Path) -> None:
    book = Codebook(vectors(0, 9, 4))
    book.save(tmp_path)
    np.testing.assert_array_equal(Codebook.load(tmp_path).centroids, book.centroids)
    file = tmp_path / "centroids.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(LowqError, match=r"centroids\.npy: does not match"):
        Codebook.load(tmp_path)


def test_training_needs_as_many_vectors_as_words() -> None:
    assert Codebook.train(vectors(0, 20, 4), 20).size == 20
    with pytest.raises(LowqError, match="words=21: there are 20 training vectors"):
        Codebook.train(vectors(0, 20, 4), 21)
    with pytest.raises(LowqError, match="words=0"):
        Codebook.train(vectors(0, 20, 4), 0)
