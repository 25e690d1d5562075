"""Hessian-affine features and activation regions: their places, on disk as in memory, bad pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from lowq_core.errors import LowqError
from lowq_core.extraction.activation_regions import ActivationRegions, regions_of
from lowq_core.extraction.hessian_affine import HessianAffine
from lowq_core.extraction.local_features import LocalFeatures
from lowq_core.extraction.local_job import embed_with, extract_with
from lowq_core.images import Picture
from lowq_core.models.backbone import backbone
from lowq_core.retrieval.verification.dsm import DeepSpatialMatching
from lowq_core.retrieval.verification.ransac import project
from lowq_core.retrieval.verification.rerank import Verification

AFFINITY = np.array([[0.85, -0.2, 60], [0.15, 0.9, 10]])

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of coloured patches, the same warped, one of noise, one flat, one tiny, one broken."""
    made = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(3)
    patches = np.zeros((240, 320, 3), np.uint8)
    for _ in range(150):
        centre, axes = generator.integers(0, (320, 240)).tolist(), generator.integers(4, 22, 2).tolist()
        colour = generator.integers(0, 256, 3).tolist()
        cv2.ellipse(patches, centre, axes, float(generator.uniform(0, 180)), 0, 360, colour, -1)
    Image.fromarray(patches).save(made / "one.png")
    Image.fromarray(cv2.warpAffine(patches, AFFINITY, (360, 300))).save(made / "warped.png")
    Image.fromarray(generator.integers(0, 256, (120, 160, 3), dtype=np.uint8)).save(made / "noise.png")
    Image.new("RGB", (90, 70), (120, 120, 120)).save(made / "flat.png")
    Image.new("RGB", (4, 3), (120, 10, 120)).save(made / "tiny.png")
    (made / "broken.png").write_bytes(b"no picture")
    return made


def picture(folder: Path, name: str, bbx: tuple[float, float, float, float] | None = None) -> Picture:
    return Picture(folder / f"{name}.png", name, bbx)


def same(a: LocalFeatures, b: LocalFeatures) -> None:
    assert a.names == b.names
    for name in ("descriptors", "strength", "xy", "scale", "offsets"):
        one, other = getattr(a, name), getattr(b, name)
        np.testing.assert_array_equal(one[: len(one)], other[: len(other)])


class TestHessianAffine:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("kornia")

    def test_finds_a_warped_picture_again(self, folder: Path) -> None:
        names = ["one", "warped", "noise", "flat", "tiny"]
        found = embed_with(HessianAffine(count=500), [picture(folder, name) for name in names])
        search = Verification(model="affine", threshold=3, features=500).fit(found)
        match = search.count(found[0], 1)
        assert match.transform is not None
        assert match.inliers > 40
        corners = np.array([[40, 40], [280, 40], [40, 200], [280, 200]]) + 0.5
        np.testing.assert_allclose(  # places count from the corner of the first pixel, OpenCV's from its middle
            project(match.transform, corners),
            (corners - 0.5) @ AFFINITY[:, :2].T + AFFINITY[:, 2] + 0.5,
            atol=1.0,
        )
        assert search.count(found[0], 2).inliers < 12
        assert np.diff(found.offsets)[3:].tolist() == [0, 0]

    def test_in_pixels_of_the_original(self, folder: Path) -> None:
        """Of a box, and of a picture brought down to half its size, features are where those of the whole are."""
        whole, boxed = (picture(folder, "one", bbx) for bbx in (None, (60, 40, 260, 220)))
        found = embed_with(HessianAffine(), [whole, boxed])
        half = embed_with(HessianAffine(size=160), [whole])
        for other in (found[1], half[0]):
            match = Verification(model="affine", threshold=2, features=1000).fit(found).count(other, 0)
            assert match.transform is not None
            assert match.inliers > 20
            np.testing.assert_allclose(match.transform[:2, :2], np.eye(2), atol=0.02)
            middle = np.array([[160.0, 120.0]])
            np.testing.assert_allclose(project(match.transform, middle), middle, atol=0.5)
            ratio = found[0].scale[match.pairs[:, 1]] / other.scale[match.pairs[:, 0]]
            assert 0.9 < np.median(ratio) < 1.1

    def test_the_middle_of_a_blob(self, tmp_path: Path) -> None:
        y, x = np.mgrid[:96, :128]
        blob = 255 * np.exp(-((x - 50.0) ** 2 + (y - 40.0) ** 2) / (2 * 6.0**2))
        Image.fromarray(blob.astype(np.uint8)).save(tmp_path / "blob.png")
        found = embed_with(HessianAffine(), [Picture(tmp_path / "blob.png", "blob")])
        np.testing.assert_allclose(found.xy[0], [50.5, 40.5], atol=0.3)
        assert found.strength[0] == 1

    def test_descriptors(self, folder: Path) -> None:
        found = embed_with(HessianAffine(count=50), [picture(folder, "one")])
        assert found.descriptors.shape[1] == 128
        assert 20 < len(found.xy) <= 50
        np.testing.assert_allclose(np.linalg.norm(found.descriptors[:], axis=1), 1, atol=1e-4)
        assert (np.diff(found.strength[:]) <= 0).all()
        assert (found.scale[:] > 0).all()

    def test_on_disk(self, folder: Path, tmp_path: Path) -> None:
        extractor = HessianAffine(count=60)
        pictures = [picture(folder, name) for name in ("one", "flat", "noise")]
        found = extract_with(extractor, pictures, tmp_path, progress=False, part_size=2)
        assert found is not None
        same(found, embed_with(extractor, pictures))
        assert found.manifest["config"]["features"] == "hessian_affine"
        with pytest.raises(LowqError, match="another config"):
            extract_with(
                dataclasses.replace(extractor, count=61), pictures, tmp_path, progress=False, part_size=2
            )


