"""Diffusion against the way that its public implementation (fyang93/diffusion) does it, written out here.

That way, offline: faiss IVFPQ for the truncated sets from 100,000 pictures on (exact search below), a flat index for
the graph, mutual neighbours in a loop, then for each picture a slice of the sparse matrix and scipy's conjugate
gradients, in threads. Online: a flat index, a sparse product, the best of the sum. The whole offline run is timed
once, not a part of it; a second case times the linear systems alone, on a part of the pictures, with the same
sets and graph for both, so the approximate search that ours does without has no share in that ratio.

The database is random: 128 dimensions, clusters of many sizes in groups, and a fifth of pictures that belong nowhere.
Queries are noisy database rows. The promise of 20 ms a query is for one query at a time.
"""

from __future__ import annotations

from functools import partial

import faiss
import joblib
import numpy as np
from _harness import Case, main
from scipy import sparse
from scipy.sparse import linalg

from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.diffusion.dfs import Diffusion
from lowq_core.retrieval.diffusion.graph import affinity, transition
from lowq_core.retrieval.diffusion.subsets import nearest_sets
from lowq_core.retrieval.diffusion.truncated import TruncatedDiffusion

DIM, GRAPH, START = 128, 50, 10  # of the public implementation; its 50 count the picture itself
QUERIES, SHOWN = 70, 100
APPROXIMATE_FROM = 100_000


def cases(quick: bool) -> list[Case]:
    size, truncation, part = (5_000, 200, 500) if quick else (100_000, 1_000, 5_000)
    at = f"{size:,} x {DIM}, truncated {truncation:,}"
    database = partial(_database, size)
    return [
        Case(
            what="diffusion offline",
            size=at,
            peer_name="fyang93's way",
            prepare=lambda: (database(), truncation),
            peer=offline_their_way,
            ours=offline_our_way,
            repeats=1,
            check=_same_solutions,
            promise=3.0,
        ),
        Case(
            what="its linear systems alone",
            size=f"{part:,} of {at}",
            peer_name="scipy cg each",
            prepare=lambda: _systems(database(), truncation, part),
            peer=systems_their_way,
            ours=systems_our_way,
            repeats=3,
            check=_close,
            memory=False,
        ),
        Case(
            what="truncated diffusion online",
            size=f"{QUERIES} queries, {at}",
            peer_name="fyang93's way",
            prepare=lambda: _truncated_online(database(), truncation),
            peer=online_their_way,
            ours=one_by_one,
            check=partial(_same_ranking, limit=f"promised: {QUERIES} x 20 ms = {QUERIES * 0.02:.2g} s"),
            memory=False,
        ),
        Case(
            what="diffusion online, whole graph",
            size=f"{QUERIES} queries on {size:,} x {DIM}",
            peer_name="scipy cg each",
            prepare=lambda: _whole_online(database()),
            peer=whole_their_way,
            ours=whole_our_way,
            repeats=3,
            check=partial(_same_ranking, limit=""),
            memory=False,
        ),
    ]


Solutions = tuple[np.ndarray, np.ndarray]  # (N, T) ids and scores of each picture's truncated solution


def offline_their_way(database: np.ndarray, truncation: int) -> Solutions:
    exact = faiss.IndexFlatIP(DIM)
    exact.add(database)
    if len(database) >= APPROXIMATE_FROM:
        quantiser = faiss.IndexFlatIP(DIM)
        index = faiss.IndexIVFPQ(quantiser, DIM, 316, DIM, 8)
        index.train(database)
        index.add(database)
        index.nprobe = 32
        sets = index.search(database, truncation)[1]
        similarities, ids = exact.search(database, GRAPH)
    else:
        similarities, sets = exact.search(database, truncation)
        similarities, ids = similarities[:, :GRAPH], sets[:, :GRAPH]
    system = _laplacian(similarities, ids)
    return sets, systems_their_way(system, None, sets)


def _laplacian(similarities: np.ndarray, ids: np.ndarray) -> sparse.csr_matrix:
    size = len(ids)
    weights = np.maximum(similarities, 0) ** 3
    rows, columns, values = [], [], []
    for i in range(size):
        mutual = (ids[ids[i]] == i).any(axis=1) & (ids[i] != i)
        rows.append(np.full(mutual.sum(), i))
        columns.append(ids[i, mutual])
        values.append(weights[i, mutual])
    where = np.concatenate(rows), np.concatenate(columns)
    graph = sparse.csr_matrix((np.concatenate(values), where), shape=(size, size), dtype=np.float32)
    roots = sparse.diags(np.asarray(graph.sum(axis=1)).ravel() + 1e-12).power(-0.5)
    return (sparse.eye(size) - 0.99 * (roots @ graph @ roots)).astype(np.float32).tocsr()


def systems_their_way(system: sparse.csr_matrix, _: object, sets: np.ndarray) -> np.ndarray:
    right = np.zeros(sets.shape[1])
    right[0] = 1

    def one(ids: np.ndarray) -> np.ndarray:
        return linalg.cg(system[ids][:, ids], right, rtol=1e-6, maxiter=20)[0]

    return np.stack(joblib.Parallel(n_jobs=-1, prefer="threads")(joblib.delayed(one)(ids) for ids in sets))


def offline_our_way(database: np.ndarray, truncation: int) -> Solutions:
    search = TruncatedDiffusion(k=GRAPH - 1, truncation=truncation).fit(database)
    return search._sets, search._solutions


def systems_our_way(_: object, search: TruncatedDiffusion, sets: np.ndarray) -> np.ndarray:
    search._sets = sets
    search._prepare()
    return search._solutions


