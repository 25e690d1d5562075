"""`lowq evaluate`: what its JSON holds, against average precisions computed the long way."""

from __future__ import annotations

import json
import pickle
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lowq_core.cli import main
from lowq_core.degrade import HELD_OUT, KNOWN, NOISES, degrade, noise_seed
from lowq_core.models.backbone import backbone
from lowq_core.models.embedder import Embedder
from lowq_core.reproduce.profiles import profile

LEVELS = ("easy", "medium", "hard")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWQ_STORE", str(tmp_path / "store"))


def evaluate(tmp_path: Path, benchmark: Path, *more: str) -> dict[str, Any]:
    """What `lowq evaluate --json` writes."""
    out = tmp_path / "report.json"
    argv = ["evaluate", "--benchmark", str(benchmark), "--profile", "smoke", "--size", "96"]
    assert main([*argv, "--json", str(out), *more]) == 0

    def no_nan(word: str) -> float:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(out.read_text(), parse_constant=no_nan)


@cache
def network() -> Embedder:
    return Embedder(backbone(profile("smoke").backbone), ("gem",)).eval()


def descriptor(image: Image.Image) -> np.ndarray:
    pixels = torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1) / 255)
    with torch.inference_mode():
        return network()(pixels[None])["gem"][0].numpy()


def query_descriptor(folder: Path, name: str, box: list[float], noise: tuple[str, int] | None) -> np.ndarray:
    full = Image.open(folder / "jpg" / name).convert("RGB")
    image = full.crop(tuple(box))
    if noise:
        seed = noise_seed("tiny", name.removesuffix(".png"), *noise)
        image = Image.fromarray(degrade(np.array(image), *noise, seed))
    longer = 96 * max(image.size) // max(full.size)
    image.thumbnail((longer, longer), Image.Resampling.LANCZOS, reducing_gap=None)
    return descriptor(image)


def average_precision(order: list[int], positives: set[int], ignored: set[int]) -> float:
    """The revisited AP as one would do it by hand: trapezoids under precision over recall."""
    if not positives:
        return float("nan")
    kept = [picture for picture in order if picture not in ignored]
    area = 0.0
    for found, place in enumerate(place for place, picture in enumerate(kept) if picture in positives):
        before = found / place if place else 1.0
        area += (before + (found + 1) / (place + 1)) / 2 / len(positives)
    return 100 * area


def by_hand(
    folder: Path, noise: tuple[str, int] | None = None, more: tuple[Path, ...] = ()
) -> dict[str, list]:
    """Level -> AP of each query."""
    truth = json.loads((folder / "gnd_tiny.json").read_text())
    paths = [folder / "jpg" / name for name in truth["imlist"]] + list(more)
    database = np.stack([descriptor(Image.open(path).convert("RGB")) for path in paths])
    values: dict[str, list[float]] = {level: [] for level in LEVELS}
    for name, gnd in zip(truth["qimlist"], truth["gnd"], strict=True):
        scores = database @ query_descriptor(folder, name, gnd["bbx"], noise)
        order = np.argsort(-scores, kind="stable").tolist()
        easy, hard, junk = set(gnd["easy"]), set(gnd["hard"]), set(gnd["junk"])
        values["easy"].append(average_precision(order, easy, hard | junk))
        values["medium"].append(average_precision(order, easy | hard, junk))
        values["hard"].append(average_precision(order, hard, easy | junk))
    return values


def check(found: dict[str, list], wanted: dict[str, list]) -> None:
    for level in LEVELS:
        values = [np.nan if value is None else value for value in found[level]]
        np.testing.assert_allclose(values, wanted[level], atol=1e-6)


