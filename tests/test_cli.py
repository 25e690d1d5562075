"""Every verb of `lowq`: its help, and what it prints."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lowq_core.cli import main
from lowq_core.degrade import HELD_OUT, KNOWN
from lowq_core.errors import LowqError
from lowq_core.methods.parts import (
    AUGMENTED,
    EMBEDDINGS,
    LOCAL_PARTS,
    RESTORED,
    SEARCHES,
    TUNED,
    VERIFIERS,
    WHITENINGS,
)
from lowq_core.reproduce.profiles import PROFILES
from lowq_core.reproduce.runner import Report, Run

VERBS = ("reproduce", "evaluate", "extract", "find", "rerank", "data", "list", "doctor")


def lowq(capsys: pytest.CaptureFixture[str], *argv: object, status: int = 0) -> list[str]:
    """The lines that a command prints."""
    capsys.readouterr()
    assert main([str(word) for word in argv]) == status
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ((), VERBS),
        (("reproduce",), ("--profile", "--jobs", "--force", "--timeout", "03_global_baselines")),
        (
            ("evaluate",),
            ("--benchmark", "--images", "--method", "--degrade", "--distractors", "--json", "--strict"),
        ),
        (("extract",), ("--shard", "--heads", "--weights", "openvino", "bf16")),
        (("find",), ("--bbx", "--k", "--method")),
        (("data",), ("list", "check", "fetch")),
        (("data", "check"), ("--root",)),
        (("data", "fetch"), ("--root",)),
        (("list",), ("methods", "benchmarks", "degradations", "notebooks", "profiles")),
        (("doctor",), ("mend",)),
    ],
)
def test_help(argv: tuple[str, ...], told: tuple[str, ...], capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*argv, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: lowq")
    assert all(word in out for word in told)


def names(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


def test_list(capsys) -> None:
    methods = names(lowq(capsys, "list", "methods"))
    assert methods == [
        *EMBEDDINGS,
        *(f"+{name}" for name in (*TUNED, *RESTORED, *WHITENINGS, *AUGMENTED, *VERIFIERS, *SEARCHES)),
        "how",
        *(f"how+{name}" for name in LOCAL_PARTS),
    ]
    assert names(lowq(capsys, "list", "profiles")) == list(PROFILES)
    assert names(lowq(capsys, "list", "degradations")) == [*KNOWN, *HELD_OUT, "known", "held_out", "all"]
    benchmarks = names(lowq(capsys, "list", "benchmarks"))
    assert {"papertown", "rparis_mini", "roxford5k", "instre", "gldv2"} <= set(benchmarks)
    notebooks = names(lowq(capsys, "list", "notebooks"))
    assert notebooks == sorted(notebooks)
    assert notebooks[0] == "00_start_here"
    for kind in ("methods", "profiles", "degradations", "benchmarks", "notebooks"):
        for line in lowq(capsys, "list", kind):
            assert re.fullmatch(r"\S+ +\S.*", line)


def test_what_is_listed_can_be_used(capsys) -> None:
    from lowq_core.methods.grammar import parse_method
    from lowq_core.methods.noises import parse_degrade

    for name in names(lowq(capsys, "list", "methods")):
        assert parse_method(name.removeprefix("+"))
    for name in names(lowq(capsys, "list", "degradations")):
        assert parse_degrade(f"{name}:3")


def test_benchmarks_that_are_listed_can_be_used_and_no_others(capsys, tmp_path: Path, monkeypatch) -> None:
    from lowq_core.data.catalogue import list_datasets
    from lowq_core.methods.data import benchmark_of

    monkeypatch.setenv("LOWQ_DATA", str(tmp_path))
    listed = names(lowq(capsys, "list", "benchmarks"))
    plain = [name for name in listed if not name.startswith("+")]
    assert [name for name in listed if name.startswith("+")] == ["+distractors", "+r1m"]
    for name in plain:
        if name.startswith("papertown"):
            assert benchmark_of(PROFILES["smoke"], name).queries
        else:  # known, but its files are not here
            with pytest.raises(LowqError, match=f"^{name}: {tmp_path}.* has to hold"):
                benchmark_of(PROFILES["smoke"], name)
    for name in {entry.name for entry in list_datasets()} - set(plain):
        with pytest.raises(LowqError, match="is neither a file or folder nor a benchmark"):
            benchmark_of(PROFILES["smoke"], name)
    for chosen in PROFILES.values():
        for name in (*chosen.benchmarks, *chosen.validation, *chosen.distractors):
            base, plus, added = name.partition("+")
            assert base in plain
            assert plus + added in ("", *listed)


def test_data_list_and_check(capsys, tiny: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("LOWQ_DATA", raising=False)
    rows = {line.split()[0]: line.split()[1] for line in lowq(capsys, "data", "list")}
    assert rows["papertown"] == "here"
    assert rows["rparis_mini"] == rows["gldv2"] == "-"
    (line,) = lowq(capsys, "data", "check", "papertown")
    assert line.startswith("ok ")

    lines = lowq(capsys, "data", "check", "rparis_mini", "--root", tmp_path, status=1)
    assert lines[0].split()[:2] == ["WRONG", str(tmp_path / "rparis_mini" / "gnd_rparis_mini.json")]
    assert "missing" in lines[0]
    shutil.copytree(tiny / "jpg", tmp_path / "rparis_mini" / "jpg")
    shutil.copy(tiny / "gnd_tiny.json", tmp_path / "rparis_mini" / "gnd_rparis_mini.json")
    monkeypatch.setenv("LOWQ_DATA", str(tmp_path))
    lines = lowq(capsys, "data", "check", "rparis_mini")
    assert {line.split()[0] for line in lines} == {"ok"}
    assert "16 of 16 pictures" in lines[-1]
    (tmp_path / "rparis_mini" / "jpg" / "lone.png").unlink()
    lines = lowq(capsys, "data", "check", "rparis_mini", status=1)
    assert "15 of 16 pictures" in lines[-1]
    assert "first missing: lone.png" in lines[-1]


def test_data_check_on_real_photos(capsys, lowq_data: Path) -> None:
    lines = lowq(capsys, "data", "check", "rparis_mini")
    assert {line.split()[0] for line in lines} == {"ok"}
    assert any("rparis_mini here" in " ".join(line.split()) for line in lowq(capsys, "data", "list"))


def test_doctor_names_what_is_wrong_and_the_mend(capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LOWQ_DATA", raising=False)
    lowq(capsys, "doctor")
    monkeypatch.setenv("LOWQ_DATA", str(tmp_path / "nowhere"))
    lines = lowq(capsys, "doctor", status=1)
    assert {"Python", "torch", "numpy", "git", "free"} <= {line.split()[1] for line in lines}
    (wrong,) = [number for number, line in enumerate(lines) if line.startswith("WRONG")]
    assert "LOWQ_DATA=" in lines[wrong]
    assert lines[wrong + 1].strip() == "-> point LOWQ_DATA at a folder that exists"


def test_doctor_is_content_here(capsys, lowq_data: Path) -> None:
    assert all(line.startswith("ok ") for line in lowq(capsys, "doctor"))


def test_find_prints_a_ranking(capsys, tiny: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LOWQ_STORE", str(tmp_path / "store"))
    photo = tiny / "jpg" / "a" / "a2.png"
    lines = lowq(capsys, "find", photo, tiny / "jpg", "--profile", "smoke", "--k", 3, "--bbx", 0, 0, 96, 72)
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert lines[0].split()[1:] == ["1.0000", "a/a2.png"]


@pytest.mark.parametrize(
    ("outcome", "status"), [("passed", 0), ("up to date", 0), ("failed", 1), ("timed out", 1)]
)
def test_reproduce_hands_on_what_it_is_given(monkeypatch, capsys, outcome, status: int) -> None:
    asked = []

    def reproduce(notebooks: tuple[str, ...], profile: str, **options: object) -> Report:
        asked.append((notebooks, profile, options))
        return Report(profile, (Run("01_a", "passed", 1), Run("02_b", outcome, 1)), 2.0)

    monkeypatch.setattr("lowq_core.reproduce.runner.reproduce", reproduce)
    lowq(
        capsys,
        "reproduce",
        "01",
        "02",
        "--profile",
        "smoke",
        "--jobs",
        3,
        "--force",
        "--timeout",
        9,
        status=status,
    )
    lowq(capsys, "reproduce", status=status)
    assert asked == [
        (("01", "02"), "smoke", {"jobs": 3, "force": True, "timeout": 9.0}),
        ((), "mini", {"jobs": 2, "force": False, "timeout": None}),
    ]


def test_ctrl_c_is_one_sentence(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from lowq_core import cli; "
        "cli.List.run = lambda self: os.kill(os.getpid(), signal.SIGINT) or 0; "
        "sys.exit(cli.main(['list', 'methods']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == "lowq: stopped; what was finished is kept, run the same command to go on\n"


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("lowq")
    if not command.exists():
        pytest.skip("lowq is not installed beside this Python; run make setup")
    done = subprocess.run(
        [command, "list", "profiles"], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0
    assert done.stdout.startswith("smoke ")
