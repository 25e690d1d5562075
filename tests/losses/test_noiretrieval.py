"""NoiRetrieval: the worse the picture, the more its target loses; and the quality it goes by."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.losses.noiretrieval import Form, NoiRetrieval, noiretrieval
from lowq_core.losses.quality import NormStatistics, clipped_norms, norm_sums
from lowq_core.losses.siblings import AdaFace, adaface


def drop(loss: torch.Tensor, theta: float) -> float:
    """What the target's cosine lost: with one other class at right angles, loss = log(1 + exp(-s (cos - drop)))."""
    return math.cos(theta) + math.log(math.expm1(loss.item()))


def embedding(theta: float, norm: float) -> torch.Tensor:
    return norm * torch.tensor([[math.cos(theta), 0.0, math.sin(theta)]], dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["linear", "mirrored"]),
    st.floats(0.05, 2.1),
    st.floats(0.05, 0.5),
    st.floats(0.1, 1.0),
    st.lists(st.integers(-90, 90), min_size=2, max_size=5, unique=True),
)
def test_drop_grows_strictly_as_the_norm_falls(
    form: Form, theta: float, margin: float, lam: float, norms: list[int]
) -> None:
    """Norms within three standard deviations, so that no quality is clipped, at angles below pi less the margin."""
    loss = NoiRetrieval(3, 2, scale=1.0, margin=margin, lam=lam, form=form).double().eval()
    loss.weight.data = torch.eye(2, 3, dtype=torch.float64)
    loss.statistics.mu.fill_(50.0)
    loss.statistics.sigma.fill_(15.0)
    longest_first = sorted((50 + norm * 0.45 for norm in norms), reverse=True)
    drops = [drop(loss(embedding(theta, norm), torch.tensor([0])), theta) for norm in longest_first]
    assert all(a < b for a, b in itertools.pairwise(drops))
    assert all(value > -1e-9 for value in drops)


def test_adaface_does_the_opposite_at_60_degrees() -> None:
    theta, weight, y = math.pi / 3, torch.eye(2, 3, dtype=torch.float64), torch.tensor([0])
    z = torch.linspace(-1, 1, 21, dtype=torch.float64)
    of_adaface = [drop(adaface(embedding(theta, 1.0), y, weight, q[None], 1.0), theta) for q in z]
    assert of_adaface == sorted(of_adaface)
    for form in ("linear", "mirrored"):
        ours = [
            drop(noiretrieval(embedding(theta, 1.0), y, weight, q[None], 1.0, form=form), theta)  # type: ignore[arg-type]
            for q in z
        ]
        assert ours == sorted(ours, reverse=True)
        assert len(set(ours)) == len(ours)


