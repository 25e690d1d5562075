"""The pipeline: what is fitted is fitted once, what is kept is found again, means are means."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.catalogue import load_benchmark
from lowq_core.data.pictures import database_pictures, query_pictures
from lowq_core.degrade import KNOWN
from lowq_core.errors import LowqError
from lowq_core.evaluation.protocols import evaluate
from lowq_core.images import to_array
from lowq_core.methods import described
from lowq_core.methods.data import TrainingPairs, training_pairs
from lowq_core.methods.grammar import parse_method
from lowq_core.methods.parts import Method, Tuned
from lowq_core.methods.pipeline import Pipeline, quiet
from lowq_core.methods.whitenings import fit_whitening
from lowq_core.models.adapnet_checkpoints import load_adapnet
from lowq_core.models.backbone import backbone
from lowq_core.models.checkpoints import load_checkpoint
from lowq_core.models.pooling import l2n
from lowq_core.models.whitening import fit_lw, fit_pca_whitening
from lowq_core.reproduce.profiles import profile
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.augmentation import DatabaseAugmentation
from lowq_core.retrieval.catalogue import retriever
from lowq_core.retrieval.expansion import AverageQE
from lowq_core.retrieval.gss.retriever import GSS

GEM = Method()


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an untrained ResNet-18: 512 dimensions whiten faster than 1280."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(backbone("resnet18", "random").body.state_dict(), file)
    return file


@pytest.fixture
def pipeline(tmp_path: Path, tiny_porto: None, said: list[str], weights: Path) -> Pipeline:
    """Of the smoke profile, trained on the tiny pictures."""
    chosen = Pipeline.for_profile(
        "smoke",
        store=Store(tmp_path / "store"),
        say=said.append,
        size=64,
        backbone="resnet18",
        weights=str(weights),
    )
    tuned = replace(chosen.profile.tuned, frozen=2)  # a ResNet has fewer stages
    return replace(chosen, profile=profile("smoke", train=("porto",), tuned=tuned))


def steps(pipeline: Pipeline, step: str) -> set[Path]:
    return {path for path in (pipeline.store.root / step).glob("*") if not path.name.startswith(".")}


def published(path: Path, seed: int) -> Path:
    """A checkpoint in cirtorch's layout, with random weights."""
    torch.manual_seed(seed)
    network = torchvision.models.resnet18(weights=None)
    children = torch.nn.Sequential(*list(network.children())[:-2])
    state = {f"features.{key}": value for key, value in children.state_dict().items()}
    meta = {
        "architecture": "resnet18",
        "pooling": "gem",
        "local_whitening": False,
        "regional": False,
        "whitening": False,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "outputdim": 512,
    }
    torch.save({"meta": meta, "state_dict": state | {"pool.p": torch.tensor([2.5])}}, path)
    return path


# profiles


def test_the_profile_follows_the_photos(monkeypatch) -> None:
    monkeypatch.delenv("LOWQ_DATA", raising=False)
    assert Pipeline.for_profile().profile.name == "mini"
    monkeypatch.setenv("LOWQ_DATA", "/photos")
    chosen = Pipeline.for_profile(size=100, scales=None, say=quiet)
    assert chosen.profile.name == "real"
    assert (chosen.embed.size, chosen.embed.scales) == (100, profile("real").scales)
    with pytest.raises(LowqError, match="'huge'"):
        Pipeline.for_profile("huge")


# the store


def test_one_pass_over_the_pictures_serves_all_heads_and_later_calls(
    pipeline: Pipeline, town: Benchmark, monkeypatch
) -> None:
    first = {head: pipeline.database(Method(head), town) for head in ("mac", "spoc", "gem", "rmac")}
    assert len(steps(pipeline, "descriptors")) == 1
    assert all(values.shape == (13, 512) and values.dtype == np.float32 for values in first.values())

    def never(*_: object, **__: object) -> None:
        raise AssertionError("was kept")

    monkeypatch.setattr(described, "extract", never)
    for head, values in first.items():
        np.testing.assert_array_equal(pipeline.database(Method(head), town), values)
        np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-5)
    with pytest.raises(AssertionError, match="was kept"):
        replace(pipeline, embed=replace(pipeline.embed, size=48)).database(GEM, town)


