"""The recipe of AdapNet on little pictures: what each term sees, where it starts, and where a run ends."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from lowq_core.errors import LowqError
from lowq_core.losses.infonce import info_nce
from lowq_core.losses.noiretrieval import NoiRetrieval
from lowq_core.losses.quality import QualityMarginLoss
from lowq_core.losses.siblings import ArcFace
from lowq_core.models.adapnet import AdapNet, AdapNetConfig, adapnet
from lowq_core.models.adapnet_checkpoints import load_adapnet
from lowq_core.models.backbone import Backbone
from lowq_core.training import adapnet as training_adapnet
from lowq_core.training.adapnet import ROWS, AdapNetTraining, row, train_adapnet
from lowq_core.training.adapnet_recipe import AdapNetRecipe, Loaded, fit_classifier
from lowq_core.training.adapnet_settings import MARGINS
from lowq_core.training.classes import TrainingClasses
from lowq_core.training.folder import RunFolder
from lowq_core.training.frozen_maps import (
    FrozenMaps,
    frozen_bytes,
    plain_crop,
    write_bad_maps,
    write_clean_maps,
)
from lowq_core.training.loop import freeze_statistics
from lowq_core.training.tuples import TrainingTuples

LITTLE = AdapNetConfig(branches=2)


def training(**overrides: object) -> AdapNetTraining:
    small = {"config": LITTLE, "epochs": 2, "batch": 8, "group": 4, "size": 32, "lr": 1e-3, "lr_new": 3.0}
    return AdapNetTraining(**(small | overrides))  # type: ignore[arg-type]


def network(config: AdapNetConfig = LITTLE, weights: str | None = None) -> AdapNet:
    """AdapNet on a trunk of two layers, with weights that the seed decides."""
    body = nn.Sequential()
    body.add_module("conv1", nn.Conv2d(3, 12, 5, 4, 2))
    body.add_module("layer1", nn.Sequential(nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1)))
    return AdapNet(config, Backbone("little", body, 16, stride=8)).eval()


@pytest.fixture
def places(data: TrainingTuples) -> TrainingClasses:
    return TrainingClasses("places", data.pictures, data.clusters)


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_adapnet, "adapnet", network)


def recipe_of(told: AdapNetTraining, places: TrainingClasses) -> AdapNetRecipe:
    torch.manual_seed(0)
    return AdapNetRecipe(told, places, network(told.config))


def test_an_epoch_draws_pictures_and_seeds_anew(places: TrainingClasses) -> None:
    recipe = recipe_of(training(pictures_per_epoch=15), places)
    first, second = recipe.epoch(0), recipe.epoch(1)
    assert first == recipe.epoch(0)
    assert {item.picture for item in first} != {item.picture for item in second}
    assert len(first) == len({item.picture for item in first}) == 15
    assert not {item.seed for item in first} & {item.seed for item in second}
    assert len(recipe_of(training(), places).epoch(0)) == 20


def test_the_loss_is_the_sum_of_its_terms(places: TrainingClasses) -> None:
    recipe = recipe_of(training(alpha=0.5, beta=2.0, stop_gradient=False), places)
    group = [recipe.load(item) for item in recipe.epoch(0)[:4]]
    assert [pair.label for pair in group] == [places.labels[item.picture] for item in recipe.epoch(0)[:4]]
    model = recipe.model.eval()

    def batch(pictures: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255

    with torch.no_grad():
        bad, clean = (
            model.network.map(batch([getattr(p, side) for p in group])) for side in ("bad", "clean")
        )
        labels = torch.tensor([pair.label for pair in group])
        pooled = [model.network.pool(maps) for maps in (bad, clean)]
        classified = model.loss.classification(torch.cat(pooled), labels.repeat(2))
        cells = [nn.functional.adaptive_avg_pool2d(maps, 3) for maps in (bad, clean)]
        flat = [
            torch.stack([c[b, :, y, x] for b in range(4) for y in range(3) for x in range(3)]) for c in cells
        ]
        of_local = info_nce(*flat, labels.repeat_interleave(9))
        wanted = classified + 0.5 * info_nce(*pooled, labels) + 2.0 * of_local
        assert recipe.loss(group).item() == pytest.approx(4 * wanted.item(), rel=1e-5)


def test_the_block_has_a_learning_rate_of_its_own(places: TrainingClasses) -> None:
    """AdamW's first step has the size of the rate, whatever the gradient's; the rest of the block has none yet."""
    recipe = recipe_of(training(lr=1e-3, lr_new=3.0, lr_block=50.0, weight_decay=0.0), places)
    group = [recipe.load(item) for item in recipe.epoch(0)[:4]]
    optimiser, block = recipe.optimiser(), recipe.model.network.qcb
    classifier = recipe.model.loss.classification.weight
    assert block is not None
    before = [value.detach().clone() for value in (classifier, block.expand.weight)]
    recipe.loss(group).backward()
    optimiser.step()
    torch.testing.assert_close(block.gamma.abs(), torch.full_like(block.gamma, 0.05), rtol=1e-3, atol=0)
    assert (classifier - before[0]).abs().max().item() == pytest.approx(3e-3, rel=1e-2)
    assert torch.equal(block.expand.weight, before[1])


def test_distillation_is_held_to_the_untrained_network(places: TrainingClasses) -> None:
    recipe = recipe_of(row("distilled", training()), places)
    group = [recipe.load(item) for item in recipe.epoch(0)[:4]]
    crops = [plain_crop(recipe.training, recipe.data, i) for i in range(3)]
    plain = [Loaded(crop, crop, 0) for crop in crops]
    with torch.no_grad():
        of_bad = recipe.loss(group).item()
        assert recipe.loss(plain).item() == pytest.approx(
            0, abs=1e-5
        )  # both sides clean, nothing trained yet
        for parameter in recipe.model.network.trunk.parameters():
            parameter.mul_(1.5)
        assert recipe.loss(plain).item() > 1e-3
    assert of_bad > 1e-3
    assert not any(p.requires_grad for p in recipe.teacher.parameters())  # type: ignore[union-attr]


def test_clean_rows_see_no_degraded_picture(places: TrainingClasses) -> None:
    recipe = recipe_of(row("finetuned", training()), places)
    group = [recipe.load(item) for item in recipe.epoch(0)[:4]]
    assert all(np.array_equal(pair.clean, pair.bad) for pair in group)
    labels = torch.tensor([pair.label for pair in group])
    x = torch.from_numpy(np.stack([pair.clean for pair in group])).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        wanted = recipe.model.loss.classification(recipe.model.network(x), labels)
        assert recipe.loss(group).item() == pytest.approx(4 * wanted.item(), rel=1e-5)


def test_rows_differ_in_what_they_are_named_for() -> None:
    base = training()
    rows = {name: row(name, base) for name in ROWS}
    assert rows["adapnet"] == base
    assert {name for name, told in rows.items() if told.config.branches} == {"qcb", "adapnet"}
    assert {name for name, told in rows.items() if told.classification == "noiretrieval"} == {
        "ngb",
        "adapnet",
    }
    assert {name for name, told in rows.items() if told.alpha} == {"qcb", "adapnet"}
    assert {name for name, told in rows.items() if not told.noises} == {"finetuned"}
    shared = (
        "epochs",
        "pictures_per_epoch",
        "batch",
        "group",
        "lr",
        "margin",
        "scale",
        "size",
        "frozen",
        "seed",
    )
    assert all(getattr(told, field) == getattr(base, field) for told in rows.values() for field in shared)
    with pytest.raises(LowqError, match="training row 'gan' is unknown"):
        row("gan", base)


def test_every_margin_classifies(places: TrainingClasses) -> None:
    for name in MARGINS:
        recipe = recipe_of(training(classification=name, alpha=0.0, beta=0.0), places)
        assert recipe.loss([recipe.load(item) for item in recipe.epoch(0)[:3]]).isfinite()
        assert len(recipe.model.loss.classification.weight) == 5  # type: ignore[arg-type]


def test_the_classifier_starts_at_the_mean_of_its_class(places: TrainingClasses) -> None:
    recipe = recipe_of(training(), places)
    fit_classifier(recipe)
    head = recipe.model.loss.classification
    assert isinstance(head, NoiRetrieval)
    vectors = []
    crops = dataclasses.replace(recipe.crops, noises=())
    with torch.no_grad():
        for i, picture in enumerate(places.pictures):
            x = torch.from_numpy(crops(picture, i).clean).permute(2, 0, 1)[None].float() / 255
            vectors.append(recipe.model.network(x)[0])
    found = torch.stack(vectors)
    for label in range(5):
        mean = nn.functional.normalize(found[places.labels == label]).mean(0)
        torch.testing.assert_close(
            head.weight[label], nn.functional.normalize(mean, dim=0), atol=1e-5, rtol=1e-4
        )
    norms = found.norm(dim=1)
    torch.testing.assert_close(head.statistics.mu, norms.mean())
    torch.testing.assert_close(head.statistics.sigma, norms.std())


@pytest.mark.parametrize(("name", "group"), [("noiretrieval", 4), ("adaface", 3), ("noiretrieval", 8)])
def test_norms_count_once_a_batch_whatever_its_groups(places: TrainingClasses, name: str, group: int) -> None:
    """Two batches of eight against the formula; a group's own loss is that of a batch which is this group."""
    recipe = recipe_of(training(classification=name), places)
    fit_classifier(recipe)
    model, optimiser = recipe.model.train(), recipe.optimiser()
    freeze_statistics(model)
    head = model.loss.classification
    assert isinstance(head, QualityMarginLoss)
    items = [recipe.load(item) for item in recipe.epoch(0)]
    for batch in (items[:8], items[8:16]):
        norms, mu, sigma = [], head.statistics.mu.item(), head.statistics.sigma.item()
        for first in range(0, 8, group):
            part = batch[first : first + group]
            with torch.no_grad():
                x = torch.from_numpy(np.stack([*(p.bad for p in part), *(p.clean for p in part)]))
                found = model.network(x.permute(0, 3, 1, 2).float() / 255)
                labels = torch.tensor([pair.label for pair in part] * 2)
                alone = copy.deepcopy(head)(found, labels).item()
            assert recipe.loss(part).item() / len(part) == pytest.approx(
                alone + _info_nce(recipe, part), rel=1e-4
            )
            norms.append(np.linalg.norm(found.double().numpy(), axis=1))
            assert head.statistics.mu.item() == pytest.approx(mu, rel=1e-9)
        n = np.concatenate(norms)
        optimiser.step()
        assert head.statistics.mu.item() == pytest.approx(0.99 * mu + 0.01 * n.mean(), rel=1e-6)
        assert head.statistics.sigma.item() == pytest.approx(0.99 * sigma + 0.01 * n.std(ddof=1), rel=1e-6)


