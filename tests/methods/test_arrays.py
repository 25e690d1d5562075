"""Anybody's descriptors: files in, a ranking out, and errors that say what to do."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lowq_core.cli import main
from lowq_core.errors import LowqError
from lowq_core.methods.arrays import rerank, write_ranking
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.catalogue import RETRIEVERS, retriever

SMALL = {
    "dfs": {"k": 3},
    "dfst": {"k": 3, "truncation": 8},
    "fsr": {"k": 3},
    "dfs-fsr": {"k": 3, "rank": 4},
    "gss": {"epochs": 2},
    "dqe": {"negatives": 3},
}


def unit(rows: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, 6)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    np.save(tmp_path / "x.npy", unit(20, 0))
    np.save(tmp_path / "q.npy", unit(3, 1))
    return tmp_path / "x.npy", tmp_path / "q.npy"


@pytest.mark.parametrize("name", RETRIEVERS)
def test_every_retriever_ranks_files_as_it_ranks_arrays(name: str, files: tuple[Path, Path]) -> None:
    options = SMALL.get(name, {})
    found = rerank(*files, name, [f"{key}={value}" for key, value in options.items()], k=4)
    wanted = retriever(name, **options).fit(unit(20, 0)).rank(unit(3, 1), 4)
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5)
    assert found.ids.shape == (3, 4)


def test_mat_files_hold_columns(tmp_path: Path, files: tuple[Path, Path]) -> None:
    scipy.io.savemat(tmp_path / "both.mat", {"X": unit(20, 0).T, "Q": unit(3, 1).T})
    wanted = rerank(*files, "exact")
    np.testing.assert_array_equal(rerank(tmp_path / "both.mat", method="exact").ids, wanted.ids)
    np.testing.assert_array_equal(rerank(files[0], tmp_path / "both.mat", "exact").ids, wanted.ids)


def test_rankings_are_written_by_suffix(tmp_path: Path) -> None:
    ranking = Ranking(np.array([[2, 0]]), np.array([[0.9, 0.1]], np.float32))
    assert np.load(write_ranking(ranking, tmp_path / "r.npy")).tolist() == [[2, 0]]
    both = np.load(write_ranking(ranking, tmp_path / "r.npz"))
    assert both["ids"].tolist() == [[2, 0]]
    np.testing.assert_array_equal(both["scores"], ranking.scores)
    rows = list(csv.reader(write_ranking(ranking, tmp_path / "r.csv").open()))
    assert rows == [["query", "rank", "picture", "score"], ["0", "1", "2", "0.9"], ["0", "2", "0", "0.1"]]
    with pytest.raises(LowqError, match=r"written as \.npy, \.npz or \.csv"):
        write_ranking(ranking, tmp_path / "r.txt")


def test_from_the_command_line(files: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    out = tmp_path / "found.csv"
    assert (
        main(
            ["rerank", *map(str, files), "--method", "aqe", "--options", "n=2", "--k", "3", "--out", str(out)]
        )
        == 0
    )
    assert capsys.readouterr().out.strip() == str(out)
    assert len(out.read_text().splitlines()) == 1 + 3 * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "magic"], "there is no retriever 'magic'"),
        (["--options", "depth=3"], "gss has no option 'depth'"),
        (["--options", "k"], "write it as name=value"),
        (["--k", "99"], "k=99"),
        (["--options", "k=50"], "k=50"),
    ],
)
def test_bad_arguments(
    files: tuple[Path, Path], arguments: list[str], message: str, capsys, tmp_path: Path
) -> None:
    out = tmp_path / "out.npz"
    assert main(["rerank", *map(str, files), *arguments, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_bad_files(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "text.mat").write_text("no array")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    scipy.io.savemat(tmp_path / "other.mat", {"Y": np.eye(3)})
    np.save(tmp_path / "nan.npy", np.full((3, 6), np.nan, np.float32))
    np.save(tmp_path / "turned.npy", np.ascontiguousarray(unit(20, 0).T))
    np.save(tmp_path / "long.npy", 2 * unit(20, 0))
    for name, message in (
        ("none.npy", "no such file"),
        ("text.npy", "not an array of numbers"),
        ("text.mat", "not an array of numbers"),
        ("objects.npy", "not an array of numbers"),
        ("other.mat", "holds no variable 'X'"),
        ("list.txt", r"read from \.npy or \.mat"),
        ("nan.npy", "NaN"),
        ("turned.npy", r"transposed, pass its \.T"),
        ("long.npy", "divide each row by its length"),
    ):
        with pytest.raises(LowqError, match=message) as caught:
            rerank(tmp_path / name, files[1], "aqe")
        assert name in str(caught.value)