def test_a_changed_picture_is_described_again(pipeline: Pipeline, town: Benchmark, tiny: Path) -> None:
    before = pipeline.database(GEM, town)
    shutil.copy(tiny / "jpg" / "lone.png", tiny / "jpg" / "a" / "a0.png")
    after = pipeline.database(GEM, town)
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [0]
    np.testing.assert_array_equal(after[0], after[-1])


@pytest.mark.parametrize("kind", ["pcaw", "lw"])
def test_a_whitening_is_fitted_once(pipeline: Pipeline, town: Benchmark, said: list[str], kind: str) -> None:
    method = parse_method(f"spoc+{kind}")
    first = pipeline.evaluate(method, town)
    assert said[0] == f"fitting {kind} on 15 pictures of porto"
    assert said[1].startswith("fitted in ")
    assert len(said) == 2
    again = pipeline.evaluate(method, town, {"jpeg": (5,)})
    assert len(said) == 2
    assert len(steps(pipeline, "whitening")) == 1
    for level, values in first.per_query["clean"].items():
        np.testing.assert_array_equal(again.per_query["clean"][level], values)
    assert first.configuration["train"] == ("porto",)
    assert pipeline.evaluate(Method("spoc"), town).configuration["train"] is None
    pipeline.whitening(parse_method(f"mac+{kind}"))
    assert len(steps(pipeline, "whitening")) == 2


def test_choices_are_made_with_other_training_pictures(pipeline: Pipeline) -> None:
    both = replace(
        pipeline, profile=replace(pipeline.profile, train=("ds4002", "porto"), choice_train=("porto",))
    )
    assert both.while_choosing().profile.train == ("porto",)
    assert replace(both.while_choosing(), profile=both.profile) == both


def test_landmarks_seen_in_training_are_told(pipeline: Pipeline, town: Benchmark, said: list[str]) -> None:
    seen = replace(town, name="porto")
    pipeline.evaluate(Method("spoc"), seen)
    assert said == []
    pipeline.evaluate(Method("spoc", "pcaw"), seen)
    assert said[0].startswith("porto: spoc+pcaw was trained on other photos of its landmarks")


def test_whitened_descriptors_are_those_of_the_fit(pipeline: Pipeline, town: Benchmark) -> None:
    pairs = training_pairs(pipeline.profile)
    assert len(pairs.pictures) == 15
    plain = pipeline.describe(GEM, pairs.pictures)
    want = fit_lw(plain, pairs.queries, pairs.positives, shrinkage=pipeline.profile.shrinkage)
    found = pipeline.database(Method("gem", "lw"), town)
    np.testing.assert_allclose(found, want.transform(pipeline.database(GEM, town)), atol=1e-5)


@pytest.mark.parametrize("kind", ["pcaw", "lw"])
def test_training_pictures_that_cannot_be_read_are_left_out(kind: str) -> None:
    generator = np.random.default_rng(3)
    found = generator.normal(size=(12, 4)).astype(np.float32)
    queries, positives = np.array([0, 2, 4, 6, 8, 10]), np.array([1, 3, 5, 7, 9, 11])
    holed = np.insert(found, 3, 0, axis=0)  # picture 3 of 13 is unreadable, and of the second pair
    shift = lambda ids: ids + (ids >= 3)  # noqa: E731
    extra = [np.append(shift(queries), 3), np.append(shift(positives), 0)]
    got = fit_whitening(kind, holed, TrainingPairs([], *extra), 0.1)
    want = (
        fit_pca_whitening(found, shrinkage=0.1)
        if kind == "pcaw"
        else fit_lw(found, queries, positives, shrinkage=0.1)
    )
    probe = generator.normal(size=(5, 4))
    np.testing.assert_allclose(got.transform(probe), want.transform(probe), atol=1e-6)


# means


def test_severities_and_groups_are_means(pipeline: Pipeline, town: Benchmark) -> None:
    report = pipeline.evaluate(GEM, town, dict.fromkeys(KNOWN, (2, 5)))
    assert set(report.per_query) == {"clean", "known", *KNOWN}
    for level in ("easy", "medium", "hard"):
        singles = {
            severity: pipeline.evaluate(GEM, town, {"impulse": (severity,)}).per_query["impulse"][level]
            for severity in (2, 5)
        }
        np.testing.assert_allclose(report.per_query["impulse"][level], (singles[2] + singles[5]) / 2)
        mean = sum(report.per_query[noise][level] for noise in KNOWN) / len(KNOWN)
        np.testing.assert_allclose(report.per_query["known"][level], mean)
    assert "held_out" not in report.per_query


