"""HOW: its maps against the definition, what is kept of them and where it lies, whitening."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.models import local_whitening
from lowq_core.models.attention import SecondOrderAttention
from lowq_core.models.backbone import Backbone
from lowq_core.models.context import Refined
from lowq_core.models.graph_refinement import GraphRefinement
from lowq_core.models.how import HOW, how
from lowq_core.models.how_config import HowConfig
from lowq_core.models.local_whitening import fit_local_whitening

CONTEXTS = ("none", "gcn", "gcn_reweight", "solar", "self_attention")


def toy(config: HowConfig | None = None, channels: int = 8) -> HOW:
    """A network on a trunk of four small layers: cells of 16 pixels, each centred as in a ResNet."""
    torch.manual_seed(0)
    sides = [3, 8, 8, 8, channels]
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(sides):
        layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.BatchNorm2d(outer), nn.ReLU()]
    trunk = Backbone("toy", nn.Sequential(*layers), channels, stride=16)
    model = HOW(config or HowConfig(dim=4), trunk).eval()
    model.set_whitening(torch.randn(model.config.dim, channels), torch.randn(model.config.dim))
    return model


def picture(height: int = 97, width: int = 130) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_maps_are_as_defined() -> None:
    model, x = toy(), picture()
    features = model.trunk(x)[0].double().numpy()
    maps = model.maps(x)
    np.testing.assert_allclose(maps.attention[0], np.sqrt((features**2).sum(0) + 1e-10), rtol=1e-5)
    C, H, W = features.shape
    for i in range(H):
        for j in range(W):
            window = features[:, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
            mean = window.sum((1, 2)) / (window.shape[1] * window.shape[2])
            np.testing.assert_allclose(maps.smoothed[0, :, i, j], mean, rtol=1e-4, atol=1e-6)
            weight = model.whitening.weight[:, :, 0, 0].double().numpy()
            want = weight @ mean + model.whitening.bias.double().numpy()
            np.testing.assert_allclose(maps.descriptors[0, :, i, j], want, rtol=1e-4, atol=1e-5)
    same = F.avg_pool2d(maps.features, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(maps.smoothed, same)
    assert (H, W, C) == (7, 9, 8)


@torch.inference_mode()
def test_global_descriptor_is_the_weighted_sum_over_scales() -> None:
    model, x = toy(), picture()
    scales = (1.0, 0.7, 1.5)
    total, attention = 0, []
    for scale in scales:
        rescaled = F.interpolate(
            x, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=True
        )
        maps = model.maps(rescaled)
        attention.append(maps.attention)
        total = total + (maps.attention[:, None] * maps.descriptors).sum((2, 3))
    total = total / max(float(a.max()) for a in attention)
    want = total / (total.norm(dim=1, keepdim=True) + 1e-6)
    torch.testing.assert_close(model(x, scales), want)
    two = torch.cat([x, x.flip(3)])
    torch.testing.assert_close(model(two, scales)[:1], want)
    torch.testing.assert_close(model(two), torch.cat([model(x), model(x.flip(3))]))


@torch.inference_mode()
def test_local_features_are_the_strongest_of_all_scales() -> None:
    model, x = toy(), picture()
    scales = (0.5, 1.0, 1.414)
    rows = []
    for scale in scales:
        side = [int(97 * scale), int(130 * scale)]
        rescaled = F.interpolate(x, side, mode="bilinear", align_corners=False)
        maps = model.maps(rescaled)
        for i, j in np.ndindex(*maps.attention.shape[1:]):
            # A ResNet's cell is centred on every 16th pixel of what the trunk saw.
            xy = [(16 * j + 0.5) * 130 / side[1], (16 * i + 0.5) * 97 / side[0]]
            rows.append((float(maps.attention[0, i, j]), scale, xy, maps.descriptors[0, :, i, j]))
    order = sorted(rows, key=lambda row: -row[0])
    found = model.local(x, 20, scales)
    torch.testing.assert_close(found.strength, torch.tensor([row[0] / order[0][0] for row in order[:20]]))
    torch.testing.assert_close(found.scale, torch.tensor([row[1] for row in order[:20]]))
    torch.testing.assert_close(found.xy, torch.tensor([row[2] for row in order[:20]]))
    torch.testing.assert_close(found.descriptors, torch.stack([row[3] for row in order[:20]]))
    assert len(set(found.scale.tolist())) > 1
    everything = model.local(x, None, scales)
    assert len(everything.strength) == len(rows)
    for count in (len(rows), 10 * len(rows)):
        torch.testing.assert_close(model.local(x, count, scales).xy, everything.xy)
    vectors = model.maps(x)
    strongest = vectors.attention.flatten().argmax()
    torch.testing.assert_close(model.unwhitened(x, 1)[0], vectors.smoothed[0].flatten(1)[:, strongest])


@pytest.mark.parametrize("size", [(1, 1), (3, 16), (16, 5)])
@torch.inference_mode()
def test_a_map_of_one_cell(size: tuple[int, int]) -> None:
    model = toy()
    x = picture(*size)
    found = model.local(x, 1000, (1.0, 0.25))
    used = 1 if min(size) * 0.25 < 1 else 2
    assert len(found.strength) == used  # a scale without pixels is passed over
    assert found.strength[0] == 1
    assert torch.isfinite(found.descriptors).all()
    torch.testing.assert_close(model(x).norm(), torch.tensor(1.0), atol=1e-4, rtol=0)
    with pytest.raises(LowqError, match="none left at scales"):
        model.local(x, 10, (0.01,))
    with pytest.raises(LowqError, match="none left at scales"):
        model(x, (0.01,))


def test_no_attention_at_all() -> None:
    class Shut(nn.Module):
        def forward(self, x: Tensor) -> Refined:
            return Refined(x, x.new_zeros(x.shape[0], *x.shape[2:]).requires_grad_())

    model, x = toy(), picture(48, 64)
    model.context = Shut()
    found = model.local(x, 5, (1.0,))
    assert found.strength.tolist() == [1.0] * 5
    first = [[0.5 + 16 * j, 0.5 + 16 * i] for i, j in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0))]
    torch.testing.assert_close(found.xy, torch.tensor(first))
    descriptor = model(x)
    assert torch.isfinite(descriptor).all()
    descriptor.sum().backward()
    gradients = [p.grad for p in model.trunk.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_gate_multiplies_attention_before_selection() -> None:
    class Left(nn.Module):
        def forward(self, x: Tensor) -> Refined:
            gate = torch.zeros(x.shape[0], *x.shape[2:])
            gate[:, :, 0] = 0.5
            return Refined(x, gate)

    model, x = toy(), picture()
    plain = model.maps(x)
    model.context = Left()
    gated = model.maps(x)
    torch.testing.assert_close(gated.attention[:, :, 0], plain.attention[:, :, 0] / 2)
    torch.testing.assert_close(gated.descriptors, plain.descriptors)
    assert set(model.local(x, 7, (1.0,)).xy[:, 0].tolist()) == {0.5}


@pytest.mark.parametrize("name", ["lite0-", "resnet18"])
@torch.inference_mode()
def test_strongest_cell_lies_on_a_bright_dot(name: str) -> None:
    model = how(HowConfig(backbone=name, dim=8), None if name == "lite0-" else "random")
    cell = model.trunk.stride
    yy, xx = np.mgrid[:241, :240]  # one odd and one even side: padding differs
    for cx, cy in ((80, 130), (151, 92)):
        x = torch.full((1, 3, 241, 240), 0.3)
        x[:, :, torch.from_numpy((yy + 0.5 - cy) ** 2 + (xx + 0.5 - cx) ** 2 < 100)] = 1.0
        distance = model.local(x, 1, (1.0,)).xy[0] - torch.tensor([cx, cy])
        # Half a cell is as near as cells lie; an untrained trunk sees less sharply.
        assert distance.abs().max() <= (0.6 if name == "lite0-" else 1.0) * cell


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("smoothing", ["average", "learnable", "none"])
def test_every_combination_trains_what_it_should(context: str, smoothing: str) -> None:
    config = HowConfig(dim=4, context=context, smoothing=smoothing)  # type: ignore[arg-type]
    model = toy(config).train()
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    added, trunk = model.context_parameters(), model.trunk_parameters()
    whitening = list(model.whitening.parameters())
    assert not any(p.requires_grad for p in whitening)
    every = [id(p) for p in (*added, *trunk, *whitening)]
    assert sorted(every) == sorted(id(p) for p in model.parameters())
    assert bool(added) == (context != "none" or smoothing == "learnable")
    model(picture(64, 64)).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trunk)
    assert all(p.grad is None for p in whitening)
    with torch.inference_mode():
        assert model.eval().local(picture(), 10).descriptors.shape == (10, 4)


@pytest.mark.parametrize("choice", [{"k": 3}, {"k": None, "threshold": 0.2}, {"k": 2, "threshold": 0.2}])
def test_graph_has_the_edges_of_the_config(choice: dict[str, Any]) -> None:
    model, x = toy(HowConfig(dim=4, context="gcn", **choice)), picture()
    assert model.context is not None
    with torch.no_grad():
        model.context.gains.fill_(0.5)
    by_hand = GraphRefinement(8, **choice)
    by_hand.load_state_dict(model.context.state_dict())
    torch.testing.assert_close(model.maps(x).features, by_hand(model.trunk(x)).features)
    model(x).sum().backward()
    assert model.context.gains.grad is not None
    assert (model.context.gains.grad != 0).all()


@pytest.mark.parametrize(("name", "reduction"), [("resnet50-", 4), ("resnet18", 2), ("lite0-", 2)])
def test_solar_reduces_as_published(name: str, reduction: int) -> None:
    """By 4 on the 1024 channels of a ResNet-50's third stage, by 2 after the fourth."""
    model = how(HowConfig(backbone=name, dim=8, context="solar"), "random")
    assert isinstance(model.context, SecondOrderAttention)
    assert model.context.value.out_channels == model.trunk.channels // reduction


