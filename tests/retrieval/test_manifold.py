"""Iterative manifold embedding against a dense transcription."""

from __future__ import annotations

import numpy as np
import pytest

from lowq_core.retrieval.manifold import ManifoldEmbedding, manifold_distances, principal_components


def pictures(seed: int, count: int, dim: int = 16, kinds: int = 6) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((kinds, dim))
    rows = centres[generator.integers(0, kinds, count)] + 0.5 * generator.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def transcribed(x: np.ndarray, k: int, dim: int, iterations: int, weight: float, ridge: float) -> np.ndarray:
    """The layer M, with Floyd and Warshall's shortest ways and a full decomposition."""
    first = x = x.astype(np.float64)
    size = len(x)
    for _ in range(iterations):
        similar = x @ x.T
        np.fill_diagonal(similar, -np.inf)
        edges = np.zeros((size, size))
        for i in range(size):
            near = np.argsort(-similar[i], kind="stable")[:k]
            edges[i, near] = np.sqrt(2 - 2 * similar[i, near])
        ways = edges @ edges
        ways[ways == 0] = np.inf
        ways = np.minimum(ways, ways.T)
        np.fill_diagonal(ways, 0)
        for m in range(size):
            ways = np.minimum(ways, ways[:, [m]] + ways[m])
        np.fill_diagonal(similar, 1)
        kernel = 1 / (1 + ways**2) + weight / (1 + np.maximum(2 - 2 * similar, 0))
        centre = np.eye(size) - 1 / size
        values, vectors = np.linalg.eigh(centre @ kernel @ centre)
        kept = [i for i in np.argsort(-values)[: min(dim, size - 1)] if values[i] > 1e-9]
        x = unit(vectors[:, kept] * np.sqrt(values[kept]))
    return np.linalg.inv(first.T @ first + ridge * np.eye(first.shape[1])) @ first.T @ x


@pytest.mark.parametrize(
    "options", [{}, {"iterations": 1, "weight": 0.5}, {"dim": 7}, {"k": 2, "ridge": 0.1}], ids=str
)
def test_equals_the_transcription(options: dict[str, float]) -> None:
    x, queries = pictures(0, 60), pictures(1, 5)
    settings = {"k": 5, "dim": 2048, "iterations": 2, "weight": 2.0, "ridge": 1.0} | options
    layer = transcribed(x, **settings)
    wanted = unit(queries @ layer) @ unit(x @ layer).T  # the sign of an eigenvector is nobody's choice
    search = ManifoldEmbedding(**settings).fit(x)
    found = search.rank(queries)
    np.testing.assert_allclose(found.scores, np.take_along_axis(wanted, found.ids, axis=1), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(search.transform(queries), axis=1), 1, atol=1e-6)


def test_copies_are_near_each_other() -> None:
    from lowq_core.retrieval.knn import nearest_neighbours

    x = np.repeat(pictures(0, 10), 3, axis=0)
    ways = manifold_distances(nearest_neighbours(x, 2))
    assert ways[0, 1] < 1e-6
    assert np.isinf(ways[0, 3])


def test_kernel_of_negative_directions() -> None:
    kernel = np.diag([3.0, 1.0, -1.0, 0.0])
    found = principal_components(kernel, 3)
    centre = np.eye(4) - 0.25
    values, vectors = np.linalg.eigh(centre @ kernel @ centre)
    positive = np.maximum(values, 0)
    np.testing.assert_allclose(found @ found.T, (vectors * positive) @ vectors.T, atol=1e-12)
