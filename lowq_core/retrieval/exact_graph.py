"""The exact nearest neighbours of many rows in a database, with most of the work in one matrix product.

A product in bfloat16 or float32 scores all pairs of a block of rows with the database. Only pairs that could be among
the k best of their row, given a bound on its rounding errors, are scored again in float64. So the answer is the
same whatever the precision; which precision is faster on this processor decides the time.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lowq_core.retrieval.inner_products import inner_products, norms, pair_similarities
from lowq_core.retrieval.order import falling_bits, rank_scores
from lowq_core.retrieval.threads import in_threads

_BUFFER = 1 << 26  # scores that are held at a time
_ROWS = (16, 1024)  # fewest and most rows at a time
_TURN = 32  # rows whose candidates one thread looks at
_GROUP = 32  # scores that share one maximum, at most
_LIKELY = 8  # times k groups at least, so that few share one with a better one
_CHUNK = 1 << 20  # numbers that are scored again at a time; they should stay in a core's cache
_SAFETY = 1.01  # for the rounding of the bounds themselves
_FLOAT32, _BFLOAT16 = 2.0**-24, 2.0**-8  # unit roundoff; twice it for bfloat16
_LARGEST = 1e38  # of float32, roughly


class _Block(NamedTuple):
    """Some rows, with the bits of their products with all rows, in groups of `width` columns that lie as far apart
    as there are groups; and the largest of each group, then the columns that fill none."""

    rows: NDArray[np.int64]
    bits: NDArray[np.signedinteger]
    maxima: NDArray[np.signedinteger]
    width: int

    def part(self, lines: slice) -> _Block:
        return _Block(self.rows[lines], self.bits[lines], self.maxima[lines], self.width)


class _Asked(NamedTuple):
    """Rows whose neighbours are asked for.

    Attributes:
        exact: (Q, D). rounded: the same as the product takes it.
        bounds: (Q,) how far off a product with a database row can be, before it is rounded itself.
        own: whether they are the database, where a row is not its own neighbour.
    """

    exact: NDArray[np.float32]
    rounded: torch.Tensor | None
    bounds: NDArray[np.float64]
    own: bool


class ExactGraph:
    """All neighbours in one database.

    Args:
        database: (N, D) float32, finite.
        precision: "float32" or "bf16" of the product that all pairs get, or None for the faster one here; "bf16"
            keeps a copy of half the size.
    """

    def __init__(self, database: NDArray[np.float32], precision: str | None = None) -> None:
        self._database = database
        if precision is None:
            precision = "bf16" if bfloat16_is_fast() else "float32"
        self._bf16 = precision == "bf16"
        self._rounded = _rounded(database) if self._bf16 else None
        self._lengths, self._off = _errors(database, self._rounded)

    def neighbours(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(N, k) ids of the nearest others, best first, equal ones by index; and their inner products."""
        bounds = self._bounds(self._lengths, self._off)
        return self._search(_Asked(self._database, self._rounded, bounds, True), k)

    def of(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(Q, k) ids of the nearest to (Q, D) queries, likewise."""
        rounded = _rounded(queries) if self._bf16 else None
        bounds = self._bounds(*_errors(queries, rounded))
        return self._search(_Asked(queries, rounded, bounds, False), k)

    def _search(self, asked: _Asked, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        size, count = len(self._database), len(asked.exact)
        ids, scores = np.empty((count, k), np.int64), np.empty((count, k), np.float32)
        step = min(int(np.clip(_BUFFER // size, *_ROWS)), count)
        buffer = torch.empty((step, size), dtype=torch.bfloat16 if self._bf16 else torch.float32)
        for start in range(0, count, step):
            rows = np.arange(start, min(start + step, count))
            products = buffer[: len(rows)]
            if self._rounded is not None and asked.rounded is not None:
                torch.mm(asked.rounded[start : start + step], self._rounded.t(), out=products)
            else:  # numpy's BLAS is the faster one on most processors
                with np.errstate(over="ignore", invalid="ignore"):
                    np.matmul(asked.exact[start : start + step], self._database.T, out=products.numpy())
            if asked.own:
                products[torch.arange(len(rows)), torch.from_numpy(rows)] = -torch.inf
            bits = products.view(torch.int16 if self._bf16 else torch.int32)
            block = _Block(rows, bits.numpy(), *_maxima(bits, k))
            parts = [block.part(slice(first, first + _TURN)) for first in range(0, len(rows), _TURN)]
            in_threads(lambda part: self._choose(asked, part, k, ids, scores), parts)
        return ids, scores

    def _choose(
        self, asked: _Asked, block: _Block, k: int, ids: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> None:
        """Fill in `ids` and `scores` of the block's rows."""
        rows, bits, maxima, width = block
        kth = np.partition(maxima, maxima.shape[1] - k, axis=1)[:, maxima.shape[1] - k]
        least, sound = self._least(kth, asked.bounds[rows])
        groups = bits.shape[1] // width if width > 1 else 0
        line, group = np.nonzero((maxima >= least[:, None]) & sound[:, None])
        alone = group >= groups
        members = np.arange(width) * groups
        places = (group[~alone, None] + members).ravel()
        lines = np.concatenate([np.repeat(line[~alone], width), line[alone]])
        places = np.concatenate([places, group[alone] + groups * (width - 1)])
        kept = bits[lines, places] >= least[lines]
        lines, places = lines[kept], places[kept]
        found = inner_products(asked.exact, rows[lines], self._database, places)
        order = np.lexsort((places, falling_bits(found), lines))
        starts = np.searchsorted(lines[order], np.flatnonzero(sound))
        best = order[starts[:, None] + np.arange(k)]
        ids[rows[sound]], scores[rows[sound]] = places[best], found[best]
        if not sound.all():
            self._in_float64(asked, rows[~sound], k, ids, scores)

    def _bounds(self, lengths: NDArray[np.float64], off: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far off a product of rows of such lengths, rounded by so much, can be; infinite if it may overflow."""
        dim = self._database.shape[1]
        gamma = (dim + 4) * _FLOAT32 / (1 - (dim + 4) * _FLOAT32)  # Higham 2002, eq. 3.5
        longest = self._lengths.max() + self._off.max()
        bounds = off * longest + (lengths + off) * (self._off.max() + gamma * longest)
        return np.where((lengths + off) * longest < _LARGEST, _SAFETY * bounds, np.inf)

    def _least(
        self, kth: NDArray[np.signedinteger], bounds: NDArray[np.float64]
    ) -> tuple[NDArray[np.signedinteger], NDArray[np.bool_]]:
        """The bits of what a product has to be if it is one of the k best, given k that are at least `kth`; False
        where that cannot be said, and for numbers that are not above 0, whose bits are in another order."""
        values = (kth.astype(np.int32) << (16 if self._bf16 else 0)).view(np.float32).astype(np.float64)
        rounding = _BFLOAT16 if self._bf16 else 0.0
        with np.errstate(all="ignore"):
            # k true products are at least value - rounding |value| - bound; a product of such a pair loses as much
            least = values - rounding * np.abs(values) - 2 * bounds
            least = (least - rounding * np.abs(least)).astype(np.float32)
        least = np.nextafter(least, np.float32(-np.inf))
        sound = (kth >= 0) & np.isfinite(least) & (least > 1e-30)
        bits = np.where(sound, least, np.float32(1)).view(np.int32)
        return (bits >> 16).astype(np.int16) if self._bf16 else bits, sound

    def _in_float64(
        self,
        asked: _Asked,
        rows: NDArray[np.int64],
        k: int,
        ids: NDArray[np.int64],
        scores: NDArray[np.float32],
    ) -> None:
        size, dim = self._database.shape
        step = max(1, _CHUNK // dim)
        for start in range(0, len(rows), _TURN):
            some = rows[start : start + _TURN]
            left, table = asked.exact[some].astype(np.float64), np.empty((len(some), size), np.float32)
            with np.errstate(over="ignore"):
                for first in range(0, size, step):
                    table[:, first : first + step] = (
                        left @ self._database[first : first + step].astype(np.float64).T
                    )
            if asked.own:
                table[np.arange(len(some)), some] = -np.inf
            ids[some] = rank_scores(table, k).ids
            scores[some] = pair_similarities(asked.exact[some], self._database, ids[some])


@functools.cache
def bfloat16_is_fast() -> bool:
    """Whether matrices are multiplied faster in bfloat16 than in float32 here, by a trial of milliseconds.

    >>> bfloat16_is_fast() in (True, False)
    True
    """
    exact = np.ones((2048, 256), np.float32)
    rounded = torch.from_numpy(exact).bfloat16()
    in_float32 = _fastest(lambda: np.matmul(exact[:512], exact.T))
    return _fastest(lambda: torch.mm(rounded[:512], rounded.t())) < in_float32


def _fastest(job: Callable[[], object]) -> float:
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _rounded(database: NDArray[np.float32]) -> torch.Tensor:
    rounded = torch.empty(database.shape, dtype=torch.bfloat16)
    step = max(1, _CHUNK // database.shape[1])
    for start in range(0, len(database), step):
        rounded[start : start + step] = torch.tensor(database[start : start + step])
    return rounded


def _errors(
    exact: NDArray[np.float32], rounded: torch.Tensor | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The length of each row, and how far its rounded one is from it."""
    off = np.zeros(len(exact))
    if rounded is not None:
        step = max(1, _CHUNK // exact.shape[1])
        for start in range(0, len(exact), step):
            part = slice(start, start + step)
            off[part] = norms(rounded[part].float().numpy() - exact[part])
    return norms(exact), off


def _maxima(bits: torch.Tensor, k: int) -> tuple[NDArray[np.signedinteger], int]:
    """The largest of each group of so many columns, the columns that fill no group by themselves; and how many."""
    size = bits.shape[1]
    width = max(1, min(_GROUP, size // (_LIKELY * k)))
    if width == 1:
        return bits.numpy(), 1
    groups = size // width
    whole = bits[:, : groups * width].unflatten(1, (width, groups)).amax(1)
    return torch.cat([whole, bits[:, groups * width :]], dim=1).numpy(), width
