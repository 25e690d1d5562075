"""GSS: an epoch against the plain dense transcription, a whole training, its mAP, and the time of a query by parts.

Plain: a dense normalised adjacency, x -> A x W for each layer, autograd through all N x N similarities, torch's Adam;
float32. Ours as `GSS.fit` does it, in float32 and in bf16; both start from the same weights. In the rows of an epoch
their losses have to agree, in those of a training the mAP of what they learned, within 0.1: made-up pictures of
places, each of them a query. The time of 200 epochs is extrapolated from fits of 1 and of 5. A query's time, alone
and in batches, has rows for its parts (the search for its neighbours, the network, the ranking by its output) and
one for all of them. Memory is what a call adds to the process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from _harness import Case, main

from lowq_core.models.gss import GSSNetwork
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.graph import Adjacency, union_graph
from lowq_core.retrieval.gss.retriever import GSS, _normalised_graph
from lowq_core.retrieval.gss.training import Schedule, Training
from lowq_core.retrieval.knn import NeighbourIndex, Neighbours, nearest_neighbours

BATCH, TOP, PLACES, QUERY_K = 70, 100, 20, 5
K, EPOCHS = 5, 200
LIMIT_S, LIMIT_MB = 360, 1_500  # of a training of 200 epochs
LIMIT_QUERY_S = 1e-3


def cases(quick: bool) -> list[Case]:
    size, dim = (600, 128) if quick else (4_993, 2_048)
    epoch = [
        Case(
            what=f"one epoch, {precision}",
            size=f"{size:,} x {dim:,}, k {K}",
            peer_name="dense torch, float32",
            prepare=partial(_trainings, size, dim, precision),
            peer=lambda plain, ours: plain.step(),
            ours=lambda plain, ours: ours.step(),
            repeats=3,
            check=partial(_same_loss, tolerance=1e-4 if precision == "float32" else 4e-3),
            promise=promise,
        )
        for precision, promise in (("float32", 1.8), ("bf16", 2.7))
    ]
    fits = [
        Case(
            what=f"fits of 1 and 5 epochs, {precision}",
            size=f"{size:,} x {dim:,}, k {K}",
            peer_name="",
            prepare=partial(_database, size, dim),
            peer=None,
            ours=partial(_training_times, precision=precision),
            repeats=1,
            check=_whole_training,
            limit_mb=LIMIT_MB,
        )
        for precision in ("float32", "bf16")
    ]
    small, short = (400, 10) if quick else (1_500, 60)
    trained = [(small, 256, 3.0, short, "float32"), (small, 256, 3.0, short, "bf16")]
    if not quick:
        trained.append((size, dim, 5.0, 8, "bf16"))
    agreements = [
        Case(
            what=f"mAP after {epochs} epochs, {precision}",
            size=f"{some:,} x {wide:,}, k {K}",
            peer_name="dense torch, float32",
            prepare=partial(_database, some, wide, noise),
            peer=partial(_plainly_trained, epochs=epochs),
            ours=partial(_trained, epochs=epochs, precision=precision),
            repeats=1,
            check=_same_map,
            memory=False,
        )
        for some, wide, noise, epochs, precision in trained
    ]
    asked = ((5_000, 128),) if quick else ((4_993, 2_048), (100_000, 512), (100_000, 2_048))
    jobs = (("neighbours", _near), ("network", _embed), ("ranking", _rank), ("whole query", _whole))
    queries = [
        Case(
            what=f"{count} queries at once, {name}" if count > 1 else f"a query, {name}",
            size=f"{some:,} x {wide:,}, top {TOP}",
            peer_name="",
            prepare=partial(_asked, some, wide, count),
            peer=None,
            ours=job,
            repeats=21 if count == 1 else 5,
            limit_s=count * LIMIT_QUERY_S if name == "whole query" else None,
            memory=False,
        )
        for some, wide in asked
        for count in (1, BATCH)
        for name, job in jobs
    ]
    return [*epoch, *fits, *agreements, *queries]


class Plain:
    """GSS written down as its formulas stand: dense, autograd throughout."""

    def __init__(self, x: torch.Tensor, adjacency: torch.Tensor, weights: list[torch.Tensor]) -> None:
        self.x, self.adjacency = x, adjacency
        self.weights = [weight.clone().requires_grad_() for weight in weights]
        self.biases = [torch.zeros(x.shape[1], requires_grad=True) for _ in weights]
        self.optimizer = torch.optim.Adam([*self.weights, *self.biases], lr=1e-4)
        with torch.no_grad():
            e = self.outputs()
            self.beta = float(np.percentile((e @ e.t()).numpy(), 98))

    def outputs(self) -> torch.Tensor:
        z = self.adjacency @ self.x @ self.weights[0] + self.biases[0]
        h = F.elu(z)
        h = z + 0.3 * F.elu(self.adjacency @ h @ self.weights[1] + self.biases[1])
        return F.normalize(h)

    def step(self) -> float:
        self.optimizer.zero_grad()
        e = self.outputs()
        loss = (-0.5 * (torch.relu(e @ e.t()) - self.beta) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def _database(size: int, dim: int, noise: float = 1.8) -> tuple[np.ndarray]:
    """Pictures of places, `PLACES` each, in order: place i // PLACES; `noise` per unit of the places' own spread."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((-(-size // PLACES), dim), dtype=np.float32)
    rows = generator.standard_normal((size, dim), dtype=np.float32) * np.float32(noise)
    for start in range(0, size, PLACES):
        rows[start : start + PLACES] += centres[start // PLACES]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows,)


def _graph_of(rows: np.ndarray) -> Adjacency:
    own = np.arange(len(rows))[:, None]
    return union_graph(rows, np.hstack([own, nearest_neighbours(rows, K - 1).ids]))


def _network(dim: int) -> GSSNetwork:
    """Weights as `GSS` starts with."""
    return GSSNetwork(dim, generator=torch.Generator().manual_seed(0))


def _plain(rows: np.ndarray, graph: Adjacency, network: GSSNetwork) -> Plain:
    table = torch.zeros(len(rows), len(rows))
    firsts = np.repeat(np.arange(len(rows)), np.diff(graph.offsets))
    table[firsts, graph.columns.astype(np.int64)] = torch.from_numpy(graph.weights)
    return Plain(torch.from_numpy(rows), table, network.weights)


def _trainings(size: int, dim: int, precision: str) -> tuple[Plain, Training]:
    (rows,) = _database(size, dim)
    graph, network = _graph_of(rows), _network(dim)
    schedule = Schedule(precision=precision)  # type: ignore[arg-type]
    plain = _plain(rows, graph, network)
    return plain, Training(network, torch.from_numpy(rows), _normalised_graph(graph), schedule)


def _same_loss(peer: float, ours: float, tolerance: float) -> str:
    # the plain mean is one float32 sum over all pairs, which is off by as much
    off = abs(peer - ours) / abs(peer)
    assert off <= max(tolerance, 1e-3), f"losses {peer} and {ours}"
    return f"loss {ours:.6f}, {off:.0e} off"


def _training_times(rows: np.ndarray, precision: str) -> dict[int, float]:
    """Epochs -> seconds of the whole fit."""
    _fitted(rows[:100], 1, precision)  # what is loaded at the first use
    seconds = {}
    for epochs in (1, 5):
        start = time.perf_counter()
        _fitted(rows, epochs, precision)
        seconds[epochs] = time.perf_counter() - start
    return seconds


def _whole_training(peer: None, ours: dict[int, float]) -> str:
    epoch = (ours[5] - ours[1]) / 4
    whole = ours[1] + (EPOCHS - 1) * epoch
    kept = "below" if whole < LIMIT_S else "MISSED: not below"
    return f"{EPOCHS} epochs, extrapolated: {whole:.0f} s, {kept} {LIMIT_S} s"


def _fitted(rows: np.ndarray, epochs: int, precision: str) -> GSS:
    return GSS(k=K, epochs=epochs, precision=precision).fit(rows)  # type: ignore[arg-type]


def _plainly_trained(rows: np.ndarray, epochs: int) -> np.ndarray:
    plain = _plain(rows, _graph_of(rows), _network(rows.shape[1]))
    for _ in range(epochs):
        plain.step()
    with torch.no_grad():
        return plain.outputs().numpy()


def _trained(rows: np.ndarray, epochs: int, precision: str) -> np.ndarray:
    return _fitted(rows, epochs, precision).embeddings


def _map(vectors: np.ndarray) -> float:
    """Mean average precision in percent, each picture a query, itself left out."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    place = np.arange(len(scores)) // PLACES
    right = place[np.argsort(-scores, axis=1, kind="stable")[:, :-1]] == place[:, None]
    ranks = np.arange(1, right.shape[1] + 1, dtype=np.float32)
    precision = np.cumsum(right, axis=1, dtype=np.float32) / ranks
    counts = np.maximum(right.sum(axis=1), 1)  # the last place may have one picture only
    return float(100 * ((precision * right).sum(axis=1) / counts).mean())


def _same_map(peer: np.ndarray, ours: np.ndarray) -> str:
    one, other = _map(peer), _map(ours)
    assert abs(one - other) <= 0.1, f"mAP {one} and {other}"
    return f"mAP {one:.2f} and {other:.2f}"


@dataclass(frozen=True)
class Asked:
    """A retriever, queries, and what the parts of a query take."""

    gss: GSS
    queries: np.ndarray
    database: NeighbourIndex
    lists: np.ndarray
    outputs: NeighbourIndex
    embedded: np.ndarray


@lru_cache(maxsize=1)
def _untrained(size: int, dim: int) -> tuple[np.ndarray, GSS]:
    """An untrained network, which takes as long to ask; its graph is drawn by place, which takes no search."""
    (rows,) = _database(size, dim)
    start = np.arange(size) // PLACES * PLACES
    lists = np.minimum(start[:, None] + np.random.default_rng(1).integers(0, PLACES, (size, K)), size - 1)
    return rows, GSS(k=K, query_k=QUERY_K, epochs=0).fit(rows, neighbours=lists)


@lru_cache(maxsize=1)
def _asked(size: int, dim: int, count: int) -> tuple[Asked]:
    rows, gss = _untrained(size, dim)
    queries = rows[:: size // count][:count].copy()
    database, outputs = NeighbourIndex(rows), NeighbourIndex(gss.embeddings)
    lists = database.of(queries, QUERY_K).ids
    return (Asked(gss, queries, database, lists, outputs, gss.embed(queries, neighbours=lists)),)


def _near(asked: Asked) -> Neighbours:
    return asked.database.of(asked.queries, QUERY_K)


def _embed(asked: Asked) -> np.ndarray:
    return asked.gss.embed(asked.queries, neighbours=asked.lists)


def _rank(asked: Asked) -> Neighbours:
    return asked.outputs.of(asked.embedded, TOP)


def _whole(asked: Asked) -> Ranking:
    return asked.gss.rank(asked.queries, TOP)


if __name__ == "__main__":
    main(cases, __doc__)
