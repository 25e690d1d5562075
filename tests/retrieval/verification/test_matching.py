"""Tentative correspondences against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.retrieval.verification.matching import tentative, unit_rows


def by_loops(a: np.ndarray, b: np.ndarray, mutual: bool, ratio: float | None) -> set[tuple[int, int]]:
    """The definition, one pair at a time, with Euclidean distances in float64."""
    distance = np.array([[np.linalg.norm(x - y) for y in b.astype(float)] for x in a.astype(float)])
    found = set()
    for i, row in enumerate(distance):
        j = int(row.argmin())
        if mutual and int(distance[:, j].argmin()) != i:
            continue
        if ratio is not None and len(b) > 1 and not row[j] < ratio * np.sort(row)[1]:
            continue
        if a[i] @ b[j] > 0:
            found.add((i, j))
    return found


@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    mutual=st.booleans(),
    ratio=st.sampled_from([None, 0.8, 0.95]),
)
@settings(max_examples=60, deadline=None)
def test_against_loops(seed: int, sizes: tuple[int, int], mutual: bool, ratio: float | None) -> None:
    generator = np.random.default_rng(seed)
    a, b = (unit_rows(generator.standard_normal((n, 6)).astype(np.float32)) for n in sizes)
    found = tentative(a, b, mutual=mutual, ratio=ratio)
    assert set(zip(found.query.tolist(), found.picture.tolist(), strict=True)) == by_loops(
        a, b, mutual, ratio
    )
    np.testing.assert_allclose(
        found.similarity, np.einsum("ij,ij->i", a[found.query], b[found.picture]), atol=1e-6
    )
    assert (np.diff(found.similarity) <= 0).all()


def test_mutual_is_the_same_both_ways() -> None:
    generator = np.random.default_rng(1)
    a, b = (unit_rows(generator.standard_normal((n, 8)).astype(np.float32)) for n in (40, 30))
    there, back = tentative(a, b), tentative(b, a)
    assert sorted(zip(there.query, there.picture, strict=True)) == sorted(
        zip(back.picture, back.query, strict=True)
    )


def test_nothing_to_match() -> None:
    some, none = np.eye(3, dtype=np.float32), np.empty((0, 3), np.float32)
    for a, b in ((some, none), (none, some), (none, none)):
        assert len(tentative(a, b, ratio=0.8).query) == 0


def test_zero_rows_match_nothing() -> None:
    rows = unit_rows(np.array([[0, 0], [2, 0]], np.float32))
    found = tentative(rows, rows)
    assert (found.query.tolist(), found.picture.tolist()) == ([1], [1])


def test_norms_do_not_matter() -> None:
    generator = np.random.default_rng(2)
    values = generator.standard_normal((5, 4)).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(unit_rows(values), axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit_rows(values * 7), unit_rows(values), atol=1e-6)


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1.2])
def test_bad_ratio(ratio: float) -> None:
    with pytest.raises(LowqError, match="ratio"):
        tentative(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), ratio=ratio)
