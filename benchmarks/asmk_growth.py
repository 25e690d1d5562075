"""How our ASMK index grows: 1,000 to 100,000 pictures, and what a million would cost by extrapolation.

The database's cells are made up directly (950 a picture, words and bits drawn evenly), because assigning 100
million descriptors to words takes the better part of an hour and does not depend on how many pictures there are.
Queries are made-up descriptors that go the whole way, 1,000 each, five words a descriptor, ranking all pictures.
Writes one row a size, and one for the million: a straight line through the two largest sizes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _growth import draw_growth
from _harness import settings

from lowq_core.files import write_text
from lowq_core.retrieval.asmk.codebook import Codebook
from lowq_core.retrieval.asmk.index import Entries, InvertedFile
from lowq_core.retrieval.asmk.retriever import ASMK
from lowq_core.retrieval.base import LocalArrays

DIM, CELLS, QUERIES, EACH = 128, 950, 8, 1_000
MILLION = 1_000_000
AT_A_TIME = 500  # pictures
PANELS = {
    "milliseconds a query": {"query_ms": "whole query", "words_ms": "its words", "compare_ms": "comparing"},
    "MB": {"index_mb": "index in memory", "disk_mb": "on disk"},
}
LINEAR = ("build_s", "index_mb", "disk_mb", "load_s", "compare_ms")  # what grows with the database


def unit_vectors(rows: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, DIM), dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def cells(pictures: int, words: int) -> Iterator[Entries]:
    generator = np.random.default_rng(0)
    for first in range(0, pictures, AT_A_TIME):
        count = min(AT_A_TIME, pictures - first)
        gaps = generator.dirichlet(np.ones(CELLS + 1), count)[:, :CELLS].cumsum(axis=1)
        chosen = (gaps * (words - CELLS)).astype(np.int32) + np.arange(
            CELLS, dtype=np.int32
        )  # rising, no two alike
        numbers = np.repeat(np.arange(first, first + count, dtype=np.int32), CELLS)
        yield Entries(
            numbers, chosen.ravel(), generator.integers(0, 256, (count * CELLS, DIM // 8), dtype=np.uint8)
        )


def measure(pictures: int, book: Codebook, queries: LocalArrays) -> dict[str, Any]:
    parts = list(cells(pictures, book.size))
    start = time.perf_counter()
    file = InvertedFile.build(_handed_over(parts), words=book.size, pictures=pictures)
    built = time.perf_counter() - start
    search = ASMK(codebook=book)
    search._file = file
    size = sum(array.nbytes for array in (file.offsets, file.pictures, file.codes, file.cells))
    row: dict[str, Any] = {"pictures": pictures, "cells": len(file.pictures), "build_s": built}
    row["index_mb"] = size / 2**20
    row["bytes_a_cell"] = size / len(file.pictures)
    with tempfile.TemporaryDirectory() as folder:
        search.save(Path(folder))
        row["disk_mb"] = sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
        start = time.perf_counter()
        search = ASMK.load(Path(folder))
        row["load_s"] = time.perf_counter() - start
        whole, encode = [], []
        for _ in range(4):
            start = time.perf_counter()
            search.rank(queries)
            whole.append(time.perf_counter() - start)
            start = time.perf_counter()
            for block in search._encoder().blocks(queries, "queries"):
                search._encoder().entries(block, search.query_assignment)
            encode.append(time.perf_counter() - start)
    row["words_ms"] = 1e3 * statistics.median(encode[1:]) / QUERIES
    row["compare_ms"] = 1e3 * (statistics.median(whole[1:]) - statistics.median(encode[1:])) / QUERIES
    return row | {"query_ms": row["words_ms"] + row["compare_ms"]}


def _handed_over(parts: list[Entries]) -> Iterator[Entries]:
    """The parts, each let go by the list, so that the index being built is their only owner."""
    parts.reverse()
    while parts:
        yield parts.pop()


def extrapolated(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A million pictures, by the line through the two largest measured sizes."""
    one, two = rows[-2:]
    per = {key: (two[key] - one[key]) / (two["pictures"] - one["pictures"]) for key in LINEAR}
    row = {key: two[key] + per[key] * (MILLION - two["pictures"]) for key in LINEAR}
    row |= {"pictures": MILLION, "cells": MILLION * CELLS, "words_ms": two["words_ms"], "extrapolated": True}
    row["bytes_a_cell"] = row["index_mb"] * 2**20 / row["cells"]
    return row | {"query_ms": row["words_ms"] + row["compare_ms"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw them there (SVG or PNG)")
    options = parser.parse_args()
    words = 4_096 if options.quick else 65_536
    book = Codebook(unit_vectors(words, 1) * np.float32(0.8))
    queries = LocalArrays(unit_vectors(QUERIES * EACH, 2), np.arange(QUERIES + 1) * EACH)
    rows = []
    for pictures in (100, 200, 400) if options.quick else (1_000, 10_000, 100_000):
        print(f"{pictures:,} pictures, {words:,} words ...", file=sys.stderr, flush=True)
        rows.append(measure(pictures, book, queries))
    rows.append(extrapolated(rows))
    stated = settings()
    print("\n".join(f"{key}: {value}" for key, value in stated.items()))
    head = ("pictures", "bytes_a_cell", *LINEAR, "words_ms", "query_ms")
    print("".join(f"{name:>14}" for name in head))
    for row in rows:
        print("".join(f"{row[name]:14,.2f}" if name != "pictures" else f"{row[name]:14,}" for name in head))
    if options.json:
        write_text(options.json, json.dumps([row | {"settings": stated} for row in rows], indent=1) + "\n")
    if options.figure:
        draw_growth(rows, PANELS, options.figure)


if __name__ == "__main__":
    main()