def test_bad_options() -> None:
    for options in ({"size": 0}, {"count": 0}):
        with pytest.raises(LowqError, match="1 or more"):
            HessianAffine(**options)
    for options, message in (
        ({"backbone": "vgg"}, "vgg"),
        ({"size": 0}, "size"),
        ({"scales": ()}, "scale"),
        ({"count": 0}, "count"),
    ):
        with pytest.raises(LowqError, match=message):
            ActivationRegions(**options)  # type: ignore[arg-type]


def bump(h: int, w: int, x: float, y: float, sx: float, sy: float) -> np.ndarray:
    rows, columns = np.mgrid[:h, :w]
    return np.exp(-(((columns - x) / sx) ** 2 + ((rows - y) / sy) ** 2) / 2).astype(np.float32)


def test_regions_by_hand() -> None:
    maps = np.zeros((5, 24, 32), np.float32)
    maps[0, 5:10, 8:16] = 2  # a plateau of 8 x 5 cells
    maps[1, 12:16, 20:24] = 1
    maps[1, 3:5, 27:31] = 0.5
    maps[2] = -bump(24, 32, 16, 12, 3, 3)  # negative: nothing
    maps[3, 20, 2:12] = 2  # one cell high: no area
    maps[4] = 1.5  # all of the map
    found = regions_of(maps, query=True)
    assert found.channel.tolist() == [0, 1, 1]
    np.testing.assert_allclose(found.centre, [[11.5, 7], [21.5, 13.5], [28.5, 3.5]])
    np.testing.assert_allclose(found.peak, [2, 1, 0.5], atol=2 / 255)
    # of n cells in a row the variance is (n^2 - 1) / 12
    np.testing.assert_allclose(found.covariance[0], np.diag([63 / 12, 24 / 12]), atol=1e-9)
    np.testing.assert_allclose(found.covariance[2], np.diag([15 / 12, 3 / 12]), atol=1e-9)


def test_what_overlaps_in_a_database_picture() -> None:
    """Whatever their channels, of regions in one place the strongest stays; a query keeps all."""
    maps = np.zeros((3, 24, 32), np.float32)
    maps[0, 5:11, 8:14] = 1
    maps[1, 5:11, 9:15] = 2
    maps[2, 5:11, 20:26] = 0.5
    assert regions_of(maps, query=True).channel.tolist() == [0, 1, 2]
    assert regions_of(maps).channel.tolist() == [1, 2]


