from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lowq_core import __version__
from lowq_core.data import noise_benchmark
from lowq_core.data.benchmark import Benchmark, Query
from lowq_core.data.catalogue import load_benchmark
from lowq_core.data.noise_benchmark import (
    check_noise_benchmark,
    ground_truth_digest,
    make_noise_benchmark,
    read_noise_benchmark,
    with_stored_queries,
)
from lowq_core.data.pictures import query_pictures
from lowq_core.degrade import NOISES, noise_seed
from lowq_core.errors import LowqError
from lowq_core.images import to_array


@pytest.fixture
def town(tmp_path: Path) -> Benchmark:
    """Queries: a fractional box, another box of the same picture, the whole of a picture that lies on its side."""
    folder = tmp_path / "town"
    generator = np.random.default_rng(3)
    for place, name in enumerate(("a/q.jpg", "b.png", "aside.jpg")):
        colours = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6 if place == 2 else 1  # turned by 90 degrees
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        colours.resize((160, 120), Image.Resampling.BICUBIC).save(folder / name, exif=exif, quality=95)
    queries = (
        Query("a/q", (10.4, 4.5, 97.6, 80.0), [0], [1]),
        Query("a/q", (0, 0, 160, 120), [1], junk=[0]),
        Query("aside.jpg", None, [1]),
    )
    return Benchmark("town", ("b", "aside"), queries, folder)


def assert_same_pixels(
    made: noise_benchmark.NoiseBenchmark, benchmark: Benchmark, noise: str, level: int
) -> None:
    stored = made.pictures(noise, level)
    now = query_pictures(benchmark, (noise, level))
    assert len(stored) == len(now) > 0
    if level == 5:
        stored, now = ([replace(picture, restorer="auto") for picture in both] for both in (stored, now))
    for there, here in zip(stored, now, strict=True):
        assert (there.name, there.bbx, there.noise) == (here.name, here.bbx, here.noise)
        for size in (None, 1000, 100, 33, 1):
            a, b = there.view(size), here.view(size)
            assert (a.origin, a.zoom) == (b.origin, b.zoom)
            np.testing.assert_array_equal(to_array(a.image), to_array(b.image))


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_pixels_are_those_of_the_evaluation(town: Benchmark, tmp_path: Path) -> None:
    made = make_noise_benchmark(town, tmp_path / "noisy", severities=[2, 5])
    assert made.conditions == tuple((noise, level) for noise in NOISES for level in (2, 5))
    back = read_noise_benchmark(tmp_path / "noisy")
    assert back == made
    for noise, level in made.conditions:
        assert_same_pixels(back, town, noise, level)


def test_pixels_of_real_photos(lowq_data: Path, tmp_path: Path) -> None:
    benchmark = load_benchmark(lowq_data / "rparis_mini" / "gnd_rparis_mini.json")
    made = make_noise_benchmark(benchmark, tmp_path, ["motion_blur"], [3])
    assert all(item.ok for item in check_noise_benchmark(tmp_path))
    stored, now = made.pictures("motion_blur", 3), query_pictures(benchmark, ("motion_blur", 3))
    for there, here in zip(stored, now, strict=True):
        np.testing.assert_array_equal(to_array(there.load(448)), to_array(here.load(448)))


def test_the_manifest(town: Benchmark, tmp_path: Path) -> None:
    make_noise_benchmark(town, tmp_path / "noisy", ["impulse"], [4])
    manifest = json.loads((tmp_path / "noisy" / "manifest.json").read_text())
    assert manifest["benchmark"] == "town"
    assert manifest["ground_truth"] == ground_truth_digest(town)
    assert manifest["lowq"] == __version__
    first, again, whole = manifest["files"]
    path = tmp_path / "noisy" / first["file"]
    assert first == {
        "file": "impulse/4/0000_a_q.png",
        "query": "a/q",
        "bbx": [10.4, 4.5, 97.6, 80.0],
        "noise": "impulse",
        "severity": 4,
        "seed": noise_seed("town", "a/q", "impulse", 4),
        "full_size": [160, 120],
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    assert (again["query"], again["seed"]) == ("a/q#1", noise_seed("town", "a/q#1", "impulse", 4))
    assert (whole["query"], whole["bbx"], whole["full_size"]) == ("aside.jpg", None, [120, 160])
    with Image.open(path) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (88, 76))


def test_a_second_call_makes_nothing(town: Benchmark, tmp_path: Path, monkeypatch) -> None:
    make_noise_benchmark(town, tmp_path / "noisy", ["fog", "jpeg"], [1])
    before = contents(tmp_path / "noisy")
    monkeypatch.setattr(noise_benchmark, "_write", None)
    monkeypatch.setattr(noise_benchmark, "write_text", None)
    assert make_noise_benchmark(town, tmp_path / "noisy", ["jpeg", "fog", "jpeg"], [1, 1]).conditions == (
        ("jpeg", 1),
        ("fog", 1),
    )
    assert contents(tmp_path / "noisy") == before