def _info_nce(recipe: AdapNetRecipe, group: list[Loaded]) -> float:
    """Both InfoNCE terms of a group."""
    bad, clean = (
        recipe.model.network.map(
            torch.from_numpy(np.stack([getattr(p, side) for p in group])).permute(0, 3, 1, 2).float() / 255
        )
        for side in ("bad", "clean")
    )
    labels = torch.tensor([pair.label for pair in group])
    pooled = [recipe.model.network.pool(maps) for maps in (bad, clean)]
    cells = [
        nn.functional.adaptive_avg_pool2d(maps, 3).permute(0, 2, 3, 1).flatten(0, 2) for maps in (bad, clean)
    ]
    return (info_nce(*pooled, labels) + info_nce(*cells, labels.repeat_interleave(9))).item()


def test_bf16_stays_close_to_float32(little: None, places: TrainingClasses, tmp_path: Path) -> None:
    """All three terms and the margin by quality; bf16 keeps 8 bits, so a sum of such terms some 1 %."""
    losses, weights = [], []
    for precision in ("float32", "bf16"):
        told = training(epochs=2, precision=precision)
        file = train_adapnet(told, places, tmp_path / precision)
        losses.append([line["loss"] for line in RunFolder(tmp_path / precision).read_log() if "step" in line])
        weights.append(load_file(file))
    assert all(value.isfinite().all() for value in weights[1].values())
    assert {value.dtype for value in weights[1].values() if value.is_floating_point()} == {torch.float32}
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert losses[1] != losses[0]


