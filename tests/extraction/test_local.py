"""Local features end to end: against the network itself, their place in the original, disk, interruptions."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lowq_core.degrade import Noise
from lowq_core.errors import LowqError
from lowq_core.extraction import features
from lowq_core.extraction.features import Features
from lowq_core.extraction.local import (
    LocalConfig,
    LocalEngine,
    LocalFeatures,
    embed_local,
    extract_local,
    local_engine_for,
)
from lowq_core.extraction.rows import Rows
from lowq_core.images import Picture, to_array
from lowq_core.models.how import how
from lowq_core.models.how_checkpoints import load_how, save_how
from lowq_core.models.how_config import HowConfig

SCALES = (1.0, 0.5)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> LocalConfig:
    torch.manual_seed(0)
    model = how(HowConfig(dim=8))
    model.set_whitening(torch.randn(8, 112), torch.randn(8))
    file = tmp_path_factory.mktemp("models") / "how.safetensors"
    save_how(model, file)
    return LocalConfig(str(file), size=64, scales=SCALES, count=9)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    made = []
    for i in range(8):
        path = folder / f"{i:02d}.png"
        # The last one is so small that it has fewer cells than features are asked for.
        size = ((40, 90, 3), (80, 50, 3))[i % 2] if i < 7 else (14, 20, 3)
        Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(path)
        made.append(Picture(path, path.name))
    return made


def run(pictures: list[Picture], config: LocalConfig, out: Path, **options: object) -> LocalFeatures:
    found = extract_local(pictures, config, out, progress=False, part_size=3, **options)  # type: ignore[arg-type]
    assert found is not None
    return found


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
    }


def test_against_the_network_itself(config: LocalConfig, pictures: list[Picture], tmp_path: Path) -> None:
    boxed = Picture(pictures[0].path, "boxed", bbx=(5.4, 5.0, 70.0, 35.0), noise=Noise("gaussian", 3, 7))
    every = [*pictures, boxed]
    found, in_memory = run(every, config, tmp_path), embed_local(every, config)
    assert found.names == in_memory.names == tuple(picture.name for picture in every)
    model = load_how(config.model)
    for i, picture in enumerate(every):
        pixels = np.array(picture.load(64), np.float32) / 255
        with torch.inference_mode():
            x = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
            want = model.local(x, 9, SCALES)
        one = found[i]
        for name, array in one._asdict().items():
            np.testing.assert_array_equal(array, getattr(in_memory[i], name))
        # Features of equal strength may change places between two ways of rounding.
        np.testing.assert_allclose(one.strength, want.strength, rtol=1e-4)
        np.testing.assert_allclose(one.descriptors, want.descriptors, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(one.scale, want.scale)
        full = Image.open(picture.path).size
        zoom = max(full) / 64 if max(full) > 64 else 1.0
        corner = [5.0, 5.0] if picture is boxed else [0.0, 0.0]
        np.testing.assert_allclose(one.xy, corner + want.xy.numpy() * zoom, rtol=0.02)
    assert [len(one.strength) for one in (found[0], found[7])] == [9, 3]
    assert len(found) == 9
    assert found.offsets.dtype == np.int64
    assert found.offsets[-1] == len(found.descriptors) == len(found.strength)
    with pytest.raises(IndexError):
        found[9]
    np.testing.assert_array_equal(found[-1].xy, found[8].xy)


def test_satisfies_the_protocol_of_retrieval(config: LocalConfig, pictures: list[Picture]) -> None:
    base = pytest.importorskip("lowq_core.retrieval.base")
    if not hasattr(base, "LocalDescriptors"):
        pytest.skip("retrieval has no local descriptors yet")
    local: base.LocalDescriptors = embed_local(pictures[:1], config)
    assert np.asarray(local.descriptors).dtype == np.float32
    assert local.offsets.tolist() == [0, 9]


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grey photo of 320 x 400 with a white dot at (90, 300), its longer side twice the extracted one."""
    yy, xx = np.mgrid[:400, :320]
    pixels = np.full((400, 320, 3), 77, np.uint8)
    pixels[(yy + 0.5 - 300) ** 2 + (xx + 0.5 - 90) ** 2 < 20**2] = 255
    path = tmp_path_factory.mktemp("dot") / "dot.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("box", [None, (20.0, 171.0, 300.0, 390.0)])
def test_the_strongest_feature_lies_on_the_dot(
    orientation: int, box: tuple[float, float, float, float] | None, config: LocalConfig, upright: Path
) -> None:
    turned = Image.open(upright)
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = turned.transpose(back[orientation]) if orientation in back else turned
    path = upright.with_name(f"{orientation}.jpg")
    stored.save(path, exif=exif, quality=95)
    options = dataclasses.replace(config, size=200, scales=(1.0,), count=1)
    one = embed_local([Picture(path, "dot", bbx=box)], options)[0]
    # A cell is 16 pixels of the extracted picture and 32 of the original: half of it, and a little.
    assert np.abs(one.xy[0] - [90, 300]).max() < 20


