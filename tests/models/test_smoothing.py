"""Smoothings against plain loops and unfold, the limits of the learned one, and its gradients."""

from __future__ import annotations

import itertools
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
from lowq_core.models import smoothing
from lowq_core.models.smoothing import AverageSmoothing, LearnableSmoothing, SmoothingMode, Window

MODES: tuple[SmoothingMode, ...] = ("spatial", "feature", "both")
SHAPES = [(1, 3, 1, 1), (2, 3, 1, 4), (1, 4, 2, 2), (2, 5, 4, 7), (1, 4, 9, 3)]


def maps(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def lively(
    channels: int, kernel: int, mode: SmoothingMode, seed: int = 0, bandwidth: float = 1.0
) -> LearnableSmoothing:
    """A module with random predictors, whose bandwidths vary about `bandwidth`."""
    module = LearnableSmoothing(channels, kernel, mode).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        module.predict.bias[1:] += bandwidth
    return module


def fixed(x: torch.Tensor, kernel: int, bandwidth: float, confidence: float) -> torch.Tensor:
    """`x` smoothed with one bandwidth and one self-confidence everywhere (mode spatial)."""
    module = LearnableSmoothing(x.shape[1], kernel).to(x.dtype)
    with torch.no_grad():
        share = confidence / 2
        logit = math.log(share / (1 - share)) if 0 < share < 1 else (-1e4 if share == 0 else 1e4)
        module.predict.bias.copy_(torch.tensor([logit, bandwidth]))
    return module(x)


def average_by_loops(x: np.ndarray, kernel: int, itself: bool = True) -> np.ndarray:
    """Mean of the window's cells inside the map, with or without the cell itself."""
    r, (height, width) = kernel // 2, x.shape[2:]
    out = np.empty_like(x)
    for y in range(height):
        for u in range(width):
            cells = [
                (b, a)
                for b in range(max(0, y - r), min(height, y + r + 1))
                for a in range(max(0, u - r), min(width, u + r + 1))
                if itself or (b, a) != (y, u)
            ]
            out[:, :, y, u] = sum(x[:, :, b, a] for b, a in cells) / len(cells)
    return out


def by_unfold(module: LearnableSmoothing, x: torch.Tensor) -> torch.Tensor:
    """The formula of the class, with every window gathered."""
    batch, channels, height, width = x.shape
    kernel, outputs = module.kernel, module.predict.out_features

    def windows(z: torch.Tensor) -> torch.Tensor:
        return F.unfold(z, kernel, padding=kernel // 2).view(batch, -1, kernel * kernel, height, width)

    logits = F.conv2d(x, module.predict.weight.view(outputs, channels, 1, 1), module.predict.bias)
    confidence = (2 / (1 + torch.exp(-logits[:, 0]))).clamp(min=1e-6)
    bandwidths = list(logits[:, 1:].clamp(min=0).unbind(1))
    exponent = torch.zeros(batch, kernel * kernel, height, width, dtype=x.dtype)
    step = torch.arange(kernel) - kernel // 2
    if module.mode != "feature":
        squared = (step[:, None] ** 2 + step[None, :] ** 2).view(1, -1, 1, 1)
        exponent = exponent + bandwidths.pop(0)[:, None] * squared
    if module.embed is not None:
        g = F.conv2d(x, module.embed.weight[:, :, None, None])
        g = g / g.norm(dim=1, keepdim=True)
        exponent = exponent + bandwidths.pop(0)[:, None] * (windows(g) - g.unsqueeze(2)).square().sum(1)
    inside = windows(torch.ones(batch, 1, height, width, dtype=x.dtype))[:, 0]
    weights = torch.exp(-exponent) * inside
    middle = kernel * kernel // 2
    weights = torch.cat([weights[:, :middle], confidence[:, None], weights[:, middle + 1 :]], 1)
    return (windows(x) * weights.unsqueeze(1)).sum(2) / weights.sum(1, keepdim=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_average(shape: tuple[int, ...], kernel: int) -> None:
    x = maps(shape)
    np.testing.assert_allclose(AverageSmoothing(kernel)(x), average_by_loops(x.numpy(), kernel))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_starts_as_the_average(mode: SmoothingMode, kernel: int) -> None:
    for shape in SHAPES:
        x = maps(shape)
        module = LearnableSmoothing(shape[1], kernel, mode)
        # Equal in exact arithmetic: what is left is rounding, in double and in float.
        want = average_by_loops(x.numpy(), kernel)
        np.testing.assert_allclose(module.double()(x).detach(), want, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(module.float()(x.float()).detach(), want, rtol=1e-5, atol=1e-6)
        looked = module.maps(x)
        assert not looked.bandwidth.any()
        assert (looked.confidence == 1).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_against_unfold(mode: SmoothingMode, kernel: int) -> None:
    for shape in SHAPES:
        module, x = lively(shape[1], kernel, mode), maps(shape, seed=1)
        torch.testing.assert_close(module(x), by_unfold(module, x))
        in_rows = x.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(module(in_rows), by_unfold(module, x))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients(mode: SmoothingMode, channels_last: bool) -> None:
    module, x = lively(4, 3, mode, bandwidth=3.0), maps((2, 4, 3, 3), seed=2)
    assert module.maps(x).bandwidth.min() > 0.1  # away from the edge, where the gradient is one-sided
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    parameters = tuple(module.parameters())
    assert torch.autograd.gradcheck(
        lambda x, *_: module(x), (x.requires_grad_(), *parameters), fast_mode=True
    )
    ours = torch.autograd.grad(module(x).pow(2).sum(), (x, *parameters))
    naive = torch.autograd.grad(by_unfold(module, x).pow(2).sum(), (x, *parameters))
    for a, b in zip(ours, naive, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kernel", [5, 7])
def test_gradients_of_large_windows(kernel: int) -> None:
    module, x = lively(3, kernel, "both", bandwidth=3.0), maps((1, 3, 3, 4), seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()), fast_mode=True)


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_limits(kernel: int) -> None:
    x = maps((2, 3, 5, 6))
    torch.testing.assert_close(fixed(x, kernel, 1e4, 1.0), x, rtol=0, atol=0)  # beta to infinity: identity
    torch.testing.assert_close(fixed(x, kernel, 1e4, 0.0), x, rtol=0, atol=0)  # nothing weighs: identity
    # c = 0: the neighbours alone, but for the floor of c
    want = average_by_loops(x.numpy(), kernel, itself=False)
    np.testing.assert_allclose(fixed(x, kernel, 0.0, 0.0).detach(), want, atol=1e-5)
    # beta = 0 and c = 1
    torch.testing.assert_close(fixed(x, kernel, 0.0, 1.0), AverageSmoothing(kernel)(x))


def test_a_large_bandwidth_narrows_the_kernel() -> None:
    x = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    x[0, 0, 3, 3] = 1
    spread = [fixed(x, 7, beta, 1.0)[0, 0] for beta in (0.0, 0.1, 1.0)]
    for wide, narrow in itertools.pairwise(spread):
        assert wide[0, 0] > narrow[0, 0]
        assert wide[3, 3] < narrow[3, 3]


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([3, 5, 7]),
    st.sampled_from(MODES),
    st.integers(0, 99),
)
def test_convex_combination(height: int, width: int, kernel: int, mode: SmoothingMode, seed: int) -> None:
    module, x = lively(4, kernel, mode, seed), maps((1, 4, height, width), seed)
    y = module(x)
    r = kernel // 2
    highest = F.max_pool2d(x, kernel, 1, r)
    lowest = -F.max_pool2d(-x, kernel, 1, r)
    assert (y <= highest + 1e-12).all()
    assert (y >= lowest - 1e-12).all()
    constant = x[:, :, :1, :1].expand_as(x)
    torch.testing.assert_close(module(constant), constant)


@pytest.mark.parametrize("mode", MODES)
def test_one_cell_is_left_as_it_is(mode: SmoothingMode) -> None:
    x = maps((2, 3, 1, 1))
    torch.testing.assert_close(lively(3, 7, mode)(x), x)
    torch.testing.assert_close(fixed(x, 3, 50.0, 0.0), x)


@pytest.mark.parametrize("mode", MODES)
def test_zero_features(mode: SmoothingMode) -> None:
    x = torch.zeros(1, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    module = lively(4, 3, mode)
    y = module(x)
    y.sum().backward()
    assert not y.any()
    for tensor in (x, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_a_bandwidth_of_zero_can_grow_but_not_shrink() -> None:
    """At the start, and where the prediction is below 0, the gradient asks for more or is nothing."""
    x = maps((1, 3, 4, 4))
    for bias in (0.0, -0.5):
        for sign in (1, -1):
            module = LearnableSmoothing(3).double()
            with torch.no_grad():
                module.predict.bias[1] = bias
            # Nearer to x, so narrower; or further from it, so wider, which 0 does not allow.
            (sign * (module(x) - x).square().sum()).backward()
            assert module.predict.bias.grad is not None
            slope = module.predict.bias.grad[1].item()
            assert slope < 0
    module = LearnableSmoothing(3).double()
    losses = []
    for _ in range(20):
        loss = (module(x) - x).square().sum()
        losses.append(loss.item())
        for parameter in module.parameters():
            (slope,) = torch.autograd.grad(loss, parameter, retain_graph=True)
            with torch.no_grad():
                parameter -= 0.1 * slope
    assert losses[-1] < 0.5 * losses[0]


def test_maps() -> None:
    for mode in MODES:
        module, x = lively(4, 3, mode), maps((2, 4, 3, 5))
        found = module.maps(x)
        logits = F.conv2d(x, module.predict.weight[:, :, None, None], module.predict.bias).detach()
        torch.testing.assert_close(found.confidence, 2 * logits[:, 0].sigmoid())
        torch.testing.assert_close(found.bandwidth, logits[:, 1].relu())
        assert (found.feature_bandwidth is not None) == (mode == "both")
        if found.feature_bandwidth is not None:
            torch.testing.assert_close(found.feature_bandwidth, logits[:, 2].relu())


PEAK = """
import sys, torch
from pathlib import Path
from lowq_core.models.smoothing import LearnableSmoothing

def mb(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key + ":"))

def run(x):
    y = module(x)
    if training:
        y.backward(x.detach())  # costs nothing itself

mode, layout, training = sys.argv[1], getattr(torch, sys.argv[2]), sys.argv[3] == "True"
module = LearnableSmoothing(1024, kernel=7, mode=mode).requires_grad_(training)
maps = [torch.rand(1, 1024, *size).contiguous(memory_format=layout) for size in ((2, 2), (48, 64))]
run(maps[0].requires_grad_(training))  # what a library does at its first use is not this map's memory
x = maps[1].requires_grad_(training)
try:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
except OSError:
    sys.exit(3)
before = mb("VmRSS")
run(x)
print(mb("VmHWM") - before)
"""


@pytest.mark.parametrize("mode", ["spatial", "both"])
@pytest.mark.parametrize("layout", ["contiguous_format", "channels_last"])
@pytest.mark.parametrize("training", [False, True])
def test_peak_memory_is_below_three_maps(layout: str, training: bool, mode: str) -> None:
    """Above the map itself; result and, in training, gradient included. `unfold` would take 49 maps."""
    command = [sys.executable, "-c", PEAK, mode, layout, str(training)]
    # glibc keeps some of what was freed, and how much differs from run to run by a third of a map
    given_back_at_once = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=given_back_at_once, capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("this system does not tell a process's peak memory")
    assert done.returncode == 0, done.stderr
    grown, one_map = float(done.stdout), 1024 * 48 * 64 * 4 / 2**20
    assert one_map <= grown < 3 * one_map


@pytest.mark.parametrize(("height", "width", "kernel"), [(3, 4, 5), (1, 1, 7), (2, 9, 3)])
def test_window(height: int, width: int, kernel: int) -> None:
    cells = [(y, x) for y in range(height) for x in range(width)]
    near = kernel // 2
    pairs = [
        (i, j)
        for i, (y, x) in enumerate(cells)
        for j, (v, u) in enumerate(cells)
        if abs(y - v) <= near and abs(x - u) <= near
    ]
    neighbours, inside, distances = Window.of(height, width, kernel)
    assert list(zip(neighbours.firsts.tolist(), neighbours.others.tolist(), strict=True)) == pairs
    assert neighbours.reverse.tolist() == [pairs.index((j, i)) for i, j in pairs]
    assert neighbours.offsets.diff().tolist() == [sum(i == k for i, _ in pairs) for k in range(len(cells))]
    for pair, place in zip(pairs, inside.flatten().nonzero().flatten().tolist(), strict=True):
        i, slot = divmod(place, kernel * kernel)
        assert i == pair[0]
        assert math.isclose(distances[slot], math.dist(cells[i], cells[pair[1]]) ** 2, abs_tol=1e-6)


def test_a_window_kept_from_a_search_serves_a_training() -> None:
    Window.of.cache_clear()
    module, x = LearnableSmoothing(4), maps((1, 4, 3, 5))
    with torch.inference_mode():
        module(x)
    module(x.requires_grad_()).sum().backward()
    assert x.grad is not None
    assert Window.of.cache_info().misses == 1


@pytest.mark.parametrize("mode", ["feature", "both"])
def test_a_cell_without_features_has_cosine_0_with_its_neighbours(mode: SmoothingMode) -> None:
    module, x = lively(4, 3, mode, bandwidth=3.0), maps((1, 4, 1, 2))
    x[..., 1] = 0
    x = x.requires_grad_()
    module(x)[..., 1].sum().backward()
    steepest = max(float(parameter.detach().abs().max()) for parameter in module.parameters())
    assert x.grad is not None
    assert x.grad.abs().max() < 1e3 * steepest / 1e-6  # the floor of the norm bounds it


def test_half_precision_and_autocast() -> None:
    module = LearnableSmoothing(4)
    x = maps((1, 4, 3, 5)).bfloat16()
    assert module(x).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(module(x.float()), AverageSmoothing()(x.float()))


def test_keeps_no_copies_of_the_windows() -> None:
    """What backward keeps, in numbers: the map, and a few for each cell of a window."""
    module, x = LearnableSmoothing(64, 7), torch.rand(1, 64, 8, 8, requires_grad=True)
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        module(x)
    windows = 8 * 8 * 49 * 8  # bytes of one int64 a pair
    assert sum(kept.values()) < 64 * 8 * 8 * 4 + 8 * windows


@pytest.mark.parametrize("kernel", [0, 1, 2, 4, -3])
def test_wrong_kernel(kernel: int) -> None:
    for make in (AverageSmoothing, lambda k: LearnableSmoothing(4, k)):
        with pytest.raises(LowqError, match=f"kernel={kernel}"):
            make(kernel)


def test_wrong_input() -> None:
    with pytest.raises(LowqError, match="'spacial'"):
        LearnableSmoothing(4, mode="spacial")  # type: ignore[arg-type]
    for shape in ((1, 3, 2, 2), (4, 2, 2), (1, 4, 0, 2)):
        for call in (LearnableSmoothing(4), LearnableSmoothing(4).maps):
            with pytest.raises(LowqError, match="smoothing"):
                call(torch.zeros(shape))


def test_state_is_small_and_named() -> None:
    assert {k: tuple(v.shape) for k, v in LearnableSmoothing(100, 5, "both").state_dict().items()} == {
        "predict.weight": (3, 100),
        "predict.bias": (3,),
        "embed.weight": (smoothing.EMBEDDING, 100),
    }
