"""Folders of anybody's photos."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lowq_core.errors import LowqError
from lowq_core.extraction.extract import EmbedConfig, embed
from lowq_core.extraction.features import Features
from lowq_core.images import Picture
from lowq_core.methods.folders import extract_folder, find, folder_pictures
from lowq_core.methods.pipeline import Pipeline, quiet
from lowq_core.reproduce.store import Store

CONFIG = EmbedConfig(heads=("gem",), size=48)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline.for_profile("smoke", store=Store(tmp_path / "store"), say=quiet, size=48)


def test_pictures_of_all_depths_in_order(tiny: Path) -> None:
    (tiny / ".hidden.png").touch()
    (tiny / "notes.txt").touch()
    names = [picture.name for picture in folder_pictures(tiny)]
    assert names == sorted(names)
    assert len(names) == 16
    assert all((tiny / name).is_file() for name in names)


def test_extract_folder_says_what_it_did(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tiny / "bad.jpg").touch()
    told = extract_folder(tiny, out, CONFIG)
    assert told.splitlines()[0] == f"{out}: 17 pictures, 1280 dimensions (gem)"
    assert told.splitlines()[1].startswith(f"left out: {tiny / 'bad.jpg'}: the file is empty")
    features = Features.open(out / "gem")
    pictures = [Picture(tiny / name, name) for name in features.names if name != "bad.jpg"]
    np.testing.assert_array_equal(features.descriptors[1:], embed(pictures, CONFIG)["gem"])


def test_shards_of_a_folder(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for shard in ("2/3", "3/3"):
        assert extract_folder(tiny, out, CONFIG, shard) == f"{out}: shard {shard} is done; others are not yet"
    assert extract_folder(tiny, out, CONFIG, "1/3").startswith(f"{out}: 16 pictures")
    for shard in ("0/3", "4/3", "3", "a/b", "1/", "-1/2", "1/2/3", ""):
        with pytest.raises(LowqError, match="such as 3/10"):
            extract_folder(tiny, out, CONFIG, shard)


def test_find_puts_the_same_place_first(tiny: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    query = tmp_path / "query.png"
    shutil.move(tiny / "jpg" / "b" / "b4.png", query)
    shutil.copy(query, tiny / "jpg" / "again.png")
    found = find(query, tiny / "jpg", pipeline=pipeline)
    assert len(found) == 10
    assert found[0] == ("again.png", pytest.approx(1, abs=1e-6))
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    assert find(query, tiny / "jpg", k=3, pipeline=pipeline) == found[:3]
    assert len(find(query, tiny / "jpg", k=16, pipeline=pipeline)) == 16
    with pytest.raises(LowqError, match=r"k=17: .*between 1 and 16"):
        find(query, tiny / "jpg", k=17, pipeline=pipeline)


def test_find_looks_into_the_box(tiny: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    box = (10.0, 8.0, 70.0, 60.0)
    photo = tiny / "jpg" / "c" / "c1.png"
    found = find(photo, tiny / "jpg", bbx=box, k=16, pipeline=pipeline)
    config = EmbedConfig(pipeline.embed.backbone, size=48)
    query = embed([Picture(photo, "q", box)], config)["gem"]
    rows = embed([Picture(tiny / "jpg" / name, name) for name, _ in found], config)["gem"]
    np.testing.assert_allclose([score for _, score in found], (query @ rows.T)[0], atol=1e-6)


def test_what_cannot_be_read_is_not_found(tiny: Path, pipeline: Pipeline) -> None:
    for name in ("bad.jpg", "worse.png"):
        (tiny / "jpg" / name).write_bytes(b"no picture")
    found = find(tiny / "jpg" / "a" / "a0.png", tiny / "jpg", k=18, pipeline=pipeline)
    assert len(found) == 16
    assert not {"bad.jpg", "worse.png"} & {name for name, _ in found}


def test_a_bad_query_is_told_before_anything_is_computed(tiny: Path, pipeline: Pipeline) -> None:
    with pytest.raises(LowqError, match="no such picture"):
        find(tiny / "none.png", tiny, pipeline=pipeline)
    with pytest.raises(LowqError, match="has no area"):
        find(tiny / "jpg" / "lone.png", tiny, bbx=(3.0, 3.0, 3.0, 9.0), pipeline=pipeline)
    with pytest.raises(LowqError, match="no such folder"):
        find(tiny / "jpg" / "lone.png", tiny / "nowhere", pipeline=pipeline)
    with pytest.raises(LowqError, match="'best'"):
        find(tiny / "jpg" / "lone.png", tiny, "best", pipeline=pipeline)
    assert not pipeline.store.root.exists()
