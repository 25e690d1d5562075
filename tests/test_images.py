"""Opening, cropping and resizing pictures, against Pillow and numpy."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from lowq_core.degrade import Noise, degrade
from lowq_core.errors import LowqError
from lowq_core.images import Picture, crop, from_array, open_image, query_size, resize_longer, to_array
from lowq_core.restore import restore


def texture(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, channels), dtype=np.uint8
    )


UPRIGHT = {  # EXIF orientation: what undoes it, by the definition of the tag (where row 0 and column 0 lie)
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"tagged.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(texture(20, 31)).save(path, exif=exif, **options)
    with Image.open(path) as raw:
        stored = np.asarray(raw)
    if suffix == "tiff":  # Pillow's TIFF reader turns the picture by itself
        stored = texture(20, 31)
    image = open_image(path)
    assert image.size == ((31, 20) if orientation < 5 else (20, 31))
    assert (to_array(image) == UPRIGHT[orientation](stored)).all()


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_nonsense_orientation_is_ignored(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(texture(20, 31)).save(tmp_path / "a.png", exif=exif)
    assert (to_array(open_image(tmp_path / "a.png")) == texture(20, 31)).all()


def test_broken_exif_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(texture(20, 31)).save(tmp_path / "a.jpg", exif=b"Exif\0\0not a TIFF header at all")
    assert open_image(tmp_path / "a.jpg").size == (31, 20)


def test_colours_of_every_mode(tmp_path: Path) -> None:
    rgb = Image.fromarray(texture(16, 24))
    grey = rgb.convert("L")

    def opened(image: Image.Image, suffix: str = "png", **options: object) -> NDArray[np.uint8]:
        path = tmp_path / f"picture.{suffix}"
        image.save(path, **options)
        result = open_image(path)
        assert result.mode == "RGB"
        return to_array(result)

    assert (opened(rgb) == np.asarray(rgb)).all()
    assert (opened(grey) == np.asarray(grey)[..., None]).all()
    assert (opened(rgb.convert("1")) == np.asarray(rgb.convert("1"))[..., None] * 255).all()
    palette = rgb.quantize(64)
    assert (opened(palette) == np.asarray(palette.convert("RGB"))).all()
    cmyk = rgb.convert("CMYK")
    assert (opened(cmyk, "tiff") == np.asarray(cmyk.convert("RGB"))).all()
    assert np.abs(opened(cmyk, "jpg", quality=100, subsampling=0).astype(int) - np.asarray(rgb)).mean() < 8
    assert (opened(rgb, "gif") == np.asarray(Image.open(tmp_path / "picture.gif").convert("RGB"))).all()


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tiff")
    Image.fromarray(deep.astype(np.int32)).save(tmp_path / "deep32.tiff")
    expected = np.rint(deep / 257)[..., None]
    for name in ("deep.png", "deep.tiff", "deep32.tiff"):
        assert (to_array(open_image(tmp_path / name)) == expected).all()


@pytest.mark.parametrize(
    "values",
    [
        np.full((4, 4), 70000, np.int32),
        np.full((4, 4), -1, np.int32),
        np.ones((4, 4), np.float32),
        np.full((4, 4), np.nan, np.float32),
    ],
)
def test_greys_of_no_known_range(tmp_path: Path, values: NDArray[np.generic]) -> None:
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(LowqError, match=r"a\.tiff.*8 or 16 bits"):
        open_image(tmp_path / "a.tiff")


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    rgba = texture(16, 24, 4)
    rgba[:8, :, 3], rgba[8:, :, 3] = 0, 255
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    shown = to_array(open_image(tmp_path / "rgba.png"))
    assert (shown[:8] == 255).all()
    assert (shown[8:] == rgba[8:, :, :3]).all()
    Image.fromarray(rgba[..., [0, 3]]).save(tmp_path / "la.png")
    shown = to_array(open_image(tmp_path / "la.png"))
    assert (shown[:8] == 255).all()
    assert (shown[8:] == rgba[8:, :, :1]).all()
    palette = Image.fromarray(rgba[..., :3]).quantize(8)
    palette.save(tmp_path / "p.png", transparency=0)
    shown = to_array(open_image(tmp_path / "p.png"))
    assert (shown[np.asarray(palette) == 0] == 255).all()


def test_first_of_several_frames(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    assert open_image(tmp_path / "a.tiff").getpixel((0, 0)) == (255, 0, 0)


def test_pixels_are_pillows_own(tmp_path: Path) -> None:
    Image.fromarray(texture(400, 600)).save(tmp_path / "a.jpg", quality=80)
    with Image.open(tmp_path / "a.jpg") as plain:
        assert (to_array(open_image(tmp_path / "a.jpg")) == np.asarray(plain)).all()


def jpeg_bytes() -> bytes:
    stored = BytesIO()
    Image.fromarray(texture(64, 64)).save(stored, "JPEG")
    return stored.getvalue()


def png_bytes() -> bytes:
    stored = BytesIO()
    Image.fromarray(texture(64, 64)).save(stored, "PNG")
    return stored.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.jpg", b"", "file is empty"),
        ("text.jpg", b"<html>404 not found</html>", "not a picture"),
        ("cut.jpg", jpeg_bytes()[:1500], "truncated"),
        ("cut.png", png_bytes()[:1500], "truncated"),
        ("head.jpg", jpeg_bytes()[:3], "not a picture"),
        ("flipped.png", png_bytes()[:3000] + bytes(64) + png_bytes()[3064:], "truncated or broken"),
    ],
)
def test_bad_files_end_in_a_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LowqError, match=said) as error:
        open_image(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "list" in message  # the mend


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(LowqError, match=r"gone\.jpg: no such picture"):
        open_image(tmp_path / "gone.jpg")
    with pytest.raises(LowqError, match="is a folder"):
        open_image(str(tmp_path))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["jpg", "png", "gif", "bmp", "tiff", "webp"]), st.data())
def test_damaged_bytes_never_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"a.{suffix}"
    Image.fromarray(texture(24, 24)).save(path)
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(LowqError):
        assert open_image(path).mode == "RGB"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 60), min_size=4, max_size=4))
def test_crop_is_pillows(box: list[float]) -> None:
    image = Image.fromarray(texture(60, 60))
    x1, x2, y1, y2 = *sorted(box[:2]), *sorted(box[2:])
    if round(x2) <= round(x1) or round(y2) <= round(y1):
        with pytest.raises(LowqError, match="no area"):
            crop(image, (x1, y1, x2, y2))
    else:
        expected = texture(60, 60)[round(y1) : round(y2), round(x1) : round(x2)]
        assert (to_array(crop(image, (x1, y1, x2, y2))) == expected).all()
        assert (to_array(image.crop((x1, y1, x2, y2))) == expected).all()


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((10, 10, 10, 20), "no area"),
        ((30, 10, 10, 20), "no area"),
        ((10.1, 10, 10.4, 20), "no area"),
        ((0, 0, 101.5, 80), "outside"),
        ((0, 0, 100, 82), "outside"),
        ((-3, 0, 50, 50), "outside"),
        ((0, -1.1, 50, 50), "outside"),
        ((200, 200, 300, 300), "outside"),
        ((math.nan, 0, 50, 50), "four finite numbers"),
        ((0, 0, math.inf, 50), "four finite numbers"),
        ((0, 0, 50), "four finite numbers"),
    ],
)
def test_bad_boxes_name_picture_box_and_size(box: tuple[float, ...], said: str) -> None:
    with pytest.raises(LowqError, match=said) as error:
        crop(Image.new("RGB", (100, 80)), box, what="photos/a.jpg")  # type: ignore[arg-type]
    message = str(error.value)
    assert message.startswith("photos/a.jpg: box (")
    if said != "four finite numbers":
        assert "100 x 80" in message


def test_box_may_hang_over_by_rounding() -> None:
    image = Image.new("RGB", (100, 80), "white")
    assert crop(image, (-0.4, 0, 100.4, 80)).size == (100, 80)
    assert crop(image, (1, 1, 101, 81)).size == (100, 80)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 400))
def test_resize_longer(width: int, height: int, size: int) -> None:
    image = Image.new("RGB", (width, height))
    resized = resize_longer(image, size)
    assert max(resized.size) == min(size, max(width, height))
    ratio = max(resized.size) / max(width, height)
    for before, after in zip(image.size, resized.size, strict=True):
        assert abs(after - before * ratio) < 1 or after == 1
    assert image.size == (width, height)


def test_resize_is_pillows_lanczos() -> None:
    image = Image.fromarray(texture(480, 640))
    expected = image.resize((100, 75), Image.Resampling.LANCZOS)
    assert (to_array(resize_longer(image, 100)) == np.asarray(expected)).all()
    assert (to_array(resize_longer(image, None)) == np.asarray(image)).all()
    assert resize_longer(image, 5000) is not image
    for size in (0, -3):
        with pytest.raises(LowqError, match=f"size {size}"):
            resize_longer(image, size)


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 5000)] * 5)
def test_query_size_keeps_the_zoom(size: int, w: int, h: int, more_w: int, more_h: int) -> None:
    full = (w + more_w, h + more_h)
    ours = query_size(size, (w, h), full)
    exact = size * max(w, h) / max(full)
    assert ours == max(1, math.floor(exact + 1e-9))
    assert 1 <= ours <= size


def test_picture_crops_then_degrades_then_resizes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(texture(300, 400)).save(path)
    noise = Noise("gaussian_blur", 4, seed=0)
    picture = pickle.loads(pickle.dumps(Picture(path, "a", (100.0, 50.0, 300.0, 150.0), noise)))
    part = degrade(texture(300, 400)[50:150, 100:300], "gaussian_blur", 4, 0)
    assert (to_array(picture.load(None)) == part).all()
    expected = Image.fromarray(part)
    expected.thumbnail((100, 100), Image.Resampling.LANCZOS)  # 200 of 400 pixels, at 200: 100
    assert (to_array(picture.load(200)) == np.asarray(expected)).all()


def test_picture_is_restored_after_the_noise_and_before_it_is_made_small(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    noise = Noise("impulse", 3, seed=5)
    picture = Picture(tmp_path / "a.png", "a", (10, 5, 70, 45), noise, restorer="median")
    wanted = restore(noise(pixels[5:45, 10:70]), "median")
    assert np.array_equal(to_array(picture.load(None)), wanted)
    assert np.array_equal(to_array(picture.load(40)), to_array(resize_longer(from_array(wanted), 30)))


def test_picture_without_box_or_noise(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(texture(30, 40)).save(path)
    assert Picture(path, "a").load(20).size == (20, 15)
    assert Picture(path, "a").load(1000).size == (40, 30)  # never enlarged
    assert Picture(path, "a", (0, 0, 20, 30)).load(1000).size == (20, 30)
    with pytest.raises(LowqError, match=r"a\.png: box"):
        Picture(path, "a", (0, 0, 80, 30)).load(None)


def test_arrays() -> None:
    image = Image.fromarray(texture(6, 7))
    values = to_array(image)
    values[0, 0] = 0
    assert (np.asarray(image) == texture(6, 7)).all()
    assert to_array(Image.new("L", (3, 2), 9)).tolist() == [[[9, 9, 9]] * 3] * 2
    assert (to_array(from_array(texture(6, 7))) == texture(6, 7)).all()
    assert (to_array(from_array(texture(6, 7)[::-1, ::2])) == texture(6, 7)[::-1, ::2]).all()
    for bad in (np.zeros((3, 3), np.uint8), np.zeros((3, 3, 4), np.uint8), np.zeros((3, 3, 3))):
        with pytest.raises(LowqError, match="uint8 of shape"):
            from_array(bad)


def test_real_queries_are_cut_as_the_authors_do(lowq_data: Path) -> None:
    folder = lowq_data / "rparis_mini"
    truth = json.loads((folder / "gnd_rparis_mini.json").read_text())
    for name, query in zip(truth["qimlist"], truth["gnd"], strict=True):
        path = folder / "jpg" / f"{name}.jpg"
        with Image.open(path) as plain:
            expected = plain.convert("RGB").crop(query["bbx"])
            full = plain.size
        expected.thumbnail((448 * max(expected.size) / max(full),) * 2, Image.Resampling.LANCZOS)
        ours = Picture(path, name, tuple(query["bbx"])).load(448)
        assert (to_array(ours) == np.asarray(expected)).all()
