"""The margin family: against loops, limits, gradient by hand, low precision, clips and bad input."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lowq_core.errors import LowqError
from lowq_core.losses.margin import MarginLoss, margin_softmax
from lowq_core.losses.noiretrieval import NoiRetrieval, noiretrieval
from lowq_core.losses.siblings import AdaFace, ArcFace, CosFace, Softmax, adaface, arcface, cosface, softmax

FAMILY: tuple[Callable[[int, int], MarginLoss], ...] = (
    Softmax,
    CosFace,
    ArcFace,
    AdaFace,
    NoiRetrieval,
    lambda dim, classes: NoiRetrieval(dim, classes, form="mirrored"),
)
Batch = tuple[Tensor, Tensor, Tensor]


def batch(seed: int, B: int, C: int, D: int) -> Batch:
    """Embeddings of different lengths, labels, class weights; float64."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(B, D, generator=generator, dtype=torch.float64) * torch.arange(1, B + 1).unsqueeze(1)
    weight = torch.randn(C, D, generator=generator, dtype=torch.float64)
    return z, torch.randint(C, (B,), generator=generator), weight


def at_angle(theta: float, C: int = 3, dtype: torch.dtype = torch.float64) -> Batch:
    """One embedding at `theta` to its class 0; the other classes are at right angles to both."""
    z = torch.zeros(1, C + 1, dtype=dtype)
    z[0, 0], z[0, C] = math.cos(theta), math.sin(theta)
    return z, torch.tensor([0]), torch.eye(C, C + 1, dtype=dtype)


