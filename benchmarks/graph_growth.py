"""How GSS grows with the database: neighbours, graph and one epoch of training, 1,000 to 1,000,000 pictures.

128 dimensions, k 5. Neighbours are exact up to 100,000 pictures and from inverted lists above; the loss takes all
pairs up to 30,000 and 16.8 million drawn ones above. Each size runs in a process of its own, whose peak of memory
is taken less what it had before the first stage. Writes one row a size, and the exponents of power laws that fit
best (least squares of the logarithms) below and above the two limits: time ~ N^exponent.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _growth import draw_growth, powers
from _harness import settings

from lowq_core.files import write_text
from lowq_core.models.gss import GSSNetwork
from lowq_core.retrieval.graph import union_graph
from lowq_core.retrieval.gss.retriever import _normalised_graph
from lowq_core.retrieval.gss.training import Schedule, Training
from lowq_core.retrieval.knn import nearest_neighbours

DIM, K, PLACES = 128, 5, 20
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
QUICK = (500, 1_000, 2_000, 4_000)
EXACT_UP_TO, PAIRS_UP_TO = 100_000, 30_000
QUICK_LIMITS = (1_000, 1_000)
PANELS = {
    "seconds": {"neighbours_s": "neighbours", "graph_s": "graph", "epoch_s": "an epoch"},
    "peak memory, MB": {"peak_mb": "all of it"},
}
LIMITED = {"neighbours_s": "exact_up_to", "epoch_s": "pairs_up_to", "peak_mb": "pairs_up_to"}


def measure(size: int, exact_up_to: int, pairs_up_to: int) -> dict[str, Any]:
    _load_libraries()
    rows = _pictures(size)
    before = _peak_mb()
    search = "exact" if size <= exact_up_to else "ivf"
    start = time.perf_counter()
    found = nearest_neighbours(rows, K - 1, search=search)  # type: ignore[arg-type]
    neighbours = time.perf_counter() - start
    start = time.perf_counter()
    graph = union_graph(rows, found.ids)
    edges = _normalised_graph(graph)
    built = time.perf_counter() - start
    network = GSSNetwork(DIM, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    training = Training(network, torch.from_numpy(rows), edges, Schedule(all_pairs_up_to=pairs_up_to))
    begun = time.perf_counter() - start
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        training.step()
        seconds.append(time.perf_counter() - start)
    return {
        "pictures": size,
        "search": search,
        "pairs": "all" if size <= pairs_up_to else "drawn",
        "edges": len(graph.columns),
        "neighbours_s": neighbours,
        "graph_s": built,
        "beta_s": begun,
        "epoch_s": sorted(seconds[1:])[0],
        "peak_mb": _peak_mb() - before,
    }


def _load_libraries() -> None:
    """What torch, faiss and an optimizer load when first used is none of a database's time and memory."""
    rows = np.eye(8, dtype=np.float32)
    for search in ("exact", "ivf"):
        found = nearest_neighbours(rows, 2, search=search)  # type: ignore[arg-type]
    graph = _normalised_graph(union_graph(rows, found.ids))
    Training(GSSNetwork(8), torch.from_numpy(rows), graph, Schedule()).step()


def _pictures(size: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((size, DIM), dtype=np.float32)
    centres = generator.standard_normal((-(-size // PLACES), DIM), dtype=np.float32)
    for start in range(0, size, PLACES):
        part = rows[start : start + PLACES]
        part += centres[start // PLACES]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw them there (SVG or PNG)")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    exact_up_to, pairs_up_to = QUICK_LIMITS if options.quick else (EXACT_UP_TO, PAIRS_UP_TO)
    if options.one:
        print(json.dumps(measure(options.one, exact_up_to, pairs_up_to)))
        return
    rows = []
    for size in QUICK if options.quick else SIZES:
        print(f"{size:,} pictures ...", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--one", str(size), *(["--quick"] if options.quick else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    values = {"exact_up_to": exact_up_to, "pairs_up_to": pairs_up_to}
    limits = {column: values[name] for column, name in LIMITED.items()}
    fits = [
        {"exponent_of": column, "sizes": fit.sizes.strip() or "all sizes", "exponent": fit.exponent}
        for columns in PANELS.values()
        for column in columns
        for fit in powers(rows, column, limits.get(column))
    ]
    stated = settings()
    print("\n".join(f"{key}: {value}" for key, value in stated.items()))
    print("".join(f"{name:>14}" for name in rows[0]))
    for row in rows:
        print(
            "".join(
                f"{value:14,.3f}" if isinstance(value, float) else f"{value:>14}" for value in row.values()
            )
        )
    for fit in fits:
        print(f"{fit['exponent_of']:>14}  {fit['sizes']:<16} N^{fit['exponent']:.2f}")
    if options.json:
        whole = [row | {"settings": stated} for row in rows] + fits
        write_text(options.json, json.dumps(whole, indent=1) + "\n")
    if options.figure:
        draw_growth(rows, PANELS, options.figure, limits)


if __name__ == "__main__":
    main()
