"""AdapNet's network: at the start its trunk's GeM, on disk what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lowq_core.errors import LowqError
from lowq_core.extraction.config import EmbedConfig
from lowq_core.extraction.engine import Engine
from lowq_core.models.adapnet import AdapNet, AdapNetConfig, adapnet, between
from lowq_core.models.adapnet_checkpoints import is_adapnet, load_adapnet, save_adapnet
from lowq_core.models.backbone import backbone
from lowq_core.models.pooling import GeM, gem, l2n


@pytest.fixture
def network() -> AdapNet:
    """Moved off its start, where the block does nothing."""
    torch.manual_seed(1)
    network = adapnet(AdapNetConfig("resnet18", branches=2), "random")
    assert network.qcb is not None
    torch.nn.init.normal_(network.qcb.gamma, std=0.5)
    torch.nn.init.constant_(network.pool.p, 2.5)
    return network


@torch.inference_mode()
def test_starts_as_gem_of_its_trunk() -> None:
    x = torch.rand(2, 3, 64, 96)
    trunk = backbone("lite0")
    for branches in (0, 8):
        network = adapnet(AdapNetConfig(branches=branches))
        assert (network.qcb is None) == (branches == 0)
        assert torch.equal(network(x), GeM(3.0)(trunk(x)))


@torch.inference_mode()
def test_the_block_is_on_the_map(network: AdapNet) -> None:
    x = torch.rand(1, 3, 64, 96)
    map_ = network.trunk.body((x - network.trunk.mean) / network.trunk.std)
    assert network.qcb is not None
    torch.testing.assert_close(network(x), gem(network.qcb(map_), 2.5))
    torch.testing.assert_close(network.gate(x), network.qcb.gate(map_))


@torch.inference_mode()
def test_drift_is_what_the_block_adds_to_the_descriptor(network: AdapNet) -> None:
    x = torch.rand(3, 3, 64, 96)
    untrained = adapnet(AdapNetConfig("resnet18", branches=4), "random")
    assert torch.equal(untrained.drift(x), torch.zeros(3))
    moved = network.drift(x)
    assert network.qcb is not None
    with_block = network(x)
    network.qcb.gamma.zero_()
    still = network(x)
    wanted = [
        (a / a.norm() - b / b.norm()).square().sum().sqrt().item()
        for a, b in zip(with_block, still, strict=True)
    ]
    assert moved.tolist() == pytest.approx(wanted, rel=1e-4)
    assert moved.min() > 1e-3
    with pytest.raises(LowqError, match="so no drift"):
        adapnet(AdapNetConfig("resnet18", branches=0), "random").drift(x)


@torch.inference_mode()
def test_kept_on_disk_and_used_by_the_engine(network: AdapNet, tmp_path: Path) -> None:
    file = tmp_path / "network.safetensors"
    save_adapnet(network, file)
    assert is_adapnet(file)
    found = load_adapnet(file)
    assert found.config == network.config
    assert not found.training
    assert all(
        torch.equal(a, b)
        for a, b in zip(found.state_dict().values(), network.state_dict().values(), strict=True)
    )
    config = EmbedConfig("resnet18", heads=("gem",), weights=str(file))
    pixels = torch.randint(0, 256, (64, 96, 3), dtype=torch.uint8).numpy()
    described = Engine(config.embedder(), config)(pixels)["gem"]
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(torch.from_numpy(described), l2n(network.eval()(x))[0], atol=1e-5, rtol=1e-4)
    lowered = Engine(config.embedder(), EmbedConfig("resnet18", heads=("gem",), precision="bf16"))(pixels)
    assert lowered["gem"] @ described > 0.99


def test_bad_input(network: AdapNet, tmp_path: Path) -> None:
    for change, message in (
        ({"backbone": "vgg"}, "backbone 'vgg' is unknown"),
        ({"branches": -1}, "branches=-1"),
        ({"p": 0.0}, "p=0.0"),
    ):
        with pytest.raises(LowqError, match=message):
            AdapNetConfig(**change)  # type: ignore[arg-type]
    with pytest.raises(LowqError, match="has no compensation block"):
        adapnet(AdapNetConfig("resnet18", branches=0), "random").gate(torch.zeros(1, 3, 32, 32))
    with pytest.raises(LowqError, match="no such AdapNet network"):
        load_adapnet(tmp_path / "none.safetensors")
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other")
    assert not is_adapnet(other)
    assert not is_adapnet(tmp_path)
    with pytest.raises(LowqError, match="not a saved AdapNet network"):
        load_adapnet(other)
    save_adapnet(network, other)
    with pytest.raises(LowqError, match="is a resnet18, but backbone is lite0"):
        EmbedConfig(weights=str(other)).embedder()


def test_between(network: AdapNet) -> None:
    start = adapnet(network.config, "random")
    assert network.qcb is not None
    for share, end in ((0.0, start), (1.0, network)):
        found = between(start, network, share).state_dict()
        for name, value in end.state_dict().items():
            torch.testing.assert_close(found[name], value)
    before = network.pool.p.item(), start.pool.p.item()
    assert between(start, network, 0.2).pool.p.item() == pytest.approx(0.2 * 2.5 + 0.8 * start.pool.p.item())
    assert (network.pool.p.item(), start.pool.p.item()) == before
    with pytest.raises(LowqError, match=r"share=1\.5: choose a number from 0"):
        between(start, network, 1.5)
    with pytest.raises(LowqError, match="no way between networks of two shapes"):
        between(adapnet(AdapNetConfig("resnet18", branches=4), "random"), network, 0.5)
