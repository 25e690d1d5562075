"""All nearest neighbours of a database: ours against faiss' flat index, and what HNSW and IVF miss.

faiss multiplies with the OpenBLAS it brings, whose kernels depend on the core type it sees: OPENBLAS_CORETYPE and the
types chosen are printed with the results, and a comparison holds for that setting (an old copy that does not know
the processor may be several times slower than SkylakeX). faiss returns each row itself as well, so it is asked for
one more. Random directions for the exact search, pictures of places for the others, whose recall is measured on
1,000 rows.
"""

from __future__ import annotations

from functools import partial

import faiss
import numpy as np
from _harness import Case, main

from lowq_core.retrieval.exact import ExactSearch
from lowq_core.retrieval.exact_graph import bfloat16_is_fast  # with torch, which is no work of a search
from lowq_core.retrieval.knn import NeighbourIndex, Neighbours, nearest_neighbours

ROUNDING = 1e-6  # of faiss' float32 scores
PLACES = 20
MILLION = 1_000_000


def cases(quick: bool) -> list[Case]:
    size, dim, k = (4_000, 64, 50) if quick else (100_000, 512, 50)
    exact = Case(
        what=f"exact by {'bf16' if bfloat16_is_fast() else 'float32'}, k={k}",
        size=f"{size:,} x {dim}",
        peer_name="faiss IndexFlatIP",
        prepare=partial(_random, size, dim),
        peer=partial(with_faiss, k=k),
        ours=partial(nearest_neighbours, k=k),
        repeats=3,
        check=_same,
        promise=None if quick else 1.0,
    )
    approximate = [_approximate(search, size, dim, k, peer=True) for search in ("hnsw", "ivf")]
    if quick:
        return [exact, *approximate]
    return [
        exact,
        *approximate,
        *(_approximate(search, MILLION, 128, 10, peer=False) for search in ("hnsw", "ivf")),
    ]


def with_faiss(database: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    index = faiss.IndexFlatIP(database.shape[1])
    index.add(database)
    scores, ids = index.search(database, k + 1)
    return ids, scores


def _approximate(search: str, size: int, dim: int, k: int, *, peer: bool) -> Case:
    return Case(
        what=f"{search}, k={k}",
        size=f"{size:,} x {dim}",
        peer_name="ours, exact" if peer else "",
        prepare=partial(_of_places, size, dim),
        peer=partial(nearest_neighbours, k=k) if peer else None,
        ours=partial(_with_index, k=k, search=search),
        repeats=1,
        check=_recall,
        memory=peer,
    )


def _with_index(database: np.ndarray, k: int, search: str) -> tuple[np.ndarray, Neighbours]:
    return database, NeighbourIndex(database, search).among(k)  # type: ignore[arg-type]


def _random(size: int, dim: int) -> tuple[np.ndarray]:
    rows = np.random.default_rng(0).standard_normal((size, dim), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows,)


def _of_places(size: int, dim: int) -> tuple[np.ndarray]:
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((-(-size // PLACES), dim), dtype=np.float32)
    rows = generator.standard_normal((size, dim), dtype=np.float32)
    for start in range(0, size, PLACES):
        rows[start : start + PLACES] += centres[start // PLACES]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows,)


def _same(peer: tuple[np.ndarray, np.ndarray], ours: Neighbours) -> str:
    """The same ids, but for pictures that are as similar as faiss can tell."""
    theirs, scores = peer
    own = theirs == np.arange(len(theirs))[:, None]
    kept = np.argsort(own, axis=1, kind="stable")[:, :-1]
    theirs, scores = np.take_along_axis(theirs, kept, 1), np.take_along_axis(scores, kept, 1)
    assert np.abs(scores - ours.similarities).max() <= ROUNDING, "similarities differ"
    differ = theirs != ours.ids
    return "same ids" if not differ.any() else f"same ids but {differ.sum()} near-ties in {differ.size:,}"


def _recall(_: object, ours: tuple[np.ndarray, Neighbours]) -> str:
    database, found = ours
    size, k = found.ids.shape
    rows = np.sort(np.random.default_rng(1).choice(size, min(1_000, size), replace=False))
    truth = ExactSearch().fit(database).rank(database[rows], k + 1)
    others = np.where(truth.ids == rows[:, None], np.float32(np.inf), truth.scores)
    kth = np.sort(others, axis=1)[:, :1]  # the least similar of the k true ones
    return f"recall {(found.similarities[rows] >= kth - ROUNDING).mean():.4f}"


if __name__ == "__main__":
    main(cases, __doc__)
