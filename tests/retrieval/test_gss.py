"""GSS against a dense transcription: graph, network, loss, Adam, queries; and what must not change."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.retrieval.base import Retriever
from lowq_core.retrieval.gss import training
from lowq_core.retrieval.gss.retriever import GSS
from lowq_core.retrieval.saved import MANIFEST

LR = 1e-3


def clusters(seed: int, rows: int = 60, dim: int = 16, count: int = 6, noise: float = 0.9) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((count, dim))
    values = centres[np.arange(rows) % count] + noise * generator.standard_normal((rows, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def dense_graph(X: np.ndarray, k: int) -> np.ndarray:
    """A: the k largest of each row, its own among them, mirrored, no diagonal."""
    S = X @ X.T
    A = np.zeros_like(S)
    for i in range(len(X)):
        for j in np.argsort(-S[i], kind="stable")[:k]:
            A[i, j] = A[j, i] = S[i, j]
    np.fill_diagonal(A, 0)
    return A


def normalised(A: np.ndarray) -> np.ndarray:
    A = A + np.eye(len(A))
    d = A.sum(axis=1)
    return A / np.sqrt(d)[:, None] / np.sqrt(d)[None, :]


def dense_outputs(
    x: torch.Tensor, Â: torch.Tensor, W: list[torch.Tensor], b: list[torch.Tensor], decay: float
) -> torch.Tensor:
    z = Â @ x @ W[0] + b[0]
    h = torch.nn.functional.elu(z)
    for weight, bias in zip(W[1:], b[1:], strict=True):
        before, z = z, Â @ h @ weight + bias
        h = before + decay * torch.nn.functional.elu(z)
    return h / h.norm(dim=1, keepdim=True)


def starting_weights(X: np.ndarray, gss: GSS) -> list[torch.Tensor]:
    untrained = GSS(**(gss._options() | {"epochs": 0})).fit(X)
    assert untrained.network is not None
    return [weight.double().requires_grad_() for weight in untrained.network.weights]


@pytest.mark.parametrize(
    "options", [{}, {"k": 8, "layers": 3, "decay": 0.5, "beta_percentile": 90.0}, {"layers": 1}]
)
def test_training_equals_the_dense_transcription(options: dict[str, float]) -> None:
    """In float64, with the whole matrices and autograd through them; torch's plain Adam."""
    X = clusters(0)
    gss = GSS(epochs=12, lr=LR, seed=3, **options).fit(X)  # type: ignore[arg-type]
    W = starting_weights(X, gss)
    b = [torch.zeros(16, dtype=torch.float64, requires_grad=True) for _ in W]
    x = torch.from_numpy(X).double()
    Â = torch.from_numpy(normalised(dense_graph(x.numpy(), gss.k)))
    with torch.no_grad():
        e = dense_outputs(x, Â, W, b, gss.decay)
        beta = np.percentile((e @ e.t()).numpy(), gss.schedule.beta_percentile)
    assert gss.beta == pytest.approx(beta, abs=1e-6)
    optimizer = torch.optim.Adam([*W, *b], lr=LR)
    losses = []
    for _ in range(13):
        e = dense_outputs(x, Â, W, b, gss.decay)
        loss = (-0.5 * (torch.relu(e @ e.t()) - beta) ** 2).mean()
        losses.append(loss.item())
        if len(losses) < 13:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    np.testing.assert_allclose(gss.history, losses, atol=1e-6)
    assert gss.history[-1] < gss.history[0]
    np.testing.assert_allclose(gss.embeddings, e.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("epochs", [0, 5])
def test_queries_equal_the_whole_directed_matrix_and_leave_the_index_alone(epochs: int) -> None:
    """[[0, A_q], [0, A_x]] + I over queries and index together, through the trained network."""
    X, Q = clusters(1), clusters(2, rows=7)
    gss = GSS(query_k=4, epochs=epochs, lr=LR).fit(X)
    before = gss.embeddings.copy()
    assert gss.network is not None
    W = [weight.double() for weight in gss.network.weights]
    b = [bias.detach().double() for bias in gss.network.biases]
    both = np.vstack([Q, X]).astype(np.float64)
    A = np.zeros((67, 67))
    A[7:, 7:] = dense_graph(both[7:], gss.k)
    for q, row in enumerate(both[:7] @ both[7:].T):
        for j in np.argsort(-row)[:4]:
            A[q, 7 + j] = row[j]
    e = dense_outputs(torch.from_numpy(both), torch.from_numpy(normalised(A)), W, b, gss.decay).numpy()
    np.testing.assert_allclose(gss.embed(Q), e[:7], atol=1e-5)
    np.testing.assert_allclose(gss.embeddings, e[7:], atol=1e-5)
    ranking = gss.rank(Q)
    np.testing.assert_array_equal(gss.embeddings, before)
    np.testing.assert_allclose(ranking.scores, -np.sort(-(e[:7] @ e[7:].T), axis=1), atol=1e-5)
    np.testing.assert_array_equal(gss.rank(Q[2:3]).ids[0], ranking.ids[2])  # nor do queries change each other
    np.testing.assert_array_equal(gss.rank(Q, k=3).ids, ranking.ids[:, :3])


def test_untrained_is_the_closed_form() -> None:
    """With weights of nearly I: A x + 0.3 ELU(A ELU(A x)), normalised."""
    X = clusters(3).astype(np.float64)
    Â = normalised(dense_graph(X, 5))

    def elu(z: np.ndarray) -> np.ndarray:
        return np.where(z > 0, z, np.expm1(z))

    h = Â @ X + 0.3 * elu(Â @ elu(Â @ X))
    gss = GSS(epochs=0).fit(X)
    assert np.abs(gss.embeddings - h / np.linalg.norm(h, axis=1, keepdims=True)).max() < 1e-4
    assert math.isnan(gss.beta)
    assert gss.history.size == 0


@given(seed=st.integers(0, 99))
@settings(max_examples=4, deadline=None)
def test_a_permutation_of_the_database_permutes_the_result(seed: int) -> None:
    X, Q = clusters(seed), clusters(seed + 1, rows=3)
    order = np.random.default_rng(seed).permutation(len(X))
    one, other = GSS(epochs=3, lr=LR).fit(X), GSS(epochs=3, lr=LR).fit(X[order])
    np.testing.assert_allclose(one.embeddings[order], other.embeddings, atol=1e-5)
    np.testing.assert_allclose(one.rank(Q).scores, other.rank(Q).scores, atol=1e-5)


def test_given_lists_make_the_graph() -> None:
    """Lists of the nearest give the same as none; others make another graph; queries have lists of their own."""
    X, Q = clusters(4), clusters(5, rows=4)
    order = np.argsort(-(X.astype(np.float64) @ X.T.astype(np.float64)), axis=1, kind="stable")
    plain = GSS(epochs=2).fit(X)
    np.testing.assert_array_equal(plain.embeddings, GSS(epochs=2).fit(X, neighbours=order).embeddings)
    same_place = np.array([np.flatnonzero(np.arange(60) % 6 == i % 6) for i in range(60)])
    verified = GSS(k=10, epochs=2).fit(X, neighbours=same_place)
    assert verified.graph is not None
    np.testing.assert_array_equal(verified.graph.columns[:1], [0])
    assert all(
        {j % 6 for j in verified.graph.columns[start:stop]} == {i % 6}
        for i, (start, stop) in enumerate(
            zip(verified.graph.offsets[:-1], verified.graph.offsets[1:], strict=True)
        )
    )
    nearest = np.argsort(-(Q @ X.T), axis=1)
    np.testing.assert_array_equal(verified.embed(Q, neighbours=nearest), verified.embed(Q))
    unseen = verified.embed(Q, neighbours=np.full((4, 1), -1))
    assert np.abs(unseen - verified.embed(Q)).max() > 1e-2


def test_watching_is_like_stopping_there() -> None:
    X, Q = clusters(6), clusters(7, rows=3)
    seen: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    gss = GSS(epochs=7, lr=LR).fit(
        X, watch=lambda epoch, now: seen.update({epoch: (now.embeddings.copy(), now.rank(Q).ids)}), every=3
    )
    assert list(seen) == [0, 3, 6, 7]
    for epoch in (0, 3):
        stopped = GSS(epochs=epoch, lr=LR).fit(X)
        np.testing.assert_array_equal(seen[epoch][0], stopped.embeddings)
        np.testing.assert_array_equal(seen[epoch][1], stopped.rank(Q).ids)
        np.testing.assert_array_equal(gss.history[: epoch + 1][: stopped.history.size], stopped.history)
    np.testing.assert_array_equal(seen[7][0], gss.embeddings)


def test_few_of_many_are_the_first_of_all() -> None:
    X, Q = clusters(19, rows=400), clusters(20, rows=5)
    gss = GSS(epochs=0).fit(X)
    few, all_of_them = gss.rank(Q, 10), gss.rank(Q)
    np.testing.assert_array_equal(few.ids, all_of_them.ids[:, :10])
    np.testing.assert_array_equal(few.scores, all_of_them.scores[:, :10])


def test_bf16_is_near() -> None:
    X = clusters(8, rows=120, dim=32)
    one, other = (GSS(epochs=20, lr=LR, precision=p).fit(X) for p in ("float32", "bf16"))  # type: ignore[arg-type]
    start = GSS(epochs=0).fit(X)
    moved = np.linalg.norm(one.embeddings - start.embeddings)
    assert np.linalg.norm(one.embeddings - other.embeddings) < 0.1 * moved
    np.testing.assert_allclose(one.history, other.history, rtol=5e-3)


@pytest.mark.parametrize(("fast", "taken"), [(True, "bf16"), (False, "float32")])
def test_auto_takes_what_is_faster_here(monkeypatch: pytest.MonkeyPatch, fast: bool, taken: str) -> None:
    X = clusters(8, rows=120, dim=32)
    monkeypatch.setattr(training, "bfloat16_is_fast", lambda: fast)
    auto, named = (GSS(epochs=5, lr=LR, precision=p).fit(X) for p in ("auto", taken))  # type: ignore[arg-type]
    np.testing.assert_array_equal(auto.embeddings, named.embeddings)


def test_drawn_pairs_train_too() -> None:
    X = clusters(9, rows=200)
    gss = GSS(epochs=40, lr=LR, all_pairs_up_to=100, pairs=2_000).fit(X)
    again = GSS(epochs=40, lr=LR, all_pairs_up_to=100, pairs=2_000).fit(X)
    np.testing.assert_array_equal(gss.embeddings, again.embeddings)
    whole = GSS(epochs=40, lr=LR).fit(X)
    start = GSS(epochs=0).fit(X)
    moved = np.linalg.norm(whole.embeddings - start.embeddings)
    assert np.linalg.norm(gss.embeddings - whole.embeddings) < 0.5 * moved


def test_save_and_load(tmp_path: Path) -> None:
    X, Q = clusters(10), clusters(11, rows=3)
    gss = GSS(epochs=3, lr=LR, layers=3, query_k=2).fit(X)
    gss.save(tmp_path / "gss")
    back: GSS = GSS.load(tmp_path / "gss")
    found, expected = back.rank(Q), gss.rank(Q)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(back.history, gss.history)
    assert back.beta == gss.beta
    assert back._options() == gss._options()
    assert isinstance(back._inputs[1], np.memmap)
    as_retriever: Retriever = back
    assert as_retriever.rank(Q, 1).ids.shape == (3, 1)
    (tmp_path / "gss" / "embeddings.npy").write_bytes(b"x")
    with pytest.raises(LowqError, match="does not match the digest"):
        GSS.load(tmp_path / "gss")
    (tmp_path / "gss" / MANIFEST).unlink()
    with pytest.raises(LowqError, match="holds no"):
        GSS.load(tmp_path / "gss")


def test_duplicates_zeros_and_loose_parts() -> None:
    """Equal pictures, unreadable ones, and two groups at right angles with no edge between them."""
    X = np.zeros((40, 8), np.float32)
    X[:20, :4], X[20:, 4:] = clusters(12, rows=20, dim=4), clusters(13, rows=20, dim=4)
    X[3] = X[4] = X[5]
    X[[7, 30]] = 0
    gss = GSS(epochs=15, lr=0.05).fit(X)
    assert np.isfinite(gss.embeddings).all()
    assert gss.graph is not None
    for one in (3, 4, 5):  # each has the two others in its list, whatever their order
        assert {3, 4, 5} <= set(
            gss.graph.columns[gss.graph.offsets[one] : gss.graph.offsets[one + 1]].tolist()
        )
    assert not gss.embeddings[[7, 30]].any()
    ranking = gss.rank(X[[5, 25]])
    assert ranking.ids[:, -2:].tolist() == [[7, 30], [7, 30]]
    assert (np.diff(ranking.scores, axis=1) <= 0).all()
    nothing = gss.rank(np.zeros((1, 8)))
    assert nothing.ids[0].tolist() == [*(i for i in range(40) if i not in (7, 30)), 7, 30]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_numbers(dtype: type) -> None:
    X = clusters(14).astype(dtype)
    gss = GSS(epochs=1).fit(X)
    assert gss.embeddings.dtype == np.float32
    np.testing.assert_array_equal(gss.embeddings, GSS(epochs=1).fit(X.astype(np.float32)).embeddings)


@pytest.mark.parametrize("search", ["hnsw", "ivf"])
def test_other_searches(search: str) -> None:
    X, Q = clusters(15), clusters(16, rows=4)
    gss, exact = GSS(epochs=0, search=search).fit(X), GSS(epochs=0).fit(X)  # type: ignore[arg-type]
    np.testing.assert_allclose(gss.embed(Q), exact.embed(Q), atol=1e-5)  # nothing is missed among 60


def test_k_of_one_is_no_graph() -> None:
    gss = GSS(k=1, epochs=0).fit(clusters(17))
    assert gss.graph is not None
    assert gss.graph.columns.tolist() == list(range(60))


def test_read_only_descriptors(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", clusters(18))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    gss = GSS(epochs=1).fit(mapped)
    gss.rank(mapped[:2])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"k": 0}, "k=0"),
        ({"query_k": 0}, "query_k=0"),
        ({"epochs": -1}, "epochs=-1"),
        ({"lr": 0.0}, "lr=0"),
        ({"alpha": -1.0}, "alpha=-1"),
        ({"decay": math.inf}, "decay=inf"),
        ({"layers": 0}, "layers=0"),
        ({"beta_percentile": 100.5}, "percentile=100.5"),
        ({"precision": "float16"}, "precision='float16' is unknown"),
        ({"search": "kd"}, "search='kd' is unknown"),
        ({"pairs": 0}, "pairs=0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1 << 63}, "seed=9223372036854775808"),
    ],
)
def test_bad_options(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(LowqError, match=sentence):
        GSS(**options)  # type: ignore[arg-type]


def test_bad_descriptors() -> None:
    X = clusters(0)
    for bad, sentence in (
        (2 * X, "row 0 has length 2"),
        (X.T, "transposed"),
        (np.where(np.arange(60)[:, None] == 9, np.nan, X), "row 9 holds NaN"),
        (X[:5], "k=5: the database has 5 pictures"),
        (X[0], "shape"),
    ):
        with pytest.raises(LowqError, match=sentence):
            GSS().fit(bad)
    with pytest.raises(LowqError, match="query_k=61: the database has 60"):
        GSS(query_k=61).fit(X)
    with pytest.raises(LowqError, match="every=0"):
        GSS().fit(X, every=0)
    with pytest.raises(LowqError, match="neighbours: 59 rows for 60"):
        GSS().fit(X, neighbours=np.zeros((59, 5), int))
    with pytest.raises(LowqError, match="the loss is nan"):
        GSS(lr=1e38, epochs=5).fit(X)


def test_bad_queries(tmp_path: Path) -> None:
    X = clusters(0)
    for early in (lambda: GSS().rank(X), lambda: GSS().embeddings, lambda: GSS().save(tmp_path)):
        with pytest.raises(LowqError, match="call fit first"):
            early()
    gss = GSS(epochs=0).fit(X)
    with pytest.raises(LowqError, match="queries: dimension 5"):
        gss.rank(X[:, :5])
    with pytest.raises(LowqError, match="queries: row 0 has length"):
        gss.rank(3 * X[:1])
    with pytest.raises(LowqError, match="k=61"):
        gss.rank(X[:1], 61)
    with pytest.raises(LowqError, match="query neighbours: row 0 names picture 60"):
        gss.rank(X[:1], neighbours=[[60]])
