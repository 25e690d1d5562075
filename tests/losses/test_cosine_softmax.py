"""The classifier that keeps one matrix: against autograd on normalised copies, and what it keeps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lowq_core.errors import LowqError
from lowq_core.losses import cosine_softmax as module
from lowq_core.losses.cosine_softmax import cosine_softmax


def batch(seed: int, B: int, C: int, D: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = F.normalize(torch.randn(B, D, generator=generator, dtype=torch.float64))
    weight = 3 * torch.randn(C, D, generator=generator, dtype=torch.float64)
    return x, weight, torch.randint(C, (B,), generator=generator)


def plain(x: Tensor, weight: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    cosines = (x @ F.normalize(weight).t()).clamp(-0.999, 0.999)
    own = F.one_hot(labels, len(weight)).bool()
    return cosines[own], (scale * cosines).masked_fill(own, -torch.inf).logsumexp(1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999),
    st.integers(1, 5),
    st.integers(2, 9),
    st.integers(1, 4),  # in one dimension, every cosine is clipped
    st.sampled_from([0.1, 8.0, 64.0]),
    st.sampled_from([1, 7, 1000]),
)
def test_against_normalised_copies(seed: int, B: int, C: int, D: int, scale: float, block: int) -> None:
    x, weight, labels = batch(seed, B, C, D)
    x.requires_grad_()
    weight.requires_grad_()
    upstream = torch.randn(2, B, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ours, theirs = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        for way, found in ((cosine_softmax, ours), (plain, theirs)):
            results = way(x, weight, labels, scale)
            found += [*results, *torch.autograd.grad(results, (x, weight), list(upstream))]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("block", [6, 10**6])
def test_gradcheck(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    x, weight, labels = batch(1, 3, 7, 3)
    labels[2] = labels[0]  # a class with two samples
    x.requires_grad_()
    weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: cosine_softmax(x, w, labels, 4.0), (x, weight))


@pytest.mark.parametrize("wanted", ["x", "weight"])
def test_only_what_is_asked_for(wanted: str) -> None:
    x, weight, labels = batch(2, 3, 7, 3)
    both = {"x": x, "weight": weight}
    both[wanted].requires_grad_()
    target, others = cosine_softmax(x, weight, labels, 4.0)
    (others - target).sum().backward()
    alone = both[wanted].grad
    both[wanted].grad = None
    x.requires_grad_()
    weight.requires_grad_()
    target, others = cosine_softmax(x, weight, labels, 4.0)
    (others - target).sum().backward()
    assert alone is not None
    assert torch.equal(alone, both[wanted].grad)  # type: ignore[arg-type]


def test_backward_twice_gives_the_same() -> None:
    x, weight, labels = batch(3, 3, 7, 3)
    x.requires_grad_()
    loss = cosine_softmax(x, weight, labels, 4.0)[1].sum()
    first, second = (torch.autograd.grad(loss, x, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_one_matrix_of_logits_is_kept_and_no_copy_of_the_weights() -> None:
    x, weight, labels = (
        torch.randn(4, 3, requires_grad=True),
        torch.randn(50, 3, requires_grad=True),
        torch.arange(4),
    )
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        cosine_softmax(x, weight, labels, 4.0)
    large = [tensor for tensor in kept.values() if tensor.numel() >= 50 * 3]
    assert sorted(tensor.numel() for tensor in large) == [50 * 3, 50 * 4]
    assert weight.data_ptr() in kept


def test_length_of_a_class_weight_does_not_count_and_its_gradient_is_at_right_angles() -> None:
    x, weight, labels = batch(4, 4, 5, 6)
    lengths = torch.tensor([1e-3, 0.1, 1.0, 10.0, 1e3], dtype=torch.float64).unsqueeze(1)
    results = [cosine_softmax(x, w, labels, 8.0) for w in (weight, weight * lengths)]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    weight.requires_grad_()
    (gradient,) = torch.autograd.grad(cosine_softmax(x, weight, labels, 8.0)[1].sum(), weight)
    assert (gradient * weight).sum(1).abs().max() < 1e-12


def test_a_weight_of_zero_has_the_cosine_zero_with_everything() -> None:
    x, weight, _ = batch(5, 2, 3, 4)
    weight[1] = 0
    weight.requires_grad_()
    target, others = cosine_softmax(x, weight, torch.tensor([1, 1]), 8.0)
    assert target.tolist() == [0.0, 0.0]
    assert torch.isfinite(torch.autograd.grad((others - target).sum(), weight)[0]).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_class_weights_that_are_not_finite(bad: float) -> None:
    x, weight, labels = batch(0, 2, 3, 4)
    weight[2, 1] = bad
    with pytest.raises(LowqError, match="class weights"):
        cosine_softmax(x, weight, labels, 8.0)


@pytest.mark.parametrize("scale", [0.1, 7.3, 30.0, 64.0])
def test_clipped_cosines_have_no_gradient_in_float32(scale: float) -> None:
    """In one dimension all cosines are 1 or -1, where rounding of the limit could let some through."""
    x = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    weight = torch.tensor([[2.0], [-0.3], [5.0]], requires_grad=True)
    target, others = cosine_softmax(x, weight, torch.tensor([0, 2]), scale)
    torch.testing.assert_close(target, torch.tensor([0.999, -0.999]))
    for gradient in torch.autograd.grad((target + others).sum(), (x, weight)):
        assert gradient.abs().max() == 0
