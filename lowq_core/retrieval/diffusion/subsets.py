"""Large sets of nearest pictures, in no particular order: quicker to find than ranked neighbours."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lowq_core.retrieval.inner_products import pair_similarities
from lowq_core.retrieval.knn import Neighbours
from lowq_core.retrieval.order import falling_bits
from lowq_core.retrieval.threads import in_threads

_BUFFER = 1 << 24  # products that are held at a time
_TURN = 16  # rows that one thread looks at
_BLOCK = 1024  # rows whose neighbours one thread puts in order
_SAMPLED = 24  # members of a set that a sample of the database should hold
_SPREAD = 5.0  # standard deviations that the sample may be off
_SPARE = 16  # neighbours more than asked for that are looked at again in float64


def nearest_sets(
    database: NDArray[np.float32], count: int, k: int
) -> tuple[NDArray[np.int32], Neighbours | None]:
    """For each of N rows its set, (N, count): its own number, then those of its nearest others, rising; and the k
    nearest others in order, if the sets are large enough to choose them from, else None.

    Who belongs to a set is decided by float32 products; of equally similar ones the first by index. The k nearest are
    ordered by products in float64; in exchange for one pass for both, more than 16 others within a float32
    rounding of the k-th could hide one. A random sample of the database says how similar most of a row's set
    will be, so only few of its N products have to be put in order; where the sample misleads, all of them are.
    Memory: 4 N (count + 4 k) bytes, and 70 MB of products at a time.

    >>> nearest_sets(np.array([[1, 0], [0.6, 0.8], [0, 1], [-1, 0]], np.float32), 2, 1)[0].tolist()
    [[0, 1], [1, 2], [2, 1], [3, 2]]
    """
    size = len(database)
    sets = np.empty((size, count), np.int32)
    ordered = count > k + _SPARE
    few = np.empty((size, k + _SPARE if ordered else 0), np.int32)
    sample, place = _sample(size, count)
    step = max(1, _BUFFER // size)
    buffer = np.empty((min(step, size), size), np.float32)
    for start in range(0, size, step):
        stop = min(start + step, size)
        products = np.matmul(database[start:stop], database.T, out=buffer[: stop - start])
        products[np.arange(stop - start), np.arange(start, stop)] = np.inf  # itself first

        def some(first: int, start: int = start, products: NDArray[np.float32] = products) -> None:
            part = products[first : first + _TURN]
            entrances = np.partition(part[:, sample], -place, axis=1)[:, -place]
            for row, (scores, entrance) in enumerate(zip(part, entrances, strict=True), start + first):
                chosen = _best(scores, count, entrance)
                sets[row, 0] = row
                sets[row, 1:] = chosen[chosen != row]
                if ordered:
                    others = scores[sets[row, 1:]]
                    few[row] = sets[row, 1:][_best(others, few.shape[1], np.float32(-np.inf))]

        in_threads(some, range(0, stop - start, _TURN))
    return sets, _in_order(database, few, k) if ordered else None


def _sample(size: int, count: int) -> tuple[NDArray[np.int64], int]:
    """Some of the database, and how many of the best among them very probably hold the `count` best of all."""
    drawn = min(size, math.ceil(_SAMPLED * size / count))
    expected = count * drawn / size
    place = min(drawn, math.ceil(expected + _SPREAD * math.sqrt(expected)))
    return np.random.default_rng(0).permutation(size)[:drawn], place


def _best(scores: NDArray[np.float32], count: int, entrance: np.float32) -> NDArray[np.intp]:
    """The `count` best, rising, of which `entrance` is probably a lower bound."""
    candidates = np.flatnonzero(scores >= entrance)
    if len(candidates) < count:
        candidates = np.arange(len(scores))
    values = scores[candidates]
    kth = np.partition(values, len(values) - count)[len(values) - count]
    kept = values > kth
    equal = np.flatnonzero(values == kth)[: count - np.count_nonzero(kept)]
    kept[equal] = True
    return candidates[kept]


def _in_order(database: NDArray[np.float32], ids: NDArray[np.int32], k: int) -> Neighbours:
    """The k best of each line of `ids`, by products in float64, equal ones by index."""
    found = Neighbours(np.empty((len(ids), k), np.int64), np.empty((len(ids), k), np.float32))

    def some(start: int) -> None:
        part = slice(start, start + _BLOCK)
        chosen = ids[part].astype(np.int64)
        scores = pair_similarities(database[part], database, chosen)
        order = np.lexsort((chosen, falling_bits(scores)), axis=1)[:, :k]
        found.ids[part] = np.take_along_axis(chosen, order, 1)
        found.similarities[part] = np.take_along_axis(scores, order, 1)

    in_threads(some, range(0, len(ids), _BLOCK))
    return found
