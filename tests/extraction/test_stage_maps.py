"""Maps that networks share: finishing them gives what the whole networks give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lowq_core.errors import LowqError
from lowq_core.extraction import stage_maps
from lowq_core.extraction.config import EmbedConfig
from lowq_core.extraction.extract import embed
from lowq_core.extraction.stage_maps import FirstStages, finish_maps, read_failed, write_stage_maps
from lowq_core.images import Picture
from lowq_core.models.adapnet import AdapNetConfig, adapnet
from lowq_core.models.adapnet_checkpoints import save_adapnet
from lowq_core.models.backbone import backbone

CONFIG = EmbedConfig("lite0", ("gem", "rmac"), size=64)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    generator = np.random.default_rng(0)
    sizes = [(64, 48), (48, 64), (64, 48), (40, 40), (64, 48)]
    for i, (height, width) in enumerate(sizes):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return [Picture(tmp_path / f"{i}.png", f"{i}.png") for i in range(len(sizes))]


@pytest.mark.parametrize("stages", [1, 6, 9])
def test_finished_maps_are_the_descriptors(
    pictures: list[Picture], tmp_path: Path, stages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_maps, "PART_SIZE", 2)
    torch.manual_seed(0)
    network = adapnet(AdapNetConfig("lite0", branches=2))
    for stage in network.trunk.stages()[stages:]:
        for parameter in stage.parameters():
            parameter.data *= 1 + 0.1 * torch.rand_like(parameter)
    network.trunk.refine.gamma.data.fill_(0.5)
    save_adapnet(network, tmp_path / "net.safetensors")
    out = tmp_path / "maps"
    out.mkdir()
    write_stage_maps(pictures, CONFIG, stages, out, progress=False)
    assert len(list(out.glob("part-*"))) == 3
    assert read_failed(out) == {}
    trained = replace(CONFIG, weights=str(tmp_path / "net.safetensors"))
    found, wanted = finish_maps(out, len(pictures), trained, stages), embed(pictures, trained)
    for head in ("gem", "rmac"):
        np.testing.assert_allclose(found[head], wanted[head], atol=2e-5)
        assert np.abs(found[head] - embed(pictures, CONFIG)[head]).max() > 1e-3


def test_first_stages_are_those_of_the_trunk() -> None:
    trunk = backbone("lite0")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        for stages in (1, 5):
            wanted = trunk.start(x, stages)[0].numpy()
            np.testing.assert_allclose(FirstStages(trunk, stages)(pixels), wanted, atol=1e-4)


def test_bad_pictures_are_told_and_stay_zero(pictures: list[Picture], tmp_path: Path) -> None:
    pictures[1].path.write_bytes(b"broken")
    out = tmp_path / "maps"
    out.mkdir()
    with pytest.raises(LowqError, match=r"1\.png"):
        write_stage_maps(pictures, CONFIG, 2, out, strict=True, progress=False)
    write_stage_maps(pictures, CONFIG, 2, out, progress=False)
    assert list(read_failed(out)) == ["1.png"]
    found = finish_maps(out, len(pictures), CONFIG, 2)["gem"]
    assert found.any(axis=1).tolist() == [True, False, True, True, True]


def test_a_full_disk(pictures: list[Picture], tmp_path: Path, little_room) -> None:
    out = tmp_path / "maps"
    out.mkdir()
    part = out / "part-00000.safetensors"
    with little_room(10_000), pytest.raises(LowqError) as told:
        write_stage_maps(pictures, CONFIG, 2, out, progress=False)
    assert str(told.value).startswith(f"{part}: cannot be written (")
    assert str(told.value).endswith("; make room or choose another folder")
    assert not list(out.iterdir())
