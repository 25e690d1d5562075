"""Neighbours that are found quickly and not always: faiss' HNSW graph and inverted lists."""

from __future__ import annotations

from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

_LINKS = 32  # of an HNSW node
_BUILD_BREADTH = 80  # candidates while it is built
_ROWS_A_LIST = 64  # at least so many training rows for each inverted list
_TRAIN = 1 << 18  # rows that the lists' centres are learned from, at most
_BREADTH = 128  # candidates of an HNSW search, at least
_SHARE = 32  # one in so many lists is looked into


class ApproximateIndex:
    """A database as faiss keeps it for inner products.

    Args:
        database: (N, D).
        kind: "hnsw": 32 links a node; twice as many candidates as neighbours asked for, at least 128. "ivf": about
            4 sqrt(N) lists, of which one in 32, at least 8, is looked into.

    >>> ApproximateIndex(np.eye(3, dtype=np.float32), "hnsw").search(np.eye(3, dtype=np.float32), 1).tolist()
    [[0], [1], [2]]
    """

    def __init__(self, database: NDArray[np.float32], kind: Literal["hnsw", "ivf"] | str) -> None:
        size, dim = database.shape
        self._kind = kind
        if kind == "hnsw":
            self._index: Any = faiss.IndexHNSWFlat(dim, _LINKS, faiss.METRIC_INNER_PRODUCT)
            self._index.hnsw.efConstruction = _BUILD_BREADTH
        else:
            lists = max(1, min(int(4 * size**0.5), min(size, _TRAIN) // _ROWS_A_LIST))
            self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
            self._index.cp.min_points_per_centroid = 1  # faiss would print a warning
            self._index.nprobe = max(8, lists // _SHARE)
            step = -(-size // _TRAIN)
            self._index.train(np.ascontiguousarray(database[::step]))
        self._index.add(database)

    def search(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """(Q, k) ids, best first; -1 where it found fewer."""
        if self._kind == "hnsw":
            self._index.hnsw.efSearch = max(_BREADTH, 2 * k)
        ids: NDArray[np.int64] = self._index.search(queries, k)[1]
        return ids
