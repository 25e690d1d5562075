"""GSS's loss against its dense formula."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.losses import gss_beta
from lowq_core.losses.gss import GSSLoss, gss_loss, pair_loss, sampled_gss_loss
from lowq_core.losses.gss_beta import similarity_percentile

MEMORY = """
import sys
from pathlib import Path

import torch

from lowq_core.losses.gss import gss_loss
from lowq_core.losses.gss_beta import similarity_percentile


def dense(e):
    (-0.5 * (torch.relu(e @ e.t()) - 0.5) ** 2).mean().backward()


def kilobytes(key):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(key))


ways = {
    "loss": lambda e: gss_loss(e, 0.5, block=256).backward(),
    "percentile": similarity_percentile,
    "dense": dense,
}
for name, way in ways.items():
    for size in (1_100, 2_000, 4_000):  # the first one loads what is loaded once
        e = torch.nn.functional.normalize(torch.randn(size, 8)).requires_grad_()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = kilobytes("VmRSS")
        way(e)
        print(name, kilobytes("VmHWM") - before)
        del e
"""


def unit(seed: int, N: int, D: int, shift: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(N, D, generator=generator, dtype=torch.float64) + shift)


def dense(e: torch.Tensor, beta: float, alpha: float) -> torch.Tensor:
    """The whole matrix, autograd through it."""
    s = torch.relu(e @ e.t())
    return (-(alpha / 2) * (s - beta) ** 2).mean()


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 999),
    N=st.integers(1, 40),
    D=st.integers(1, 9),
    beta=st.floats(-0.5, 1),
    alpha=st.floats(0.1, 3),
    block=st.integers(1, 45),
)
def test_value_and_gradient_equal_the_dense_formula(
    seed: int, N: int, D: int, beta: float, alpha: float, block: int
) -> None:
    e = unit(seed, N, D).requires_grad_()
    ours, theirs = gss_loss(e, beta, alpha, block=block), dense(e, beta, alpha)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        *(torch.autograd.grad(3 * loss, e)[0] for loss in (ours, theirs)), rtol=1e-10, atol=1e-14
    )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), N=st.integers(1, 6), D=st.integers(1, 4), block=st.integers(1, 7))
def test_gradcheck(seed: int, N: int, D: int, block: int) -> None:
    """Also off the sphere, where vectors need not be of length 1."""
    e = (unit(seed, N, D) * 1.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gss_loss(x, 0.4, 0.7, block=block), (e,))


def test_sign_of_the_gradient() -> None:
    """Descent brings together what is more similar than beta, and parts what is less."""
    e = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
    for beta, sign in ((0.5, 1), (0.9, -1)):
        x = e.clone().requires_grad_()
        gss_loss(x, beta).backward()
        assert x.grad is not None
        moved = F.normalize(x.detach() - 1e-3 * x.grad)
        assert sign * (moved[0] @ moved[1] - e[0] @ e[1]) > 0
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    gss_loss(x, 0.5).backward()
    torch.testing.assert_close(x.grad, -0.25 * x)  # ReLU stops the pair; each with itself remains


def test_pair_loss_is_what_is_averaged() -> None:
    e = unit(0, 9, 4)
    torch.testing.assert_close(pair_loss(e @ e.t(), 0.3, 2.0).mean(), gss_loss(e, 0.3, 2.0))


def test_the_sum_of_many_pairs_is_not_made_in_float32() -> None:
    e = unit(1, 3_000, 8)
    exact = dense(e, 0.9, 1.0).item()
    assert gss_loss(e.float(), 0.9).item() == pytest.approx(exact, rel=1e-6)


def test_bf16_is_near() -> None:
    e = unit(2, 300, 64)
    beta = similarity_percentile(e)
    one, other = e.float().requires_grad_(), e.clone().requires_grad_()
    ours, theirs = gss_loss(one, beta, block=128, precision="bf16"), dense(other, beta, 1.0)
    ours.backward()
    theirs.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=4e-3)
    assert one.grad is not None
    assert other.grad is not None
    assert one.grad.dtype == torch.float32
    assert (one.grad - other.grad).norm() < 1e-2 * other.grad.norm()


def test_zero_rows_are_constant() -> None:
    e = unit(0, 8, 4)
    e[3] = 0
    e.requires_grad_()
    gss_loss(e, 0.4).backward()
    assert e.grad is not None
    assert e.grad[3].abs().max() == 0


def test_sampled_pairs_that_are_all() -> None:
    e = unit(3, 12, 5).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    ours, theirs = sampled_gss_loss(e, 0.4, pairs=144, generator=generator, block=5), dense(e, 0.4, 1.0)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, e)[0] for loss in (ours, theirs)))


def test_sampled_pairs_have_no_bias() -> None:
    """The mean of many estimates, of the loss and of the gradient, within four standard errors."""
    e = unit(4, 20, 5).requires_grad_()
    loss = dense(e, 0.4, 1.0)
    (truth,) = torch.autograd.grad(loss, e)
    generator = torch.Generator().manual_seed(1)
    losses, gradients = [], []
    for _ in range(600):
        one = sampled_gss_loss(e, 0.4, pairs=30, generator=generator)
        losses.append(one.detach())
        gradients.append(torch.autograd.grad(one, e)[0])
    for found, expected in ((torch.stack(losses), loss.detach()), (torch.stack(gradients), truth)):
        error = found.std(0) / math.sqrt(len(found))
        assert ((found.mean(0) - expected).abs() <= 4.5 * error + 1e-15).all()


def test_memory_does_not_grow_with_all_pairs() -> None:
    """Peaks at N and 2 N in a process of its own: the whole matrix takes four times as much, blocks do not."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of memory can be started again on Linux only")
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, env=environment, check=True
    )
    peaks: dict[str, list[int]] = {}
    for line in done.stdout.splitlines():
        name, grown = line.split()
        peaks.setdefault(name, []).append(int(grown))
    matrix = 4 * 4_000**2 / 1024
    _, one, doubled = peaks["dense"]
    assert doubled > matrix
    assert doubled > 3 * one
    for name in ("loss", "percentile"):
        _, one, doubled = peaks[name]
        assert doubled < matrix / 2, name
        assert doubled < 2 * one + 4_096, name


