"""The graph of GSS: who neighbours whom, weighted by cosine and normalised; for the index and for queries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.inner_products import inner_products, pair_similarities


@dataclass(frozen=True)
class Adjacency:
    """Â = D^(-1/2) (A + I) D^(-1/2) of N pictures, sparse and symmetric, D the row sums of A + I.

    Row i has columns[offsets[i] : offsets[i + 1]], rising, i among them.

    Attributes:
        offsets: (N + 1,) int64. columns: (E,) int32. weights: (E,) float32.
        degrees: (N,) float64, the diagonal of D, 1 or more.
    """

    offsets: NDArray[np.int64]
    columns: NDArray[np.int32]
    weights: NDArray[np.float32]
    degrees: NDArray[np.float64]

    @property
    def size(self) -> int:
        return len(self.degrees)


@dataclass(frozen=True)
class QueryRows:
    """The rows of Q queries in the normalised graph: edges go from a query to the index, none back.

    Attributes:
        own: (Q,) float32, weight of the query itself, 1 / d_q.
        ids: (Q, k) int64 index pictures. weights: (Q, k) float32, s_qj / sqrt(d_q d_j); 0 where there is no edge.
    """

    own: NDArray[np.float32]
    ids: NDArray[np.int64]
    weights: NDArray[np.float32]


def union_graph(database: NDArray[np.float32], ids: ArrayLike) -> Adjacency:
    """Connect i and j where either has the other in its list; A_ij is their cosine.

    As in GSS (Liu et al., NeurIPS 2019, released code), whether the lists are the k largest cosines or pictures
    that geometry confirmed: weights are the descriptors' cosines. Own ids in the lists and -1 count for nothing.
    A graph of several components works; what they hold stays apart.

    Only cosines above 0 make edges. The work does not say what a negative one does (its lists have none); with it
    a degree could become 0 or less. So a row of zeros is connected to nothing.

    Args:
        database: (N, D) unit vectors or zeros.
        ids: (N, k) whole numbers, the neighbours of each; -1 for none.

    Raises:
        LowqError: lists that do not fit the database.

    >>> graph = union_graph(np.float32([[1, 0], [0.6, 0.8], [0, 1]]), [[1], [2], [1]])
    >>> graph.columns.tolist(), graph.degrees.round(2).tolist()
    ([0, 1, 0, 1, 2, 1, 2], [1.6, 2.4, 1.8])
    """
    size = len(database)
    lists = check_lists(ids, "neighbours", rows=size, size=size)
    firsts, others = np.repeat(np.arange(size), lists.shape[1]), lists.ravel()
    edge = (others >= 0) & (others != firsts)
    low, high = np.minimum(firsts[edge], others[edge]), np.maximum(firsts[edge], others[edge])
    low, high = np.divmod(np.unique(low * size + high), size)  # each pair once
    cosines = inner_products(database, low, database, high).astype(np.float64)
    positive = cosines > 0
    low, high, cosines = low[positive], high[positive], cosines[positive]
    own = np.arange(size)
    keys = np.concatenate([low * size + high, high * size + low, own * (size + 1)])
    values = np.concatenate([cosines, cosines, np.ones(size)])
    order = np.argsort(keys)
    rows, columns = np.divmod(keys[order], size)
    values = values[order]
    degrees = np.bincount(rows, values, minlength=size).astype(np.float64)
    weights = values / np.sqrt(degrees[rows] * degrees[columns])
    offsets = np.zeros(size + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=size), out=offsets[1:])
    return Adjacency(offsets, columns.astype(np.int32), weights.astype(np.float32), degrees)


def query_rows(
    queries: NDArray[np.float32], database: NDArray[np.float32], ids: ArrayLike, degrees: NDArray[np.float64]
) -> QueryRows:
    """The normalised rows of queries that are connected to the index pictures in their lists.

    d_q is 1 plus the query's cosines to them; the index keeps its own degrees, so queries change nothing there.

    Args:
        queries: (Q, D). database: (N, D). ids: (Q, k) index pictures, -1 for none.
        degrees: (N,) of the index.

    Raises:
        LowqError: lists that do not fit queries and database.

    >>> rows = query_rows(np.float32([[0.6, 0.8]]), np.float32([[1, 0], [0, 1]]), [[1]], np.ones(2))
    >>> rows.own.round(3).tolist(), rows.weights.round(3).tolist()
    ([0.5559999942779541], [[0.5960000157356262]])
    """
    lists = check_lists(ids, "query neighbours", rows=len(queries), size=len(database))
    known = np.maximum(lists, 0)
    cosines = pair_similarities(queries, database, known).astype(np.float64)
    cosines = np.where(_new(lists), np.maximum(cosines, 0), 0)
    own = 1 + cosines.sum(axis=1)
    weights = cosines / np.sqrt(own[:, None] * degrees[known])
    return QueryRows((1 / own).astype(np.float32), known, weights.astype(np.float32))


def read_lists(path: Path | str) -> NDArray[np.int64]:
    """Ranked neighbour ids from a .npy file, such as GSS's `*_ransac_graph.npy`: (N, K), best first.

    Raises:
        LowqError: no such file, or it does not hold a table of whole numbers.
    """
    path = Path(path)
    try:
        lists = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise LowqError(
            f"{path}: no such file; give a .npy with one row of neighbour ids a picture"
        ) from None
    except (OSError, ValueError, EOFError) as error:
        raise LowqError(f"{path}: cannot be read as .npy ({error}); write it with numpy.save") from None
    if not isinstance(lists, np.ndarray):
        raise LowqError(f"{path}: holds several arrays; write the one of neighbour ids with numpy.save")
    return check_lists(lists, str(path))


def check_lists(
    ids: ArrayLike, what: str, *, rows: int | None = None, size: int | None = None
) -> NDArray[np.int64]:
    """Neighbour lists as (rows, k) int64 with ids from -1 (none) to `size` - 1; else LowqError.

    >>> check_lists([[1, -1], [0, -1]], "neighbours", rows=2, size=2).dtype
    dtype('int64')
    """
    lists = np.asarray(ids)
    if lists.ndim != 2 or lists.dtype.kind not in "iu" or lists.shape[1] == 0:
        raise LowqError(
            f"{what}: {lists.dtype} of shape {lists.shape}; give whole numbers, one row of neighbour ids a picture"
        )
    if rows is not None and len(lists) != rows:
        raise LowqError(
            f"{what}: {len(lists)} rows for {rows} pictures; give one row a picture, in their order"
        )
    lists = lists.astype(np.int64)
    wrong = (lists < -1) | (lists >= (np.iinfo(np.int64).max if size is None else size))
    if wrong.any():
        row, column = (int(one[0]) for one in np.nonzero(wrong))
        limit = "" if size is None else f", below {size}"
        raise LowqError(
            f"{what}: row {row} names picture {lists[row, column]}; number them from 0{limit}, -1 for none"
        )
    return lists


def _new(lists: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True where an id is not -1 and not in the row before, so that a repeated id counts once."""
    order = np.argsort(lists, axis=1, kind="stable")
    rising = np.take_along_axis(lists, order, axis=1)
    first = np.ones(lists.shape, bool)
    first[:, 1:] = rising[:, 1:] != rising[:, :-1]
    new = np.empty_like(first)
    np.put_along_axis(new, order, first, axis=1)
    return new & (lists >= 0)