def test_learnable_smoothing_starts_as_how() -> None:
    x = picture()
    learnable = toy(HowConfig(dim=4, smoothing="learnable"))
    average = toy(HowConfig(dim=4))
    average.trunk.load_state_dict(learnable.trunk.state_dict())
    average.set_whitening(learnable.whitening.weight[:, :, 0, 0], learnable.whitening.bias)  # type: ignore[arg-type]
    torch.testing.assert_close(learnable.maps(x).smoothed, average.maps(x).smoothed)
    torch.testing.assert_close(learnable(x), average(x))


def test_bad_arguments() -> None:
    for options, message in (
        ({"backbone": "vgg"}, "backbone 'vgg' is unknown"),
        ({"context": "gnn"}, "choose one of none, gcn"),
        ({"smoothing": "max"}, "choose one of average"),
        ({"mode": "time"}, "choose one of spatial"),
        ({"kernel": 4}, "has to be odd"),
        ({"dim": 0}, "dim=0"),
        ({"k": 0}, "k=0"),
        ({"k": None}, "k and threshold are both None"),
        ({"threshold": 1.0}, "threshold=1.0; cosines lie between"),
        ({"threshold": float("nan")}, "threshold=nan"),
    ):
        with pytest.raises(LowqError, match=message):
            HowConfig(**options)
    with pytest.raises(LowqError, match="dim=113: lite0- has 112 channels"):
        how(HowConfig(dim=113), "random")
    model = toy()
    with pytest.raises(LowqError, match="count=0"):
        model.local(picture(), 0)
    with pytest.raises(LowqError, match="one at a time"):
        model.local(torch.zeros(2, 3, 32, 32))
    with pytest.raises(LowqError, match="factors above 0"):
        model.local(picture(), 5, ())


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000))
def test_whitened_vectors_are_white(dim: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(60, 5)) @ generator.normal(size=(5, 5)) + generator.normal(size=5)
    weight, bias = fit_local_whitening(X, dim)
    white = X @ weight.double().numpy().T + bias.double().numpy()
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(white.T, bias=True).reshape(dim, dim), np.eye(dim), atol=1e-3)