def online_their_way(
    index: faiss.IndexFlatIP, columns: sparse.csr_matrix, _: object, queries: np.ndarray
) -> Ranking:
    similarities, ids = index.search(queries, START)
    found = Ranking(np.empty((len(queries), SHOWN), np.int64), np.empty((len(queries), SHOWN), np.float32))
    for q, (near, weights) in enumerate(zip(ids, similarities**3, strict=True)):
        scores = (sparse.csr_matrix(weights) @ columns[near]).toarray()[0]
        best = np.argpartition(-scores, SHOWN)[:SHOWN]
        found.ids[q] = best[np.argsort(-scores[best])]
        found.scores[q] = scores[found.ids[q]]
    return found


def one_by_one(_: object, __: object, search: TruncatedDiffusion, queries: np.ndarray) -> Ranking:
    parts = [search.rank(query[None], SHOWN) for query in queries]
    return Ranking(np.concatenate([one.ids for one in parts]), np.concatenate([one.scores for one in parts]))


def whole_their_way(index: faiss.IndexFlatIP, search: Diffusion, queries: np.ndarray) -> Ranking:
    system = (sparse.eye(index.ntotal) - 0.99 * search._graph).tocsr()
    similarities, ids = index.search(queries, START)
    found = Ranking(np.empty((len(queries), SHOWN), np.int64), np.empty((len(queries), SHOWN), np.float32))
    for q, (near, weights) in enumerate(zip(ids, similarities**3, strict=True)):
        right = np.zeros(index.ntotal)
        right[near] = weights
        scores = linalg.cg(system, right, rtol=1e-6, maxiter=20)[0]
        found.ids[q] = np.argsort(-scores)[:SHOWN]
        found.scores[q] = scores[found.ids[q]]
    return found


def whole_our_way(_: object, search: Diffusion, queries: np.ndarray) -> Ranking:
    return search.rank(queries, SHOWN)


def _database(size: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    groups = generator.standard_normal((max(2, size // 2_000), DIM), dtype=np.float32)
    clusters = groups[generator.integers(0, len(groups), size // 30)]
    clusters = clusters + generator.standard_normal(clusters.shape, dtype=np.float32)
    popular = generator.pareto(1.2, len(clusters)) + 0.1
    rows = clusters[generator.choice(len(clusters), size, p=popular / popular.sum())]
    rows += 0.8 * generator.standard_normal(rows.shape, dtype=np.float32)
    alone = generator.random(size) < 0.2
    rows[alone] = generator.standard_normal((alone.sum(), DIM), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _noisy(database: np.ndarray) -> np.ndarray:
    rows = database[:: len(database) // QUERIES][:QUERIES]
    rows = rows + np.random.default_rng(1).standard_normal(rows.shape, dtype=np.float32) / 16
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _flat(database: np.ndarray) -> faiss.IndexFlatIP:
    index = faiss.IndexFlatIP(DIM)
    index.add(database)
    return index


def _systems(
    database: np.ndarray, truncation: int, part: int
) -> tuple[sparse.csr_matrix, TruncatedDiffusion, np.ndarray]:
    sets, near = nearest_sets(database, truncation, GRAPH - 1)
    assert near is not None
    search = TruncatedDiffusion(k=GRAPH - 1, truncation=truncation)
    search._graph = transition(affinity(near))
    system = (sparse.eye(len(database)) - 0.99 * search._graph).astype(np.float32).tocsr()
    return system, search, sets[:: len(sets) // part][:part]


def _truncated_online(
    database: np.ndarray, truncation: int
) -> tuple[faiss.IndexFlatIP, sparse.csr_matrix, TruncatedDiffusion, np.ndarray]:
    search = TruncatedDiffusion(k=GRAPH - 1, truncation=truncation).fit(database)
    starts = np.arange(0, search._sets.size + 1, truncation)
    columns = sparse.csr_matrix(
        (search._solutions.ravel(), search._sets.ravel(), starts), shape=(len(database),) * 2
    )
    return _flat(database), columns, search, _noisy(database)


def _whole_online(database: np.ndarray) -> tuple[faiss.IndexFlatIP, Diffusion, np.ndarray]:
    return _flat(database), Diffusion(k=GRAPH - 1).fit(database), _noisy(database)


def _same_solutions(peer: Solutions, ours: Solutions) -> str:
    """Of some pictures: how much of our sets theirs hold, and the solutions where both have the same set."""
    held, off = [], []
    for i in range(0, len(ours[0]), max(1, len(ours[0]) // 1_000)):
        their_order, our_order = np.argsort(peer[0][i]), np.argsort(ours[0][i])
        held.append(np.isin(ours[0][i], peer[0][i]).mean())
        if held[-1] == 1:
            off.append(np.abs(peer[1][i][their_order] - ours[1][i][our_order]).max())
    note = f"their sets hold {np.mean(held):.2%} of the nearest"
    if not off:
        return note
    assert max(off) < 1e-3, max(off)
    return f"{note}; solutions within {max(off):.1g} where the sets agree"


def _close(peer: np.ndarray, ours: np.ndarray) -> str:
    off = np.abs(peer - ours).max()
    assert off < 1e-3, off
    return f"solutions within {off:.1g}"


def _same_ranking(peer: Ranking, ours: Ranking, limit: str) -> str:
    off = np.abs(peer.scores - ours.scores)[ours.scores > 0].max()
    assert off < 1e-3 * peer.scores.max(), off
    same = (peer.ids == ours.ids)[ours.scores > 0].mean()
    return "; ".join(filter(None, [f"scores within {off:.1g}, {same:.2%} same ids", limit]))


if __name__ == "__main__":
    main(cases, __doc__)