def test_distractors_leave_the_noise_of_the_queries_alone(
    pipeline: Pipeline, town: Benchmark, tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "others").mkdir()
    shutil.copy(tiny / "jpg" / "lone.png", tmp_path / "others" / "other.png")
    more = load_benchmark(tiny / "gnd_tiny.json", distractors=tmp_path / "others")
    assert more.name == "tiny+others"
    assert query_pictures(more, ("shot", 5)) == query_pictures(town, ("shot", 5))
    noise = ("shot", 5)
    few, many = (pipeline.queries(GEM, one, noise) for one in (town, more))
    np.testing.assert_array_equal(few, many)
    assert pipeline.database(GEM, more).shape[0] == 14
    assert pipeline.digest(more) != pipeline.digest(town)


# bad pictures


def test_bad_pictures_are_told_and_resemble_nothing(
    pipeline: Pipeline, town: Benchmark, tiny: Path, said: list[str]
) -> None:
    bad = tiny / "jpg" / "b" / "b1.png"
    bad.write_bytes(bad.read_bytes()[:200])
    for method in (GEM, Method("gem", "lw")):
        said.clear()
        rows = pipeline.database(method, town)
        told = [words for words in said if words.startswith("left out")]
        assert len(told) == 1
        assert str(bad) in told[0]
        assert np.flatnonzero(~rows.any(axis=1)).tolist() == [5]
        assert (pipeline.queries(method, town) @ rows.T)[:, 5].tolist() == [0, 0, 0]
    strict = replace(pipeline, strict=True)
    with pytest.raises(LowqError, match=r"b1\.png: truncated"):  # kept by the runs above
        strict.database(GEM, town)
    with pytest.raises(LowqError, match=r"b1\.png: truncated"):  # not kept
        replace(strict, embed=replace(strict.embed, size=40)).database(GEM, town)
    assert len(steps(pipeline, "descriptors")) == 3  # database, queries, training pictures


def test_a_bad_picture_is_found_last_also_after_whitening(
    pipeline: Pipeline, town: Benchmark, tiny: Path
) -> None:
    bad = tiny / "jpg" / "a" / "a0.png"
    bad.write_bytes(b"no picture")
    only = replace(town, queries=(replace(town.queries[0], easy=np.array([0]), hard=[], junk=[]),))
    for method in (GEM, Method("gem", "pcaw")):
        report = pipeline.evaluate(method, only)
        assert report.map("clean", "easy") == pytest.approx(100 * (0 + 1 / 13) / 2)


def test_a_bad_query_is_an_error_that_says_why(pipeline: Pipeline, town: Benchmark, tiny: Path) -> None:
    boxed = replace(town.queries[1], bbx=(90.0, 60.0, 190.0, 160.0))
    with pytest.raises(LowqError, match=r"b4\.png: box \(90, 60, 190, 160\) reaches outside"):
        pipeline.queries(GEM, replace(town, queries=(boxed,)))
    bad = tiny / "jpg" / "b" / "b4.png"
    bad.write_bytes(bad.read_bytes()[:200])
    for noise in (None, ("fog", 1)):
        with pytest.raises(LowqError, match=r"b4\.png: truncated"):
            pipeline.queries(GEM, town, noise)
    assert not steps(pipeline, "descriptors")


# checkpoints


def test_a_checkpoint_is_a_method(pipeline: Pipeline, town: Benchmark, tmp_path: Path) -> None:
    path = published(tmp_path / "gem.pth", seed=1)
    method = parse_method(str(path))
    rows = pipeline.database(method, town)
    embedder = load_checkpoint(path).embedder
    for row, picture in zip(rows, database_pictures(town)[:3], strict=False):
        pixels = torch.from_numpy(np.asarray(picture.load(64), np.float32).transpose(2, 0, 1) / 255)
        with torch.inference_mode():
            np.testing.assert_allclose(row, embedder(pixels[None])["gem"][0], atol=1e-5)
    report = pipeline.evaluate(method, town)
    assert report.configuration["embed"]["backbone"] == "resnet18"
    assert report.configuration["embed"]["heads"] == ("gem",)
    kept = steps(pipeline, "descriptors")

    moved = tmp_path / "elsewhere" / "renamed.pth"
    moved.parent.mkdir()
    shutil.copy(path, moved)
    np.testing.assert_array_equal(pipeline.database(parse_method(str(moved)), town), rows)
    assert steps(pipeline, "descriptors") == kept  # its content counts, not its name

    published(path, seed=2)
    assert np.abs(pipeline.database(method, town) - rows).max() > 1e-3
    assert len(steps(pipeline, "descriptors")) == len(kept) + 1


