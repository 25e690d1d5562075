"""What holds for every retriever that looks at neighbours: bad input, invariants, files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowq_core.errors import LowqError
from lowq_core.retrieval.augmentation import DatabaseAugmentation
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.diffusion.dfs import Diffusion
from lowq_core.retrieval.diffusion.truncated import TruncatedDiffusion
from lowq_core.retrieval.discriminative import DiscriminativeQE
from lowq_core.retrieval.expansion import AlphaQE, AverageQE
from lowq_core.retrieval.manifold import ManifoldEmbedding
from lowq_core.retrieval.saved import MANIFEST
from lowq_core.retrieval.spectral import HybridDiffusion, SpectralRanking

MAKERS: dict[str, Callable[[], Any]] = {
    "AverageQE": lambda: AverageQE(n=5),
    "AlphaQE": lambda: AlphaQE(n=5),
    "DatabaseAugmentation": lambda: DatabaseAugmentation(n=5),
    "DiscriminativeQE": lambda: DiscriminativeQE(n=3, negatives=20),
    "Diffusion": lambda: Diffusion(k=6, query_k=4),
    "TruncatedDiffusion": lambda: TruncatedDiffusion(k=6, query_k=4, truncation=30),
    "SpectralRanking": lambda: SpectralRanking(k=6, query_k=4),
    "HybridDiffusion": lambda: HybridDiffusion(k=6, query_k=4, rank=10, iterations=100),
    "ManifoldEmbedding": lambda: ManifoldEmbedding(k=4),
}
GRAPHS = ("Diffusion", "TruncatedDiffusion", "SpectralRanking", "HybridDiffusion")
all_of_them = pytest.mark.parametrize("name", MAKERS)


def pictures(seed: int, count: int, dim: int = 16, kinds: int = 8) -> np.ndarray:
    """Unit vectors around a few directions."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((kinds, dim))
    rows = centres[generator.integers(0, kinds, count)] + 0.7 * generator.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def scores_of(ranking: Ranking) -> np.ndarray:
    """In the database's order."""
    scores = np.empty(ranking.scores.shape, np.float32)
    np.put_along_axis(scores, ranking.ids, ranking.scores, axis=1)
    return scores


@all_of_them
def test_ranks_all_and_the_best(name: str) -> None:
    search = MAKERS[name]().fit(pictures(0, 80))
    queries = pictures(1, 5)
    whole, some = search.rank(queries), search.rank(queries, 7)
    assert whole.ids.shape == (5, 80)
    assert whole.ids.dtype == np.int64
    assert whole.scores.dtype == np.float32
    np.testing.assert_array_equal(np.sort(whole.ids, axis=1), np.tile(np.arange(80), (5, 1)))
    assert (np.diff(whole.scores, axis=1) <= 0).all()
    np.testing.assert_array_equal(some.ids, whole.ids[:, :7])
    np.testing.assert_allclose(some.scores, whole.scores[:, :7], rtol=1e-6)


@all_of_them
def test_queries_change_nothing(name: str) -> None:
    search = MAKERS[name]().fit(pictures(0, 80))
    queries = pictures(1, 6)
    together = search.rank(queries)
    for i in (3, 0):
        alone = search.rank(queries[i : i + 1])
        np.testing.assert_allclose(scores_of(alone)[0], scores_of(together)[i], atol=1e-5)
    np.testing.assert_array_equal(search.rank(queries).ids, together.ids)


@all_of_them
def test_permuting_the_database_permutes_the_result(name: str) -> None:
    database, queries = pictures(0, 80), pictures(1, 5)
    order = np.random.default_rng(2).permutation(80)
    straight = scores_of(MAKERS[name]().fit(database).rank(queries))
    permuted = scores_of(MAKERS[name]().fit(database[order]).rank(queries))
    np.testing.assert_allclose(permuted, straight[:, order], atol=1e-5, rtol=1e-5)


