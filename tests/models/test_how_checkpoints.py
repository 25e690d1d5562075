"""HOW networks on disk: ours, and published ones by made-up files of the same layout."""

from __future__ import annotations

import errno
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lowq_core.errors import LowqError
from lowq_core.models import saved
from lowq_core.models.how import HOW, how
from lowq_core.models.how_checkpoints import load_how, save_how
from lowq_core.models.how_config import HowConfig
from lowq_core.models.weights import weights_digest

MEAN, STD = [0.4, 0.5, 0.45], [0.2, 0.3, 0.25]


def small(**options: Any) -> HOW:
    torch.manual_seed(0)
    model = how(HowConfig(dim=6, **options), "random")
    model.set_whitening(torch.randn(6, 112), torch.randn(6))
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"context": "gcn", "smoothing": "learnable", "kernel": 5, "mode": "both", "k": 4, "blocks": 1},
        {"context": "gcn", "k": None, "threshold": 0.25},
    ],
)
def test_round_trip(options: dict[str, Any], tmp_path: Path) -> None:
    model = small(**options)
    model.train().to(memory_format=torch.channels_last)
    save_how(model, tmp_path / "new" / "how.safetensors")
    again = load_how(tmp_path / "new" / "how.safetensors")
    assert again.config == model.config
    assert weights_digest(again) == weights_digest(model)
    assert not again.training
    assert not any(p.requires_grad for p in again.whitening.parameters())
    x = torch.rand(1, 3, 64, 70)
    with torch.inference_mode():
        torch.testing.assert_close(again(x), model.eval()(x))
    save_how(again, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "new" / "how.safetensors"
    ).read_bytes()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["how.safetensors"]


def test_file_of_before_there_was_a_threshold(tmp_path: Path) -> None:
    file = tmp_path / "how.safetensors"
    model = small(context="gcn")
    save_how(model, file)
    with safe_open(file, "pt") as opened:
        described = json.loads(opened.metadata()["lowq how"])
    del described["config"]["threshold"]
    save_file(load_file(file), file, metadata={"lowq how": json.dumps(described)})
    again = load_how(file)
    assert again.config == model.config
    assert again.config.threshold is None
    assert weights_digest(again) == weights_digest(model)


def published(
    architecture: str = "resnet18", skip: int = 0, dim: int = 8
) -> tuple[nn.Sequential, dict[str, Any]]:
    """Trunk as the publishers number it, and the file's content, with what else training leaves in it."""
    torch.manual_seed(1)
    network = getattr(torchvision.models, architecture)(weights=None)
    channels = network.fc.in_features // 2**skip
    features = nn.Sequential(*list(network.children())[: -2 - skip]).eval()
    state = {f"features.{key}": value for key, value in features.state_dict().items()}
    state |= {
        "dim_reduction.weight": torch.randn(dim, channels, 1, 1),
        "dim_reduction.bias": torch.randn(dim),
    }
    optimizer = torch.optim.Adam(features[:1].parameters())
    scores: dict[str, Any] = defaultdict(list)
    scores["train_loss"].append((1, 0.25))
    scores["local_descriptor"] = defaultdict(list, val_eccv20=[(5, np.float64(84.0))])
    params = {
        "architecture": architecture,
        "pretrained": True,
        "skip_layer": skip,
        "dim_reduction": {"dim": dim},
        "smoothing": {"kernel_size": 3},
        "runtime": {"mean_std": [MEAN, STD], "image_size": 1024, "training_scales": [1]},
    }
    meta = {
        "architecture": architecture,
        "backbone_dim": channels,
        "outputdim": dim,
        "corercf_size": 32 // 2**skip,
    }
    return features, {
        "epoch": 5,
        "meta": meta,
        "state_dict": state,
        "optimizer": optimizer.state_dict(),
        "best_score": np.float64(84.0),
        "scores": scores,
        "net_params": params,
        "_version": "how/2020",
    }


def old_layout(content: dict[str, Any]) -> dict[str, Any]:
    state = {key.replace("dim_reduction", "whiten"): value for key, value in content["state_dict"].items()}
    params = content["net_params"]
    meta = {name: params[name] for name in ("architecture", "skip_layer")}
    meta |= {"dim": 8, "feat_pool_k": 3, "mean": MEAN, "std": STD}
    return {"meta": meta, "state_dict": state}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("architecture", "skip"), [("resnet18", 0), ("resnet50", 1)])