def naive(z: Tensor, y: Tensor, weight: Tensor, angle: list[float], additive: list[float], s: float) -> float:
    losses = []
    for row, label, g, a in zip(z.tolist(), y.tolist(), angle, additive, strict=True):
        logits = []
        for j, w in enumerate(weight.tolist()):
            cosine = sum(p * q for p, q in zip(row, w, strict=True)) / math.hypot(*row) / math.hypot(*w)
            cosine = min(max(cosine, -0.999), 0.999)
            if j == label:
                cosine = math.cos(min(max(math.acos(cosine) + g, 1e-3), math.pi - 1e-3)) - a
            logits.append(s * cosine)
        top = max(logits)
        losses.append(top + math.log(sum(math.exp(v - top) for v in logits)) - logits[label])
    return math.fsum(losses) / len(losses)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999),
    st.integers(1, 4),
    st.integers(2, 6),
    st.integers(1, 6),
    st.floats(0, 1.5),
    st.sampled_from([1.0, 30.0, 64.0]),
)
def test_against_loops(seed: int, B: int, C: int, D: int, margin: float, s: float) -> None:
    z, y, weight = data = batch(seed, B, C, D)
    q = torch.rand(B, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    zero, m, qs = [0.0] * B, [margin] * B, q.tolist()
    one_minus = [margin * (1 - 0.7 * v) for v in qs]
    for ours, angle, additive in (
        (softmax(*data, s), zero, zero),
        (cosface(*data, s, margin), zero, m),
        (arcface(*data, s, margin), m, zero),
        (adaface(*data, q, s, margin), [-margin * v for v in qs], [margin * v + margin for v in qs]),
        (noiretrieval(*data, q, s, margin, 0.7), one_minus, zero),
        (noiretrieval(*data, q, s, margin, 0.7, "mirrored"), [0.7 * margin * v for v in qs], one_minus),
    ):
        assert ours.item() == pytest.approx(naive(z, y, weight, angle, additive, s), rel=1e-9, abs=1e-12)


def test_without_margin_all_are_the_cosine_softmax() -> None:
    z, y, weight = data = batch(0, 4, 5, 6)
    q = torch.tensor([-1.0, -0.2, 0.5, 1.0], dtype=torch.float64)
    plain = F.cross_entropy(30 * F.normalize(z) @ F.normalize(weight).t(), y)
    for loss in (
        softmax(*data),
        cosface(*data, 30, 0.0),
        arcface(*data, 30, 0.0),
        adaface(*data, q, 30, 0.0),
        noiretrieval(*data, q, 30, 0.0),
        noiretrieval(*data, q, 30, 0.0, form="mirrored"),
    ):
        torch.testing.assert_close(loss, plain)


def test_limits_are_the_siblings() -> None:
    data = batch(1, 4, 5, 6)
    q = torch.tensor([-1.0, -0.2, 0.5, 1.0], dtype=torch.float64)
    ones = torch.ones_like(q)
    for ours, sibling in (
        (noiretrieval(*data, q, 30, 0.3, lam=0.0), arcface(*data, 30, 0.3)),
        (noiretrieval(*data, 0 * q, 30, 0.3), arcface(*data, 30, 0.3)),
        (noiretrieval(*data, ones, 30, 0.3), softmax(*data, 30)),
        (noiretrieval(*data, -ones, 30, 0.3), arcface(*data, 30, 0.6)),
        (noiretrieval(*data, q, 30, 0.3, 0.0, "mirrored"), cosface(*data, 30, 0.3)),
        (noiretrieval(*data, 0 * q, 30, 0.3, form="mirrored"), cosface(*data, 30, 0.3)),
        (noiretrieval(*data, ones, 30, 0.3, form="mirrored"), arcface(*data, 30, 0.3)),
        (noiretrieval(*data, q, 30, 0.3, form="mirrored"), adaface(*data, -q, 30, 0.3)),
        (adaface(*data, -ones, 30, 0.3), arcface(*data, 30, 0.3)),
        (adaface(*data, 0 * q, 30, 0.3), cosface(*data, 30, 0.3)),
    ):
        torch.testing.assert_close(ours, sibling, rtol=1e-12, atol=1e-12)


def test_numbers_of_adaface_at_60_degrees() -> None:
    """With one other class at right angles the loss is log(1 + exp(-logit)): the drop can be read off."""
    data = at_angle(math.pi / 3, C=2)
    drops = []
    for z in (-1.0, -0.33, 0.0, 0.33, 1.0):
        loss = adaface(*data, torch.tensor([z], dtype=torch.float64), scale=1.0, margin=0.4)
        drops.append(0.5 + math.log(math.expm1(loss.item())))
    assert [round(drop, 3) for drop in drops] == [0.377, 0.386, 0.400, 0.422, 0.502]


def by_hand(z: Tensor, y: Tensor, weight: Tensor, angle: Tensor, additive: Tensor, s: float) -> list[Tensor]:
    """d mean loss / d z and d / d weight; for a batch in which nothing is clipped."""
    of_z, of_weight = torch.zeros_like(z), torch.zeros_like(weight)
    for i, label in enumerate(y.tolist()):
        length, lengths = z[i].norm(), weight.norm(dim=1)
        x, w = z[i] / length, weight / lengths[:, None]
        cosines = w @ x
        theta = torch.acos(cosines[label])
        logits = s * cosines
        logits[label] = s * (torch.cos(theta + angle[i]) - additive[i])
        slope = s * torch.softmax(logits, 0)
        slope[label] = (slope[label] - s) * torch.sin(theta + angle[i]) / torch.sin(theta)
        for j in range(len(weight)):
            of_z[i] += slope[j] * (w[j] - cosines[j] * x) / length / len(z)
            of_weight[j] += slope[j] * (x - cosines[j] * w[j]) / lengths[j] / len(z)
    return [of_z, of_weight]


@pytest.mark.parametrize("seed", range(5))
def test_gradient_by_hand(seed: int) -> None:
    z, y, weight = batch(seed, 4, 6, 5)
    q = torch.rand(4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    z.requires_grad_()
    weight.requires_grad_()
    m = 0.15
    for loss, angle, additive in (
        (softmax(z, y, weight, 8.0), 0 * q, 0 * q),
        (cosface(z, y, weight, 8.0, m), 0 * q, 0 * q + m),
        (arcface(z, y, weight, 8.0, m), 0 * q + m, 0 * q),
        (adaface(z, y, weight, q, 8.0, m), -m * q, m * (1 + q)),
        (noiretrieval(z, y, weight, q, 8.0, m), m * (1 - q), 0 * q),
        (noiretrieval(z, y, weight, q, 8.0, m, 0.5, "mirrored"), 0.5 * m * q, m * (1 - 0.5 * q)),
    ):
        ours = torch.autograd.grad(loss, (z, weight))
        theirs = by_hand(z.detach(), y, weight.detach(), angle, additive, 8.0)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_gradcheck_also_of_the_margins() -> None:
    z, y, weight = batch(2, 3, 5, 4)
    angle = torch.tensor([0.1, -0.1, 0.3], dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (z, weight, angle, angle.detach() * 2)]
    assert torch.autograd.gradcheck(lambda z, w, g, a: margin_softmax(z, y, w, g, a, 5.0), inputs)


def test_length_of_the_embedding_has_no_gradient() -> None:
    """Else the network could lower its loss by longer embeddings, whatever they show."""
    z, y, _ = batch(3, 4, 5, 6)
    z.requires_grad_()
    for make in FAMILY:
        loss = make(6, 5).double()
        (gradient,) = torch.autograd.grad(loss(z, y), z)
        assert (gradient * z).sum(1).abs().max() < 1e-12
        assert gradient.abs().max() > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("theta", [0.0, 1e-4, 0.04, 0.05, 1.0, math.pi - 0.05, math.pi - 1e-4, math.pi])
def test_stable_at_every_angle_and_in_low_precision(theta: float, dtype: torch.dtype) -> None:
    data = at_angle(theta, dtype=dtype)
    for make in FAMILY:
        loss = make(4, 3)
        loss.weight.data = data[2].clone()
        z = (data[0] * 20).requires_grad_()
        value = loss(z, data[1])
        value.backward()
        assert value.dtype == torch.float32
        assert torch.isfinite(value)
        exact = make(4, 3).double()
        exact.weight.data = data[2].double()
        assert value.item() == pytest.approx(exact(z.detach().double(), data[1]).item(), rel=1e-4, abs=1e-4)
        for tensor in (z, loss.weight):
            assert tensor.grad is not None
            assert tensor.grad.dtype == dtype
            assert torch.isfinite(tensor.grad).all()


def test_gradient_stays_bounded_where_angles_are_clipped() -> None:
    """sin(theta + g) / sin(theta) is at most 1 / sin(arccos(0.999)) = 22.4: so is the logit's slope over s."""
    for theta in torch.linspace(0, math.pi, 101).tolist():
        z, y, weight = at_angle(theta)
        z.requires_grad_()
        for q in (-1.0, 0.0, 1.0):
            quality = torch.tensor([q], dtype=torch.float64)
            for form in ("linear", "mirrored"):
                loss = noiretrieval(z, y, weight, quality, 30.0, 0.5, form=form)  # type: ignore[arg-type]
                (gradient,) = torch.autograd.grad(loss, z)
                assert gradient.norm() <= 30 * 22.4 + 30 * math.sqrt(2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    z, y, _ = batch(4, 4, 5, 6)
    for make in FAMILY:
        loss = make(6, 5).eval()  # so that the statistics stay the same
        low = z.to(dtype).requires_grad_()
        results = []
        for enabled in (False, True):
            with torch.autocast("cpu", dtype, enabled=enabled):
                value = loss(low, y)
                results.append((value.detach(), *torch.autograd.grad(value, (low, loss.weight))))
        for a, b in zip(*results, strict=True):
            assert torch.equal(a, b)


def test_batch_of_one_class_and_batch_of_one() -> None:
    for make in FAMILY:
        for labels in ([2, 2, 2, 2], [2]):
            loss = make(6, 5)
            z = torch.randn(len(labels), 6, requires_grad=True)
            for _ in range(3):
                value = loss(z, torch.tensor(labels))
                value.backward()
                assert torch.isfinite(value)
                assert all(torch.isfinite(buffer).all() for buffer in loss.buffers())
            assert torch.isfinite(z.grad).all()  # type: ignore[arg-type]
            assert torch.isfinite(loss.weight.grad).all()  # type: ignore[arg-type]


def test_an_embedding_of_zeros() -> None:
    for make in FAMILY:
        loss = make(6, 5)
        z = torch.zeros(2, 6, requires_grad=True)
        loss(z, torch.tensor([0, 1])).backward()
        assert torch.isfinite(z.grad).all()  # type: ignore[arg-type]
        assert torch.isfinite(loss.weight.grad).all()  # type: ignore[arg-type]


def test_modules_equal_their_functions() -> None:
    z, y, _ = batch(5, 4, 5, 6)
    z = z.float()
    for module, function in ((Softmax(6, 5), softmax), (CosFace(6, 5), cosface), (ArcFace(6, 5), arcface)):
        assert torch.equal(module(z, y), function(z, y, module.weight))  # type: ignore[operator]
    ada, linear, mirrored = AdaFace(6, 5), NoiRetrieval(6, 5), NoiRetrieval(6, 5, form="mirrored", lam=0.5)
    for module in (ada, linear, mirrored):
        value = module(z, y)
        quality = module.quality(z)  # after the update, as the loss takes it
        wanted = {
            ada: lambda w, q: adaface(z, y, w, q),
            linear: lambda w, q: noiretrieval(z, y, w, q),
            mirrored: lambda w, q: noiretrieval(z, y, w, q, lam=0.5, form="mirrored"),
        }[module](module.weight, quality)
        assert torch.equal(value, wanted)


def test_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    z, y = torch.randn(12, 8), torch.arange(12) % 4
    for make in FAMILY:
        loss = make(8, 4)
        optimizer = torch.optim.SGD(loss.parameters(), lr=0.05)
        values = []
        for _ in range(30):
            optimizer.zero_grad()
            value = loss(z, y)
            value.backward()
            optimizer.step()
            values.append(value.item())
        assert values[-1] < 0.5 * values[0]


def test_start_of_the_class_weights() -> None:
    torch.manual_seed(0)
    weight = NoiRetrieval(512, 300).weight.detach()
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(300))
    cosines = weight @ weight.t() - torch.eye(300)
    assert cosines.abs().max() < 6 / 512**0.5


def test_bad_input() -> None:
    loss = NoiRetrieval(6, 5)
    z, y = torch.randn(4, 6), torch.tensor([0, 1, 4, 4])
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    for embeddings, labels, message in (
        (z[:, :5], y, r"\(4, 5\).*\(5, 6\)"),
        (z[0], y, r"\(B, D\)"),
        (z[:3], y, r"\(3, 6\), labels \(4,\)"),
        (z[:0], y[:0], "at least one"),
        (z, y.int(), "torch.int32"),
        (z, y.float(), "torch.float32"),
        (z.long(), y, "torch.int64"),
        (z, y + 1, r"1\.\.5 do not fit 5 classes"),
        (z, y - 1, r"-1\.\.3 do not fit"),
        (z.clone().fill_(math.nan), y, "NaN"),
        (z.clone().index_fill_(0, torch.tensor([1]), math.inf), y, "infinity"),
    ):
        with pytest.raises(LowqError, match=message):
            loss(embeddings, labels)
    for name, value in loss.state_dict().items():
        assert torch.equal(value, before[name]), "a bad batch must not count in the statistics"
    with pytest.raises(LowqError, match="two classes"):
        softmax(z, torch.zeros(4, dtype=torch.int64), torch.randn(1, 6))
    for quality in (torch.zeros(4, 1), torch.zeros(3), torch.full((4,), math.nan)):
        with pytest.raises(LowqError, match="quality"):
            adaface(z, y, loss.weight, quality)
        with pytest.raises(LowqError, match="quality"):
            noiretrieval(z, y, loss.weight, quality)
    with pytest.raises(LowqError, match="angle"):
        margin_softmax(z, y, loss.weight, torch.zeros(4, 1))


def test_bad_arguments() -> None:
    for scale in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(LowqError, match="scale"):
            Softmax(6, 5, scale)
    for kind in (CosFace, ArcFace, AdaFace, NoiRetrieval):
        for margin in (-0.1, 1.6, math.nan):
            with pytest.raises(LowqError, match="margin"):
                kind(6, 5, margin=margin)
    for lam in (-0.1, 1.1, math.nan):
        with pytest.raises(LowqError, match="lam"):
            NoiRetrieval(6, 5, lam=lam)
    with pytest.raises(LowqError, match="form"):
        NoiRetrieval(6, 5, form="mirror")  # type: ignore[arg-type]
    for dim, classes in ((0, 5), (6, 1)):
        with pytest.raises(LowqError, match="classes"):
            Softmax(dim, classes)
