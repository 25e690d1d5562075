"""Kept steps that are damaged, through the command line: each is told with its mend, and that mend works."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lowq_core.cli import main
from lowq_core.errors import LowqError
from lowq_core.methods.kept import undamaged
from lowq_core.reproduce.profiles import PROFILES, profile

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOWQ_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def argv(tiny: Path, tiny_porto: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`lowq evaluate` on the tiny pictures, with the smoke profile trained on them."""
    smoke = profile("smoke", train=("porto",))
    local = replace(smoke.local, dim=16, size=96, words=8, count=20, queries_per_epoch=2)
    searches = smoke.searches | {name: {"candidates": 4} for name in ("sv", "hesaff")}
    searches["gss"] = {"k": 3, "query_k": 2, "epochs": 1}
    tuned = replace(smoke.tuned, train=("porto",))
    small = replace(smoke, local=local, searches=searches, tuned=tuned)
    monkeypatch.setitem(PROFILES, "smoke", small)
    gnd = str(tiny / "gnd_tiny.json")
    return ["evaluate", "--benchmark", gnd, "--profile", "smoke", "--size", "64", "--method"]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("method", "damage", "files", "steps"),
    [
        ("gem+gss", flip, "*.npy", {"descriptors", "search"}),
        ("gem+gss", empty, "*.npy", {"descriptors", "search"}),
        ("gem+sv", cut, "*", {"descriptors", "how", "local_features", "inliers"}),
        ("gem+sv", Path.unlink, "*.npy", {"descriptors", "local_features", "inliers"}),
        ("gem+hesaff", flip, "part-*.npy", {"descriptors", "regions"}),
        ("how+untrained", flip, "*.npy", {"local_features", "codebook"}),
        ("how+untrained", cut, "*", {"how", "local_features", "codebook"}),
        (
            "gem+augmented",
            cut,
            "*",
            {"adapnet", "clean_maps", "bad_maps", "stage_maps", "finished_descriptors"},
        ),
    ],
)
def test_the_mend_that_is_told_mends(
    argv: list[str],
    store: Path,
    capsys: pytest.CaptureFixture[str],
    method: str,
    damage: Callable[[Path], None],
    files: str,
    steps: set[str],
) -> None:
    assert main([*argv, method]) == 0
    wanted = capsys.readouterr().out
    for file in [path for path in store.glob("*/[!.]*/**/*") if path.is_file() and path.match(files)]:
        damage(file)
    mended = []
    while main([*argv, method]) == 2:
        (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lowq: ")]
        folder = Path(sentence.partition("; delete the folder ")[2].removesuffix(", and it is made again"))
        assert folder.parent.parent == store, sentence
        shutil.rmtree(folder)
        mended.append(folder)
    assert len(mended) == len(set(mended))
    assert {folder.parent.name for folder in mended} == steps
    assert capsys.readouterr().out == wanted


def test_what_the_system_refuses_is_not_the_steps_fault(tmp_path: Path) -> None:
    def read() -> None:
        raise OSError(24, "Too many open files")

    with pytest.raises(OSError, match="Too many"):
        undamaged(tmp_path, read)
    np.save(tmp_path / "whole.npy", np.eye(3))
    np.testing.assert_array_equal(undamaged(tmp_path, lambda: np.load(tmp_path / "whole.npy")), np.eye(3))
    with pytest.raises(LowqError, match=f"none.npy'\\); delete the folder {tmp_path}, and it is made again"):
        undamaged(tmp_path, lambda: np.load(tmp_path / "none.npy"))
