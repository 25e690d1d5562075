"""GSS's network against a dense transcription."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.models.gss import GSSNetwork, NormalisedGraph, normalised


def symmetric(seed: int, N: int) -> np.ndarray:
    """A sparse A + I with positive weights, normalised."""
    generator = np.random.default_rng(seed)
    A = np.triu(generator.random((N, N)) * (generator.random((N, N)) < 0.3), 1)
    A = A + A.T + np.eye(N)
    d = A.sum(axis=1)
    return A / np.sqrt(np.outer(d, d))


def graph_of(table: np.ndarray, dtype: torch.dtype = torch.float64) -> NormalisedGraph:
    rows, columns = np.nonzero(table)
    offsets = np.searchsorted(rows, np.arange(len(table) + 1))
    weights = torch.from_numpy(table[rows, columns]).to(dtype)
    return NormalisedGraph.of(torch.from_numpy(offsets), torch.from_numpy(columns), weights)


def elu(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1)


def by_formula(
    x: np.ndarray, Â: np.ndarray, W: list[np.ndarray], b: list[np.ndarray], decay: float
) -> np.ndarray:
    z = Â @ x @ W[0] + b[0]
    h = elu(z)
    for weight, bias in zip(W[1:], b[1:], strict=True):
        before, z = z, Â @ h @ weight + bias
        h = before + decay * elu(z)
    return h / np.linalg.norm(h, axis=1, keepdims=True)


def network_of(seed: int, dim: int, layers: int, decay: float) -> GSSNetwork:
    """Trained by chance: weights and biases that differ from where they start."""
    generator = torch.Generator().manual_seed(seed)
    network = GSSNetwork(dim, layers, decay, noise=0.3, generator=generator).double()
    with torch.no_grad():
        for bias in network.biases:
            bias.normal_(0, 0.2, generator=generator)
    return network


@given(
    seed=st.integers(0, 999),
    N=st.integers(1, 25),
    dim=st.integers(2, 8),
    layers=st.integers(1, 4),
    decay=st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_against_the_formula(seed: int, N: int, dim: int, layers: int, decay: float) -> None:
    x, table = np.random.default_rng(seed).standard_normal((N, dim)), symmetric(seed, N)
    network = network_of(seed, dim, layers, decay)
    W, b = ([one.detach().numpy() for one in some] for some in (network.weights, network.biases))
    expected = by_formula(x, table, W, b, decay)
    with torch.no_grad():
        found = network(torch.from_numpy(x), graph_of(table))
        np.testing.assert_allclose(found, expected, atol=1e-10)
        single = network.float()(torch.from_numpy(x).float(), graph_of(table, torch.float32))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, expected, atol=2e-4)


def test_two_layers_by_hand() -> None:
    """e is z_1 + 0.3 ELU(z_2), normalised, z_2 = Â ELU(z_1): the skip is of z_1, not of ELU(z_1)."""
    x, table = np.array([[1.0, -2.0], [0.5, -0.1], [-1.0, 3.0]]), symmetric(1, 3)
    z = table @ x
    h = z + 0.3 * elu(table @ elu(z))
    network = GSSNetwork(2, noise=0.0).double()
    with torch.no_grad():
        found = network(torch.from_numpy(x), graph_of(table))
    np.testing.assert_allclose(found, h / np.linalg.norm(h, axis=1, keepdims=True), atol=1e-12)


def test_start() -> None:
    network = GSSNetwork(200, generator=torch.Generator().manual_seed(0))
    assert len(network.weights) == 2
    for weight in network.weights:
        assert (weight.diagonal() == 1).all()
        off = weight[~torch.eye(200, dtype=torch.bool)]
        assert off.std().item() == pytest.approx(1e-5, rel=0.05)
        assert abs(off.mean().item()) < 1e-6
    assert all((bias == 0).all() for bias in network.biases)
    assert not torch.equal(*network.weights)
    again = GSSNetwork(200, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_gradients_equal_those_of_the_dense_network(layers: int) -> None:
    table, network = symmetric(2, 7), network_of(3, 4, layers, 0.3)
    x = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ends = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    graph, dense = graph_of(table), torch.from_numpy(table)
    parameters = list(network.parameters())
    ours = torch.autograd.grad((network(x, graph) * ends).sum(), parameters)
    theirs = torch.autograd.grad((network(x, lambda h, level: dense @ h) * ends).sum(), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_gradient_of_the_length() -> None:
    h = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: normalised(x, torch.ones_like(x)), (h,))
    torch.testing.assert_close(normalised(h, h), torch.nn.functional.normalize(h))


def test_adam_does_to_the_difference_what_it_does_to_the_weight() -> None:
    network = network_of(0, 3, 2, 0.3)
    W = [weight.clone().requires_grad_() for weight in network.weights]
    x, table = torch.randn(6, 3, dtype=torch.float64), torch.from_numpy(symmetric(0, 6))

    def dense_output() -> torch.Tensor:
        z = table @ x @ W[0] + network.biases[0].detach()
        h = z + 0.3 * torch.nn.functional.elu(
            table @ torch.nn.functional.elu(z) @ W[1] + network.biases[1].detach()
        )
        return h / h.norm(dim=1, keepdim=True)

    one, other = torch.optim.Adam(network.departures, 1e-2), torch.optim.Adam(W, 1e-2)
    for _ in range(5):
        one.zero_grad()
        other.zero_grad()
        network(x, lambda h, level: table @ h)[:, 0].sum().backward()
        dense_output()[:, 0].sum().backward()
        one.step()
        other.step()
    for a, b in zip(network.weights, W, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=0, atol=1e-10)


def test_bf16_rounds_the_difference_only() -> None:
    network = GSSNetwork(32, noise=0.02, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.normalize(torch.randn(50, 32, generator=torch.Generator().manual_seed(1)))
    graph = graph_of(symmetric(0, 50), torch.float32)
    exact, rounded = network(x, graph), network(x, graph, bf16=True)
    assert rounded.dtype == torch.float32
    start = GSSNetwork(32, noise=0.0)(x, graph)
    assert 0 < (exact - rounded).norm() < 2**-7 * (exact - start).norm()  # three roundings of 2^-9 each
    rounded.sum().backward()
    assert all(one.grad is not None and one.grad.dtype == torch.float32 for one in network.parameters())
    still = GSSNetwork(32, noise=0.0)
    assert torch.equal(still(x, graph), still(x, graph, bf16=True))


def test_zero_descriptors_stay_zero() -> None:
    network = network_of(0, 3, 2, 0.3)
    x = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    e = network(x, lambda h, level: h)
    assert e[1].abs().max() == 0
    assert e[0].norm().item() == pytest.approx(1)


def test_bad_input() -> None:
    for options, sentence in (
        ({"layers": 0}, "layers=0"),
        ({"decay": math.nan}, "decay=nan"),
        ({"noise": -1.0}, "noise=-1"),
        ({"dim": 0}, "dim=0"),
    ):
        with pytest.raises(LowqError, match=sentence):
            GSSNetwork(**({"dim": 3} | options))  # type: ignore[arg-type]
    with pytest.raises(LowqError, match=r"descriptors \(2, 4\); it takes \(N, 3\)"):
        GSSNetwork(3)(torch.ones(2, 4), lambda h, level: h)