def test_frozen_stages_stay_and_rates_differ(places: TrainingClasses) -> None:
    recipe = recipe_of(training(frozen=1, lr_block=7.0), places)
    names = {id(p): name for name, p in recipe.model.named_parameters()}
    groups = recipe.optimiser().param_groups
    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 7e-3, 3e-3])
    trunk = {names[id(p)] for p in groups[0]["params"]}
    assert trunk == {
        "network.pool.p",
        *(f"network.trunk.body.layer1.{i}.{which}" for i in (0, 2) for which in ("weight", "bias")),
    }
    for group, part in zip(groups[1:], ("network.trunk.refine.", "loss."), strict=True):
        assert all(names[id(p)].startswith(part) for p in group["params"])
    with pytest.raises(LowqError, match="little has 2 stages"):
        recipe_of(training(frozen=3), places)


def test_trained_resumed_and_refused(little: None, places: TrainingClasses, tmp_path: Path) -> None:
    told = training(epochs=3)
    calls = []

    def fails_once(model: AdapNet) -> float:
        assert not model.training
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return float(len(calls))

    whole = train_adapnet(told, places, tmp_path / "whole", lambda model: 1.0 + len(calls))
    with pytest.raises(KeyboardInterrupt):
        train_adapnet(told, places, tmp_path / "run", fails_once)
    resumed = train_adapnet(told, places, tmp_path / "run", fails_once)
    log = [line for line in RunFolder(tmp_path / "run").read_log() if "step" not in line]
    wanted = [line for line in RunFolder(tmp_path / "whole").read_log() if "step" not in line]
    assert [line["loss"] for line in log] == [line["loss"] for line in wanted]
    assert sorted(f.name for f in (tmp_path / "run").iterdir()) == [
        "config.json",
        "log.jsonl",
        "model.safetensors",
    ]
    written = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
    lists = {key: tuple(value) for key, value in written.items() if isinstance(value, list)}
    config = AdapNetConfig(**written.pop("config"))
    assert AdapNetTraining(config, **(written | lists)) == told
    assert train_adapnet(told, places, tmp_path / "run") == resumed
    with pytest.raises(LowqError, match=r"training\.alpha 1\.0, not 0\.5; choose another folder"):
        train_adapnet(dataclasses.replace(told, alpha=0.5), places, tmp_path / "run")
    assert whole.is_file()


