"""Discriminative query expansion against the optimality conditions of its classifier."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from lowq_core.errors import LowqError
from lowq_core.retrieval.discriminative import DiscriminativeQE


def unit(seed: int, rows: int, dim: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def plane(positives: np.ndarray, negatives: np.ndarray, C: float) -> np.ndarray:
    """Normal of the linear SVM, by its dual: min |sum a_i t_i x_i|^2 / 2 - sum a_i for 0 <= a <= C, a.t = 0.

    A general solver says which a_i are free; with the others at their bounds, the conditions of optimality are
    linear equations. That all of them hold in the end proves the result, whatever found it.
    """
    x = np.vstack([positives, negatives]).astype(np.float64)
    t = np.repeat([1.0, -1.0], [len(positives), len(negatives)])
    signed = x * t[:, None]
    gram = signed @ signed.T
    found = minimize(
        lambda a: a @ gram @ a / 2 - a.sum(),
        np.zeros(len(t)),
        jac=lambda a: gram @ a - 1,
        bounds=[(0, C)] * len(t),
        constraints={"type": "eq", "fun": lambda a: a @ t, "jac": lambda a: t},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert found.status in (0, 8), found.message  # 8: no step leads further down
    at_least, at_most = found.x < 1e-4 * C, found.x > (1 - 1e-4) * C
    a, free = np.where(at_most, C, np.where(at_least, 0, found.x)), ~at_least & ~at_most
    count = np.count_nonzero(free)
    # of the free: gradient_i + b t_i = 0; and a.t = 0
    equations = np.block([[gram[np.ix_(free, free)], t[free, None]], [t[None, free], np.zeros((1, 1))]])
    missing = np.append(1 - (gram @ a)[free], -(a @ t))
    step = np.linalg.lstsq(equations, missing, rcond=1e-12)[0]
    a[free] += step[:count]
    margins = gram @ a - 1 + step[count] * t  # t_i (w.x_i + b) - 1
    assert abs(a @ t) < 1e-9 * C
    assert (a >= 0).all()
    assert (a <= C).all()
    assert (margins[at_least] > -1e-9).all()
    assert (margins[at_most] < 1e-9).all()
    assert np.abs(margins[free]).max(initial=0) < 1e-9
    w = a @ signed
    return w / np.linalg.norm(w)


@pytest.mark.parametrize(("n", "negatives", "C"), [(1, 5, 1.0), (4, 8, 1.0), (3, 500, 0.1), (3, 6, 100.0)])
def test_equals_the_dual_problem(n: int, negatives: int, C: float) -> None:
    database, queries = unit(0, 30, 6), unit(1, 4, 6)
    search = DiscriminativeQE(n=n, negatives=negatives, C=C).fit(database)
    found = search.rank(queries)
    for q, w, ids, scores in zip(queries, search.planes(queries), found.ids, found.scores, strict=True):
        order = np.argsort(-(database @ q), kind="stable")
        last = order[n:] if negatives > 30 - n else order[-negatives:]
        expected = plane(np.vstack([q[None], database[order[:n]]]), database[last], C)
        np.testing.assert_allclose(w, expected, atol=1e-5)
        np.testing.assert_allclose(scores, (database @ w)[ids], atol=1e-6)


def test_unreadable_pictures_are_no_negatives() -> None:
    database, queries = unit(0, 30, 6), unit(1, 3, 6)
    holed = np.insert(database, [4, 9], 0, axis=0)
    search = DiscriminativeQE(n=3)
    np.testing.assert_array_equal(
        search.fit(holed).planes(queries), DiscriminativeQE(n=3).fit(database).planes(queries)
    )


def test_examples_are_taken_from_lists() -> None:
    database, queries = unit(0, 30, 6), unit(1, 3, 6)
    database[4] = 0
    search = DiscriminativeQE(n=3, negatives=5).fit(database)
    ranked = np.argsort(-(queries @ database.T), axis=1, kind="stable")
    lists = np.array([[*row[row != 7], -1] for row in ranked])
    smaller = DiscriminativeQE(n=3, negatives=5).fit(np.delete(database, 7, axis=0))
    found = search.planes(queries, neighbours=lists)
    np.testing.assert_array_equal(found, smaller.planes(queries))
    assert (found != search.planes(queries)).any()
    ranking, scores = (
        search.rank(queries, neighbours=lists),
        found @ database.T,
    )  # on the margin many are equal
    assert (np.sort(ranking.ids, axis=1) == np.arange(30)).all()
    assert (ranking.ids[:, -1] == 4).all(), "what cannot be read comes last"
    np.testing.assert_allclose(
        ranking.scores[:, :-1], np.take_along_axis(scores, ranking.ids, axis=1)[:, :-1], atol=1e-6
    )
    assert (np.diff(ranking.scores[:, :-1]) <= 0).all()
    with pytest.raises(LowqError, match="a list of 3 pictures leaves no negative besides n=3"):
        search.planes(queries, neighbours=[[0, 1, 2, 4, -1]] * 3)
