"""Spectral ranking against the filter that it approximates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from lowq_core.retrieval import spectral
from lowq_core.retrieval.diffusion.dfs import Diffusion
from lowq_core.retrieval.spectral import HybridDiffusion, SpectralRanking, largest_eigenvectors


def pictures(seed: int, count: int, dim: int = 16, kinds: int = 8) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((kinds, dim))
    rows = centres[generator.integers(0, kinds, count)] + 0.8 * generator.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def dense_graph(x: np.ndarray, k: int) -> np.ndarray:
    similar = x.astype(np.float64) @ x.astype(np.float64).T
    np.fill_diagonal(similar, -np.inf)
    near = np.zeros_like(similar, dtype=bool)
    np.put_along_axis(near, np.argsort(-similar, axis=1, kind="stable")[:, :k], True, axis=1)
    weights = np.where(near & near.T, np.maximum(similar, 0) ** 3, 0)
    degrees = weights.sum(axis=1)
    roots = np.divide(1, np.sqrt(degrees), out=np.zeros(len(x)), where=degrees > 0)
    return roots[:, None] * weights * roots


def start(x: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    similar = x.astype(np.float64) @ query
    y = np.zeros(len(x))
    best = np.argsort(-similar, kind="stable")[:k]
    y[best] = np.maximum(similar[best], 0) ** 3
    return y


def compare(search: SpectralRanking, x: np.ndarray, queries: np.ndarray, wanted: np.ndarray) -> None:
    """Scores as shown: f where it is above 0, else the cosine less 1."""
    ranking = search.rank(queries)
    wanted = np.where(np.abs(wanted) < 1e-12, 0, wanted)  # what eigh or inv leave of other components
    found = np.empty(wanted.shape)
    np.put_along_axis(found, ranking.ids, ranking.scores.astype(np.float64), axis=1)
    clear = (np.abs(wanted) > 1e-6 * wanted.max()) | (wanted == 0)
    shown = np.where(wanted > 0, wanted, queries @ x.T - 1)
    np.testing.assert_allclose(found[clear], shown[clear], atol=1e-5, rtol=1e-4)
    assert clear.mean() > 0.5


@pytest.mark.parametrize("size", [60, 200])
def test_full_rank_is_the_exact_inverse(size: int) -> None:
    x, queries = pictures(0, size), pictures(1, 4)
    inverse = 0.01 * np.linalg.inv(np.eye(size) - 0.99 * dense_graph(x, 8))
    wanted = np.stack([inverse @ start(x, q, 5) for q in queries])
    compare(SpectralRanking(k=8, query_k=5, rank=size).fit(x), x, queries, wanted)


@pytest.mark.parametrize("rank", [1, 10, 50])
def test_low_rank_is_the_filter_of_the_largest_eigenvalues(rank: int) -> None:
    x, queries = pictures(0, 200, kinds=1), pictures(1, 4, kinds=1)
    values, vectors = np.linalg.eigh(dense_graph(x, 12))
    assert values[-rank] - values[-rank - 1] > 1e-4  # else it is nobody's choice which of the two is kept
    values, vectors = values[-rank:], vectors[:, -rank:]
    filtered = (vectors * (0.01 / (1 - 0.99 * values))) @ vectors.T
    wanted = np.stack([filtered @ start(x, q, 5) for q in queries])
    compare(SpectralRanking(k=12, query_k=5, rank=rank).fit(x), x, queries, wanted)


@pytest.mark.parametrize("rank", [1, 20, 200])
def test_hybrid_is_diffusion_at_any_rank(rank: int) -> None:
    x, queries = pictures(0, 200, kinds=3), pictures(1, 4, kinds=3)
    exact = np.linalg.inv(np.eye(200) - 0.99 * dense_graph(x, 8))
    wanted = np.stack([exact @ start(x, q, 5) for q in queries])
    compare(HybridDiffusion(k=8, query_k=5, rank=rank, iterations=300).fit(x), x, queries, wanted)


def test_eigenvectors_make_iterations_fewer() -> None:
    """At five iterations the hybrid is nearer to the solution than diffusion is."""
    x, queries = pictures(0, 300, kinds=2), pictures(1, 6, kinds=2)
    solution = Diffusion(k=6, iterations=1000, tolerance=0).fit(x).rank(queries)
    off = []
    for search in (HybridDiffusion(k=6, rank=50, iterations=5), Diffusion(k=6, iterations=5)):
        found = search.fit(x).rank(queries)
        places = np.argsort(found.ids, axis=1)
        same = np.take_along_axis(np.take_along_axis(found.scores, places, 1), solution.ids, axis=1)
        off.append(np.abs(same - solution.scores).max())
    assert off[0] < off[1] / 10


@pytest.mark.parametrize(("dense", "part"), [(1_500, 4), (0, 4), (0, 1)])
def test_eigenvectors_by_component(monkeypatch: pytest.MonkeyPatch, dense: int, part: int) -> None:
    """Three copies of one graph and lone pictures: eigenvalues come several times, eigenvectors stay apart."""
    monkeypatch.setattr(spectral, "_DENSE", dense)
    monkeypatch.setattr(spectral, "_PART", part)
    generator = np.random.default_rng(0)
    one = generator.random((40, 40))
    one = np.where(one < 0.5, one, 0) + np.where(one < 0.5, one, 0).T
    graph = sparse.csr_array(sparse.block_diag([one, np.zeros((5, 5)), one, one]))
    values, vectors = largest_eigenvectors(graph, 12)
    expected = np.linalg.eigvalsh(graph.toarray())[::-1][:12]
    np.testing.assert_allclose(values, expected, atol=1e-6)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(12), atol=1e-5)
    np.testing.assert_allclose(graph @ vectors, vectors * values, atol=1e-4)
    worlds = np.repeat([0, 1, 2, 3], [40, 5, 40, 40])
    assert all(len(set(worlds[column != 0])) == 1 for column in vectors.T)


def test_rank_above_the_number_of_pictures_keeps_all() -> None:
    assert largest_eigenvectors(sparse.csr_array(np.eye(4)), 9)[1].shape == (4, 4)