def test_training_closes_in_on_the_clean_picture(
    little: None, places: TrainingClasses, tmp_path: Path
) -> None:
    told = row("distilled", training(epochs=6, lr=1e-2, noises=("low_light",), severities=(3,)))
    train_adapnet(told, places, tmp_path / "run")
    losses = [line["loss"] for line in RunFolder(tmp_path / "run").read_log() if "step" not in line]
    assert losses[-1] < 0.8 * losses[0]


def test_a_real_network_from_end_to_end(places: TrainingClasses, tmp_path: Path) -> None:
    told = training(config=AdapNetConfig("lite0", branches=1), epochs=1, pictures_per_epoch=4, frozen=7)
    found = load_adapnet(train_adapnet(told, places, tmp_path / "run"))
    assert found.config == told.config
    assert found.qcb is not None
    assert found.qcb.gamma.abs().max() > 0


def frozen_maps(told: AdapNetTraining, places: TrainingClasses, folder: Path) -> FrozenMaps:
    write_clean_maps(told, places, folder)
    write_bad_maps(told, places, folder)
    return FrozenMaps(folder, folder, told, len(places.pictures))


@pytest.mark.parametrize("name", ["adapnet", "distilled", "finetuned"])
def test_frozen_maps_change_nothing_but_the_time(places: TrainingClasses, tmp_path: Path, name: str) -> None:
    """Where the frozen stages have been run before, every loss is what it is without, up to rounding."""
    told = row(name, training(config=AdapNetConfig("lite0", branches=2), pictures_per_epoch=8, frozen=6))
    maps = frozen_maps(told, places, tmp_path)
    assert sum(array.nbytes for array in (maps.plain, maps.clean, maps.bad)) == frozen_bytes(told, 20)
    losses = []
    for given, out in ((None, "without"), (maps, "with")):
        train_adapnet(told, places, tmp_path / out, maps=given)
        losses.append([line["loss"] for line in RunFolder(tmp_path / out).read_log()])
    assert len(losses[0]) == 4  # a step and a summary an epoch
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    assert losses[0][0] != losses[0][2]


