"""Searches on anybody's descriptors: arrays in, a ranking out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from lowq_core.errors import LowqError
from lowq_core.files import write_bytes
from lowq_core.methods.parts import STARTED
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.catalogue import RETRIEVERS, retriever
from lowq_core.retrieval.graph import read_lists

MAT_DATABASE, MAT_QUERIES = "X", "Q"
"""Names in the `.mat` files of the revisited benchmarks' authors, which hold D x N, a column a picture."""


def rerank(
    database: Path,
    queries: Path | None = None,
    method: str = "gss",
    options: Sequence[str] = (),
    k: int | None = None,
    *,
    index_graph: Path | None = None,
    query_graph: Path | None = None,
) -> Ranking:
    """The database ranked for each query by a retriever of `lowq_core.retrieval.catalogue`.

    Args:
        database: `.npy` with (N, D), or a `.mat` with X (D, N), and Q (D, nq) unless `queries` is given.
        queries: `.npy` with (Q, D), or a `.mat` with Q (D, nq).
        method: name of the retriever.
        options: of the retriever, as `name=value`.
        k: how many to return, all where it is None.
        index_graph: `.npy` with ranked picture numbers, (N, K), that GSS connects instead of the nearest by
            descriptor, such as the `*_index_ransac_graph.npy` that its authors published (GSS_V).
        query_graph: likewise (Q, K), the pictures that queries start from, such as `*_query_ransac_graph.npy`; for
            expansion and diffusion, too.

    Raises:
        LowqError: a file that cannot be read or holds something else, an unknown method or option, descriptors
            or lists that the retriever does not take.
    """
    search: Any = retriever(method, **dict(_option(text) for text in options))
    of_index = _neighbours(index_graph, method, ("gss",))
    of_queries = _neighbours(query_graph, method, [name for name in STARTED if name in RETRIEVERS])
    found = _read(database, MAT_DATABASE)
    asked = _read(queries or database, MAT_QUERIES)
    with _named({"database": database, "neighbours": index_graph}):
        search.fit(found, **of_index)
    names = {"queries": queries or database, "query neighbours": query_graph, "neighbours": query_graph}
    with _named(names):
        ranking: Ranking = search.rank(asked, k, **of_queries)
    return ranking


def write_ranking(ranking: Ranking, out: Path) -> Path:
    """Write ids (`.npy`), ids and scores (`.npz`), or a line a hit (`.csv`), by the suffix of `out`.

    Raises:
        LowqError: another suffix.
    """
    data = io.BytesIO()
    if out.suffix == ".npy":
        np.save(data, ranking.ids, allow_pickle=False)
    elif out.suffix == ".npz":
        np.savez(data, ids=ranking.ids, scores=ranking.scores)
    elif out.suffix == ".csv":
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("query", "rank", "picture", "score"))
        for query, (ids, scores) in enumerate(zip(ranking.ids, ranking.scores, strict=True)):
            rows.writerows(
                (query, rank, i, f"{s:.6g}") for rank, (i, s) in enumerate(zip(ids, scores, strict=True), 1)
            )
        data.write(text.getvalue().encode())
    else:
        raise LowqError(f"{out}: a ranking is written as .npy, .npz or .csv; choose one of these endings")
    return write_bytes(out, data.getvalue())


def _read(path: Path, variable: str) -> NDArray[Any]:
    """(N, D) as it lies in the file; the retriever checks what it holds."""
    if path.suffix not in (".npy", ".mat"):
        raise LowqError(f"{path}: descriptors are read from .npy or .mat files; save them as one of these")
    if not path.is_file():
        raise LowqError(f"{path}: no such file of descriptors; check the path")
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        held = scipy.io.loadmat(path, variable_names=[variable])
    except (MatReadError, ValueError, OSError, EOFError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise LowqError(f"{path}: not an array of numbers ({reason}); save it again") from None
    if variable not in held:
        raise LowqError(
            f"{path}: holds no variable {variable!r}; it needs {variable} with a column a picture"
        )
    return np.ascontiguousarray(held[variable].T)


def _neighbours(path: Path | None, method: str, takers: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """`neighbours` of `fit` or `rank`, if a file has them."""
    if path is None:
        return {}
    if method not in takers:
        raise LowqError(f"{path}: {method} takes no such graph; leave it out, or choose {', '.join(takers)}")
    return {"neighbours": read_lists(path)}


@contextmanager
def _named(files: Mapping[str, Path | None]) -> Iterator[None]:
    """Errors about what the retriever calls so name the file instead."""
    try:
        yield
    except LowqError as error:
        what, colon, told = str(error).partition(":")
        raise LowqError(f"{files[what]}:{told}" if colon and files.get(what) else str(error)) from None


def _option(text: str) -> tuple[str, int | float | str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise LowqError(f"option {text!r}: write it as name=value, such as k=5")
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            continue
    return name, value
