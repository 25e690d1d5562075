"""HOW + ASMK from end to end: what is made once is kept, and numbers are those of the parts put together by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.pictures import database_pictures, query_pictures
from lowq_core.errors import LowqError
from lowq_core.evaluation.protocols import evaluate
from lowq_core.extraction.extract import EmbedConfig
from lowq_core.extraction.local import LocalConfig, embed_local
from lowq_core.methods.data import training_tuples
from lowq_core.methods.folders import folder_pictures
from lowq_core.methods.local import LocalPipeline
from lowq_core.methods.parts import LocalMethod
from lowq_core.methods.pipeline import Pipeline
from lowq_core.models.how_checkpoints import load_how
from lowq_core.reproduce.profiles import profile
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.asmk.codebook import Codebook
from lowq_core.retrieval.asmk.retriever import ASMK

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def pipeline(tmp_path: Path, tiny_porto: None, said: list[str]) -> LocalPipeline:
    """Of the smoke profile, trained on the tiny pictures."""
    smoke = profile("smoke", train=("porto",))
    local = replace(smoke.local, dim=16, size=96, words=8, count=20, queries_per_epoch=2)
    return LocalPipeline(replace(smoke, local=local), Store(tmp_path / "store"), say=said.append)


def test_numbers_are_those_of_the_parts(pipeline: LocalPipeline, town: Benchmark) -> None:
    method, local = LocalMethod(seed=None), pipeline.profile.local
    found = pipeline.evaluate(method, town, {"jpeg": (1, 5)})
    model = str(pipeline.network(method))
    here = LocalConfig(model, local.size, local.scales, local.count)
    training = training_tuples(pipeline.profile).pictures[: local.codebook_pictures]
    words = embed_local(training, replace(here, scales=(1.0,))).descriptors
    search = ASMK(codebook=Codebook.train(words, local.words)).fit(embed_local(database_pictures(town), here))
    at = {
        level: evaluate(search.rank(embed_local(query_pictures(town, noise), here)).ids, town).per_query
        for level, noise in {0: None, 1: ("jpeg", 1), 5: ("jpeg", 5)}.items()
    }
    for level in ("easy", "medium", "hard"):
        np.testing.assert_array_equal(found.per_query["clean"][level], at[0][level])
        np.testing.assert_allclose(found.per_query["jpeg"][level], (at[1][level] + at[5][level]) / 2)


def test_what_was_made_is_kept(pipeline: LocalPipeline, town: Benchmark, said: list[str], tiny: Path) -> None:
    method = LocalMethod(seed=0)
    first = pipeline.evaluate(method, town)
    assert [words.split(":")[0].split(" in ")[0] for words in said] == ["how", "trained", "how"]
    again = pipeline.evaluate(method, town)
    assert len(said) == 3
    for level, values in first.per_query["clean"].items():
        np.testing.assert_array_equal(again.per_query["clean"][level], values)
    shutil.copy(tiny / "jpg" / "lone.png", tiny / "jpg" / "a" / "a0.png")
    before, after = (pipeline.features(method, database_pictures(town))[i].descriptors for i in (-1, 0))
    np.testing.assert_array_equal(before, after)


def test_training_changes_the_network(pipeline: LocalPipeline) -> None:
    plain, trained, other = (
        load_how(pipeline.network(LocalMethod(seed=seed))).state_dict() for seed in (None, 0, 1)
    )
    moved = [key for key in plain if not torch.equal(plain[key], trained[key])]
    assert any(key.startswith("trunk.body") for key in moved)
    assert any(not torch.equal(trained[key], other[key]) for key in moved)


def test_a_bad_query_is_an_error_and_a_bad_picture_is_told(
    pipeline: LocalPipeline, town: Benchmark, said: list[str], tiny: Path
) -> None:
    (tiny / "jpg" / "lone.png").write_bytes(b"not a picture")
    pipeline.index(LocalMethod(seed=None), database_pictures(town))
    assert any(words.startswith("left out: lone.png") for words in said)
    (tiny / "jpg" / "a" / "a4.png").write_bytes(b"not a picture")
    with pytest.raises(LowqError, match=r"a4\.png"):
        pipeline.evaluate(LocalMethod(seed=None), town)


def test_a_training_picture_that_cannot_be_used_is_named(pipeline: LocalPipeline, tmp_path: Path) -> None:
    bad = tmp_path / "data" / "porto" / "jpg" / "b" / "b2.png"
    Image.fromarray(np.full((72, 96), np.nan, np.float32)).save(bad, "TIFF")
    with pytest.raises(LowqError, match=f"{bad}: grey levels are floating-point numbers; save it with 8 or"):
        pipeline.network(LocalMethod(seed=None))


def test_a_checkpoint_is_used_as_it_is(pipeline: LocalPipeline, town: Benchmark, said: list[str]) -> None:
    model = pipeline.network(LocalMethod(seed=None))
    said.clear()
    by_file = pipeline.evaluate(LocalMethod(checkpoint=model), town)
    assert not any("training" in words for words in said)
    here = pipeline.evaluate(LocalMethod(seed=None), town)
    for level, values in here.per_query["clean"].items():
        np.testing.assert_array_equal(by_file.per_query["clean"][level], values)


def test_search_of_a_folder(pipeline: LocalPipeline, tiny: Path) -> None:
    """The one entrance of all methods: as the index ranks them, but for what cannot be read."""
    pictures = folder_pictures(tiny / "jpg")
    pictures[5].path.write_bytes(b"not a picture")
    method, query = LocalMethod(seed=None), pictures[3]
    found = Pipeline(pipeline.profile, EmbedConfig(), pipeline.store, say=pipeline.say).search(
        method, pictures, query
    )
    ranking = pipeline.index(method, pictures).rank(pipeline.features(method, [query]))
    assert [index for index, _ in found] == [i for i in ranking.ids[0].tolist() if i != 5]
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)


def test_sizes_of_the_pipeline_hold_for_local_descriptors(tmp_path: Path) -> None:
    pipeline = Pipeline.for_profile(
        "smoke", store=Store(tmp_path), size=48, scales=(1.0, 0.5), precision="bf16"
    )
    local = pipeline.local.profile.local
    assert (local.size, local.scales, local.precision) == (48, (1.0, 0.5), "bf16")
