"""Trunks cut short for local descriptors, and where their cells lie."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lowq_core.models.backbone import backbone
from lowq_core.models.weights import weights_digest


@pytest.mark.parametrize(("name", "channels"), [("lite0-", 112), ("resnet50-", 1024)])
@torch.inference_mode()
def test_map_of_the_cut(name: str, channels: int) -> None:
    trunk = backbone(name, "random")
    assert (trunk.channels, trunk.stride, trunk.training) == (channels, 16, False)
    out = trunk(torch.rand(1, 3, 65, 96))
    assert out.shape == (1, channels, 5, 6)
    assert (len(trunk.centres(65)), len(trunk.centres(96))) == (5, 6)


@torch.inference_mode()
def test_a_cut_is_the_beginning_of_the_whole() -> None:
    whole, cut = backbone("lite0"), backbone("lite0-")
    x = torch.rand(1, 3, 70, 64)
    body = whole.body
    want = body.blocks[:5](body.bn1(body.conv_stem((x - whole.mean) / whole.std)))  # type: ignore[operator, index]
    torch.testing.assert_close(cut(x), want)
    assert want.min() < 0  # stages end without activation


@pytest.mark.parametrize(("whole", "file"), [("lite0", "a.pth"), ("resnet50", "b.pth")])
def test_files_of_the_whole_and_of_the_cut_fit(whole: str, file: str, tmp_path: Path) -> None:
    torch.save(backbone(whole, "random").body.state_dict(), tmp_path / file)
    cut = backbone(f"{whole}-", tmp_path / file)
    torch.save(cut.body.state_dict(), tmp_path / f"cut-{file}")
    assert weights_digest(backbone(f"{whole}-", tmp_path / f"cut-{file}")) == weights_digest(cut)


@pytest.mark.parametrize("name", ["lite0-", "resnet18"])
def test_centres_are_where_gradients_come_from(name: str) -> None:
    """The centroid of the pixels that move a cell, on noise; both paddings, sides of both parities."""
    torch.manual_seed(0)
    trunk = backbone(name, None if name == "lite0-" else "random")
    height, width = 241, 240
    x = torch.rand(2, 3, height, width).requires_grad_()
    i, j = height // trunk.stride // 2, width // trunk.stride // 2
    trunk(x)[:, :, i, j].square().sum(1).sqrt().sum().backward()
    assert x.grad is not None
    energy = x.grad.square().sum((0, 1))
    for axis, (side, cell) in enumerate(((height, i), (width, j))):
        weight = energy.sum(1 - axis)
        centroid = (weight * (torch.arange(side) + 0.5)).sum() / weight.sum()
        # A quarter of a cell; the corner of the cell, or its middle, would be half of one away.
        assert abs(centroid - trunk.centres(side)[cell]) < trunk.stride / 4