def test_frozen_maps_know_their_items(places: TrainingClasses, tmp_path: Path) -> None:
    told = training(config=AdapNetConfig("lite0", branches=1), pictures_per_epoch=3, epochs=1, frozen=1)
    maps = frozen_maps(told, places, tmp_path)
    assert maps.plain.shape[0] == 20
    recipe = AdapNetRecipe(told, places, adapnet(told.config))
    with torch.no_grad():
        for item in recipe.epoch(0):
            loaded = recipe.load(item)
            wanted = recipe.start([loaded.bad, loaded.clean]).numpy()
            np.testing.assert_allclose(np.stack(maps[item]), wanted, atol=1e-4)
    with pytest.raises(LowqError, match="lite0 has 9 stages"):
        write_bad_maps(dataclasses.replace(told, frozen=10), places, tmp_path)


def test_bad_input(little: None, places: TrainingClasses, tmp_path: Path) -> None:
    for overrides, message in (
        ({"classification": "triplet"}, "classification 'triplet' is unknown"),
        ({"classification": None, "alpha": 0.0, "beta": 0.0}, "nothing to train for"),
        ({"noises": ()}, "InfoNCE needs degraded copies"),
        ({"noises": ("rain",)}, "there is no noise 'rain'"),
        ({"alpha": -1.0}, "alpha=-1"),
        ({"lr": 0.0}, "lr=0"),
        ({"frozen": -1}, "frozen=-1"),
        ({"pictures_per_epoch": 0}, "pictures_per_epoch=0"),
        ({"epochs": 0}, "epochs=0"),
        ({"severities": (6,)}, "severities"),
    ):
        with pytest.raises(LowqError, match=message):
            training(**overrides)
    with pytest.raises(LowqError, match="class_start 'zero' is unknown"):
        training(class_start="zero")
    places.pictures[3].path.write_bytes(b"broken")
    with pytest.raises(LowqError, match=r"03\.png: not a picture"):
        train_adapnet(training(), places, tmp_path / "picture")


@pytest.mark.parametrize("trained", [train_adapnet, write_clean_maps, write_bad_maps])
def test_a_picture_that_cannot_be_used_is_named(
    little: None, places: TrainingClasses, tmp_path: Path, trained: Callable[..., object]
) -> None:
    bad = places.pictures[3].path
    Image.fromarray(np.full((72, 96), np.nan, np.float32)).save(bad, "TIFF")
    with pytest.raises(LowqError, match=f"{bad}: grey levels are floating-point numbers; save it with 8 or"):
        trained(training(epochs=1), places, tmp_path)


@pytest.mark.parametrize("name", MARGINS)
def test_a_class_of_one_picture_is_trained_with(
    little: None, places: TrainingClasses, tmp_path: Path, name: str
) -> None:
    few = TrainingClasses("few", places.pictures[:17], places.labels[:17])
    assert np.bincount(few.labels).tolist() == [4, 4, 4, 4, 1]
    told = training(classification=name, noises=("low_light",))
    recipe = recipe_of(told, few)
    fit_classifier(recipe)
    with torch.no_grad():
        crop = plain_crop(told, few, 16)
        alone = recipe.describe(recipe.model.network, recipe.start([crop]))
        torch.testing.assert_close(
            recipe.model.loss.classification.weight[4],
            nn.functional.normalize(alone, dim=1)[0],
            atol=1e-5,
            rtol=1e-4,
        )
    train_adapnet(told, few, tmp_path)
    losses = [line["loss"] for line in RunFolder(tmp_path).read_log()]
    assert len(losses) == 2 * (3 + 1)  # batches of 8, 8 and 1, and a summary, in each epoch
    assert np.isfinite(losses).all()


def test_alone_or_with_labels_that_have_gaps(places: TrainingClasses) -> None:
    """Cluster numbers with gaps are no obstacle; a batch of one picture, which has no negatives, adds 0."""
    recipe = recipe_of(training(), TrainingClasses("gaps", places.pictures, places.labels * 10 + 3))
    assert recipe.data.count == 5
    pair = recipe.load(recipe.epoch(0)[0])
    both = recipe_of(training(classification="arcface"), places)
    assert isinstance(both.model.loss.classification, ArcFace)
    with torch.no_grad():
        alone = both.loss([pair])
        assert alone.item() == pytest.approx(
            both.model.loss.classification(
                both.describe(both.model.network, both.start([pair.bad, pair.clean])),
                torch.tensor([pair.label] * 2),
            ).item(),
            rel=1e-5,
        )
