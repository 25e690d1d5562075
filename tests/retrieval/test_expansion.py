"""alpha-QE, average QE and database augmentation against their formulas, one picture at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.retrieval.augmentation import DatabaseAugmentation
from lowq_core.retrieval.diffusion.dfs import Diffusion
from lowq_core.retrieval.exact import ExactSearch
from lowq_core.retrieval.expansion import AlphaQE, AverageQE


def unit(seed: int, rows: int, dim: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def expanded(query: np.ndarray, others: np.ndarray, n: int, alpha: float) -> np.ndarray:
    """l2n(q + sum of max(q.x, 0)^alpha x over the n nearest)."""
    query, others = query.astype(np.float64), others.astype(np.float64)
    similar = others @ query
    total = query.copy()
    for i in sorted(range(len(others)), key=lambda i: (-similar[i], i))[:n]:
        total += max(similar[i], 0.0) ** alpha * others[i]
    return total / np.linalg.norm(total)


@given(
    seed=st.integers(0, 1000),
    rows=st.integers(1, 40),
    dim=st.integers(2, 10),
    n=st.integers(0, 40),
    alpha=st.sampled_from([0.0, 0.5, 3.0]),
)
@settings(max_examples=40, deadline=None)
def test_queries_expand_by_the_formula(seed: int, rows: int, dim: int, n: int, alpha: float) -> None:
    n = min(n, rows)
    database, queries = unit(seed, rows, dim), unit(seed + 1, 3, dim)
    search = (AlphaQE(n=n, alpha=alpha) if alpha else AverageQE(n=n)).fit(database)
    wanted = np.stack([expanded(q, database, n, alpha) for q in queries])
    np.testing.assert_allclose(search.expand(queries), wanted, atol=1e-5)
    found = search.rank(queries)
    np.testing.assert_allclose(
        found.scores, np.take_along_axis(wanted @ database.T, found.ids, axis=1), atol=1e-5
    )


def test_given_pictures_are_added_instead_of_the_nearest() -> None:
    database, queries = unit(0, 30, 8), unit(1, 4, 8)
    lists = np.random.default_rng(2).permuted(np.tile(np.arange(30), (4, 1)), axis=1)[:, :5]
    search = AlphaQE(n=3, alpha=2.0).fit(database)
    wanted = [expanded(q, database[some[:3]], 3, 2.0) for q, some in zip(queries, lists, strict=True)]
    np.testing.assert_allclose(search.expand(queries, neighbours=lists), wanted, atol=1e-5)
    nearest = ExactSearch().fit(database).rank(queries, 3).ids
    found = search.rank(queries, neighbours=nearest)
    np.testing.assert_array_equal(found.ids, search.rank(queries).ids)
    for wrong, message in (
        (lists[:, :2], "shorter than 3"),
        (lists[:2], "2 rows for 4"),
        (lists + 30, "below 30"),
    ):
        with pytest.raises(LowqError, match=message):
            search.rank(queries, neighbours=wrong)
    with pytest.raises(LowqError, match="shorter than 3"):
        search.rank(queries, neighbours=np.full((4, 3), -1))


def test_none_added_is_the_plain_search() -> None:
    database, queries = unit(0, 200, 16), unit(1, 7, 16)
    plain, expanded = (
        ExactSearch().fit(database).rank(queries, 50),
        AlphaQE(n=0).fit(database).rank(queries, 50),
    )
    np.testing.assert_array_equal(expanded.ids, plain.ids)
    np.testing.assert_array_equal(expanded.scores, plain.scores)


def test_unreadable_query_is_not_expanded() -> None:
    assert not AverageQE(n=3).fit(unit(0, 9, 4)).expand(np.zeros((1, 4))).any()


@given(
    seed=st.integers(0, 1000),
    rows=st.integers(2, 40),
    dim=st.integers(2, 10),
    n=st.integers(0, 40),
    alpha=st.sampled_from([0.0, 3.0]),
)
@settings(max_examples=40, deadline=None)
def test_database_augments_by_the_formula(seed: int, rows: int, dim: int, n: int, alpha: float) -> None:
    n = min(n, rows - 1)
    database = unit(seed, rows, dim)
    augmented = DatabaseAugmentation(n=n, alpha=alpha).transform(database)
    wanted = [expanded(database[i], np.delete(database, i, axis=0), n, alpha) for i in range(rows)]
    np.testing.assert_allclose(augmented, np.stack(wanted), atol=1e-5)


def test_copies_of_a_picture_are_its_neighbours_and_it_is_not() -> None:
    database = np.float32([[1, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal(DatabaseAugmentation(n=1).transform(database)[:2], database[:2])


def test_expansion_over_an_augmented_database(tmp_path: Path) -> None:
    database, queries = unit(0, 60, 8), unit(1, 4, 8)
    both = DatabaseAugmentation(n=4, then=AlphaQE(n=3)).fit(database)
    augmented = DatabaseAugmentation(n=4).transform(database)
    np.testing.assert_array_equal(both.rank(queries).ids, AlphaQE(n=3).fit(augmented).rank(queries).ids)
    both.save(tmp_path / "it")
    loaded = DatabaseAugmentation.load(tmp_path / "it", then=AlphaQE)
    assert (loaded.n, loaded.then.n) == (4, 3)
    np.testing.assert_array_equal(loaded.rank(queries, 9).ids, both.rank(queries, 9).ids)
    with pytest.raises(LowqError, match="was saved with then"):
        DatabaseAugmentation.load(tmp_path / "it")
    with pytest.raises(LowqError, match="holds a AlphaQE, not a Diffusion"):
        DatabaseAugmentation.load(tmp_path / "it", then=Diffusion)
    DatabaseAugmentation(n=4).fit(database).save(tmp_path / "plain")
    with pytest.raises(LowqError, match="was saved without then"):
        DatabaseAugmentation.load(tmp_path / "plain", then=AlphaQE)


def test_augmentation_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    database = unit(0, 50, 8)
    whole = DatabaseAugmentation(n=5).transform(database)
    monkeypatch.setattr("lowq_core.retrieval.augmentation._AT_ONCE", 56)
    np.testing.assert_array_equal(DatabaseAugmentation(n=5).transform(database), whole)
    monkeypatch.setattr("lowq_core.retrieval.expansion._NUMBERS", 1)
    queries = unit(1, 5, 8)
    search = AlphaQE(n=5).fit(database)
    np.testing.assert_allclose(
        search.expand(queries), [expanded(q, database, 5, 3.0) for q in queries], atol=1e-5
    )
