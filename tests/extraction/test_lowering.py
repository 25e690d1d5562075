"""bfloat16 loses no more than it must: exact parts are exact, shifts are taken off, the rest is near."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lowq_core.extraction.fusion import FusedConv, fuse
from lowq_core.extraction.lowering import SplitConv, input_means, kept_exact, lower, pink_noise, round_weights
from lowq_core.models.backbone import backbone
from lowq_core.models.pooling import gem, l2n


@pytest.fixture(scope="module")
def sample() -> Tensor:
    trunk = backbone("lite0")
    return trunk.normalise(pink_noise(128))


@torch.inference_mode()
def descriptor(body: nn.Module, x: Tensor) -> Tensor:
    return l2n(gem(body(x).float()))


def test_trunk_is_near_and_only_its_first_layers_are_float32(sample: Tensor) -> None:
    body = backbone("lite0").body
    lowered = lower(fuse(body), sample)
    weights = [m.conv.weight for m in lowered.modules() if isinstance(m, FusedConv)]
    exact = kept_exact(lowered) - 1  # the last of those kept is made of bfloat16 parts
    assert [w.dtype for w in weights] == [torch.float32] * exact + [torch.bfloat16] * (len(weights) - exact)
    x = sample.flip(3).roll((40, 9), (2, 3))
    # bfloat16 keeps 8 bits: each of some 50 layers may be off by 2^-9 of its size, at random: sqrt(50) * 2^-9.
    assert torch.linalg.vector_norm(descriptor(lowered, x) - descriptor(body, x)) < 50**0.5 * 2**-9


def test_nearer_than_a_plain_conversion(sample: Tensor) -> None:
    body = backbone("lite0").body
    x = sample.flip(3).roll((40, 9), (2, 3))
    exact = descriptor(body, x)
    plain = fuse(body)
    for module in plain.modules():
        if isinstance(module, FusedConv):
            module.to(torch.bfloat16)
    ours = lower(fuse(body), sample)
    assert torch.dist(descriptor(ours, x), exact) < 0.7 * torch.dist(descriptor(plain, x), exact)


def test_other_trunks_and_residual_sums() -> None:
    trunk = backbone("resnet18", "random")
    x = torch.rand(1, 3, 96, 96)
    lowered = lower(fuse(trunk.body), x)
    assert torch.linalg.vector_norm(descriptor(lowered, x) - descriptor(trunk.body, x)) < 20**0.5 * 2**-9


@given(
    seed=st.integers(0, 10_000),
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.sampled_from([1, 3]),
    bias=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_rounding_keeps_the_mean_of_each_channel(seed: int, groups: int, kernel: int, bias: bool) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(8, 12, kernel, groups=groups, bias=bias)
    x = torch.rand(1, 8, 16, 16) + torch.rand(8)[:, None, None]
    x = x.mean((2, 3), keepdim=True).expand_as(
        x
    )  # each pixel is the mean: then the correction is all there is
    with torch.no_grad():
        before = conv(x)
        round_weights(conv, x.mean((0, 2, 3)))
        assert conv.weight.dtype == torch.bfloat16
        after = nn.functional.conv2d(x, conv.weight.float(), conv.bias, groups=groups)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 10_000), kernel=st.sampled_from([1, 3]), scale=st.sampled_from([1e-3, 1.0, 300.0]))
@settings(max_examples=25, deadline=None)
def test_split_convolution_is_rounded_once(seed: int, kernel: int, scale: float) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(16, 8, kernel, padding=kernel // 2)
    x = scale * torch.randn(1, 16, 9, 7)
    with torch.inference_mode():
        found = SplitConv(FusedConv(conv, nn.ReLU()))(x)
        w, b = conv.weight.double(), conv.bias.double()  # type: ignore[union-attr]
        exact = nn.functional.conv2d(x.double(), w, b, padding=kernel // 2).relu()
        size = nn.functional.conv2d(x.double().abs(), w.abs(), b.abs(), padding=kernel // 2)
    assert found.dtype == torch.bfloat16
    # One rounding of the result (2^-9), and of each product what the parts leave out (three times 2^-16).
    assert ((found.double() - exact).abs() <= 2**-8 * exact + 2**-14 * size).all()


def test_input_means_are_those_of_each_layer() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    x = torch.rand(2, 3, 8, 8)
    first, second = input_means(fuse(body), x).values()
    torch.testing.assert_close(first, x.mean((0, 2, 3)))
    torch.testing.assert_close(second, body[1](body[0](x)).mean((0, 2, 3)))


def test_pink_noise_falls_with_frequency() -> None:
    x = pink_noise(256)[0, 0].double().numpy()
    amplitude = np.abs(np.fft.rfft2(x - x.mean()))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    rings = [(0.02, 0.04), (0.08, 0.16)]
    low, high = (amplitude[(a < frequency) & (frequency < b)].mean() for a, b in rings)
    assert 3 < low / high < 5  # four times the frequency, a quarter of the amplitude, but for clipping
    assert torch.equal(pink_noise(64), pink_noise(64))
