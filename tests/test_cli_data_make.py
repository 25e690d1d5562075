"""`lowq data make noise-...` and `lowq data check` of what it made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lowq_core.cli import main
from lowq_core.data.noise_benchmark import read_noise_benchmark


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOWQ_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("LOWQ_DATA", raising=False)
    return tmp_path / "store"


def lowq(*argv: object) -> int:
    return main([str(word) for word in argv])


def test_make_into_a_folder_and_check(tiny: Path, tmp_path: Path, capsys) -> None:
    name, out = f"noise-{tiny / 'gnd_tiny.json'}", tmp_path / "noisy"
    assert lowq("data", "make", name, "--out", out, "--noises", "fog", "jpeg", "--severities", 1, 3) == 0
    assert capsys.readouterr().out == f"{out}: 3 queries of tiny, 12 pictures, manifest.json\n"
    assert read_noise_benchmark(out).conditions == (("jpeg", 1), ("jpeg", 3), ("fog", 1), ("fog", 3))
    assert lowq("data", "check", out) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 4
    assert all(line.startswith("ok") and "3 queries" in line for line in told)
    broken = out / read_noise_benchmark(out).files[7].file
    broken.write_bytes(b"x")
    assert lowq("data", "check", out) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]
    assert len(wrong) == 1
    assert str(broken) in wrong[0]


def test_make_into_the_store(tiny: Path, store: Path, capsys) -> None:
    argv = ("data", "make", f"noise-{tiny / 'gnd_tiny.json'}", "--noises", "known", "--severities", 5)
    assert lowq(*argv) == 0
    (folder,) = (store / "noise").glob("[0-9a-f]*")
    assert len(read_noise_benchmark(folder).conditions) == 8
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert lowq(*argv) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == made
    assert lowq(*argv[:3], "--noises", "fog", "--severities", 1) == 0  # the same folder, and more in it
    assert len(read_noise_benchmark(folder).conditions) == 9
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{folder}: 3 queries of tiny, 27 pictures")


@pytest.mark.parametrize(("short", "name"), [("rparis", "rparis6k"), ("roxford", "roxford5k")])
def test_short_names(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, short: str, name: str
) -> None:
    (tmp_path / "data").mkdir()
    folder = tiny.rename(tmp_path / "data" / name)
    (folder / "gnd_tiny.json").rename(folder / f"gnd_{name}.json")
    monkeypatch.setenv("LOWQ_DATA", str(tmp_path / "data"))
    out = tmp_path / "noisy"
    argv = ("data", "make", f"noise-{short}", "--out", out, "--noises", "jpeg", "--severities", 5)
    assert lowq(*argv) == 0
    assert capsys.readouterr().out == f"{out}: 3 queries of {name}, 3 pictures, manifest.json\n"
    assert read_noise_benchmark(out).name == name


def test_images_elsewhere(tiny: Path, tmp_path: Path) -> None:
    gnd = (tiny / "gnd_tiny.json").rename(tmp_path / "gnd_tiny.json")
    argv = ("data", "make", f"noise-{gnd}", "--out", tmp_path / "noisy", "--noises", "fog", "--severities", 1)
    assert lowq(*argv, "--images", tiny) == 0


def test_evaluate_on_the_files(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    folder = tiny.rename(
        tmp_path / "data" / "rparis_mini"
    )  # a noise benchmark is evaluated by its benchmark's name
    (folder / "gnd_tiny.json").rename(folder / "gnd_rparis_mini.json")
    monkeypatch.setenv("LOWQ_DATA", str(tmp_path / "data"))
    out = tmp_path / "noisy"
    asked = ("--noises", "jpeg", "impulse", "--severities", 2, 5)
    assert lowq("data", "make", "noise-rparis_mini", "--out", out, *asked) == 0
    told = ("--profile", "smoke", "--size", 48)
    stored, now = tmp_path / "stored.json", tmp_path / "now.json"
    assert lowq("evaluate", "--benchmark", out, *told, "--json", stored) == 0
    assert set(json.loads(stored.read_text())["per_query"]) == {"clean", "impulse", "jpeg"}
    for level in (2, 5):
        for path, benchmark in ((stored, out), (now, "rparis_mini")):
            told_noise = ("--degrade", f"jpeg:{level},impulse:{level}", "--json", path)
            assert lowq("evaluate", "--benchmark", benchmark, *told, *told_noise) == 0
        assert json.loads(stored.read_text()) == json.loads(now.read_text())


def test_evaluate_on_the_files_of_a_ground_truth_of_ones_own(tiny: Path, tmp_path: Path, capsys) -> None:
    gnd, out = tiny / "gnd_tiny.json", tmp_path / "noisy"
    made = ("--out", out, "--noises", "jpeg", "--severities", 5)
    assert lowq("data", "make", f"noise-{gnd}", *made) == 0
    stored, now = tmp_path / "stored.json", tmp_path / "now.json"
    told = ("--images", tiny, "--profile", "smoke", "--size", 48, "--degrade", "jpeg:5", "--json")
    for benchmark, path in ((out, stored), (gnd, now)):
        assert lowq("evaluate", "--benchmark", benchmark, *told, path) == 0
    assert json.loads(stored.read_text()) == json.loads(now.read_text())
    capsys.readouterr()
    assert lowq("evaluate", "--benchmark", out, *told[2:], now) == 2  # its pictures lie elsewhere
    assert "point --images at its folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("tiny",), "'tiny': is no noise benchmark; write noise-tiny"),
        (("noise-tini",), "'tini': is neither a file or folder nor a benchmark"),
        (("{}", "--noises", "rain"), "there is no noise 'rain'; choose among known, held_out, all, gaussian"),
        (("{}", "--severities", "6"), "severity 6 of gaussian: choose one of 1, 2, 3, 4, 5"),
        (("{}", "--out", "{}"), "cannot be written"),
    ],
)
def test_one_sentence(tiny: Path, store: Path, capsys, argv: tuple[str, ...], why: str) -> None:
    gnd = tiny / "gnd_tiny.json"
    places = {0: f"noise-{gnd}", 2: gnd}
    assert lowq("data", "make", *(places[i] if word == "{}" else word for i, word in enumerate(argv))) == 2
    err = capsys.readouterr().err
    assert err.startswith("lowq: ")
    assert why in err
    assert len(err.splitlines()) == 1
    assert not list(store.glob("*/*"))
