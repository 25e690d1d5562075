"""Whitenings: what they promise of the data, and a dense transcription of the published recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.models.whitening import Whitening, fit_lw, fit_pca_whitening, pairs_from_labels


def correlated(n: int, d: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + generator.normal(size=d)


def linear(whitening: Whitening, X: np.ndarray) -> np.ndarray:
    return X @ whitening.linear.weight.detach().numpy().T + whitening.linear.bias.detach().numpy()


@pytest.mark.parametrize("dim", [None, 3, 1])
def test_pca_whitens(dim: int | None) -> None:
    X = correlated(400, 6)
    white = linear(fit_pca_whitening(X, dim), X)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(dim or 6).squeeze(), atol=1e-4)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-4)


def test_pca_is_that_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    X = correlated(300, 8)
    ours = linear(fit_pca_whitening(X, 4), X)
    theirs = PCA(4, whiten=True).fit_transform(X) * np.sqrt(300 / 299)  # theirs divides by n - 1
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=2e-4)


def test_shrinkage() -> None:
    X = correlated(400, 5)
    values = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1]
    white = linear(fit_pca_whitening(X, shrinkage=0.3), X)
    want = values / (0.7 * values + 0.3 * values.mean())
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.diag(want), atol=1e-4)
    assert fit_pca_whitening(correlated(4, 20), shrinkage=0.1).dim_out == 20


def test_lw_makes_differences_of_pairs_white() -> None:
    X = correlated(300, 6)
    q, p = np.arange(0, 300, 2), np.arange(1, 300, 2)
    whitening = fit_lw(X, q, p)
    differences = linear(whitening, X[q]) - linear(whitening, X[p])
    # A rotation follows, which leaves an identity covariance as it is.
    np.testing.assert_allclose(differences.T @ differences / len(q), np.eye(6), atol=1e-4)
    projected = linear(whitening, X)
    scatter = projected.T @ projected
    np.testing.assert_allclose(scatter - np.diag(np.diag(scatter)), 0, atol=1e-3 * scatter.max())
    assert (np.diff(np.diag(scatter)) <= 0).all()


def naive_lw(X: np.ndarray, q: list[int], p: list[int], dim: int) -> tuple[np.ndarray, np.ndarray]:
    d = X.shape[1]
    m = np.zeros(d)
    S = np.zeros((d, d))
    for i, j in zip(q, p, strict=True):
        m += X[i] / len(q)
        for a in range(d):
            for b in range(d):
                S[a, b] += (X[i, a] - X[j, a]) * (X[i, b] - X[j, b]) / len(q)
    P1 = np.linalg.inv(np.linalg.cholesky(S))
    D = np.zeros((d, d))
    for x in X:
        y = P1 @ (x - m)
        D += np.outer(y, y)
    values, E = np.linalg.eig(D)
    E = E[:, np.argsort(-values)]
    return m, (E.T @ P1)[:dim]


def test_lw_against_a_transcription() -> None:
    X = correlated(60, 4, seed=2)
    q, p = list(range(0, 40)), list(range(20, 60))
    m, P = naive_lw(X, q, p, 3)
    got = fit_lw(X, q, p, dim=3).transform(X)
    want = (X - m) @ P.T
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(got * np.sign(got[0] * want[0]), want, atol=1e-5)  # axes have no sign


def test_lw_with_fewer_pairs_than_dimensions_is_still_defined() -> None:
    X = correlated(12, 30)
    for shrinkage in (0.0, 0.1):
        out = fit_lw(X, [0, 1, 2], [3, 4, 5], dim=8, shrinkage=shrinkage).transform(X)
        assert np.isfinite(out).all()
        np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-3)


def test_shrunk_lw_is_lw_of_the_shrunk_covariance() -> None:
    X = correlated(100, 4)
    q, p = np.arange(50), np.arange(50, 100)
    weight = fit_lw(X, q, p, shrinkage=0.5).linear.weight.detach().numpy()
    d = X[q] - X[p]
    S = d.T @ d / 50
    S = 0.5 * S + 0.5 * np.trace(S) / 4 * np.eye(4)
    np.testing.assert_allclose(weight @ S @ weight.T, np.eye(4), atol=1e-4)


def test_degenerate() -> None:
    X = correlated(10, 6)
    with pytest.raises(LowqError, match="span 4 axes, but dim=6; ask for dim=4"):
        fit_pca_whitening(X[:5])
    assert fit_pca_whitening(X[:5], dim=4).dim_out == 4
    with pytest.raises(LowqError, match="span 2 axes"):
        fit_pca_whitening(np.repeat(X[:3], 5, axis=0))
    with pytest.raises(LowqError, match="all 4 vectors are equal"):
        fit_pca_whitening(np.repeat(X[:1], 4, axis=0), dim=1)
    with pytest.raises(LowqError, match="both sides of every pair are equal"):
        fit_lw(np.repeat(X[:1], 4, axis=0), [0, 1], [2, 3])
    X[7, 2] = np.nan
    for fit in (fit_pca_whitening, lambda data: fit_lw(data, [0], [1])):
        with pytest.raises(LowqError, match="row 7 holds NaN"):
            fit(X)


def test_bad_arguments() -> None:
    X = correlated(10, 3)
    with pytest.raises(LowqError, match="dim=4: the vectors have 3"):
        fit_pca_whitening(X, 4)
    with pytest.raises(LowqError, match="shrinkage=1"):
        fit_pca_whitening(X, shrinkage=1)
    with pytest.raises(LowqError, match="two or more vectors"):
        fit_pca_whitening(X[:1])
    with pytest.raises(LowqError, match="row 10 is outside the 10 vectors"):
        fit_lw(X, [0], [10])
    with pytest.raises(LowqError, match="row -1 is outside"):
        fit_lw(X, [-1], [0])
    for q, p in (([], []), ([0, 1], [2])):
        with pytest.raises(LowqError, match="two flat lists"):
            fit_lw(X, q, p)
    with pytest.raises(LowqError, match=r"wants \(N, 3\)"):
        fit_pca_whitening(X).transform(X.T)


def test_save_and_load(tmp_path: Path) -> None:
    X = correlated(50, 5)
    whitening = fit_pca_whitening(X, 3)
    whitening.save(tmp_path / "new" / "w.safetensors")
    loaded = Whitening.load(tmp_path / "new" / "w.safetensors")
    np.testing.assert_array_equal(loaded.transform(X), whitening.transform(X))
    np.testing.assert_allclose(whitening.transform(X, block=7), whitening.transform(X), atol=1e-6)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w.safetensors"]
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    for name, message in (("bad.safetensors", "not a saved whitening"), ("none", "no such whitening")):
        with pytest.raises(LowqError, match=message):
            Whitening.load(tmp_path / name)


def test_a_full_disk(tmp_path: Path, little_room) -> None:
    whitening = Whitening(np.zeros(128), np.eye(128))
    file = tmp_path / "w.safetensors"
    with little_room(10_000), pytest.raises(LowqError) as told:
        whitening.save(file)
    assert str(told.value).startswith(f"{file}: cannot be written (")
    assert str(told.value).endswith("; make room or choose another folder")
    assert not list(tmp_path.iterdir())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=30).filter(lambda v: len(set(v)) < len(v)),
    st.integers(0, 99),
    st.integers(1, 9),
)
def test_pairs_from_labels(labels: list[int], seed: int, per_class: int) -> None:
    q, p = pairs_from_labels(labels, seed, per_class)
    pairs = {frozenset(pair) for pair in zip(q.tolist(), p.tolist(), strict=True)}
    assert len(pairs) == len(q)  # all different
    assert all(len(pair) == 2 and len({labels[i] for i in pair}) == 1 for pair in pairs)
    for label in set(labels):
        n = labels.count(label)
        assert sum(labels[i] == label for i in q) == min(per_class, n * (n - 1) // 2)
    again = pairs_from_labels(labels, seed, per_class)
    assert np.array_equal(again[0], q)
    assert np.array_equal(again[1], p)


def test_pairs_need_two_of_a_class() -> None:
    with pytest.raises(LowqError, match="no class has two"):
        pairs_from_labels([0, 1, 2], 0, 3)
    with pytest.raises(LowqError, match="per_class=0"):
        pairs_from_labels([0, 0], 0, 0)