@all_of_them
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_precisions(name: str, dtype: type) -> None:
    database, queries = pictures(0, 80).astype(dtype), pictures(1, 3).astype(dtype)
    found = MAKERS[name]().fit(database).rank(queries)
    expected = MAKERS[name]().fit(database.astype(np.float32)).rank(queries.astype(np.float32))
    np.testing.assert_array_equal(found.ids, expected.ids)


@all_of_them
def test_zero_rows_come_last_and_change_little(name: str) -> None:
    database, queries = pictures(0, 80), pictures(1, 4)
    holed = np.insert(database, [0, 40], 0, axis=0)  # rows 0 and 41
    found = MAKERS[name]().fit(holed).rank(queries)
    np.testing.assert_array_equal(found.ids[:, -2:], [[0, 41]] * 4)
    assert (found.scores[:, -2:] == -3).all()
    assert (found.scores[:, :-2] > -3).all()
    kept = np.delete(np.arange(82), [0, 41])
    expected = scores_of(MAKERS[name]().fit(database).rank(queries))
    np.testing.assert_allclose(scores_of(found)[:, kept], expected, atol=1e-5, rtol=1e-5)


@all_of_them
def test_zero_query_is_answered(name: str) -> None:
    queries = pictures(1, 3)
    queries[1] = 0
    found = MAKERS[name]().fit(pictures(0, 80)).rank(queries)
    np.testing.assert_array_equal(np.sort(found.ids[1]), np.arange(80))
    assert (found.scores[1] <= 0).all()


@all_of_them
def test_duplicates(name: str) -> None:
    """Each picture three times; a picture is never its own neighbour, its copies are."""
    database = np.tile(pictures(0, 30), (3, 1))
    search = MAKERS[name]().fit(database)
    found = search.rank(database[:4])
    np.testing.assert_array_equal(np.sort(found.ids, axis=1), np.tile(np.arange(90), (4, 1)))
    assert np.isfinite(found.scores).all()
    if name in GRAPHS:
        linked = search._graph.toarray() > 0
        assert not linked.diagonal().any()
        assert all(linked[i, i + 30] and linked[i, i + 60] for i in range(30))
    else:
        assert (found.ids[:, :3] % 30 == np.arange(4)[:, None]).all()


def test_all_pictures_the_same() -> None:
    database = np.tile(np.float32([[0.6, 0.8]]), (40, 1))
    for name, make in MAKERS.items():
        if name == "ManifoldEmbedding":
            with pytest.raises(LowqError, match="all the same"):
                make().fit(database)
            continue
        found = make().fit(database).rank(database[:2])
        assert np.isfinite(found.scores).all(), name
        np.testing.assert_array_equal(np.sort(found.ids, axis=1), np.tile(np.arange(40), (2, 1)))


@pytest.mark.parametrize("name", GRAPHS)
def test_disconnected_graph(name: str) -> None:
    """Two worlds at right angles: of the other one nothing is reached, and it follows by similarity."""
    here, there = pictures(0, 40, 8), pictures(1, 40, 8)
    database = np.vstack([np.hstack([here, 0 * here]), np.hstack([0 * there, there])])
    queries = np.hstack([0.8 * pictures(2, 3, 8), 0.6 * pictures(3, 3, 8)])
    search = MAKERS[name]()
    search.query_k = 1
    found = search.fit(database).rank(queries)
    similar = queries @ database.T
    for q in range(3):
        world = similar[q].argmax() // 40
        scores = scores_of(found)[q]
        other = np.arange(80) // 40 != world
        assert (scores[other] <= 0).all()
        np.testing.assert_allclose(scores[other], similar[q, other] - 1, atol=1e-6)
        unreached = found.ids[q][found.scores[q] <= 0]
        assert (np.diff(similar[q, unreached]) <= 1e-6).all()


@all_of_them
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    search = MAKERS[name]().fit(pictures(0, 80))
    search.save(tmp_path / "it")
    loaded = type(search).load(tmp_path / "it")
    queries = pictures(1, 4)
    np.testing.assert_array_equal(loaded.rank(queries).ids, search.rank(queries).ids)
    np.testing.assert_array_equal(loaded.rank(queries).scores, search.rank(queries).scores)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / MANIFEST).read_text() == (tmp_path / "it" / MANIFEST).read_text()
    with pytest.raises(LowqError, match="holds no"):
        type(search).load(tmp_path)