def test_a_checkpoint_takes_a_whitening(pipeline: Pipeline, town: Benchmark, tmp_path: Path, said) -> None:
    path = published(tmp_path / "gem.pth", seed=1)
    report = pipeline.evaluate(parse_method(f"{path}+pcaw"), town)
    assert report.method == f"{path}+pcaw"
    assert said[0] == "fitting pcaw on 15 pictures of porto"
    published(path, seed=2)
    pipeline.evaluate(parse_method(f"{path}+pcaw"), town)
    assert len(steps(pipeline, "whitening")) == 2


def test_a_damaged_whitening_says_what_to_delete(pipeline: Pipeline, town: Benchmark) -> None:
    method = Method("gem", "pcaw")
    want = pipeline.database(method, town)
    (folder,) = steps(pipeline, "whitening")
    (folder / "whitening.safetensors").write_bytes(b"rust")
    with pytest.raises(LowqError, match=f"not a saved whitening; delete the folder {folder}, and it is made"):
        pipeline.database(method, town)
    shutil.rmtree(folder)
    np.testing.assert_array_equal(pipeline.database(method, town), want)


# digests


def test_the_digest_changes_with_pictures_boxes_and_truth(
    pipeline: Pipeline, town: Benchmark, tiny: Path
) -> None:
    digest = pipeline.digest(town)
    assert digest == pipeline.digest(load_benchmark(tiny / "gnd_tiny.json"))
    truth = json.loads((tiny / "gnd_tiny.json").read_text())
    for key, value in (("bbx", [9, 6, 88.5, 66]), ("easy", [0]), ("hard", [1])):
        changed = json.loads(json.dumps(truth))
        changed["gnd"][0][key] = value
        (tiny / "gnd_tiny.json").write_text(json.dumps(changed))
        assert pipeline.digest(load_benchmark(tiny / "gnd_tiny.json")) != digest
    (tiny / "gnd_tiny.json").write_text(json.dumps(truth))
    (tiny / "jpg" / "lone.png").touch()
    assert pipeline.digest(load_benchmark(tiny / "gnd_tiny.json")) == digest
    shutil.copy(tiny / "jpg" / "a" / "a0.png", tiny / "jpg" / "lone.png")
    assert pipeline.digest(load_benchmark(tiny / "gnd_tiny.json")) != digest


# trained trunks and restored queries


def test_a_trained_trunk_is_trained_once_and_described_with(
    pipeline: Pipeline, town: Benchmark, said: list[str]
) -> None:
    method = parse_method("gem+augmented")
    report = pipeline.evaluate(method, town)
    assert report.method == "gem+augmented"
    assert report.configuration["tuned"] == {
        "row": "augmented",
        "seed": 0,
        "changes": (),
        "drawn": None,
        "share": 1.0,
    }
    assert report.configuration["embed"]["weights"] is None
    assert sum("training on" in line for line in said) == 1
    (kept,) = steps(pipeline, "adapnet")
    network = load_adapnet(kept / "model.safetensors")
    with torch.inference_mode():
        photo = to_array(database_pictures(town)[0].load(64))
        x = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255
        wanted = l2n(network(x))[0]
    found = pipeline.database(method, town)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(found - pipeline.database(GEM, town)[0]).max() > 1e-4
    other = replace(
        method, tuned=Tuned("augmented", seed=1, changes=(("noises", ("jpeg",)), ("branches", 1)))
    )
    pipeline.describe(other, database_pictures(town))
    assert len(steps(pipeline, "adapnet")) == 2


def test_seeds_and_parts_of_the_training_pictures_give_networks_of_their_own(
    pipeline: Pipeline, town: Benchmark
) -> None:
    method = Method(tuned=Tuned("finetuned", drawn=(4, 2)))
    reports = pipeline.evaluate_seeds(method, (0, 1), town, {"jpeg": (5,)})
    assert [report.configuration["tuned"]["seed"] for report in reports] == [0, 1]
    assert len(steps(pipeline, "adapnet")) == 2
    alone = pipeline.evaluate(
        replace(method, tuned=Tuned("finetuned", seed=1, drawn=(4, 2))), town, {"jpeg": (5,)}
    )
    np.testing.assert_array_equal(reports[1].per_query["jpeg"]["easy"], alone.per_query["jpeg"]["easy"])
    np.testing.assert_array_equal(reports[1].per_query["known"]["easy"], alone.per_query["jpeg"]["easy"])
    logs = [
        json.loads((kept / "log.jsonl").read_text().splitlines()[0]) for kept in steps(pipeline, "adapnet")
    ]
    assert logs[0]["loss"] != logs[1]["loss"]
    assert len(pipeline.evaluate_seeds(GEM, (0, 1), town)) == 1