@pytest.mark.parametrize("scale", [2.0, 0.7])
def test_dot_at_other_scales(scale: float, config: LocalConfig, upright: Path) -> None:
    options = dataclasses.replace(config, size=300, scales=(scale,), count=1)
    one = embed_local([Picture(upright, "dot")], options)[0]
    assert np.abs(one.xy[0] - [90, 300]).max() < 0.7 * 16 / scale * 400 / 300
    assert one.scale[0] == np.float32(scale)


def test_on_disk(config: LocalConfig, pictures: list[Picture], tmp_path: Path) -> None:
    found = run(pictures, config, tmp_path)
    assert isinstance(found.descriptors, Rows)
    assert found.descriptors.shape == (9 * 7 + 3, 8)
    assert found.xy.shape == (9 * 7 + 3, 2)
    assert np.asarray(found.strength).shape == (9 * 7 + 3,)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["manifest.json"] + [f"part-0000{i}.{end}" for i in range(3) for end in ("npy", "places.npy", "json")]
    )
    assert len(found.manifest["weights_digest"]) == 64
    one_part = extract_local(pictures, config, tmp_path / "whole", progress=False)
    assert one_part is not None
    assert isinstance(one_part.descriptors, np.memmap)
    assert not one_part.descriptors.flags.writeable
    for name in ("descriptors", "strength", "xy", "scale", "offsets"):
        np.testing.assert_array_equal(np.asarray(getattr(found, name)), getattr(one_part, name))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs the list of open files")