@all_of_them
def test_used_before_fit(name: str, tmp_path: Path) -> None:
    with pytest.raises(LowqError, match="call fit"):
        MAKERS[name]().rank(pictures(0, 1))
    with pytest.raises(LowqError, match="call fit"):
        MAKERS[name]().save(tmp_path)


@all_of_them
def test_bad_databases(name: str) -> None:
    database = pictures(0, 80)
    for bad, sentence in (
        (database * 3, "row 0 has length 3, not 1; divide"),
        (database.T, "it looks transposed"),
        (np.where(np.arange(80)[:, None] == 5, np.nan, database), "row 5 holds NaN"),
        (database[:0], "is empty"),
        (database[0], "one row a picture"),
    ):
        with pytest.raises(LowqError, match=sentence):
            MAKERS[name]().fit(bad)


@all_of_them
def test_bad_queries(name: str) -> None:
    search = MAKERS[name]().fit(pictures(0, 80))
    queries = pictures(1, 3)
    for bad, k, sentence in (
        (queries[:, :5], 1, "dimension 5, but the database has 16"),
        (queries.repeat(2, axis=0)[:, :].T[:, :5], 1, "dimension 5"),
        (np.tile(queries, (6, 1))[:16].T[:16, :16] * 9, 1, "not 1"),
        (queries * np.nan, 1, "row 0 holds NaN"),
        (queries, 81, "k=81"),
        (queries, 0, "k=0"),
    ):
        with pytest.raises(LowqError, match=sentence):
            search.rank(bad, k)


@pytest.mark.parametrize("name", [*GRAPHS, "ManifoldEmbedding", "DatabaseAugmentation", "DiscriminativeQE"])
def test_too_few_pictures(name: str) -> None:
    """k others, where there are only k pictures."""
    search = MAKERS[name]()
    count = getattr(search, "k", None) or search.n
    with pytest.raises(LowqError, match=f"=({count}).*pictures"):
        search.fit(pictures(0, count))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: AlphaQE(n=-1), "n=-1"),
        (lambda: AlphaQE(alpha=-1.0), "alpha=-1"),
        (lambda: AlphaQE(alpha=float("nan")), "alpha=nan"),
        (lambda: AverageQE(n=90).fit(pictures(0, 80)), "n=90: the database has 80"),
        (lambda: DatabaseAugmentation(search="guess"), "guess"),
        (lambda: DiscriminativeQE(n=0), "n=0"),
        (lambda: DiscriminativeQE(negatives=0), "negatives=0"),
        (lambda: DiscriminativeQE(C=0.0), "C=0"),
        (lambda: Diffusion(k=0), "k=0"),
        (lambda: Diffusion(query_k=0), "query_k=0"),
        (lambda: Diffusion(k=5, query_k=81).fit(pictures(0, 80)), "query_k=81"),
        (lambda: Diffusion(gamma=0.0), "gamma=0"),
        (lambda: Diffusion(alpha=1.0), "alpha=1"),
        (lambda: Diffusion(iterations=0), "iterations=0"),
        (lambda: Diffusion(tolerance=1.0), "tolerance=1"),
        (lambda: Diffusion(search="guess"), "guess"),
        (lambda: TruncatedDiffusion(truncation=1), "truncation=1:"),
        (
            lambda: TruncatedDiffusion(k=5, truncation=81).fit(pictures(0, 80)),
            "truncation=81: the database has 80",
        ),
        (lambda: SpectralRanking(rank=0), "rank=0"),
        (lambda: HybridDiffusion(iterations=0), "iterations=0"),
        (lambda: ManifoldEmbedding(dim=0), "dim=0"),
        (lambda: ManifoldEmbedding(weight=-1.0), "weight=-1"),
        (lambda: ManifoldEmbedding(ridge=0.0), "ridge=0"),
    ],
)
def test_bad_options(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(LowqError, match=sentence):
        make()
