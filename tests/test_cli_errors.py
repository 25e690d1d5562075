"""What a user can get wrong, through the command line: one sentence, status 2, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lowq_core.cli import main
from lowq_core.data.catalogue import load_benchmark
from lowq_core.errors import LowqError
from lowq_core.evaluation.protocols import evaluate_scores
from lowq_core.extraction.engine import Engine
from lowq_core.extraction.features import Features
from lowq_core.models.whitening import Whitening
from lowq_core.retrieval.exact import ExactSearch


class Told:
    """Runs `lowq` in this process and returns the sentence with which it refuses."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *argv: object) -> str:
        self.capsys.readouterr()
        assert main([str(word) for word in argv]) == 2
        return only_sentence(self.capsys.readouterr().err)


def only_sentence(err: str) -> str:
    """The one sentence on stderr; a progress bar and pictures left out on the way are not refusals."""
    assert "Traceback" not in err
    lines = err.replace("\r", "\n").strip().splitlines()
    spoken = [line for line in lines if "picture/s]" not in line and not line.startswith("left out: ")]
    assert len(spoken) == 1, err
    assert spoken[0].startswith("lowq: ")
    assert not spoken[0].endswith(".")
    return spoken[0].removeprefix("lowq: ")


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    return Told(capsys)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of its own for each test, and no real photos."""
    monkeypatch.setenv("LOWQ_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("LOWQ_DATA", raising=False)
    return tmp_path / "store"


@pytest.fixture
def photo(tiny: Path) -> Path:
    return tiny / "jpg" / "a" / "a4.png"


@pytest.fixture
def evaluate(tiny: Path) -> tuple[str, ...]:
    gnd = str(tiny / "gnd_tiny.json")
    return ("evaluate", "--benchmark", gnd, "--profile", "smoke", "--size", "48")


def whole_steps(store: Path) -> list[Path]:
    """Steps that a next run would take for finished."""
    return [path for path in store.glob("*/*") if not path.name.startswith(".")]


def change(tiny: Path, **keys: Any) -> None:
    """Replace keys of the ground truth, or of its first query."""
    path = tiny / "gnd_tiny.json"
    truth = json.loads(path.read_text())
    for key, value in keys.items():
        (truth if key in truth else truth["gnd"][0])[key] = value
    path.write_text(json.dumps(truth))


# pictures


def test_a_missing_picture(told: Told, tiny: Path, evaluate, tmp_path: Path) -> None:
    assert "no such picture; check the name" in told("find", tiny / "none.jpg", tiny)
    out = tmp_path / "report.json"
    (tiny / "jpg" / "b" / "b4.png").unlink()
    sentence = told(*evaluate, "--json", out)
    assert "b4.png: no such picture" in sentence
    assert not out.exists()


def test_a_truncated_picture(told: Told, tiny: Path, photo: Path, evaluate, tmp_path: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:400])
    for argv in (("find", photo, tiny / "jpg" / "b"), evaluate):
        sentence = told(*argv)
        assert sentence.startswith(f"{photo}: truncated or broken")
        assert "copy it again" in sentence
    out = tmp_path / "out"
    strict = ("extract", tiny, out, "--size", "48", "--strict")
    assert told(*strict).startswith(f"{photo}: truncated or broken")
    with pytest.raises(LowqError, match="1 of 1 parts are not extracted yet"):
        Features.open(out / "gem")


@pytest.mark.parametrize("content", [b"", b"no picture at all"])
def test_not_a_picture(told: Told, photo: Path, tiny: Path, content: bytes) -> None:
    photo.write_bytes(content)
    assert str(photo) in told("find", photo, tiny / "jpg" / "b")
    assert "is a folder, not a picture" in told("find", tiny, tiny)


def test_a_picture_of_nan(told: Told, photo: Path, tiny: Path, evaluate) -> None:
    Image.fromarray(np.full((72, 96), np.nan, np.float32)).save(photo, "TIFF")
    for argv in (("find", photo, tiny / "jpg" / "b"), evaluate):
        sentence = told(*argv)
        assert sentence.startswith(
            f"{photo}: grey levels are floating-point numbers; save it with 8 or 16 bits"
        )


def test_a_batch_reports_the_bad_ones_and_goes_on(tiny: Path, photo: Path, tmp_path: Path, capsys) -> None:
    photo.write_bytes(photo.read_bytes()[:400])
    argv = ["extract", str(tiny), str(tmp_path / "out"), "--size", "48"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "16 pictures, 1280 dimensions (gem)" in out
    assert out.count("left out: ") == 1
    assert str(photo) in out
    features = Features.open(tmp_path / "out" / "gem")
    assert list(features.failed) == ["jpg/a/a4.png"]
    assert np.flatnonzero(~features.descriptors[:].any(axis=1)).tolist() == [4]
    assert main([*argv, "--strict"]) == 2  # finished before, and still not what strict asks for


# boxes


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ((5, 5, 5, 40), "has no area"),
        ((40, 5, 20, 40), "has no area"),
        ((100, 80, 140, 120), "reaches outside"),
        ((-9, 0, 50, 50), "reaches outside"),
    ],
)
def test_boxes(told: Told, tiny: Path, photo: Path, evaluate, box: tuple[int, ...], why: str) -> None:
    shown = f"box ({', '.join(map(str, box))})"
    for argv in (("find", photo, tiny, "--bbx", *box), evaluate):
        change(tiny, bbx=list(box))
        sentence = told(*argv)
        assert sentence.startswith(f"{photo}: {shown} {why}")
        assert "96 x 72 pixels" in sentence


def test_a_box_of_three_numbers(told: Told, tiny: Path, evaluate) -> None:
    change(tiny, bbx=[1, 2, 3])
    assert "gnd_tiny.json: query 'a/a4.png' has the box [1, 2, 3]" in told(*evaluate)


# ground truths


@pytest.mark.parametrize("level", ["easy", "hard", "junk"])
def test_ground_truth_that_points_past_the_list(told: Told, tiny: Path, evaluate, level: str) -> None:
    change(tiny, **{level: [0, 13]})
    sentence = told(*evaluate)
    assert (
        f"gnd_tiny.json: tiny: query 'a/a4.png' lists {level} index 13, but the database has 13" in sentence
    )
    assert "belong together" in sentence


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


def test_a_pickle_that_holds_anything_but_data(told: Told, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gnd_evil.pkl"
    path.write_bytes(pickle.dumps({"imlist": ["a"], "qimlist": ["a"], "gnd": Malicious()}))
    sentence = told("evaluate", "--benchmark", path)
    assert sentence.startswith(f"{path}: holds posix.mkdir, and only data is read")
    assert not (tmp_path / "owned").exists()
    path.write_bytes(path.read_bytes()[:20])
    assert "is not a whole pickle" in told("evaluate", "--benchmark", path)


def test_a_checkpoint_that_holds_anything_but_data(told: Told, tmp_path: Path, evaluate, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({"meta": {}, "state_dict": {}, "more": Malicious()}, path)
    assert told(*evaluate, "--method", path).startswith(f"{path}: not a checkpoint of plain data")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("text", ['{"imlist": [', '{"imlist": []}', "[]", "NaN"])
def test_a_broken_ground_truth(told: Told, tiny: Path, evaluate, text: str) -> None:
    (tiny / "gnd_tiny.json").write_text(text)
    assert told(*evaluate).startswith(f"{tiny / 'gnd_tiny.json'}: ")


def test_an_empty_database(told: Told, tiny: Path, photo: Path, evaluate, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    for argv in (("find", photo, tmp_path / "empty"), ("extract", tmp_path / "empty", tmp_path / "out")):
        assert told(*argv).startswith(f"{tmp_path / 'empty'}: holds no pictures")
    assert "no such folder" in told("find", photo, tmp_path / "nowhere")
    (tmp_path / "empty" / "broken.jpg").write_bytes(b"x")
    sentence = told("find", photo, tmp_path / "empty", "--profile", "smoke")
    assert sentence.startswith(f"{tmp_path / 'empty'}: none of its pictures can be read")
    change(tiny, imlist=[])
    assert "lists 0 pictures and 3 queries" in told(*evaluate)
    assert not (tmp_path / "out").exists()
    assert told("evaluate", "--benchmark", tmp_path / "empty").startswith(f"{tmp_path / 'empty'}: ")


def test_pictures_that_are_nowhere(told: Told, tiny: Path, evaluate, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    sentence = told(*evaluate, "--images", tmp_path / "elsewhere")
    assert sentence.startswith(f"{tmp_path / 'elsewhere'}: holds no picture called 'a/a0.png'")
    assert "--images" in sentence


# numbers


def test_k_larger_than_the_database(told: Told, tiny: Path, photo: Path, store: Path, capsys) -> None:
    folder = tiny / "jpg" / "b"
    for k in (6, 0, -1):
        sentence = told("find", photo, folder, "--k", k)
        assert sentence == f"k={k}: the database has 5 pictures; choose k between 1 and 5"
    assert not store.exists()  # told before anything is computed
    assert main(["find", str(photo), str(folder), "--profile", "smoke"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    with pytest.raises(LowqError, match=r"k=4: .*between 1 and 3"):
        ExactSearch().fit(np.eye(3)).rank(np.eye(3), 4)


def test_wrong_dimension(told: Told, tmp_path: Path) -> None:
    database, queries, out = (tmp_path / name for name in ("x.npy", "q.npy", "out.npz"))
    for shape, mend in (((4, 4), "use one model for both"), ((3, 4), "it looks transposed, pass its .T")):
        np.save(database, np.eye(4, 3))
        np.save(queries, np.eye(*shape))
        sentence = told("rerank", database, queries, "--method", "exact", "--out", out)
        assert sentence == f"{queries}: dimension 4, but the database has 3; {mend}"
        assert not out.exists()
    with pytest.raises(LowqError, match="queries: dimension 4, but the database has 3; use one model"):
        ExactSearch().fit(np.eye(3)).rank(np.eye(4))
    with pytest.raises(LowqError, match=r"\(2, 4\).*wants \(N, 3\)"):
        Whitening(np.zeros(3), np.eye(3)).transform(np.ones((2, 4)))


def test_nan_features(told: Told, tiny: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    holed = np.eye(3)
    holed[1, 2] = np.nan
    with pytest.raises(LowqError, match="database: row 1 holds NaN or infinity"):
        ExactSearch().fit(holed)
    benchmark = load_benchmark(tiny / "gnd_tiny.json")
    with pytest.raises(LowqError, match="NaN"):
        evaluate_scores(np.full((3, 13), np.nan), benchmark)

    class Diverging(Engine):
        def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
            return {head: vector * np.nan for head, vector in super().__call__(pixels).items()}

    monkeypatch.setattr(
        "lowq_core.extraction.extract.engine_for", lambda config: Diverging(config.embedder(), config)
    )
    argv = ["extract", str(tiny), str(tmp_path / "out"), "--size", "48"]
    assert main(argv) == 0
    assert capsys.readouterr().out.count("descriptor is not finite") == 16
    assert not np.asarray(Features.open(tmp_path / "out" / "gem").descriptors).any()
    assert "descriptor is not finite; check the weights" in told(*argv, "--strict")


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--size", "0", "size=0"),
        ("--scales", "-1", "-1"),
        ("--heads", "vlad", "'vlad'"),
        ("--backbone", "vgg", "'vgg'"),
        ("--shard", "4/3", "4/3"),
        ("--shard", "third", "--shard third"),
        ("--weights", "/none.pth", "/none.pth"),
    ],
)
def test_values_that_cannot_be(told: Told, tiny: Path, tmp_path: Path, option: str, value: str, part) -> None:
    assert part in told("extract", tiny, tmp_path / "out", option, value)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(told: Told, tiny: Path, tmp_path: Path) -> None:
    assert "use engine='torch'" in told("extract", tiny, tmp_path / "out", "--engine", "cuda")


# names


@pytest.mark.parametrize(
    ("option", "value", "names"),
    [
        ("--method", "best", ("'best'", "mac", "lw")),
        ("--method", "gem+", ("gem+", "pcaw")),
        ("--profile", "huge", ("'huge'", "smoke, mini, real, paper")),
        ("--degrade", "mud", ("'mud'", "gaussian", "held_out")),
        ("--degrade", "jpeg:9", ("'9'", "1 to 5", "jpeg:3")),
        ("--benchmark", "rparis5k", ("'rparis5k'", "rparis6k")),
        ("--distractors", "/none", ("/none", "no such folder")),
        ("--method", "/none.pth", ("/none.pth", "no such checkpoint")),
    ],
)
def test_unknown_names(
    told: Told, evaluate, tmp_path: Path, store: Path, option: str, value: str, names
) -> None:
    out = tmp_path / "report.json"
    sentence = told(*evaluate, option, value, "--json", out)
    assert all(name in sentence for name in names)
    assert not out.exists()
    assert not whole_steps(store)


def test_unknown_notebook_profile_and_jobs(told: Told, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LOWQ_BUILD", str(tmp_path / "build"))
    sentence = told("reproduce", "98", "--profile", "smoke")
    assert sentence.startswith("notebook '98'")
    assert "00_start_here" in sentence
    assert "'huge'" in told("reproduce", "--profile", "huge")
    assert "--jobs 0: give at least 1" in told("reproduce", "--profile", "smoke", "--jobs", "0")
    assert "set LOWQ_DATA" in told("reproduce", "--profile", "real")
    assert not (tmp_path / "build").exists()


def test_photos_that_a_profile_lacks_are_told_before_anything_starts(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    monkeypatch.setenv("LOWQ_DATA", str(root))
    monkeypatch.setenv("LOWQ_BUILD", str(tmp_path / "build"))
    sentence = told("reproduce", "--profile", "real")
    assert sentence.startswith(f"profile real: {root / 'rparis_mini'} has to hold gnd_rparis_mini.json or ")
    for folder in ("porto", "ds4002", "reichstag"):  # to choose on and to train on: told once
        assert sentence.count(f"{root / folder} has to hold labels.csv, jpg") == 1
    assert f"{root / 'distractors'} has to hold pictures" in sentence
    named = told("reproduce", "03", "--profile", "real")  # a single notebook may read no more than that
    assert sentence.startswith(named)
    assert named.count("has to hold") == 1

    for file in ("rparis_mini/gnd_rparis_mini.json", "rparis_mini/jpg", "distractors"):
        (root / file).mkdir(parents=True)
    assert told("reproduce", "--profile", "real").startswith(f"profile real: {root / 'porto'} has to hold")

    sentence = told("reproduce", "--profile", "paper")
    for folder, file, mend in (
        ("roxford5k", "gnd_roxford5k.pkl", "run `lowq data fetch roxford5k`"),
        ("instre", "gnd_instre.mat", "its authors give it by FTP"),
        ("revisitop1m", "revisitop1m.txt", "run `lowq data fetch revisitop1m`"),
        ("sfm120k", "retrieval-SfM-120k.pkl", "run `lowq data fetch sfm120k`"),
        ("gldv2", "train/train_clean.csv", "run `lowq data fetch gldv2_train`"),
    ):
        told_of = re.search(rf"{root / folder} has to hold ([^(]*)\(([^)]*)\)", sentence)
        assert told_of is not None, folder
        assert file in told_of[1]
        assert mend in told_of[2]
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize(
    "argv",
    [
        ["evaluate", "--benchmark", "papertown", "--sise", "3"],
        ["extract", "a", "b", "--size", "large"],
        ["list", "colours"],
        ["data", "drop", "instre"],
        ["evaluate"],
        ["dance"],
        [],
    ],
)
def test_unknown_parameters_verbs_and_kinds(argv: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "--help" in err
    assert not argv or argv[-2:][0].lstrip("-") in err or argv[-1] in err


@pytest.mark.parametrize("name", ["roxford5k", "rparis6k", "instre", "gldv2", "porto", "sfm120k"])
def test_no_such_dataset_says_what_is_expected_where(told: Told, tmp_path: Path, monkeypatch, name) -> None:
    assert "set LOWQ_DATA to the one that holds it" in told("evaluate", "--benchmark", name)
    monkeypatch.setenv("LOWQ_DATA", str(tmp_path))
    sentence = told("evaluate", "--benchmark", name)
    assert f"{tmp_path / name} has to hold " in sentence
    assert "; run `lowq data fetch" in sentence or "; it" in sentence
    assert "nonsense" in told("data", "check", "nonsense")
    assert "cannot be fetched" in told("data", "fetch", "porto")


def test_no_distractors(told: Told, tiny: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LOWQ_DATA", str(tmp_path))
    shutil.copytree(tiny / "jpg", tmp_path / "rparis_mini" / "jpg")
    shutil.copy(tiny / "gnd_tiny.json", tmp_path / "rparis_mini" / "gnd_rparis_mini.json")
    sentence = told("evaluate", "--benchmark", "rparis_mini+distractors")
    assert f"{tmp_path / 'distractors'} has to hold the distractors' pictures" in sentence
    sentence = told("evaluate", "--benchmark", "rparis_mini+r1m")
    assert f"{tmp_path / 'revisitop1m'} has to hold revisitop1m.txt" in sentence


# disks


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_while_extracting(told: Told, tiny: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out"
    argv = ("extract", tiny, out, "--size", "48")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        assert told(*argv).startswith(f"{out / 'gem' / 'manifest.json'}"[: len(str(out))])
        assert not list(out.rglob("*.*"))
    with monkeypatch.context() as patched:
        patched.setattr("lowq_core.extraction.features.write_bytes", full)
        sentence = told(*argv)
        assert "part-00000.npy: cannot be written (No space left on device); make room" in sentence
    with pytest.raises(LowqError, match="not extracted yet"):
        Features.open(out / "gem")
    assert main([str(word) for word in argv]) == 0
    assert len(Features.open(out / "gem").names) == 16


def test_a_full_disk_under_the_store(told: Told, evaluate, store: Path, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("lowq_core.extraction.features.write_bytes", full)
        assert str(store) in told(*evaluate)
    with monkeypatch.context() as patched:
        patched.setattr("lowq_core.reproduce.store.write_text", full)
        assert told(*evaluate).startswith(f"{store}: no space is left for step 'descriptors'")
    assert not whole_steps(store)
    assert main(list(evaluate)) == 0


def test_a_full_disk_under_the_report(told: Told, evaluate, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "report.json"
    out.write_text("an older report")
    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(list(evaluate)) == 2  # the store first
    monkeypatch.undo()
    monkeypatch.setenv("LOWQ_STORE", str(tmp_path / "store"))
    assert main(list(evaluate)) == 0
    monkeypatch.setattr(Path, "write_bytes", full)
    assert told(*evaluate, "--json", out) == f"{out}: the disk is full; free some space and run again"
    assert out.read_text() == "an older report"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "store", "tiny"]


def test_places_that_cannot_be_written(told: Told, tiny: Path, evaluate, tmp_path: Path) -> None:
    for place in (tiny / "gnd_tiny.json" / "report.json", tiny):
        sentence = told(*evaluate, "--json", place)
        assert sentence.startswith(str(tiny))
        assert "give another path" in sentence
    assert "cannot be written" in told("extract", tiny, tiny / "gnd_tiny.json", "--size", "48")
    assert len(json.loads((tiny / "gnd_tiny.json").read_text())["imlist"]) == 13


def test_a_part_that_does_not_match_its_digest(told: Told, tiny: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    argv = ("extract", tiny, out, "--size", "48")
    assert main([str(word) for word in argv]) == 0
    part = out / "gem" / "part-00000.npy"
    whole = part.read_bytes()
    part.write_bytes(whole[:-4] + b"\0\0\0\1")
    sentence = told(*argv)
    assert (
        sentence == f"{part}: does not match its digest; delete part-00000.json beside it and extract again"
    )
    part.with_suffix(".json").unlink()
    assert main([str(word) for word in argv]) == 0
    assert part.read_bytes() == whole


def test_a_kept_step_that_does_not_match_its_digest(told: Told, evaluate, store: Path, capsys) -> None:
    assert main(list(evaluate)) == 0
    before = capsys.readouterr().out
    for part in store.glob("descriptors/*/gem/part-00000.npy"):
        part.write_bytes(part.read_bytes()[:-1] + b"\7")
    while (
        main(list(evaluate)) == 2
    ):  # the mend that is told mends: once for the pictures, once for the queries
        sentence = only_sentence(capsys.readouterr().err)
        folder = Path(sentence.split("delete the folder ")[1].split(",")[0])
        assert sentence.startswith(f"{folder}/gem/part-00000.npy: does not match its digest; ")
        shutil.rmtree(folder)
    assert capsys.readouterr().out == before


# the process itself


def lowq(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lowq_core.cli", *argv]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)


def test_the_exit_status_of_the_process() -> None:
    done = lowq("data", "check", "nonsense", stdout=subprocess.PIPE)
    assert done.returncode == 2
    assert only_sentence(done.stderr).startswith("'nonsense' is no data set; choose one of papertown, ")
    assert done.stdout == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_an_output_that_is_full_or_closed() -> None:
    with open("/dev/full", "w") as nowhere:
        done = lowq("list", "methods", stdout=nowhere)
    assert done.returncode == 2
    assert only_sentence(done.stderr) == "output: the disk is full; free some space and run again"
    reading, writing = os.pipe()
    os.close(reading)
    done = lowq("list", "methods", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_write_that_stops_in_the_middle(told: Told, tiny: Path, tmp_path: Path, little_room) -> None:
    out = tmp_path / "out"
    argv = ("extract", tiny, out, "--size", "48")
    with little_room(60_000):
        sentence = told(*argv)
    assert "part-00000.npy: cannot be written (File too large)" in sentence
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["manifest.json"]
    assert main([str(word) for word in argv]) == 0
    assert np.asarray(Features.open(out / "gem").descriptors).any(axis=1).all()