def test_noises_are_added_and_the_order_leaves_no_trace(town: Benchmark, tmp_path: Path) -> None:
    make_noise_benchmark(town, tmp_path / "one", ["fog"], [2])
    make_noise_benchmark(town, tmp_path / "one", ["jpeg"], [2, 1])
    make_noise_benchmark(town, tmp_path / "other", ["jpeg", "fog"], [1, 2])
    made = make_noise_benchmark(town, tmp_path / "one", ["fog"], [1])
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    assert made.conditions == (("jpeg", 1), ("jpeg", 2), ("fog", 1), ("fog", 2))


def test_distractors_change_nothing(town: Benchmark, tmp_path: Path) -> None:
    make_noise_benchmark(town, tmp_path / "one", ["fog"], [2])
    more = replace(town, name="town+r1m", images=(*town.images, "x"))
    make_noise_benchmark(more, tmp_path / "other", ["fog"], [2])
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_an_interrupted_run_is_taken_up(town: Benchmark, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "noisy"
    write, written = noise_benchmark._write, []

    def breaks(*args):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(args)
        return write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(noise_benchmark, "_write", breaks)
        patch.setattr(os, "cpu_count", lambda: 1)
        with pytest.raises(KeyboardInterrupt):
            make_noise_benchmark(town, folder, ["fog", "jpeg", "snow"], [1])
    assert read_noise_benchmark(folder).conditions == (("fog", 1),)  # of jpeg one file of three was there
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("fog/1/*.png")}
    make_noise_benchmark(town, folder, ["fog", "jpeg", "snow"], [1])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    make_noise_benchmark(town, tmp_path / "whole", ["fog", "jpeg", "snow"], [1])
    assert contents(folder) == contents(tmp_path / "whole")


def test_killed_at_any_moment(town: Benchmark, tmp_path: Path) -> None:
    folder = tmp_path / "noisy"
    code = (
        "import sys; from pathlib import Path\n"
        "from lowq_core.data.benchmark import Benchmark, Query\n"
        "from lowq_core.data.noise_benchmark import make_noise_benchmark\n"
        "q = tuple(Query('a/q', (i, 0, 140, 100), [0]) for i in range(20))\n"
        "make_noise_benchmark(Benchmark('town', ('b',), q, Path(sys.argv[1])), sys.argv[2])\n"
    )
    job = subprocess.Popen([sys.executable, "-c", code, str(town.root), str(folder)])
    deadline = time.monotonic() + 60
    while not (folder / "gaussian" / "4").is_dir() and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    job.send_signal(signal.SIGKILL)
    job.wait()
    made = read_noise_benchmark(folder)
    assert ("gaussian", 2) in made.conditions
    assert ("glass_blur", 5) not in made.conditions
    assert all(len(made.files_of(*condition)) == 20 for condition in made.conditions)
    assert all(item.ok for item in check_noise_benchmark(folder))


def test_what_is_missing_or_cut_off_is_made_again(town: Benchmark, tmp_path: Path) -> None:
    folder = tmp_path / "noisy"
    made = make_noise_benchmark(town, folder, ["fog", "jpeg"], [1])
    before = contents(folder)
    (folder / made.files[0].file).unlink()
    cut = folder / made.files[4].file
    cut.write_bytes(cut.read_bytes()[:100])
    make_noise_benchmark(town, folder, ["fog", "jpeg"], [1])
    assert contents(folder) == before


def test_check_names_the_file_that_differs(town: Benchmark, tmp_path: Path) -> None:
    made = make_noise_benchmark(town, tmp_path, ["fog", "jpeg"], [1, 3])
    good = check_noise_benchmark(tmp_path)
    assert [item.ok for item in good] == [True] * 4
    assert good[0].path == tmp_path / "jpeg" / "1"
    assert good[0].found.startswith("3 queries")
    changed, gone = (tmp_path / made.files_of("fog", 1)[i].file for i in (0, 2))
    data = bytearray(changed.read_bytes())
    data[-20] ^= 1  # the same length
    changed.write_bytes(data)
    gone.unlink()
    wrong = [item for item in check_noise_benchmark(tmp_path) if not item.ok]
    assert [item.path for item in wrong] == [changed, gone]
    assert hashlib.sha256(data).hexdigest() in wrong[0].found
    assert wrong[1].found.startswith("missing")


def test_ground_truth_digest(town: Benchmark) -> None:
    digest = ground_truth_digest(town)
    first = town.queries[0]
    swapped = replace(town, images=("aside", "b"), queries=(replace(first, easy=[1], hard=[0]),))
    assert ground_truth_digest(swapped) == ground_truth_digest(replace(town, queries=(first,)))
    for other in (
        replace(first, image="q"),
        replace(first, bbx=(10.5, 4.5, 97.6, 80.0)),
        replace(first, bbx=None),
        replace(first, hard=[]),
        replace(first, easy=[1], hard=[0]),
    ):
        assert ground_truth_digest(replace(town, queries=(other, *town.queries[1:]))) != digest
    assert ground_truth_digest(replace(town, measure="map")) != digest


