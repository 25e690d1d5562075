"""Diffusion against dense transcriptions of its formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.linalg import cg

from lowq_core.errors import LowqError
from lowq_core.retrieval.diffusion import subsets
from lowq_core.retrieval.diffusion.base import GraphRetriever
from lowq_core.retrieval.diffusion.conjugate import conjugate_gradients
from lowq_core.retrieval.diffusion.dfs import Diffusion
from lowq_core.retrieval.diffusion.graph import affinity, transition
from lowq_core.retrieval.diffusion.small import SmallSystems
from lowq_core.retrieval.diffusion.subsets import nearest_sets
from lowq_core.retrieval.diffusion.truncated import TruncatedDiffusion
from lowq_core.retrieval.knn import nearest_neighbours
from lowq_core.retrieval.spectral import HybridDiffusion, SpectralRanking


def pictures(seed: int, count: int, dim: int = 16, kinds: int = 8) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((kinds, dim))
    rows = centres[generator.integers(0, kinds, count)] + 0.8 * generator.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def dense_affinity(x: np.ndarray, k: int, gamma: float) -> np.ndarray:
    """Mutual k nearest others, max(s, 0)^gamma."""
    similar = x.astype(np.float64) @ x.astype(np.float64).T
    near = []
    for i in range(len(x)):
        order = sorted((j for j in range(len(x)) if j != i), key=lambda j: (-np.float32(similar[i, j]), j))
        near.append(set(order[:k]))
    weights = np.zeros_like(similar)
    for i in range(len(x)):
        for j in near[i]:
            if i in near[j]:
                weights[i, j] = max(similar[i, j], 0) ** gamma
    return weights


def dense_transition(weights: np.ndarray) -> np.ndarray:
    degrees = weights.sum(axis=1)
    roots = np.array([d**-0.5 if d > 0 else 0.0 for d in degrees])
    return np.diag(roots) @ weights @ np.diag(roots)


def start(x: np.ndarray, query: np.ndarray, k: int, gamma: float) -> np.ndarray:
    similar = x.astype(np.float64) @ query.astype(np.float64)
    y = np.zeros(len(x))
    for i in np.argsort(-similar, kind="stable")[:k]:
        y[i] = max(similar[i], 0) ** gamma
    return y


def in_order(scores: np.ndarray, similar: np.ndarray) -> np.ndarray:
    """Scores as shown: f where reached, else the cosine less 1."""
    return np.where(scores > 0, scores, similar - 1)


def scores_of(search: Diffusion | TruncatedDiffusion, queries: np.ndarray) -> np.ndarray:
    ranking = search.rank(queries)
    scores = np.empty(ranking.scores.shape)
    np.put_along_axis(scores, ranking.ids, ranking.scores.astype(np.float64), axis=1)
    return scores


@given(
    seed=st.integers(0, 1000),
    size=st.integers(3, 50),
    dim=st.integers(2, 12),
    k=st.integers(1, 49),
    gamma=st.sampled_from([1.0, 3.0]),
)
@settings(max_examples=40, deadline=None)
def test_graph_is_mutual_symmetric_and_normalised(
    seed: int, size: int, dim: int, k: int, gamma: float
) -> None:
    k = min(k, size - 1)
    x = pictures(seed, size, dim)
    weights = affinity(nearest_neighbours(x, k), gamma)
    dense = weights.toarray()
    np.testing.assert_array_equal(dense, dense.T)
    assert not dense.diagonal().any()
    assert (np.diff(weights.indptr) <= k).all()
    expected = dense_affinity(x, k, gamma)
    np.testing.assert_allclose(dense, expected, atol=1e-5)
    np.testing.assert_allclose(transition(weights).toarray(), dense_transition(expected), atol=1e-5)
    assert np.abs(np.linalg.eigvalsh(transition(weights).toarray())).max() < 1 + 1e-9


def test_an_edge_takes_twelve_bytes() -> None:
    graph = transition(affinity(nearest_neighbours(pictures(0, 40), 6)))
    assert graph.data.nbytes + graph.indices.nbytes == 12 * graph.nnz


def of_columns(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=0)


@pytest.mark.parametrize("iterations", [1, 3, 20])
def test_conjugate_gradients_are_those_of_scipy(iterations: int) -> None:
    generator = np.random.default_rng(0)
    root = generator.standard_normal((30, 30))
    matrix = root @ root.T + 30 * np.eye(30)
    right = generator.standard_normal((30, 5))
    right[:, 2] = 0
    right[:, 3] *= 1e-9  # the tolerance is relative
    expected = np.stack([cg(matrix, b, rtol=1e-6, maxiter=iterations)[0] for b in right.T], axis=1)
    found = conjugate_gradients(lambda v: matrix @ v, right, dot=of_columns, iterations=iterations)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-18)


def test_converged_systems_stand_still() -> None:
    """One of two is done at once; further iterations for the other one's sake leave it alone."""
    matrix = np.diag(np.arange(1.0, 21.0))
    right = np.stack([np.eye(20)[4], np.ones(20)], axis=1)
    found = conjugate_gradients(lambda v: matrix @ v, right, dot=of_columns, iterations=100)
    np.testing.assert_array_equal(found[:, 0], np.eye(20)[4] / 5)
    np.testing.assert_allclose(found[:, 1], 1 / np.arange(1.0, 21.0), rtol=1e-5)


