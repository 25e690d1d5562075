"""The recipe of HOW on little pictures: what it draws, mines, freezes and trains, and where a run ends."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from lowq_core.errors import LowqError
from lowq_core.images import to_array
from lowq_core.losses.contrastive import contrastive_loss
from lowq_core.models.backbone import Backbone
from lowq_core.models.how import HOW, how
from lowq_core.models.how_checkpoints import load_how
from lowq_core.models.how_config import HowConfig
from lowq_core.models.local_whitening import fit_local_whitening
from lowq_core.training import how as training_how
from lowq_core.training import how_recipe
from lowq_core.training.folder import RunFolder
from lowq_core.training.how import HowTraining, eccv20, train_how
from lowq_core.training.how_recipe import HowRecipe, describe, fit_whitening
from lowq_core.training.tuples import TrainingTuples

PLAIN = HowConfig(dim=8)
LEARNED = HowConfig(dim=8, smoothing="learnable")


def training(config: HowConfig = PLAIN, **overrides: object) -> HowTraining:
    small = {
        "epochs": 2,
        "queries_per_epoch": 6,
        "pool": 14,
        "negatives": 2,
        "batch": 4,
        "size": 64,
        "lr": 1e-4,
    }
    return HowTraining(config, **(small | overrides))  # type: ignore[arg-type]


def pixels(data: TrainingTuples, index: int, size: int = 64) -> torch.Tensor:
    array = to_array(data.pictures[index].load(size))
    return torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255


def network(config: HowConfig = PLAIN, weights: str | None = None) -> HOW:
    """HOW on a trunk of two layers, with weights that the seed decides."""
    convolutions = nn.Conv2d(3, 12, 5, 4, 2), nn.Conv2d(12, 16, 3, 2, 1)
    body = nn.Sequential(convolutions[0], nn.BatchNorm2d(12), nn.ReLU(), convolutions[1])
    return HOW(config, Backbone("little", body, 16, stride=8)).eval()


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_how, "how", network)


def test_tuples_of_an_epoch(data: TrainingTuples) -> None:
    recipe = HowRecipe(training(), data, network())
    first, again, second = recipe.epoch(0), recipe.epoch(0), recipe.epoch(1)
    assert first == again
    assert first != second
    pairs = set(zip(data.queries.tolist(), data.positives.tolist(), strict=True))
    for items in (first, second):
        assert len(items) == len({(item.query, item.positive) for item in items}) == 6
        for item in items:
            assert (item.query, item.positive) in pairs
            clusters = data.clusters[[item.query, *item.negatives]]
            assert len(set(clusters.tolist())) == 3  # two negatives, of two other places
    drawn = {index for item in recipe.epoch(0) for index in item.negatives}
    everything = HowRecipe(training(pool=99, queries_per_epoch=999), data, network())
    assert len(everything.epoch(0)) == len(pairs)
    assert drawn <= set(range(20))


def test_negatives_are_the_most_similar(data: TrainingTuples) -> None:
    model = network()
    recipe = HowRecipe(training(pool=20), data, model)
    with torch.no_grad():
        described = torch.cat([model(pixels(data, i)) for i in range(20)]).numpy()
    for item in recipe.epoch(0):
        scores = described @ described[item.query]
        others = [c for c in range(5) if c != data.clusters[item.query]]
        best = {c: max(np.flatnonzero(data.clusters == c), key=lambda i: scores[i]) for c in others}
        wanted = sorted(best.values(), key=lambda i: -scores[i])[:2]
        np.testing.assert_allclose(scores[list(item.negatives)], scores[wanted], atol=1e-5)


def test_described_as_the_network_does(data: TrainingTuples) -> None:
    model = network()
    fit_whitening(model, training(), data.pictures)
    with torch.no_grad():
        wanted = torch.cat([model(pixels(data, i)) for i in range(20)])
    found = describe(model, data.pictures, 64)
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    assert isinstance(model.trunk.body, type(network().trunk.body))  # the network itself is not rewritten


def test_whitening_is_fitted_on_the_strongest_smoothed_features(data: TrainingTuples, tmp_path: Path) -> None:
    model = network()
    vectors = []
    with torch.no_grad():
        for i in range(12):
            maps = model.maps(pixels(data, i))
            strongest = maps.attention.flatten().argsort(descending=True)[:7]
            vectors.append(maps.smoothed[0].flatten(1).T[strongest])
    weight, bias = fit_local_whitening(torch.cat(vectors).numpy(), 8)
    few = training(whitening_pictures=12, whitening_features=7)
    fit_whitening(model, few, data.pictures, tmp_path)
    torch.testing.assert_close(model.whitening.weight[:, :, 0, 0], weight, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(model.whitening.bias, bias, rtol=1e-2, atol=1e-2)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]  # the features are gone


def test_loss_of_a_group_is_that_of_its_tuples(data: TrainingTuples) -> None:
    model = network()
    recipe = HowRecipe(training(), data, model)
    items = recipe.epoch(0)[:2]
    wanted = 0.0
    with torch.no_grad():
        for item in items:
            described = torch.cat(
                [model(pixels(data, i)) for i in (item.query, item.positive, *item.negatives)]
            )
            wanted += contrastive_loss(
                described[:1], described[None, 1:], torch.tensor([[True, False, False]])
            ).item()
    assert recipe.loss([recipe.load(item) for item in items]).item() == pytest.approx(wanted, rel=1e-5)


def test_pictures_of_several_shapes_keep_their_order(data: TrainingTuples) -> None:
    model = network()
    generator = np.random.default_rng(0)
    shapes = [(40, 56), (56, 40), (40, 56), (32, 32), (56, 40)]
    pictures = [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    loss = HowRecipe(training(), data, model).loss([pictures])
    one_by_one = [torch.from_numpy(p).permute(2, 0, 1)[None].float() / 255 for p in pictures]
    described = torch.cat([model(x) for x in one_by_one])
    positive = torch.arange(4) == 0
    expected = contrastive_loss(described[:1], described[None, 1:], positive[None], training().margin)
    torch.testing.assert_close(loss, expected)


def test_learning_rates(data: TrainingTuples) -> None:
    model = network(LEARNED)
    groups = HowRecipe(training(LEARNED), data, model).optimiser().param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (1e-4, 1e-4),
        (1e-3, 1e-4),
        (1e-3, 0.0),
    ]
    names = {id(p): name for name, p in model.named_parameters()}
    found = [{names[id(p)] for p in group["params"]} for group in groups]
    assert found[0] == {name for name in names.values() if name.startswith("trunk.")}
    assert found[1] == {"smoothing.predict.weight"}
    assert found[2] == {"smoothing.predict.bias"}
    plain = HowRecipe(training(), data, network()).optimiser().param_groups
    assert [group["lr"] for group in plain] == [1e-4]


def test_trained_from_end_to_end(data: TrainingTuples, tmp_path: Path) -> None:
    out, told = (
        tmp_path / "run",
        training(LEARNED, epochs=2, queries_per_epoch=3, batch=2, negatives=1, size=32),
    )
    path = train_how(told, data, out)
    assert sorted(file.name for file in out.iterdir()) == ["config.json", "log.jsonl", "model.safetensors"]
    trained, untrained = load_how(path), how(LEARNED)
    fit_whitening(untrained, told, data.pictures)
    for name, value in untrained.named_parameters():
        moved = not torch.equal(value, dict(trained.named_parameters())[name])
        assert moved != name.startswith("whitening."), name
    for name, value in untrained.named_buffers():
        assert torch.equal(value, dict(trained.named_buffers())[name]), name
    written = json.loads((out / "config.json").read_text())["training"]
    assert HowTraining(HowConfig(**written.pop("config")), **written) == told
    steps = [line for line in RunFolder(out).read_log() if "step" in line]
    assert [(line["epoch"], line["step"]) for line in steps] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_training_lowers_the_loss(little: None, data: TrainingTuples, tmp_path: Path) -> None:
    """All pairs, the whole pool, the same ones at every epoch."""
    told = training(pool=20, queries_per_epoch=30, epochs=4, lr=3e-4)
    train_how(told, data, tmp_path / "run")
    losses = [line["loss"] for line in RunFolder(tmp_path / "run").read_log() if "step" not in line]
    assert losses[-1] < losses[0]


def test_a_finished_run_is_returned_and_another_refused(
    little: None, data: TrainingTuples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    path = train_how(training(epochs=1), data, out)
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in out.iterdir()}
    monkeypatch.setattr(how_recipe, "describe", None)
    assert train_how(training(epochs=1), data, out) == path
    assert {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in out.iterdir()} == before
    with pytest.raises(LowqError, match=r"training\.epochs 1, not 2; choose another folder"):
        train_how(training(), data, out)
    less = dataclasses.replace(data, queries=data.queries[1:], positives=data.positives[1:])
    with pytest.raises(LowqError, match=r"data\.digest"):
        train_how(training(epochs=1), less, out)


def test_resumed_with_equal_bytes_and_the_best_epoch(
    little: None, data: TrainingTuples, tmp_path: Path
) -> None:
    told = training(LEARNED, epochs=4, validate_every=1)
    scores = {}

    def validate(model: HOW) -> float:
        """Falls with every epoch."""
        assert not model.training
        described = torch.cat([model(pixels(data, i)) for i in range(4)])
        return (described[0] @ described[1:].T).mean().item()

    def fails_once(model: HOW) -> float:
        if len(scores) == 2:
            scores["stopped"] = 0.0
            raise KeyboardInterrupt
        score = validate(model)
        scores[len(scores)] = score
        return score

    whole = train_how(told, data, tmp_path / "whole", validate)
    with pytest.raises(KeyboardInterrupt):
        train_how(told, data, tmp_path / "run", fails_once)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    resumed = train_how(told, data, tmp_path / "run", fails_once)
    assert resumed.read_bytes() == whole.read_bytes()
    lines = [line for line in RunFolder(tmp_path / "run").read_log() if "step" not in line]
    best = max(lines, key=lambda line: line["validation"])
    with torch.no_grad():
        kept = network(LEARNED)
        kept.load_state_dict(load_file(resumed))
        assert validate(kept) == best["validation"]


def test_bad_input(little: None, data: TrainingTuples, tmp_path: Path) -> None:
    with pytest.raises(LowqError, match="enlarge the pool or ask for fewer"):
        train_how(training(negatives=5), data, tmp_path / "clusters")
    with pytest.raises(LowqError, match="device 'tpu' is unknown"):
        train_how(training(), data, tmp_path / "device", device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(LowqError, match="finds no GPU"):
            train_how(training(), data, tmp_path / "gpu", device="cuda")
    data.pictures[3].path.write_bytes(b"broken")
    with pytest.raises(LowqError, match=r"03\.png: not a picture"):
        train_how(training(), data, tmp_path / "picture")
    for field, value in (
        ("epochs", 0),
        ("queries_per_epoch", 0),
        ("pool", 0),
        ("negatives", 0),
        ("batch", 0),
        ("size", 0),
        ("whitening_pictures", 0),
        ("lr", 0.0),
        ("lr_context", -1.0),
        ("margin", 0.0),
        ("weight_decay", -1.0),
        ("decay", 0.0),
    ):
        with pytest.raises(LowqError, match=field):
            training(**{field: value})


def test_a_picture_that_cannot_be_used_is_named(little: None, data: TrainingTuples, tmp_path: Path) -> None:
    bad = data.pictures[3].path
    Image.fromarray(np.full((72, 96), np.nan, np.float32)).save(bad, "TIFF")
    with pytest.raises(LowqError, match=f"{bad}: grey levels are floating-point numbers; save it with 8 or"):
        train_how(training(), data, tmp_path / "run")


def test_the_published_recipe() -> None:
    told = eccv20(HowConfig(backbone="resnet18"))
    assert (told.lr, told.epochs, told.queries_per_epoch, told.pool, told.negatives) == (
        5e-6,
        20,
        2000,
        20_000,
        5,
    )
    assert (told.batch, told.weight_decay, told.decay, told.margin, told.size) == (5, 1e-4, 0.99, 0.8, 1024)
    assert (told.whitening_pictures, told.whitening_features, told.shrinkage) == (5000, 1000, 0.0)
    assert (told.validate_every, told.seed) == (5, 0)
    assert eccv20(HowConfig(backbone="resnet50-")).lr == 1e-6
    assert eccv20(HowConfig(backbone="resnet50-"), lr=3e-6, seed=4).lr == 3e-6
