"""A fused trunk in bfloat16, with as little lost as 8 bits of precision allow.

Most of what plain rounding loses is no noise: a layer's inputs have a mean, so rounded weights and biases
shift whole channels, and the first layers' errors pass through all others. So biases and the first layers stay
exact, and the shift of the others is taken off again.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from lowq_core.extraction.fusion import FusedConv

EXACT_OF_DEPTHWISE, EXACT_OF_DENSE = 13, 4
"""Convolutions, from the pixels on, that `lower` leaves exact; the last of them must be dense (groups = 1).

Of EfficientNet-Lite0, whose depthwise convolutions sum nine products each, the thirteen are the stem, two stages
and the third's first block. Sums of hundreds of products, as in a ResNet, average their errors out.
"""


def kept_exact(fused: nn.Module) -> int:
    """How many of the first convolutions of `fused` stay exact.

    >>> kept_exact(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1))), kept_exact(nn.Conv2d(8, 8, 3, groups=8))
    (4, 13)
    """
    depthwise = any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in fused.modules())
    return EXACT_OF_DEPTHWISE if depthwise else EXACT_OF_DENSE


def lower(fused: fx.GraphModule, sample: Tensor) -> fx.GraphModule:
    """`fused` (from `fuse`) changed in place to compute in bfloat16, all but its first convolutions.

    Args:
        fused: float32, as `fuse` makes it.
        sample: (B, C, H, W) float32 input like those to come; it gives the mean of each layer's input.
    """
    means, kept = input_means(fused, sample), kept_exact(fused)
    for i, (target, mean) in enumerate(means.items()):
        conv: Any = fused.get_submodule(target)
        if i == kept - 1:  # it hands its output on in bfloat16, so it can be made of bfloat16 parts
            fused.set_submodule(target, SplitConv(conv))
        elif i >= kept:
            round_weights(conv.conv, mean)
    return fused


def input_means(fused: fx.GraphModule, sample: Tensor) -> dict[str, Tensor]:
    """(C,) mean of each channel that a convolution of `fused` reads, by its name, in the order of the calls."""
    means: dict[str, Tensor] = {}
    hooks = []
    for name, module in fused.named_modules():
        if isinstance(module, FusedConv):

            def note(_module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                means[name] = inputs[0].mean((0, 2, 3))

            hooks.append(module.register_forward_pre_hook(note))
    with torch.inference_mode():
        fused(sample)
    for hook in hooks:
        hook.remove()
    return means


def round_weights(conv: nn.Conv2d, mean: Tensor) -> None:
    """Weights to bfloat16 in place; what that shifts each output channel by, on average, comes off its bias.

    `mean` is the (C,) mean of the input's channels. Source: bias correction of Nagel et al. 2019, section 4.2.

    >>> conv = nn.Conv2d(2, 1, 1)
    >>> _ = nn.init.constant_(conv.weight, 1.003), nn.init.zeros_(conv.bias)  # bfloat16 has 1 and 1.0078
    >>> round_weights(conv, torch.tensor([1.0, 3.0]))
    >>> conv.weight.flatten().tolist(), round(conv.bias.item(), 6)
    ([1.0, 1.0], 0.012)
    """
    exact = conv.weight.data
    conv.weight.data = exact.to(torch.bfloat16)
    error = (conv.weight.data.float() - exact).sum((2, 3))
    inputs = mean.view(conv.groups, -1).repeat_interleave(conv.out_channels // conv.groups, 0)
    shift = (error * inputs).sum(1)
    conv.bias = nn.Parameter(-shift if conv.bias is None else conv.bias.data - shift, requires_grad=False)


def pink_noise(side: int = 256) -> Tensor:
    """(1, 3, side, side) float32 in 0..1: noise with the amplitude 1/f of natural pictures, three channels alike.

    It stands in for a photo where a network's typical activations are wanted and there is no picture.

    >>> x = pink_noise()
    >>> x.shape, round(x.mean().item(), 1), bool((0 <= x).all() and (x <= 1).all())
    (torch.Size([1, 3, 256, 256]), 0.5, True)
    """
    generator = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    spectrum = np.fft.rfft2(generator.standard_normal((4, side, side))) / frequency.clip(1 / side)
    light, *tints = np.fft.irfft2(spectrum, (side, side))
    pixels = np.stack([light / light.std() + 0.4 * tint / tint.std() for tint in tints])
    # Photos average a little under half; 0.22 is their usual contrast.
    return torch.from_numpy((0.45 + 0.22 * pixels / pixels.std()).clip(0, 1)).float().unsqueeze(0)


class SplitConv(FusedConv):
    """`exact` in bfloat16, yet with float32's result, rounded once: the output is bfloat16.

    A float32 number is the sum of two of bfloat16 but for 2^-16 of it: x = x' + x", w = w' + w". Then
    xw = x'w' + x"w' + x'w" but for the fourth product, as small. Three times the channels therefore give the
    sum, which the processor keeps in float32.

    >>> exact = FusedConv(nn.Conv2d(8, 4, 1))
    >>> x = torch.rand(1, 8, 5, 5)
    >>> with torch.inference_mode():
    ...     torch.allclose(SplitConv(exact)(x).float(), exact(x), rtol=2**-8, atol=1e-4)  # 2^-9: one rounding
    True
    """

    def __init__(self, exact: FusedConv) -> None:
        super().__init__(copy.deepcopy(exact.conv))
        self.kind = exact.kind
        high, low = _split(exact.conv.weight.data)
        self.conv.weight = nn.Parameter(torch.cat([high, high, low], 1), requires_grad=False)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        high, low = _split(x)
        return super().forward(torch.cat([high, low, high], 1), other)


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Two bfloat16 tensors that add up to `x` (float32) but for 2^-16 of it."""
    high = x.to(torch.bfloat16)
    return high, (x - high).to(torch.bfloat16)