SMALL = {
    "dfs": {"k": 3},
    "dqe": {"negatives": 3},
    "dfst": {"k": 3, "truncation": 5},
    "gss": {"epochs": 2, "k": 3},
}


@pytest.mark.parametrize("part", ["aqe", "dqe", "dfs", "dfst", "gss"])
def test_a_search_ranks_as_its_retriever_does(pipeline: Pipeline, town: Benchmark, part: str) -> None:
    small = replace(pipeline, profile=replace(pipeline.profile, searches=SMALL))
    report = small.evaluate(parse_method(f"spoc+{part}"), town, {"jpeg": (5,)})
    assert report.method == f"spoc+{part}"
    assert report.configuration["search"] == {"name": part}
    search = retriever(part, **SMALL.get(part, {})).fit(pipeline.database(Method("spoc"), town))
    for condition, noise in (("clean", None), ("jpeg", ("jpeg", 5))):
        ids = search.rank(pipeline.queries(Method("spoc"), town, noise)).ids
        for level, values in evaluate(ids, town).per_query.items():
            np.testing.assert_allclose(report.per_query[condition][str(level)], values)
    assert len(steps(pipeline, "search")) == 1


def test_augmentation_comes_before_the_search(pipeline: Pipeline, town: Benchmark) -> None:
    small = replace(pipeline, profile=replace(pipeline.profile, searches={"dba": {"n": 2}, "aqe": {"n": 3}}))
    report = small.evaluate(parse_method("gem+dba+aqe"), town)
    database = DatabaseAugmentation(n=2).transform(pipeline.database(GEM, town))
    ids = AverageQE(n=3).fit(database).rank(pipeline.queries(GEM, town)).ids
    for level, values in evaluate(ids, town).per_query.items():
        np.testing.assert_allclose(report.per_query["clean"][str(level)], values)
    assert small.evaluate(parse_method("gem+dba"), town).method == "gem+dba"


def test_an_untrained_graph_network_is_gss_without_epochs(pipeline: Pipeline, town: Benchmark) -> None:
    small = replace(pipeline, profile=replace(pipeline.profile, searches={"gss-untrained": {"k": 3}}))
    report = small.evaluate(parse_method("gem+gss-untrained"), town)
    ids = GSS(k=3, epochs=0).fit(pipeline.database(GEM, town)).rank(pipeline.queries(GEM, town)).ids
    for level, values in evaluate(ids, town).per_query.items():
        np.testing.assert_allclose(report.per_query["clean"][str(level)], values)


def test_a_search_finds_in_a_folder_too(pipeline: Pipeline, town: Benchmark) -> None:
    pictures = database_pictures(town)
    query = query_pictures(town)[0]
    found = pipeline.search(parse_method("gem+aqe"), pictures, query)
    assert sorted(index for index, _ in found) == list(range(len(pictures)))
    ids = AverageQE().fit(pipeline.database(GEM, town)).rank(pipeline.queries(GEM, town)[:1]).ids[0]
    assert [index for index, _ in found] == ids.tolist()
    with pytest.raises(LowqError, match="k=50"):
        pipeline.search(Method(search="dfs", options=(("k", 50),)), pictures, query)


def test_queries_are_restored_and_the_database_is_not(pipeline: Pipeline, town: Benchmark) -> None:
    method = parse_method("gem+restored")
    assert np.array_equal(pipeline.database(method, town), pipeline.database(GEM, town))
    noise = ("impulse", 5)
    restored = [replace(p, restorer="auto") for p in query_pictures(town, noise)]
    found = pipeline.queries(method, town, noise)
    assert np.array_equal(found, pipeline.describe(GEM, restored))
    assert not np.array_equal(found, pipeline.queries(GEM, town, noise))
    clean = pipeline.search(method, database_pictures(town), query_pictures(town)[0])
    assert len(clean) == len(town.images)
