"""The cosine graph and its convolutions against dense matrices written out, and what they do at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.models.graph_refinement import CosineGraph, GraphRefinement, cosine_graph


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def dense_adjacency(f: np.ndarray, k: int | None, threshold: float | None) -> np.ndarray:
    """A + I, cell by cell."""
    n = len(f)
    norms = np.sqrt((f * f).sum(1)) + 1e-6
    S = f @ f.T / np.outer(norms, norms)
    A = np.zeros((n, n))
    for i in range(n):
        others = sorted((j for j in range(n) if j != i), key=lambda j: -S[i, j])
        for j in others if k is None else others[:k]:
            if S[i, j] > max(threshold or 0.0, 0.0):
                A[i, j] = S[i, j]
    return np.maximum(A, A.T) + np.eye(n)


def dense_convolution(f: np.ndarray, module: GraphRefinement) -> np.ndarray:
    """X_L of one picture, (N, C), by the class's formula."""
    A = dense_adjacency(f, module.k, module.threshold)
    root = np.diag(1 / np.sqrt(A.sum(1)))
    X = f
    for layer, gain in zip(module.layers, module.gains.tolist(), strict=True):
        W = layer.weight.detach().numpy().T
        X = X + gain * np.maximum(root @ A @ root @ X @ W, 0)
    return X


def as_dense(graph: CosineGraph, weights: torch.Tensor) -> np.ndarray:
    n = len(graph.neighbours.offsets) - 1
    A = np.zeros((n, n))
    A[graph.neighbours.firsts.numpy(), graph.neighbours.others.numpy()] = weights.detach().numpy()
    return A


def lively(channels: int, seed: int = 0, **options: object) -> GraphRefinement:
    module = GraphRefinement(channels, **options).double()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


CHOICES = [(1, None), (3, None), (8, None), (None, 0.1), (2, 0.3), (None, -0.5), (100, 0.0)]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 14), st.sampled_from(CHOICES), st.integers(1, 20), st.integers(0, 99))
def test_graph_against_dense(cells: int, choice: tuple, chunk: int, seed: int) -> None:  # type: ignore[type-arg]
    f = features(cells, 3, seed=seed)
    graph = cosine_graph(f, *choice, chunk=chunk)
    A = dense_adjacency(f.numpy(), *choice)
    np.testing.assert_allclose(as_dense(graph, graph.weights), A, atol=1e-12)
    root = 1 / np.sqrt(A.sum(1))
    np.testing.assert_allclose(
        as_dense(graph, graph.normalised()), root[:, None] * A * root[None, :], atol=1e-12
    )
    assert len(graph.weights) == (A > 0).sum()
    neighbours = graph.neighbours
    keys = neighbours.firsts * cells + neighbours.others
    assert (keys.diff() > 0).all()
    assert torch.equal(neighbours.firsts[neighbours.reverse], neighbours.others)
    assert torch.equal(neighbours.others[neighbours.reverse], neighbours.firsts)


def test_every_cell_has_its_k() -> None:
    graph = cosine_graph(features(40, 8).abs(), k=5)  # all cosines above 0
    assert (graph.neighbours.offsets.diff() >= 6).all()


@pytest.mark.parametrize("choice", CHOICES)
def test_refinement_against_dense(choice: tuple) -> None:  # type: ignore[type-arg]
    k, threshold = choice
    module, x = lively(5, k=k, threshold=threshold, blocks=3), features(2, 5, 3, 4)
    refined = module(x)
    assert refined.gate is None
    for picture, got in zip(x, refined.features.detach(), strict=True):
        want = dense_convolution(picture.flatten(1).T.numpy(), module)
        np.testing.assert_allclose(got.flatten(1).T, want, atol=1e-12)
    in_rows = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(module(in_rows).features, refined.features)


def test_gate_against_dense() -> None:
    module, x = lively(5, variant="reweight", k=3), features(2, 5, 3, 4)
    refined = module(x)
    assert refined.features is x
    assert refined.gate is not None
    assert module.readout is not None
    w, b = module.readout.weight.detach().numpy()[0], module.readout.bias.item()
    for picture, got in zip(x, refined.gate.detach(), strict=True):
        X = dense_convolution(picture.flatten(1).T.numpy(), module)
        np.testing.assert_allclose(got.flatten(), 1 / (1 + np.exp(-(X @ w + b))))


