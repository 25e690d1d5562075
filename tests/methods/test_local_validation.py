"""Selection of an epoch by ASMK: the score is that of the parts put together by hand, and the best epoch is kept."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.pictures import database_pictures, query_pictures
from lowq_core.errors import LowqError
from lowq_core.evaluation.protocols import evaluate
from lowq_core.extraction.local import LocalConfig, embed_local
from lowq_core.methods.data import training_tuples
from lowq_core.methods.local import LocalPipeline
from lowq_core.methods.local_validation import AsmkValidation
from lowq_core.methods.parts import LocalMethod
from lowq_core.models.how import HOW, how
from lowq_core.models.how_checkpoints import load_how, save_how
from lowq_core.models.how_config import HowConfig
from lowq_core.reproduce.profiles import Profile, profile
from lowq_core.reproduce.settings import LocalSettings
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.asmk.codebook import Codebook
from lowq_core.retrieval.asmk.retriever import ASMK
from lowq_core.training.how import eccv20

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def smoke(tiny_porto: None) -> Profile:
    """The smoke profile, trained on the tiny pictures."""
    plain = profile("smoke", train=("porto",))
    local = replace(plain.local, dim=16, size=96, words=8, count=20, codebook_pictures=3, queries_per_epoch=2)
    return replace(plain, local=local)


def by_hand(model: HOW, benchmark: Benchmark, local: LocalSettings, words_of: list, folder: Path) -> float:
    save_how(model, folder / "by_hand.safetensors")
    config = LocalConfig(str(folder / "by_hand.safetensors"), local.size, local.scales, local.count)
    words = embed_local(words_of, replace(config, scales=(1.0,))).descriptors
    search = ASMK(codebook=Codebook.train(words, local.words))
    search.fit(embed_local(database_pictures(benchmark), config))
    ids = search.rank(embed_local(query_pictures(benchmark), config)).ids
    return float(np.nanmean(evaluate(ids, benchmark).per_query["medium"]))


def test_score_is_that_of_the_parts(
    smoke: Profile, town: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, local = training_tuples(smoke).pictures, smoke.local
    model = how(HowConfig(backbone=local.backbone, dim=local.dim))
    expected = by_hand(model, town, local, list(pictures[: local.codebook_pictures]), tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    assert AsmkValidation(town, pictures, local)(model) == pytest.approx(expected, abs=1e-9)
    assert not list(scratch.iterdir()), "features of a validation are left behind"


def test_nothing_to_find(smoke: Profile, town: Benchmark) -> None:
    none = np.zeros(0, np.int64)
    empty = replace(town, queries=tuple(replace(query, easy=none, hard=none) for query in town.queries))
    model = how(HowConfig(backbone=smoke.local.backbone, dim=smoke.local.dim))
    with pytest.raises(LowqError, match="no query has an answer"):
        AsmkValidation(empty, training_tuples(smoke).pictures, smoke.local)(model)


def test_the_pipeline_keeps_the_best_epoch(
    smoke: Profile, tiny: Path, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six epochs the fifth and the last are validated: the fifth is better."""
    scores = [60.0, 70.0]
    monkeypatch.setattr(AsmkValidation, "__call__", lambda self, model: scores.pop())
    settings = (
        replace(smoke.local, epochs=6, validation=str(tiny / "gnd_tiny.json")),
        replace(smoke.local, epochs=5),
    )
    store = Store(tmp_path / "store")
    selected, five_epochs = (
        load_how(
            LocalPipeline(replace(smoke, local=local), store, say=said.append).network(LocalMethod(seed=0))
        )
        for local in settings
    )
    assert not scores
    for (key, value), expected in zip(
        selected.state_dict().items(), five_epochs.state_dict().values(), strict=True
    ):
        np.testing.assert_array_equal(value.numpy(), expected.numpy(), err_msg=key)


def test_the_paper_profile_is_the_published_recipe() -> None:
    paper = profile("paper")
    for settings, backbone in ((paper.local, "resnet50-"), (paper.variants, "resnet18")):
        pipeline = LocalPipeline(replace(paper, local=settings), Store(Path("unused")))
        config = HowConfig(backbone=backbone, dim=128)
        assert asdict(pipeline.training(LocalMethod(seed=0))) == asdict(eccv20(config))
        assert (settings.words, settings.codebook_pictures, settings.count) == (65_536, 20_000, 1000)
        assert settings.scales == (2.0, 1.414, 1.0, 0.707, 0.5, 0.353, 0.25)
        assert settings.validation == "sfm120k"