def test_bad_pictures_pull_harder() -> None:
    """At equal angle the gradient to the class weight grows as the norm falls; the norm itself is not in it."""
    weight, y = torch.eye(2, 3, dtype=torch.float64), torch.tensor([0])
    for form in ("linear", "mirrored"):
        sizes = []
        for quality in (1.0, 0.5, 0.0, -0.5, -1.0):
            w = weight.clone().requires_grad_()
            q = torch.tensor([quality], dtype=torch.float64)
            loss = noiretrieval(embedding(0.8, 5.0), y, w, q, 4.0, form=form)  # type: ignore[arg-type]
            sizes.append(torch.autograd.grad(loss, w)[0].norm().item())
        assert sizes == sorted(sizes)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(0, 200), min_size=1, max_size=6).filter(lambda norms: len(norms) > 0),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([0.01, 0.5, 1.0]),
)
def test_statistics_against_numpy(batches: list[list[float]], t: float) -> None:
    statistics = NormStatistics(momentum=t).double()
    mu, sigma = 20.0, 100.0
    for lengths in batches:
        z = torch.zeros(len(lengths), 4, dtype=torch.float64)
        z[:, 1] = torch.tensor(lengths, dtype=torch.float64)
        norms = clipped_norms(z)
        n = np.clip(np.array(lengths), 0.001, 100)
        np.testing.assert_allclose(norms.numpy(), n, rtol=1e-12)
        statistics.update(norms)
        mu = t * n.mean() + (1 - t) * mu
        sigma = t * n.std(ddof=1) + (1 - t) * sigma if len(n) > 1 else sigma
        assert statistics.mu.item() == pytest.approx(mu, rel=1e-9)
        assert statistics.sigma.item() == pytest.approx(sigma, rel=1e-9, abs=1e-9)
        wanted = np.clip(0.333 * (n - mu) / (sigma + 1e-3), -1, 1)
        np.testing.assert_allclose(statistics.quality(norms).numpy(), wanted, rtol=1e-6, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.floats(0.1, 100), min_size=1, max_size=5), min_size=1, max_size=4),
    st.sampled_from([0.01, 1.0]),
)
def test_a_batch_in_parts_is_the_batch(parts: list[list[float]], t: float) -> None:
    whole, shared = (NormStatistics(momentum=t).double() for _ in range(2))
    whole.update(torch.tensor([norm for part in parts for norm in part], dtype=torch.float64))
    shared.update_from(sum((norm_sums(torch.tensor(part).double()) for part in parts), torch.zeros(3)))
    assert shared.mu.item() == pytest.approx(whole.mu.item(), rel=1e-5)
    assert shared.sigma.item() == pytest.approx(whole.sigma.item(), rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("kind", [NoiRetrieval, AdaFace])
def test_statistics_move_in_training_only(kind: type[NoiRetrieval] | type[AdaFace]) -> None:
    torch.manual_seed(0)
    loss, z, y = kind(6, 5), torch.randn(4, 6), torch.tensor([0, 1, 2, 3])
    start = copy.deepcopy(loss.statistics.state_dict())
    assert {name: value.item() for name, value in start.items()} == {"mu": 20.0, "sigma": 100.0}
    loss.eval()
    loss(z, y)
    loss.quality(z)
    assert loss.statistics.state_dict() == start
    loss.train()
    loss.quality(z)
    assert loss.statistics.state_dict() == start
    loss(z, y)
    norms = z.norm(dim=1)
    assert loss.statistics.mu.item() == pytest.approx(0.99 * 20 + 0.01 * norms.mean().item())
    assert loss.statistics.sigma.item() == pytest.approx(0.99 * 100 + 0.01 * norms.std().item())


def test_statistics_are_saved_with_the_module() -> None:
    loss, other = NoiRetrieval(6, 5), NoiRetrieval(6, 5)
    loss(torch.randn(4, 6), torch.tensor([0, 1, 2, 3]))
    other.load_state_dict(loss.state_dict())
    z = torch.randn(3, 6)
    assert torch.equal(loss.quality(z), other.quality(z))


def test_quality_is_detached_and_in_range() -> None:
    loss = NoiRetrieval(6, 5, momentum=1.0)
    z = torch.randn(8, 6, requires_grad=True)
    loss(z, torch.zeros(8, dtype=torch.int64))
    quality = loss.quality(torch.cat([z, 1e6 * z, 0 * z]))
    assert not quality.requires_grad
    assert quality.abs().max() <= 1
    order = z.detach().norm(dim=1).argsort()
    assert torch.equal(quality[:8].argsort(), order)


def test_quality_in_low_precision_does_not_overflow() -> None:
    z = torch.full((1, 2048), 60_000.0, dtype=torch.float16)
    assert clipped_norms(z).item() == 100.0
    assert clipped_norms(z / 60_000).item() == pytest.approx(2048**0.5, rel=1e-6)
    assert clipped_norms(z).dtype == torch.float32


def test_bad_arguments() -> None:
    for momentum in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(LowqError, match="momentum"):
            NoiRetrieval(6, 5, momentum=momentum)
    for h in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(LowqError, match="h="):
            AdaFace(6, 5, h=h)