@torch.inference_mode()
def test_published(architecture: str, skip: int, old: bool, tmp_path: Path) -> None:
    """ResNet-18 as a whole and ResNet-50 without its last block, the two that are published."""
    features, content = published(architecture, skip)
    torch.save(old_layout(content) if old else content, tmp_path / "how.pth")
    model = load_how(tmp_path / "how.pth")
    assert model.config == HowConfig(backbone=architecture + "-" * skip, dim=8)
    x = torch.rand(1, 3, 96, 70)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    map_ = features((x - mean) / std)
    weight, bias = (content["state_dict"][f"dim_reduction.{name}"] for name in ("weight", "bias"))
    want = F.conv2d(F.avg_pool2d(map_, 3, 1, 1, count_include_pad=False), weight, bias)
    maps = model.maps(x)
    torch.testing.assert_close(maps.descriptors, want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(maps.attention, map_.norm(dim=1), rtol=1e-4, atol=1e-4)
    save_how(model, tmp_path / "ours.safetensors")  # its own normalisation comes along
    torch.testing.assert_close(load_how(tmp_path / "ours.safetensors").maps(x).descriptors, maps.descriptors)


def test_published_without_smoothing_and_with_the_weights_of_another_trunk(tmp_path: Path) -> None:
    _, content = published()
    content["net_params"]["smoothing"] = None
    torch.save(content, tmp_path / "how.pth")
    assert load_how(tmp_path / "how.pth").config.smoothing == "none"
    content["net_params"] |= {"architecture": "resnet50", "skip_layer": 1}
    torch.save(content, tmp_path / "how.pth")
    with pytest.raises(LowqError, match=r"how\.pth: lacks 'trunk\.body\.layer1\.0\.conv3\.weight'"):
        load_how(tmp_path / "how.pth")  # taken for ResNet-50 less one stage, which these weights are not


def test_published_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "x.pth"
    _, good = published()

    def refused(message: str, content: Any) -> None:
        torch.save(content, file)
        with pytest.raises(LowqError, match=message):
            load_how(file)

    refused(r"x\.pth: holds no 'state_dict'", {"net_params": {}})
    refused("lacks part of the network's description", {"state_dict": {}})
    refused("lacks part of", good | {"net_params": good["net_params"] | {"runtime": {}}})
    vgg = good["net_params"] | {"architecture": "vgg16"}
    refused("trunk 'vgg16' without its last 0 stages is not supported", good | {"net_params": vgg})
    even = good["net_params"] | {"smoothing": {"kernel_size": 2}}
    refused("kernel=2: has to be odd", good | {"net_params": even})
    wide = good["net_params"] | {"dim_reduction": {"dim": 9}}
    refused(r"'whitening\.weight' has shape \(8, 512, 1, 1\)", good | {"net_params": wide})
    file.write_bytes(b"nonsense")
    with pytest.raises(LowqError, match="not a checkpoint of plain data"):
        load_how(file)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": {}, "net_params": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(LowqError, match=r"evil\.pth: not a checkpoint of plain data"):
        load_how(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_own_files_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "how.safetensors"
    with pytest.raises(LowqError, match="no such HOW network"):
        load_how(file)
    model = small()
    save_how(model, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LowqError, match=r"how\.safetensors: not a saved HOW network"):
        load_how(file)
    for metadata in (None, {"lowq how": "{"}, {"lowq how": json.dumps({"config": {"depth": 3}})}):
        save_file({"a": torch.zeros(1)}, file, metadata=metadata)
        with pytest.raises(LowqError, match="not a saved HOW network"):
            load_how(file)
    file.write_bytes(whole)
    with safe_open(file, "pt") as opened:
        described = json.loads(opened.metadata()["lowq how"])
    described["config"]["context"] = "gnn"
    save_file({"a": torch.zeros(1)}, file, metadata={"lowq how": json.dumps(described)})
    with pytest.raises(LowqError, match=r"how\.safetensors: context 'gnn' is unknown"):
        load_how(file)
    file.write_bytes(whole)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saved.os, "replace", full)
    with pytest.raises(LowqError, match=r"cannot be written \(No space left on device\)"):
        save_how(model, file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == whole