def test_all_noises_and_both_groups_beside_clean(tmp_path: Path, tiny: Path, capsys) -> None:
    report = evaluate(tmp_path, tiny / "gnd_tiny.json", "--degrade", "all:5")
    conditions = {"clean", "known", "held_out", *NOISES}
    for key in ("map", "interval", "per_query"):
        assert {c: tuple(v) for c, v in report[key].items()} == dict.fromkeys(conditions, LEVELS)
    assert report["benchmark"] == "tiny"
    assert report["queries"] == ["a/a4.png", "b/b4.png", "c/c4.png"]
    configuration = report["configuration"]
    assert configuration["noises"] == {noise: [5] for noise in NOISES}
    assert (configuration["method"], configuration["profile"]) == ("gem", "smoke")
    assert (configuration["embed"]["size"], configuration["embed"]["backbone"]) == (
        96,
        profile("smoke").backbone,
    )

    check(report["per_query"]["clean"], by_hand(tiny))
    for noise in ("gaussian", "jpeg", "fog"):
        check(report["per_query"][noise], by_hand(tiny, (noise, 5)))
    for group, members in (("known", KNOWN), ("held_out", HELD_OUT)):
        for level in LEVELS:
            mean = np.mean([report["map"][noise][level] for noise in members])
            assert report["map"][group][level] == pytest.approx(mean)
    for condition in conditions:
        for level in LEVELS:
            values = [value for value in report["per_query"][condition][level] if value is not None]
            low, high = report["interval"][condition][level]
            mean = report["map"][condition][level]
            assert mean == pytest.approx(np.mean(values))
            inside = np.diff([0, min(values), low, mean, high, max(values), 100])
            assert (inside > -1e-9).all()
        assert report["per_query"][condition]["hard"][2] is None
    table = capsys.readouterr().out
    assert table.startswith("gem on tiny: mAP in %")
    assert f"{report['map']['fog']['hard']:.1f} (" in table


def test_a_level_that_no_query_has_is_null(tmp_path: Path, tiny: Path) -> None:
    truth = json.loads((tiny / "gnd_tiny.json").read_text())
    truth["gnd"] = [gnd | {"hard": []} for gnd in truth["gnd"]]
    (tiny / "gnd_tiny.json").write_text(json.dumps(truth))
    report = evaluate(tmp_path, tiny / "gnd_tiny.json")
    assert report["map"]["clean"]["hard"] is None
    assert report["interval"]["clean"]["hard"] is None
    assert report["per_query"]["clean"]["hard"] == [None] * 3
    assert list(report["map"]) == ["clean"]


def test_without_a_severity_the_mean_over_all_five(tmp_path: Path, tiny: Path) -> None:
    report = evaluate(tmp_path, tiny / "gnd_tiny.json", "--degrade", "contrast,jpeg:2")
    assert list(report["map"]) == ["clean", "contrast", "jpeg"]
    singles = [by_hand(tiny, ("contrast", severity)) for severity in (1, 2, 3, 4, 5)]
    check(report["per_query"]["contrast"], {le: np.mean([s[le] for s in singles], axis=0) for le in LEVELS})
    check(report["per_query"]["jpeg"], by_hand(tiny, ("jpeg", 2)))


@pytest.mark.parametrize("spelling", ["bare", "no extension", "no folder", "images elsewhere", "pickle"])
def test_ground_truths_of_every_spelling_give_the_same(tmp_path: Path, tiny: Path, spelling: str) -> None:
    noise = ("--degrade", "gaussian:3")
    want = evaluate(tmp_path, tiny / "gnd_tiny.json", *noise)
    truth = json.loads((tiny / "gnd_tiny.json").read_text())
    more: tuple[str, ...] = ()
    path = tiny / "gnd_tiny.json"
    for key in ("imlist", "qimlist"):
        if spelling == "no extension":
            truth[key] = [name.removesuffix(".png") for name in truth[key]]
        if spelling in ("bare", "no folder"):
            truth[key] = [name.rpartition("/")[2] for name in truth[key]]
        if spelling == "bare":
            truth[key] = [name.removesuffix(".png") for name in truth[key]]
    if spelling == "images elsewhere":
        shutil.move(tiny / "jpg", tmp_path / "elsewhere")
        more = ("--images", str(tmp_path / "elsewhere"))
    if spelling == "pickle":
        path.unlink()
        path = tiny / "gnd_tiny.pkl"
        path.write_bytes(pickle.dumps(truth))
    else:
        path.write_text(json.dumps(truth))
    found = evaluate(tmp_path, path, *more, *noise)
    assert found["per_query"]["clean"] == want["per_query"]["clean"]
    if spelling not in ("bare", "no folder"):  # the name of the picture seeds its noise
        assert found["per_query"]["gaussian"] == want["per_query"]["gaussian"]


