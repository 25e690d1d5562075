"""GSS: an epoch against the plain dense transcription, what a whole training takes, and the time of a query.

Plain: a dense normalised adjacency, x -> A x W for each layer, autograd through all N x N similarities, torch's Adam;
float32. Ours as `GSS.fit` does it, in float32 and in bf16; both start from the same weights, and their losses have to
agree. Training of 200 epochs is 200 times an epoch; beta and the graph are made once more. A query's time has three
rows: the network alone (neighbours given), with the ranking by its output (a product with all outputs), and with
the exact search for its neighbours. Memory is what a call adds to the process.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from _harness import Case, main

from lowq_core.models.gss import GSSNetwork
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.graph import union_graph
from lowq_core.retrieval.gss.retriever import GSS, _normalised_graph
from lowq_core.retrieval.gss.training import Schedule, Training
from lowq_core.retrieval.knn import nearest_neighbours

QUERIES, TOP, PLACES, QUERY_K = 70, 100, 20, 5
K = 5


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
            what=f"fit of 3 epochs, {precision}: memory below 1,500 MB",
            size=f"{size:,} x {dim:,}, k {K}",
            peer_name="",
            prepare=partial(_database, size, dim),
            peer=None,
            ours=partial(_fitted, epochs=3, precision=precision),
            repeats=1,
        )
        for precision in ("float32", "bf16")
    ]
    small, short = (400, 10) if quick else (1_500, 60)
    fits.append(
        Case(
            what=f"fit of {short} epochs: ours in bf16 against ours in float32",
            size=f"{small:,} x 256",
            peer_name="ours, float32",
            prepare=partial(_database, small, 256, 3.0),
            peer=partial(_fitted, epochs=short, precision="float32"),
            ours=partial(_fitted, epochs=short, precision="bf16"),
            repeats=1,
            check=_same_map,
        )
    )
    large, dims = (5_000, (128,)) if quick else (100_000, (512, 2_048))
    jobs = (("network alone", _embed), (f"and ranking, top {TOP}", _rank), ("and search", _search))
    queries = [
        Case(
            what=f"{QUERIES} queries, {name}: below {QUERIES} ms",
            size=f"{large:,} x {dim:,}",
            peer_name="",
            prepare=partial(_asked, large, dim),
            peer=None,
            ours=job,
            repeats=5,
        )
        for dim in dims
        for name, job in jobs
    ]
    return [*epoch, *fits, *queries]


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


def _trainings(size: int, dim: int, precision: str) -> tuple[Plain, Training]:
    (rows,) = _database(size, dim)
    own = np.arange(size)[:, None]
    graph = union_graph(rows, np.hstack([own, nearest_neighbours(rows, K - 1).ids]))
    network = GSSNetwork(dim, generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(rows)
    table = torch.zeros(size, size)
    firsts = np.repeat(np.arange(size), np.diff(graph.offsets))
    table[firsts, graph.columns.astype(np.int64)] = torch.from_numpy(graph.weights)
    plain = Plain(x, table, network.weights)
    return plain, Training(network, x, _normalised_graph(graph), Schedule(precision=precision))  # type: ignore[arg-type]


def _same_loss(peer: float, ours: float, tolerance: float) -> str:
    # the plain mean is one float32 sum over all pairs, which is off by as much
    off = abs(peer - ours) / abs(peer)
    assert off <= max(tolerance, 1e-3), f"losses {peer} and {ours}"
    return f"loss {ours:.6f}, {off:.0e} off"


def _fitted(rows: np.ndarray, epochs: int, precision: str) -> GSS:
    return GSS(k=K, epochs=epochs, precision=precision).fit(rows)  # type: ignore[arg-type]


def _map(gss: GSS) -> float:
    """Mean average precision in percent, each picture a query, itself left out."""
    scores = gss.embeddings @ gss.embeddings.T
    np.fill_diagonal(scores, -np.inf)
    place = np.arange(len(scores)) // PLACES
    right = place[np.argsort(-scores, axis=1, kind="stable")[:, :-1]] == place[:, None]
    precision = np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1)
    return float(100 * ((precision * right).sum(axis=1) / right.sum(axis=1)).mean())


def _same_map(peer: GSS, ours: GSS) -> str:
    one, other = _map(peer), _map(ours)
    assert abs(one - other) <= 0.1, f"mAP {one} and {other}"
    return f"mAP {one:.2f} and {other:.2f}"


Asked = tuple[GSS, np.ndarray, np.ndarray]


def _asked(size: int, dim: int) -> Asked:
    """An untrained network, which takes as long to ask; its graph is drawn by place, which takes no search."""
    (rows,) = _database(size, dim)
    start = np.arange(size) // PLACES * PLACES
    lists = np.minimum(start[:, None] + np.random.default_rng(1).integers(0, PLACES, (size, K)), size - 1)
    queries = rows[:: size // QUERIES][:QUERIES].copy()
    gss = GSS(k=K, query_k=QUERY_K, epochs=0).fit(rows, neighbours=lists)
    return gss, queries, gss._fitted()[0].of(queries, QUERY_K).ids


def _embed(gss: GSS, queries: np.ndarray, lists: np.ndarray) -> np.ndarray:
    return gss.embed(queries, neighbours=lists)


def _rank(gss: GSS, queries: np.ndarray, lists: np.ndarray) -> Ranking:
    return gss.rank(queries, TOP, neighbours=lists)


def _search(gss: GSS, queries: np.ndarray, lists: np.ndarray) -> Ranking:
    return gss.rank(queries, TOP)


if __name__ == "__main__":
    main(cases, __doc__)
