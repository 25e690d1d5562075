"""Anybody's descriptors: files in, a ranking out, and errors that say what to do."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import scipy.io

from lowq_core.cli import main
from lowq_core.errors import LowqError
from lowq_core.methods.arrays import rerank, write_ranking
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.catalogue import RETRIEVERS, plain_options, retriever
from lowq_core.retrieval.expansion import AverageQE
from lowq_core.retrieval.gss.retriever import GSS

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
        (["--options", "k=five"], "gss: k='five' is no whole number; write one, such as k=5"),
        (["--options", "k=2.5"], "k=2.5 is no whole number"),
        (["--options", "k=1e400"], "k=inf is no whole number"),
        (["--options", "lr=high"], "lr='high' is no number; write one, such as lr=0.0001"),
        (["--options", "lr=nan"], "lr=nan: choose a number above 0"),
        (["--options", "k={[]:1}"], "k='{[]:1}' is no whole number"),
        (["--options", "search=5"], "search=5 is no word; write one, such as search=exact"),
        (["--options", "seed=99999999999999999999"], "seed=99999999999999999999: choose"),
        (
            ["--method", "dba", "--options", "then=aqe"],
            "dba has no option 'then'; choose among n, alpha, search",
        ),
    ],
)
def test_bad_arguments(
    files: tuple[Path, Path], arguments: list[str], message: str, capsys, tmp_path: Path
) -> None:
    out = tmp_path / "out.npz"
    assert main(["rerank", *map(str, files), *arguments, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("name", RETRIEVERS)
def test_defaults_have_the_types_that_options_are_checked_by(name: str) -> None:
    hints = get_type_hints(RETRIEVERS[name].__init__)
    for key, default in plain_options(RETRIEVERS[name]).items():
        assert hints[key] is type(default) or default in get_args(hints[key]), key


def test_numbers_of_numpy_are_options() -> None:
    assert retriever("alphaqe", n=np.int64(3), alpha=np.float32(2)).n == 3  # type: ignore[attr-defined]
    assert retriever("alphaqe", alpha=2).alpha == 2  # type: ignore[attr-defined]
    with pytest.raises(LowqError, match="n=True is no whole number"):
        retriever("aqe", n=True)


def test_graphs_from_files(files: tuple[Path, Path], tmp_path: Path) -> None:
    """The verified graphs that GSS' authors published: ranked numbers, the index' and the queries'."""
    draw = np.random.default_rng(2)
    index = np.array([draw.permutation(20) for _ in range(20)], np.int32)
    asked = np.array([draw.permutation(20) for _ in range(3)], np.int32)
    np.save(tmp_path / "town_index_ransac_graph.npy", index)
    np.save(tmp_path / "town_query_ransac_graph.npy", asked)
    graphs = {
        "index_graph": tmp_path / "town_index_ransac_graph.npy",
        "query_graph": tmp_path / "town_query_ransac_graph.npy",
    }
    options = {"k": 4, "query_k": 2, "epochs": 2}
    gss = GSS(**options).fit(unit(20, 0), neighbours=index)
    written = [f"{key}={value}" for key, value in options.items()]
    for given, wanted in (
        (("index_graph",), gss.rank(unit(3, 1))),
        (("index_graph", "query_graph"), gss.rank(unit(3, 1), neighbours=asked)),
    ):
        found = rerank(*files, "gss", written, **{name: graphs[name] for name in given})
        np.testing.assert_array_equal(found.ids, wanted.ids)
        np.testing.assert_array_equal(found.scores, wanted.scores)
    assert (gss.rank(unit(3, 1)).ids != GSS(**options).fit(unit(20, 0)).rank(unit(3, 1)).ids).any()
    expanded = rerank(*files, "aqe", ["n=2"], query_graph=graphs["query_graph"])
    np.testing.assert_array_equal(
        expanded.ids, AverageQE(n=2).fit(unit(20, 0)).rank(unit(3, 1), neighbours=asked).ids
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--index-graph", "rows3.npy", "--method", "dfs"], "rows3.npy: dfs takes no such graph"),
        (["--query-graph", "rows3.npy", "--method", "dqe"], "rows3.npy: dqe takes no such graph"),
        (["--index-graph", "none.npy"], "none.npy: no such file"),
        (["--index-graph", "rows3.npy"], "rows3.npy: 3 rows for 20 pictures"),
        (["--query-graph", "rows20.npy"], "rows20.npy: 20 rows for 3 pictures"),
        (["--query-graph", "rows20.npy", "--method", "aqe"], "rows20.npy: 20 rows for 3 pictures"),
        (["--query-graph", "beyond.npy"], "beyond.npy: row 0 names picture 20"),
        (["--index-graph", "x.npy"], "x.npy: float32 of shape (20, 6); give whole numbers"),
    ],
)
def test_bad_graphs(
    files: tuple[Path, Path],
    arguments: list[str],
    message: str,
    capsys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("rows3.npy", np.zeros((3, 12), int))
    np.save("rows20.npy", np.zeros((20, 12), int))
    np.save("beyond.npy", np.full((3, 12), 20))
    assert main(["rerank", *map(str, files), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("ranking.npz").exists()


@pytest.mark.parametrize("name", RETRIEVERS)
def test_queries_of_another_dimension(name: str, files: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    other, out = tmp_path / "other.npy", tmp_path / "out.npz"
    np.save(other, np.eye(3, 4, dtype=np.float32))
    options = [f"{key}={value}" for key, value in SMALL.get(name, {}).items()]
    argv = ["rerank", str(files[0]), str(other), "--method", name, "--out", str(out)]
    assert main([*argv, "--options", *options] if options else argv) == 2
    told = capsys.readouterr().err
    assert told == f"lowq: {other}: dimension 4, but the database has 6; use one model for both\n"
    assert not out.exists()


def test_bad_files(files: tuple[Path, Path], tmp_path: Path, capsys) -> None:
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
        out = tmp_path / "out.npz"
        bad = str(tmp_path / name)
        assert main(["rerank", bad, str(files[1]), "--method", "aqe", "--out", str(out)]) == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert sentence.startswith(f"lowq: {bad}: ")
        assert re.search(message, sentence)
        assert not out.exists()
