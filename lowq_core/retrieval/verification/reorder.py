"""Re-ranking the head of another retriever's ranking by inliers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.verification.pairs import Count


def rerank_by_inliers(
    ranking: Ranking, count: Count, *, top: int = 100, skip: Sequence[ArrayLike] | None = None
) -> Ranking:
    """The first `top` of each query by inliers, the most first; equal ones, and all behind them, as they were.

    About `skip`: in the revisited protocols some pictures are junk, and which ones depends on the protocol (Hard
    ignores the easy ones, too). DELG, CVNet and AMES leave junk out of the `top` that they re-rank, so that it
    does not take the places of others; Hard then re-ranks another list than Medium, and the search has been told
    part of the ground truth. Without `skip` one re-ranked list serves all protocols, as in a real search, and
    Hard scores lower. Give the junk only to be compared with such published numbers, and say so.

    Args:
        ranking: (Q, k) of another retriever.
        count: inliers of (P, 2) pairs of query and picture; called once, with all that are needed.
        top: pictures of each query that are verified, 1 or more; all of them where there are fewer.
        skip: for each query, numbers of pictures that are not verified and do not count among the `top`; they
            come behind those that are, in their order.

    Returns:
        Each row's ids in a new order. The whole part of a score is the inliers, 0 where not verified; the fraction
        falls with the place in `ranking`: above a half for those verified, below for the others.

    Raises:
        LowqError: `top` below 1, `skip` not one list a query, ids or scores that are not (Q, k).

    >>> ranking = Ranking(np.array([[4, 7, 2, 9]]), np.array([[0.9, 0.8, 0.7, 0.6]], np.float32))
    >>> found = rerank_by_inliers(ranking, lambda pairs: pairs[:, 1], top=2)
    >>> found.ids.tolist(), found.scores.tolist()
    ([[7, 4, 2, 9]], [[7.625, 4.875, 0.375, 0.125]])
    """
    ids = np.asarray(ranking.ids)
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise LowqError(
            f"ranking: ids are {ids.dtype} of shape {ids.shape}; give whole numbers, one row a query"
        )
    if top < 1:
        raise LowqError(f"top={top}: verify at least one picture of each query")
    if skip is not None and len(skip) != len(ids):
        raise LowqError(
            f"skip: {len(skip)} lists for {len(ids)} queries; give one for each, empty where none is"
        )
    junk = [np.empty(0, np.int64)] * len(ids) if skip is None else [np.asarray(one) for one in skip]
    heads = [np.flatnonzero(~np.isin(row, one))[:top] for row, one in zip(ids, junk, strict=True)]
    pairs = [np.column_stack([np.full(len(head), q), ids[q, head]]) for q, head in enumerate(heads)]
    inliers = count(np.concatenate(pairs).astype(np.int64)) if pairs else np.empty(0, np.int64)
    ends = np.cumsum([len(head) for head in heads])
    new = Ranking(np.empty(ids.shape, np.int64), np.empty(ids.shape, np.float32))
    for q, (head, found) in enumerate(zip(heads, np.split(inliers, ends[:-1]), strict=False)):
        best = np.argsort(-found, kind="stable")
        tail = np.delete(np.arange(ids.shape[1]), head)
        new.ids[q] = ids[q, np.concatenate([head[best], tail])]
        new.scores[q, : len(head)] = found[best] + (1 - _falling(len(head))[best] / 2)
        new.scores[q, len(head) :] = (1 - _falling(len(tail))) / 2
    return new


def _falling(count: int) -> NDArray[np.float64]:
    """`count` numbers between 0 and 1, evenly spread, rising."""
    return (np.arange(count) + 0.5) / max(count, 1)