@pytest.mark.parametrize("variant", ["residual", "reweight"])
def test_starts_neutral_and_learns(variant: str) -> None:
    module, x = GraphRefinement(6, variant=variant).double(), features(2, 6, 4, 3)  # type: ignore[arg-type]
    refined = module(x)
    assert torch.equal(refined.features, x)
    if refined.gate is None:
        refined.features.square().sum().backward()
        assert (module.gains.grad != 0).all()
    else:
        assert refined.gate.shape == (2, 4, 3)
        assert (refined.gate == 0.5).all()
        (refined.gate * x.square().sum(1)).sum().backward()
        assert module.readout is not None
        assert module.readout.weight.grad is not None
        assert module.readout.weight.grad.any()


@pytest.mark.parametrize("variant", ["residual", "reweight"])
def test_gradients(variant: str) -> None:
    """Through features, weights of the edges, gains and layers; the choice of edges stays as it is."""
    module, x = lively(4, variant=variant, k=2), features(2, 4, 2, 3).requires_grad_()

    def result(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        refined = module(x)
        return refined.features if refined.gate is None else refined.gate

    assert torch.autograd.gradcheck(result, (x, *module.parameters()), fast_mode=True)


def test_gradients_of_the_weights() -> None:
    f = features(7, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: cosine_graph(f, k=2).weights, (f,))
    assert torch.autograd.gradcheck(lambda f: cosine_graph(f, k=2).normalised(), (f,))


def test_cells_of_norm_zero() -> None:
    f = features(6, 4)
    f[[1, 4]] = 0
    f.requires_grad_()
    graph = cosine_graph(f, k=3)
    A = as_dense(graph, graph.normalised())
    for cell in (1, 4):
        assert A[cell].tolist() == np.eye(6)[cell].tolist()
    module = lively(4, k=3)
    x = torch.zeros(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    y = module(x).features
    y.sum().backward()
    assert not y.any()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    graph.weights.sum().backward()
    assert f.grad is not None
    assert f.grad.isfinite().all()


def test_equal_and_opposite_cells() -> None:
    same = cosine_graph(torch.ones(5, 3, dtype=torch.float64), k=2)
    np.testing.assert_allclose(same.weights, 1, atol=1e-5)
    opposite = cosine_graph(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), k=1)
    assert opposite.neighbours.others.tolist() == [0, 1]  # a negative cosine is no edge


def test_one_cell() -> None:
    module, x = lively(4), features(1, 4, 1, 1)
    np.testing.assert_allclose(
        module(x).features.detach().flatten(), dense_convolution(x[0].flatten(1).T.numpy(), module)[0]
    )
    assert module.connections(x, (0, 0)).tolist() == [[0.0]]


def test_connections() -> None:
    module, x = lively(5, k=2), features(1, 5, 3, 4)
    A = dense_adjacency(x[0].flatten(1).T.numpy(), 2, None) - np.eye(12)
    for row in range(3):
        for column in range(4):
            found = module.connections(x, (row, column))
            np.testing.assert_allclose(found, A[row * 4 + column].reshape(3, 4), atol=1e-12)


def test_autocast() -> None:
    module, x = GraphRefinement(4), features(1, 4, 3, 3).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(x).features, x)
    assert module(x.bfloat16()).features.dtype == torch.bfloat16


def test_wrong_input() -> None:
    x = torch.rand(1, 4, 2, 3)
    with pytest.raises(LowqError, match="both None"):
        GraphRefinement(4, k=None)
    with pytest.raises(LowqError, match="both None"):
        cosine_graph(x[0].flatten(1).T, k=None)
    with pytest.raises(LowqError, match="k=0"):
        cosine_graph(x[0].flatten(1).T, k=0)
    for threshold in (1.0, -1.5, float("nan")):
        with pytest.raises(LowqError, match=f"threshold={threshold}; cosines lie between"):
            GraphRefinement(4, threshold=threshold)
    with pytest.raises(LowqError, match="'gate'"):
        GraphRefinement(4, variant="gate")  # type: ignore[arg-type]
    with pytest.raises(LowqError, match="blocks=0"):
        GraphRefinement(4, blocks=0)
    for bad in (torch.rand(1, 5, 2, 3), torch.rand(4, 2, 3), torch.rand(0, 4, 2, 3)):
        with pytest.raises(LowqError, match="graph refinement"):
            GraphRefinement(4)(bad)
    for location in ((2, 0), (0, 3), (-1, 0)):
        with pytest.raises(LowqError, match="connections"):
            GraphRefinement(4).connections(x, location)
    with pytest.raises(LowqError, match="connections"):
        GraphRefinement(4).connections(torch.rand(2, 4, 2, 3), (0, 0))
    x[0, 1, 1, 1] = torch.nan
    with pytest.raises(LowqError, match="NaN"):
        GraphRefinement(4)(x)
