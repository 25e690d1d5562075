"""Names of data, and what of it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowq_core.data.named import distractors_folder, missing
from lowq_core.errors import LowqError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOWQ_DATA", str(tmp_path))
    return tmp_path


def put(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def test_one_phrase_a_folder_until_its_last_file_is_there(root: Path) -> None:
    (phrase,) = missing(["porto", "porto"], ["porto"])
    assert phrase == f"{root / 'porto'} has to hold labels.csv, jpg (it is not published; put it there)"
    put(root, "porto/labels.csv")
    (phrase,) = missing(["porto"])
    assert phrase.startswith(f"{root / 'porto'} has to hold jpg (")
    put(root, "porto/jpg/a.jpg")
    assert missing(["porto"], ["porto"]) == []


def test_files_are_found_where_the_catalogue_looks_for_them(root: Path) -> None:
    put(root, "datasets/roxford5k/jpg/a.jpg", "revisitop_gnd/gnd_roxford5k.pkl")
    assert missing(["roxford5k"]) == []


def test_a_benchmark_with_distractors_needs_both(root: Path) -> None:
    put(root, "roxford5k/jpg/a.jpg", "roxford5k/gnd_roxford5k.pkl")
    (r1m,) = missing(["roxford5k+r1m"])
    assert r1m.startswith(f"{root / 'revisitop1m'} has to hold revisitop1m.txt, jpg (run `lowq data fetch")
    (own,) = missing(["roxford5k+distractors"])
    assert own.startswith(f"{root / 'distractors'} has to hold pictures")
    assert len(missing(["papertown+distractors", "rparis6k+r1m"])) == 3
    put(root, "revisitop1m/revisitop1m.txt", "revisitop1m/jpg/b.jpg", "distractors/d.jpg")
    assert missing(["roxford5k+r1m", "roxford5k+distractors", "papertown_val+distractors"]) == []
    assert distractors_folder("roxford5k+distractors") == root / "distractors"


def test_landmarks_to_train_on_are_another_set_than_those_to_search(root: Path) -> None:
    put(root, "gldv2/index/index.csv", "gldv2/test/retrieval_solution_v2.1.csv")
    assert missing(["gldv2"]) == []
    for name in ("gldv2", "gldv2-noisy_classes"):
        (phrase,) = missing([], [name])
        assert "train/train_clean.csv or train_clean.csv (run `lowq data fetch gldv2_train`)" in phrase
    put(root, "gldv2/train/train.csv", "gldv2/train/train_clean.csv")
    assert missing(["gldv2"], ["gldv2", "gldv2-noisy_classes"]) == []


def test_names_that_nobody_knows_and_no_folder_at_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LowqError, match="'atlantis' is no data set"):
        missing(["atlantis"])
    monkeypatch.delenv("LOWQ_DATA")
    for name in ("porto", "papertown+distractors"):
        with pytest.raises(LowqError, match="set LOWQ_DATA"):
            missing([name])