# what can go wrong


def test_unknown_noise_and_bad_severity(town: Benchmark, tmp_path: Path) -> None:
    for noises, severities, why in (
        (["rain"], [1], "there is no noise 'rain'"),
        (["fog"], [1, 6], "severity 6 of fog"),
        (["fog"], [True], "severity True of fog"),
        ([], [1], "one of them is empty"),
        (["fog"], [], "one of them is empty"),
    ):
        with pytest.raises(LowqError, match=why):
            make_noise_benchmark(town, tmp_path / "noisy", noises, severities)
    assert not (tmp_path / "noisy").exists()


def test_no_queries(town: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(LowqError, match="town: has no queries to degrade"):
        make_noise_benchmark(replace(town, queries=()), tmp_path / "noisy")


def test_a_query_that_cannot_be_read(town: Benchmark, tmp_path: Path) -> None:
    (town.root / "aside.jpg").write_bytes(b"x")
    with pytest.raises(LowqError, match=r"aside\.jpg: not a picture"):
        make_noise_benchmark(town, tmp_path / "noisy", ["fog"], [1])
    with pytest.raises(LowqError, match="no such file; give the folder of a finished"):
        read_noise_benchmark(tmp_path / "noisy")


def test_a_folder_that_cannot_be_written(town: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "noisy"):
        with pytest.raises(LowqError, match=r"file.*cannot be written.*choose another folder"):
            make_noise_benchmark(town, folder, ["fog"], [1])


def test_a_folder_of_another_benchmark(town: Benchmark, tmp_path: Path) -> None:
    make_noise_benchmark(town, tmp_path, ["fog"], [1])
    before = contents(tmp_path)
    with pytest.raises(LowqError, match="noisy queries of the benchmark 'town'; choose another"):
        make_noise_benchmark(replace(town, name="city"), tmp_path, ["jpeg"], [1])
    with pytest.raises(LowqError, match="another ground truth of town; choose another"):
        make_noise_benchmark(replace(town, queries=town.queries[1:]), tmp_path, ["jpeg"], [1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_benchmark, "__version__", "9.9")
        make_noise_benchmark(town, tmp_path, ["fog"], [1])  # finished: whose version made it does not matter
        with pytest.raises(LowqError, match=f"begun by lowq {__version__}, and this is 9.9"):
            make_noise_benchmark(town, tmp_path, ["jpeg"], [1])
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"files": [{"file": "a.png"}]},
        {"files": 3},
        {"files": [{"file": "../../a.png"}]},
        {"files": [{"file": "/etc/a.png"}]},
        {"benchmark": None, "files": None},
    ],
)
def test_a_broken_manifest(town: Benchmark, tmp_path: Path, change: dict) -> None:
    make_noise_benchmark(town, tmp_path, ["fog"], [1])
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    entry = content["files"][0]
    if isinstance(change.get("files"), list) and ("/" in change["files"][0]["file"]):
        change = {"files": [entry | change["files"][0]]}
    path.write_text(json.dumps(content | change))
    for call in (lambda: read_noise_benchmark(tmp_path), lambda: make_noise_benchmark(town, tmp_path)):
        with pytest.raises(LowqError, match="is not the manifest of a noise benchmark"):
            call()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(LowqError, match="is not the manifest of a noise benchmark"):
        read_noise_benchmark(tmp_path)


def test_a_noise_that_is_not_there(town: Benchmark, tmp_path: Path) -> None:
    made = make_noise_benchmark(town, tmp_path, ["fog"], [1])
    with pytest.raises(LowqError, match="no queries under fog:2; make them, or choose among fog:1"):
        made.pictures("fog", 2)


def test_stored_queries_take_the_place_of_those_made_on_the_fly(town: Benchmark, tmp_path: Path) -> None:
    made = make_noise_benchmark(town, tmp_path, ["fog"], [1])
    more = with_stored_queries(replace(town, name="town+r1m", images=(*town.images, "x")), tmp_path)
    assert query_pictures(more, ("fog", 1)) == made.pictures("fog", 1)
    assert query_pictures(more) == query_pictures(town)
    with pytest.raises(LowqError, match="no queries under fog:2"):
        query_pictures(more, ("fog", 2))
    assert make_noise_benchmark(more, tmp_path / "again", ["fog"], [2]).conditions == (("fog", 2),)
    with pytest.raises(LowqError, match="noisy queries of the benchmark 'town'"):
        with_stored_queries(replace(town, name="city"), tmp_path)