def test_cluttered_channels_say_nothing() -> None:
    maps = np.zeros((2, 60, 60), np.float32)
    corners = [(y, x) for y in range(0, 56, 8) for x in range(0, 56, 8)]
    for channel, count in ((0, 37), (1, 36)):
        for y, x in corners[:count]:
            maps[channel, y : y + 4, x : x + 4] = 1
    found = regions_of(maps, query=True)
    assert found.channel.tolist() == [1] * 20  # of 36 the strongest 20
    assert regions_of(maps).channel.tolist() == [1] * 10


def test_nothing_active_and_not_finite() -> None:
    assert len(regions_of(np.zeros((3, 9, 9), np.float32)).channel) == 0
    assert len(regions_of(-np.ones((3, 9, 9), np.float32)).channel) == 0
    assert len(regions_of(np.ones((2, 1, 1), np.float32)).channel) == 0
    with pytest.raises(LowqError, match="NaN"):
        regions_of(np.full((1, 4, 4), np.nan, np.float32))


@pytest.fixture(scope="module")
def extractor() -> ActivationRegions:
    return ActivationRegions(backbone="lite0-", size=320, scales=(1.0, 0.5))


def test_places_are_those_of_the_trunk(folder: Path, extractor: ActivationRegions) -> None:
    """Regions of scale 1 of an uncropped picture, against the map itself and `Backbone.centres`."""
    whole = embed_with(extractor, [picture(folder, "one")])[0]
    trunk = backbone("lite0-").eval()
    pixels = torch.from_numpy(np.array(Image.open(folder / "one.png"))).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        found = regions_of(trunk(pixels)[0].numpy())
    at = [trunk.centres(side).numpy() for side in (320, 240)]
    places = np.column_stack([np.interp(found.centre[:, i], np.arange(len(at[i])), at[i]) for i in (0, 1)])
    first = whole.scale == 1
    assert first.sum() == len(places)

    def in_order(channel: np.ndarray, xy: np.ndarray) -> np.ndarray:
        table = np.column_stack([channel, xy])
        return table[np.lexsort(table.round(1).T)]

    np.testing.assert_allclose(
        in_order(whole.descriptors[first, 0], whole.xy[first]), in_order(found.channel, places), atol=0.05
    )
    assert np.unique(whole.descriptors[first, 4]).tolist() == [16]
    assert np.unique(whole.descriptors[~first, 4]).tolist() == [32]
    assert whole.strength[0] == 1
    assert (np.diff(whole.strength) <= 0).all()


def test_regions_match_a_warped_picture(folder: Path, extractor: ActivationRegions) -> None:
    database = embed_with(extractor, [picture(folder, name) for name in ("warped", "noise", "flat", "tiny")])
    asked = dataclasses.replace(extractor, query=True)
    query = embed_with(asked, [picture(folder, "one"), picture(folder, "one", (40, 30, 280, 210))])
    search = DeepSpatialMatching().fit(database)
    for one in (query[0], query[1]):
        match = search.count(one, 0)
        assert match.transform is not None
        assert match.inliers > max(search.count(one, other).inliers for other in (1, 2, 3))
        corners = np.array([[100, 80], [220, 80], [100, 160], [220, 160]])
        error = project(match.transform, corners) - (corners @ AFFINITY[:, :2].T + AFFINITY[:, 2])
        assert np.abs(error).max() < 32  # two cells


def test_regions_on_disk(folder: Path, extractor: ActivationRegions, tmp_path: Path) -> None:
    pictures = [picture(folder, name) for name in ("one", "broken", "noise")]
    found = extract_with(extractor, pictures, tmp_path, progress=False, part_size=2)
    assert found is not None
    assert list(found.failed) == ["broken"]
    same(LocalFeatures.open(tmp_path), found)
    good = embed_with(extractor, [pictures[0], pictures[2]])
    np.testing.assert_array_equal(found.xy[: len(found.xy)], good.xy)
    DeepSpatialMatching().fit(found).save(
        tmp_path / "fitted"
    )  # over several parts, a picture without features
    search = DeepSpatialMatching.load(tmp_path / "fitted")
    assert [search.count(good[0], i).inliers for i in range(3)] == [
        DeepSpatialMatching().fit(found).count(good[0], i).inliers for i in range(3)
    ]
    config = found.manifest["config"]
    assert config["features"] == "activation_regions"
    assert len(config["weights"]) == 64
    with pytest.raises(LowqError, match=r"broken\.png"):
        embed_with(extractor, pictures)