def test_whitening_keeps_the_main_axes_and_reads_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    X = (generator.normal(size=(50, 4)) * [1, 10, 3, 0.1] + 5).astype(np.float32)
    weight, bias = fit_local_whitening(X, 2)
    covariance = np.cov(X.astype(np.float64).T, bias=True)
    values, axes = np.linalg.eigh(covariance)
    want = axes[:, [3, 2]].T / np.sqrt(values[[3, 2], None])
    want *= np.sign(want[[0, 1], np.abs(want).argmax(1)])[:, None]
    np.testing.assert_allclose(weight, want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bias, -want @ X.mean(0), rtol=1e-3)
    monkeypatch.setattr(local_whitening, "_ROWS", 7)
    in_blocks = fit_local_whitening(torch.from_numpy(X), 2)
    np.testing.assert_allclose(in_blocks[0], weight, rtol=1e-5)
    shrunk, _ = fit_local_whitening(X, 4, shrinkage=0.5)
    variance = 0.5 * values[::-1] + 0.5 * values.mean()
    np.testing.assert_allclose(np.linalg.norm(shrunk, axis=1), variance**-0.5, rtol=1e-4)


def test_whitening_of_what_cannot_be_whitened() -> None:
    X = np.random.default_rng(0).normal(size=(20, 4))
    for bad, dim, message in (
        (X[0], 2, "rows"),
        (X[:1], 2, "rows"),
        (X, 5, "dim=5: the vectors have 4"),
        (X, 0, "dim=0"),
        (X[:3], 3, "span 2 axes"),
        (np.ones((9, 4)), 1, "span 0 axes"),
        (np.where(np.arange(20)[:, None] == 7, np.nan, X), 2, "row 7 holds NaN"),
    ):
        with pytest.raises(LowqError, match=message):
            fit_local_whitening(bad, dim)
    with pytest.raises(LowqError, match=r"shrinkage=1"):
        fit_local_whitening(X, 2, shrinkage=1.0)
    assert fit_local_whitening(X[:3], 3, shrinkage=0.1)[0].isfinite().all()
    model = toy()
    with pytest.raises(LowqError, match="from 8 to 4 dimensions"):
        model.set_whitening(torch.zeros(4, 7), torch.zeros(4))
    with pytest.raises(LowqError, match="NaN"):
        model.set_whitening(torch.full((4, 8), torch.nan), torch.zeros(4))