@given(seed=st.integers(0, 1000), size=st.integers(10, 60), k=st.integers(1, 9), query_k=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_diffusion_equals_the_dense_solution(seed: int, size: int, k: int, query_k: int) -> None:
    x, queries = pictures(seed, size), pictures(seed + 1, 3)
    search = Diffusion(k=k, query_k=query_k, iterations=500, tolerance=1e-12).fit(x)
    transit = dense_transition(dense_affinity(x, k, 3.0))
    for q, found in zip(queries, scores_of(search, queries), strict=True):
        f = np.linalg.solve(np.eye(size) - 0.99 * transit, start(x, q, query_k, 3.0))
        clear = (np.abs(f) > 1e-6) | (f == 0)  # rounding decides whether the others are reached
        np.testing.assert_allclose(found[clear], in_order(f, x @ q)[clear], atol=1e-5, rtol=1e-5)


def test_solution_satisfies_its_system() -> None:
    x, queries = pictures(0, 300), pictures(1, 4)
    search = Diffusion(k=12, iterations=1000).fit(x)
    f = np.maximum(scores_of(search, queries), 0)
    transit = dense_transition(dense_affinity(x, 12, 3.0))
    for q, one in zip(queries, f, strict=True):
        y = start(x, q, 10, 3.0)
        assert np.linalg.norm(one - 0.99 * transit @ one - y) < 1e-5 * np.linalg.norm(y)


def test_twenty_iterations_are_the_authors() -> None:
    """What 20 iterations of scipy's solver give, which is not yet the solution."""
    x, queries = pictures(0, 300, kinds=2), pictures(1, 4, kinds=2)
    found = scores_of(Diffusion(k=6).fit(x), queries)
    system = np.eye(300) - 0.99 * dense_transition(dense_affinity(x, 6, 3.0))
    for q, one in zip(queries, found, strict=True):
        f = cg(system, start(x, q, 10, 3.0), rtol=1e-6, maxiter=20)[0]
        np.testing.assert_allclose(one, in_order(f, x @ q), atol=1e-5)


@given(
    seed=st.integers(0, 1000), size=st.integers(10, 70), k=st.integers(1, 9), truncation=st.integers(2, 70)
)
@settings(max_examples=25, deadline=None)
def test_truncated_equals_the_dense_small_systems(seed: int, size: int, k: int, truncation: int) -> None:
    truncation = min(truncation, size)
    x, queries = pictures(seed, size), pictures(seed + 1, 3)
    found = scores_of(TruncatedDiffusion(k=k, query_k=5, truncation=truncation).fit(x), queries)
    system = np.eye(size) - 0.99 * dense_transition(dense_affinity(x, k, 3.0))
    columns = np.zeros((size, size))
    similar = x @ x.T
    np.fill_diagonal(similar, np.inf)
    for i in range(size):
        chosen = np.argsort(-similar[i], kind="stable")[:truncation]
        right = np.eye(truncation)[0]
        columns[i, chosen] = cg(system[np.ix_(chosen, chosen)], right, rtol=1e-6, maxiter=20)[0]
    for q, one in zip(queries, found, strict=True):
        f = start(x, q, 5, 3.0) @ columns
        clear = (np.abs(f) > 1e-6) | (f == 0)
        np.testing.assert_allclose(one[clear], in_order(f, x @ q)[clear], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [40, 100])
def test_truncation_to_all_is_diffusion(size: int) -> None:
    x, queries = pictures(0, size), pictures(1, 5)
    options = {"k": 8, "query_k": 6, "iterations": 500, "tolerance": 1e-9}
    whole = scores_of(Diffusion(**options).fit(x), queries)
    found = scores_of(TruncatedDiffusion(truncation=size, **options).fit(x), queries)
    clear = np.abs(whole) > 1e-6
    np.testing.assert_allclose(found[clear], whole[clear], atol=1e-5, rtol=1e-5)


def test_systems_do_not_depend_on_their_company(monkeypatch: pytest.MonkeyPatch) -> None:
    x = pictures(0, 120)
    together = TruncatedDiffusion(k=8, truncation=40).fit(x)
    monkeypatch.setattr("lowq_core.retrieval.diffusion.truncated._UNKNOWNS", 1)
    monkeypatch.setattr("lowq_core.retrieval.diffusion.truncated._TURN", 7)
    alone = TruncatedDiffusion(k=8, truncation=40).fit(x)
    np.testing.assert_allclose(alone._solutions, together._solutions, atol=1e-6)


@given(seed=st.integers(0, 1000), size=st.integers(2, 120), dim=st.integers(2, 9), count=st.integers(2, 120))
@settings(max_examples=40, deadline=None)
def test_sets_hold_the_nearest(seed: int, size: int, dim: int, count: int) -> None:
    count = min(count, size)
    x = pictures(seed, size, dim)
    sets, _ = nearest_sets(x, count, 1)
    similar = x @ x.T
    np.testing.assert_array_equal(sets[:, 0], np.arange(size))
    for i, one in enumerate(sets):
        assert len(set(one)) == count
        assert (np.diff(one[1:]) > 0).all()
        others = np.setdiff1d(np.arange(size), one)
        if others.size and count > 1:
            assert similar[i, one[1:]].min() >= similar[i, others].max() - 1e-6


def test_sets_of_copies_go_by_index() -> None:
    x = np.tile(np.float32([[0, 1]]), (50, 1))
    sets, near = nearest_sets(x, 25, 5)
    for i in range(50):
        assert sets[i].tolist() == [i, *[j for j in range(26) if j != i][:24]]
    assert near is not None
    assert near.ids[9].tolist() == [0, 1, 2, 3, 4]


def test_neighbours_from_large_sets_are_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the database is in order, and where the sample of it misleads."""
    x = pictures(0, 3000, 24, kinds=100)
    x = x[np.argsort(x @ x[0])]
    expected = nearest_neighbours(x, 20)
    for spread in (5.0, -4.9):
        monkeypatch.setattr(subsets, "_SPREAD", spread)
        sets, found = nearest_sets(x, 60, 20)
        assert found is not None
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.similarities, expected.similarities)
        assert all(np.isin(near, one).all() for near, one in zip(expected.ids, sets, strict=True))
    assert nearest_sets(x[:100], 30, 20)[1] is None


@given(
    seed=st.integers(0, 1000),
    size=st.integers(2, 40),
    members=st.integers(1, 40),
    count=st.integers(1, 6),
    share=st.sampled_from([0.02, 0.1, 0.5]),
)
@settings(max_examples=40, deadline=None)
def test_small_systems_one_by_one(seed: int, size: int, members: int, count: int, share: float) -> None:
    """Connected or not; the object is used again, for fewer and for more sets."""
    generator = np.random.default_rng(seed)
    members = min(members, size)
    graph = np.triu(generator.random((size, size)) * (generator.random((size, size)) < share), 1)
    graph += graph.T
    system = np.diag(graph.sum(axis=1) + 0.1) - graph
    systems = SmallSystems(sparse.csr_array(system))
    for many in (count, 1, count + 1):
        sets = np.stack([generator.permutation(size)[:members] for _ in range(many)]).astype(np.int32)
        found = systems.solved(sets, 20, 1e-6)
        for one, chosen in zip(found, sets, strict=True):
            part = system[np.ix_(chosen, chosen)]
            expected = cg(part, np.eye(members)[0], rtol=1e-6, maxiter=20)[0]
            np.testing.assert_allclose(one, expected, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("kind", [Diffusion, TruncatedDiffusion, SpectralRanking, HybridDiffusion])
def test_a_query_starts_from_given_pictures(kind: type[GraphRetriever]) -> None:
    database, queries = pictures(0, 60), pictures(1, 3)
    options = {} if kind is SpectralRanking else {"iterations": 400, "tolerance": 1e-10}
    options |= {"truncation": 60} if kind is TruncatedDiffusion else {}
    search = kind(k=8, query_k=4, **options).fit(database)  # type: ignore[call-arg]
    lists = np.random.default_rng(2).permuted(np.tile(np.arange(60), (3, 1)), axis=1)[:, :6]
    found = search.rank(queries, neighbours=lists)
    S = dense_transition(dense_affinity(database, 8, 3.0))
    for ids, scores, query, some in zip(found.ids, found.scores, queries, lists, strict=True):
        y, similar = np.zeros(60), database @ query
        y[some[:4]] = np.maximum(similar[some[:4]], 0) ** 3
        f = np.linalg.solve(np.eye(60) - 0.99 * S, y)
        reached = scores > 0
        if kind is SpectralRanking:
            f = 0.01 * f
        np.testing.assert_allclose(scores[reached], f[ids[reached]], rtol=1e-4, atol=1e-6)
        assert reached.sum() == pytest.approx((f > 1e-9).sum(), abs=2)
    with pytest.raises(LowqError, match="shorter than 4"):
        search.rank(queries, neighbours=lists[:, :3])
