"""The fused trunk computes what the plain one computes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from lowq_core.extraction import fusion
from lowq_core.extraction.fusion import FusedConv, fuse
from lowq_core.models.backbone import backbone


def lively(name: str) -> nn.Module:
    """A trunk whose normalisation layers do something."""
    torch.manual_seed(0)
    body = backbone(name, None if name == "lite0" else "random").body
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d) and name != "lite0":
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.3, 0.8)
            nn.init.normal_(module.bias, std=0.1)
    return body


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize("name", ["lite0", "resnet18", "resnet50"])
@pytest.mark.parametrize("size", [(64, 64), (65, 98)])
def test_same_map(name: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    body = lively(name)
    before = {key: value.clone() for key, value in body.state_dict().items()}
    fused = fuse(body)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    x = torch.randn(1, 3, *size)
    with torch.inference_mode():
        want = body(x)
        close(fused(x), want)
        close(fused(x.contiguous(memory_format=torch.channels_last)), want)
        # Without the operator of oneDNN (other builds of torch, GPUs) the plain path runs.
        monkeypatch.setattr(fusion, "_has_onednn", lambda x: False)
        close(fused(x), want)
    assert all(torch.equal(value, before[key]) for key, value in body.state_dict().items())


def test_everything_is_fused() -> None:
    for name, convs in (("resnet18", 20), ("resnet50", 53), ("lite0", 49)):
        fused = fuse(backbone(name, "random").body)
        assert sum(isinstance(module, FusedConv) for module in fused.modules()) == convs
        assert not any(isinstance(module, (nn.ReLU, nn.ReLU6)) for module in fused.modules())


def test_output_that_is_read_twice_is_left_alone() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.relu(self.norm(y)) + y

    net = Twice().eval()
    nn.init.uniform_(net.norm.running_var, 0.2, 0.5)
    x = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        close(fuse(net)(x), net(x))


def test_orders_of_the_latest_sizes_alone_are_kept() -> None:
    conv = nn.Conv2d(64, 64, 3, padding=1)
    fused = FusedConv(conv, nn.ReLU())
    with torch.inference_mode():
        for round_ in range(2):
            for side in range(4, 5 + FusedConv.KEPT + 1):
                x = torch.randn(1, 64, side, side + round_).to(memory_format=torch.channels_last)
                close(fused(x), conv(x).relu())
                close(fused(x), conv(x).relu())
    assert len(fused._ordered) <= FusedConv.KEPT


@pytest.mark.parametrize(("chosen", "kept"), [(None, "8192"), ("7", "7")])
def test_code_for_many_sizes_is_kept_unless_the_user_says_otherwise(chosen: str | None, kept: str) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    environment = {key: value for key, value in os.environ.items() if key != name}
    if chosen is not None:
        environment[name] = chosen
    program = f"import os, lowq_core.extraction.fusion; print(os.environ[{name!r}])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == kept