def test_parts_hold_no_file_open(config: LocalConfig, pictures: list[Picture], tmp_path: Path) -> None:
    extract_local(pictures, config, tmp_path, progress=False, part_size=1)
    before = len(os.listdir("/proc/self/fd"))
    opened = LocalFeatures.open(tmp_path)
    np.asarray(opened.descriptors)
    assert opened[3].xy.shape == (9, 2)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("end", ["npy", "places.npy"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_part_is_named(
    end: str, damage: str, config: LocalConfig, pictures: list[Picture], tmp_path: Path
) -> None:
    run(pictures[:6], config, tmp_path)
    file = tmp_path / f"part-00001.{end}"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flip" else content[:-1])
    with pytest.raises(
        LowqError, match=rf"part-00001\.{end}: does not match its digest; delete part-00001\.json"
    ):
        LocalFeatures.open(tmp_path)
    with pytest.raises(LowqError, match=rf"part-00001\.{end}: does not match its digest"):
        run(pictures[:6], config, tmp_path)
    (tmp_path / "part-00001.json").unlink()
    assert len(run(pictures[:6], config, tmp_path)) == 6


def test_stopped_at_any_write(
    config: LocalConfig, pictures: list[Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between or before any two writes: what is there is whole, and the next call ends it."""
    some = pictures[:4]
    extract_local(some, config, tmp_path / "whole", progress=False, part_size=2)
    want = digests(tmp_path / "whole")

    class Killed(BaseException):
        pass

    left = 0

    def dying(write: Callable[..., Path], path: Path, data: bytes | str) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            path.parent.mkdir(exist_ok=True)
            path.with_name(f".{path.name}.999.tmp").write_bytes(b"half of it")
            raise Killed
        return write(path, data)

    for survived in range(len(want)):
        out, left = tmp_path / str(survived), survived
        with monkeypatch.context() as patch:
            for name in ("write_bytes", "write_text"):
                patch.setattr(features, name, partial(dying, getattr(features, name)))
            with pytest.raises(Killed):
                extract_local(some, config, out, progress=False, part_size=2)
        with pytest.raises(LowqError, match=r"run the (same )?extraction"):
            LocalFeatures.open(out)
        extract_local(some, config, out, progress=False, part_size=2)
        assert digests(out) == want


def test_shards(config: LocalConfig, pictures: list[Picture], tmp_path: Path) -> None:
    run(pictures, config, tmp_path / "whole")
    assert extract_local(pictures, config, tmp_path / "s", shard=(2, 2), progress=False, part_size=3) is None
    with pytest.raises(LowqError, match="shards 1/2 are not finished"):
        LocalFeatures.open(tmp_path / "s")
    shards = run(pictures, config, tmp_path / "s", shard=(1, 2))
    whole = LocalFeatures.open(tmp_path / "whole")
    np.testing.assert_array_equal(np.asarray(shards.descriptors), np.asarray(whole.descriptors))


def test_bad_pictures(config: LocalConfig, pictures: list[Picture], tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(pictures[0].path.read_bytes()[:500])
    bad = [Picture(torn, "torn"), Picture(tmp_path / "none.png", "none")]
    some = [pictures[0], *bad, pictures[1]]
    found = run(some, config, tmp_path / "out")
    assert set(found.failed) == {"torn", "none"}
    assert found.offsets.tolist() == [0, 9, 9, 9, 18]
    assert found[1].descriptors.shape == (0, 8)
    np.testing.assert_array_equal(found[3].xy, embed_local(pictures[1:2], config)[0].xy)
    with pytest.raises(LowqError, match=r"torn\.png"):
        run(some, config, tmp_path / "strict", strict=True)
    with pytest.raises(LowqError, match=r"torn\.png"):
        embed_local(some, config)
    torn.write_bytes(pictures[0].path.read_bytes())  # mended: the part is tried again
    assert set(run(some, config, tmp_path / "out").failed) == {"none"}
    nothing = run(bad[1:], config, tmp_path / "nothing")
    assert nothing.descriptors.shape == (0, 8)
    assert nothing.offsets.tolist() == [0, 0]


def test_another_job_in_the_same_folder(config: LocalConfig, pictures: list[Picture], tmp_path: Path) -> None:
    run(pictures[:3], config, tmp_path / "out")
    with pytest.raises(LowqError, match="features of another config"):
        run(pictures[:3], dataclasses.replace(config, count=5), tmp_path / "out")
    with pytest.raises(LowqError, match="features of another names"):
        run(pictures[:2], config, tmp_path / "out")
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(Path(config.model).read_bytes())
    run(pictures[:3], dataclasses.replace(config, model=str(moved)), tmp_path / "out")
    with pytest.raises(LowqError, match="holds local features, not global ones"):
        Features.open(tmp_path / "out")
    features.PartStore.create(tmp_path / "g", {"names": ["a"], "part_size": 1})
    with pytest.raises(LowqError, match="holds global features, not local ones"):
        LocalFeatures.open(tmp_path / "g")


def test_bad_arguments(config: LocalConfig, pictures: list[Picture], tmp_path: Path) -> None:
    for options, message in (
        ({"precision": "int8"}, "choose one of float32, bf16"),
        ({"engine": "openvino"}, "choose one of torch, cuda"),
        ({"scales": ()}, "factors above 0"),
        ({"size": 0}, "size=0"),
        ({"count": 0}, "count=0"),
    ):
        with pytest.raises(LowqError, match=message):
            LocalConfig("x", **options)  # type: ignore[arg-type]
    with pytest.raises(LowqError, match="no such HOW network"):
        embed_local(pictures, LocalConfig(str(tmp_path / "none.safetensors")))
    with pytest.raises(LowqError, match="the list is empty"):
        embed_local([], config)
    with pytest.raises(LowqError, match="the list is empty"):
        run([], config, tmp_path)
    with pytest.raises(LowqError, match="such as 3/10"):
        run(pictures, config, tmp_path, shard=(3, 2))


def test_weights_that_are_not_finite_are_refused(config: LocalConfig, tmp_path: Path) -> None:
    model = load_how(config.model)
    with torch.no_grad():
        model.trunk.body.blocks[0][0].conv_dw.weight[0, 0, 0, 0] = float("nan")  # type: ignore[union-attr, index]
    with pytest.raises(LowqError, match=r"conv_dw\.weight holds NaN"):
        LocalEngine(model, config)
    save_how(model, tmp_path / "nan.safetensors")
    with pytest.raises(LowqError, match=r"nan\.safetensors: weight trunk\.body"):
        embed_local([], LocalConfig(str(tmp_path / "nan.safetensors")))


def test_engine_is_kept_until_the_file_changes(config: LocalConfig, tmp_path: Path) -> None:
    moved = dataclasses.replace(config, model=str(tmp_path / "how.safetensors"))
    model = load_how(config.model)
    save_how(model, moved.model)
    first = local_engine_for(moved)
    assert local_engine_for(moved) is first
    model.set_whitening(torch.zeros(8, 112), torch.ones(8))
    save_how(model, moved.model)
    assert local_engine_for(moved).digest != first.digest


def test_bf16_is_near(config: LocalConfig, upright: Path) -> None:
    pixels = to_array(Picture(upright, "dot").load(160))
    model = how(HowConfig(dim=112))
    options = dataclasses.replace(config, scales=(1.0,), count=1000)
    exact, near = (
        LocalEngine(model, dataclasses.replace(options, precision=precision))(pixels)
        for precision in ("float32", "bf16")
    )
    by_place = [one.descriptors[np.lexsort(one.xy.T)] for one in (exact, near)]
    cosine = (by_place[0] * by_place[1]).sum(1) / np.prod(
        [np.linalg.norm(one, axis=1) for one in by_place], axis=0
    )
    assert cosine.min() > 0.99