def test_distractors_are_searched_too(tmp_path: Path, tiny: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    generator = np.random.default_rng(9)
    for number in range(3):
        colours = generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((96, 72)).save(others / f"d{number}.png")
    for name in "ab":  # as near as it gets
        shutil.copy(tiny / "jpg" / name / f"{name}4.png", others / f"near_{name}.png")
    alone = evaluate(tmp_path, tiny / "gnd_tiny.json", "--degrade", "speckle:5")
    report = evaluate(
        tmp_path, tiny / "gnd_tiny.json", "--degrade", "speckle:5", "--distractors", str(others)
    )
    assert report["benchmark"] == "tiny+others"
    more = tuple(sorted(others.glob("*.png")))
    check(report["per_query"]["clean"], by_hand(tiny, None, more))
    check(report["per_query"]["speckle"], by_hand(tiny, ("speckle", 5), more))
    assert report["map"]["clean"]["medium"] < alone["map"]["clean"]["medium"]


def test_a_folder_of_folders_leaves_one_out(tmp_path: Path, tiny: Path) -> None:
    (tiny / "jpg" / "lone.png").unlink()
    report = evaluate(tmp_path, tiny / "jpg", "--method", "mac")
    assert len(report["queries"]) == 15
    assert report["map"]["clean"]["hard"] is None
    assert 0 < report["map"]["clean"]["medium"] <= 100


def test_one_bad_picture_is_reported_and_the_rest_evaluated(tmp_path: Path, tiny: Path, capsys) -> None:
    bad = tiny / "jpg" / "a" / "a0.png"
    bad.write_bytes(bad.read_bytes()[:300])
    evaluate(tmp_path, tiny / "gnd_tiny.json")
    err = capsys.readouterr().err
    assert err.count("left out: a/a0.png: ") == 1
    assert str(bad) in err
    argv = ["evaluate", "--benchmark", str(tiny / "gnd_tiny.json"), "--profile", "smoke", "--size", "96"]
    out = tmp_path / "strict.json"
    assert main([*argv, "--strict", "--json", str(out)]) == 2  # also where the step was kept before
    err = capsys.readouterr().err
    assert err.startswith(f"lowq: {bad}: truncated")
    assert err.count("\n") == 1
    assert not out.exists()
    bad.unlink()
    assert main([*argv, "--strict", "--json", str(out)]) == 2
    assert f"{bad.parent.parent.parent}" in capsys.readouterr().err
    evaluate(tmp_path, tiny / "gnd_tiny.json")
    assert "left out: a/a0.png: " in capsys.readouterr().err


def test_the_bad_picture_is_found_after_everything_else(tmp_path: Path, tiny: Path) -> None:
    bad = tiny / "jpg" / "a" / "a0.png"
    truth = json.loads((tiny / "gnd_tiny.json").read_text())
    truth["qimlist"], truth["gnd"] = (
        ["a/a4.png"],
        [{"bbx": [0, 0, 96, 72], "easy": [0], "hard": [], "junk": []}],
    )
    (tiny / "gnd_tiny.json").write_text(json.dumps(truth))
    bad.write_bytes(b"no picture")
    report = evaluate(tmp_path, tiny / "gnd_tiny.json")
    size = len(truth["imlist"])
    assert report["map"]["clean"]["easy"] == pytest.approx(100 * (0 + 1 / size) / 2)
