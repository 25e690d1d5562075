"""InfoNCE against a double loop, its mask, and the sum with its weights."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lowq_core.errors import LowqError
from lowq_core.losses.infonce import InfoNCE, info_nce


def pairs(seed: int, B: int, D: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    c = torch.randn(B, D, generator=generator, dtype=torch.float64) * 3
    return c, c + torch.randn(B, D, generator=generator, dtype=torch.float64)


def naive(c: Tensor, h: Tensor, labels: list[int], t: float) -> float:
    def cosine(a: list[float], b: list[float]) -> float:
        return sum(p * q for p, q in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    total = 0.0
    for i, row in enumerate(c.tolist()):
        others = [
            math.exp(cosine(row, other) / t)
            for j, other in enumerate(h.tolist())
            if j == i or labels[j] != labels[i]
        ]
        total -= math.log(math.exp(cosine(row, h[i].tolist()) / t) / math.fsum(others))
    return total / len(c)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999),
    st.lists(st.sampled_from([-5, 0, 1, 2**40]), min_size=1, max_size=6),
    st.integers(1, 6),
    st.sampled_from([0.07, 0.5, 2.0]),
)
def test_against_loops(seed: int, labels: list[int], D: int, t: float) -> None:
    c, h = pairs(seed, len(labels), D)
    ours = info_nce(c, h, torch.tensor(labels), t).item()
    assert ours == pytest.approx(naive(c, h, labels, t), rel=1e-9, abs=1e-12)
    different = list(range(len(labels)))
    assert info_nce(c, h, None, t).item() == pytest.approx(naive(c, h, different, t), rel=1e-9, abs=1e-12)
    assert torch.equal(info_nce(c, h, None, t), info_nce(c, h, torch.tensor(different), t))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.permutations(list(range(5))))
def test_order_of_the_batch_does_not_count(seed: int, order: list[int]) -> None:
    (c, h), labels = pairs(seed, 5, 4), torch.tensor([0, 1, 0, 2, 1])
    torch.testing.assert_close(info_nce(c[order], h[order], labels[order]), info_nce(c, h, labels))


def test_masked_is_the_batch_without_those_columns() -> None:
    (c, h), labels = pairs(0, 6, 4), torch.tensor([0, 1, 0, 2, 1, 0])
    rows = []
    for i in range(6):
        kept = [i, *(j for j in range(6) if labels[j] != labels[i])]
        logits = F.normalize(c[i : i + 1]) @ F.normalize(h[kept]).t() / 0.07
        rows.append(F.cross_entropy(logits, torch.tensor([0])))
    torch.testing.assert_close(info_nce(c, h, labels), torch.stack(rows).mean())
    assert info_nce(c, h, labels) < info_nce(c, h)


def test_length_of_the_features_does_not_count() -> None:
    c, h = pairs(1, 4, 5)
    lengths = torch.tensor([1e-3, 1.0, 10.0, 1e3], dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(info_nce(lengths * c, lengths.flip(0) * h), info_nce(c, h))


def test_gradcheck() -> None:
    c, h = (features.requires_grad_() for features in pairs(2, 5, 4))
    labels = torch.tensor([0, 1, 0, 2, 2])
    assert torch.autograd.gradcheck(lambda c, h: info_nce(c, h, labels, 0.5), (c, h))


def test_gradient_by_hand() -> None:
    """d / d c_i of length 1 is (sum_j p_ij h_j - h_i) / (t B), less what is along c_i."""
    (c, h), labels, t = pairs(3, 4, 5), torch.tensor([0, 1, 0, 2]), 0.3
    c.requires_grad_()
    (gradient,) = torch.autograd.grad(info_nce(c, h, labels, t), c)
    x, y = F.normalize(c.detach()), F.normalize(h)
    for i in range(4):
        weights = torch.tensor(
            [math.exp(x[i] @ y[j] / t) * (j == i or bool(labels[j] != labels[i])) for j in range(4)]
        ).double()
        pull = ((weights / weights.sum()) @ y - y[i]) / (t * 4)
        wanted = (pull - (pull @ x[i]) * x[i]) / c[i].detach().norm()
        torch.testing.assert_close(gradient[i], wanted, rtol=1e-6, atol=1e-9)


def test_stop_gradient() -> None:
    c, h = (features.requires_grad_() for features in pairs(4, 4, 5))
    values = [info_nce(c, h, stop_gradient=stop) for stop in (False, True)]
    assert torch.equal(*values)
    gradients = [torch.autograd.grad(value, (c, h), allow_unused=True) for value in values]
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert gradients[0][1] is not None
    assert gradients[1][1] is None


@pytest.mark.parametrize("labels", [[3], [3, 3, 3]])
def test_without_negatives_there_is_nothing_to_learn(labels: list[int]) -> None:
    c, h = (features.requires_grad_() for features in pairs(5, len(labels), 4))
    loss = info_nce(c, h, torch.tensor(labels))
    assert loss.item() == 0
    for gradient in torch.autograd.grad(loss, (c, h)):
        assert gradient.abs().max() == 0


def test_zero_vectors_are_finite() -> None:
    c = torch.zeros(3, 4, requires_grad=True)
    loss = info_nce(c, torch.randn(3, 4))
    assert loss.item() == pytest.approx(math.log(3), rel=1e-5)
    assert torch.isfinite(torch.autograd.grad(loss, c)[0]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_and_autocast(dtype: torch.dtype) -> None:
    c, h = (features.to(dtype) for features in pairs(6, 4, 64))
    c.requires_grad_()
    labels = torch.tensor([0, 0, 1, 2])
    exact = info_nce(c.double(), h.double(), labels, 0.5)
    for enabled in (False, True):
        with torch.autocast("cpu", dtype, enabled=enabled):
            loss = info_nce(c, h, labels, 0.5)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact.item(), rel=1e-4)
        (gradient,) = torch.autograd.grad(loss, c)
        assert gradient.dtype == dtype
        assert torch.isfinite(gradient).all()


def test_module_equals_function() -> None:
    (c, h), labels = pairs(7, 4, 5), torch.tensor([0, 0, 1, 2])
    assert torch.equal(InfoNCE()(c, h), info_nce(c, h))
    assert torch.equal(InfoNCE(0.2)(c, h, labels), info_nce(c, h, labels, 0.2))
    h.requires_grad_()
    c.requires_grad_()
    assert torch.autograd.grad(InfoNCE(stop_gradient=True)(c, h), h, allow_unused=True) == (None,)


def test_bad_input() -> None:
    (c, h), labels = pairs(8, 4, 5), torch.tensor([0, 0, 1, 2])
    for bad, message in (
        ((c, h[:3]), r"\(4, 5\) and clean \(3, 5\)"),
        ((c[0], h[0]), r"\(B, D\)"),
        ((c[:0], h[:0]), "one or more"),
        ((c.long(), h), "float type"),
        ((c, h * math.nan), "NaN"),
        ((c * math.inf, h), "infinity"),
        ((c, h, labels[:3]), r"labels \(3,\)"),
        ((c, h, labels.float()), "torch.float32"),
    ):
        with pytest.raises(LowqError, match=message):
            info_nce(*bad)
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(LowqError, match="temperature"):
            info_nce(c, h, temperature=temperature)
        with pytest.raises(LowqError, match="temperature"):
            InfoNCE(temperature)