@given(
    seed=st.integers(0, 99),
    N=st.integers(1, 30),
    percentile=st.floats(0, 100),
    block=st.integers(1, 35),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=60, deadline=None)
def test_percentile_equals_numpy(
    seed: int, N: int, percentile: float, block: int, dtype: torch.dtype
) -> None:
    e = unit(seed, N, 6).to(dtype)
    expected = np.percentile((e.double() @ e.double().t()).numpy(), percentile)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gss_beta, "_BLOCK", block)
        found = similarity_percentile(e, percentile)
    assert found == pytest.approx(expected, abs=1e-12 if dtype == torch.float64 else 3e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_rank_among_equal_and_negative_products(dtype: torch.dtype) -> None:
    """Products of one factor each are exact, so all of them are found bit by bit."""
    e = torch.tensor([[-2.0], [-0.5], [-0.0], [0.0], [0.5], [0.5], [1.0], [3.0], [1e-30]], dtype=dtype)
    products = np.sort((e @ e.t()).double().numpy().ravel())
    found = [similarity_percentile(e, 100 * rank / 80) for rank in range(81)]
    np.testing.assert_allclose(found, products, rtol=1e-12, atol=1e-12)


def test_percentile_of_sampled_pairs() -> None:
    e = unit(5, 800, 16)
    exact = similarity_percentile(e)
    sampled = similarity_percentile(e, exact_up_to=799, pairs=160_000)
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=0.02)
    assert similarity_percentile(e, exact_up_to=10, pairs=800 * 800) == pytest.approx(exact, abs=1e-12)


def test_module_equals_function() -> None:
    e = unit(6, 20, 5)
    assert torch.equal(GSSLoss(0.4, 2.0, block=3)(e), gss_loss(e, 0.4, 2.0, block=3))
    drawn = GSSLoss(0.4, all_pairs_up_to=19, pairs=50, seed=7)
    generator = torch.Generator().manual_seed(7)
    for _ in range(2):  # another draw at each call
        assert torch.equal(drawn(e), sampled_gss_loss(e, 0.4, pairs=50, generator=generator))


def test_bad_input() -> None:
    e = unit(0, 4, 3)
    for bad in (e[0], e[:0], e.half(), e.long()):
        with pytest.raises(LowqError, match="GSS loss: embeddings"):
            gss_loss(bad, 0.5)
    for options, sentence in (
        ({"beta": math.nan}, "beta"),
        ({"beta": 0.5, "alpha": 0.0}, "alpha"),
        ({"beta": 0.5, "block": 0}, "block"),
        ({"beta": 0.5, "precision": "int8"}, "precision='int8' is unknown"),
    ):
        with pytest.raises(LowqError, match=sentence):
            gss_loss(e, **options)  # type: ignore[arg-type]
        with pytest.raises(LowqError, match=sentence):
            GSSLoss(**options)  # type: ignore[arg-type]
    with pytest.raises(LowqError, match="percentile=101"):
        similarity_percentile(e, 101)
    with pytest.raises(LowqError, match="pairs=0"):
        sampled_gss_loss(e, 0.5, pairs=0, generator=torch.Generator())
