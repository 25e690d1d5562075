"""The nearest visual words of many vectors: exact, with most of the work in one matrix product.

A product of low precision scores every word by c.x - |c|^2 / 2, or that and a constant, which is larger the nearer
c is to x. Only words that could be among the k nearest, given a bound on its rounding errors, are scored again in
float64. So the answer is the same whatever the precision, the block sizes or the BLAS library; what the precision
decides is the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lowq_core.retrieval.threads import serial_pool

_VECTORS = 2048  # that one thread compares at a time
_WORDS = 2048  # with so many words: large products make the most of matrix units
_GROUP = 32  # words that share one maximum
_FEW = 1 << 22  # products that are not worth more than float64
_SAFETY = 1.01  # for the rounding of the error bounds themselves
_FLOAT32, _BFLOAT16 = 2.0**-24, 2.0**-8  # unit roundoff


class Product(Protocol):
    """Scores of low precision, and how low.

    Attributes:
        dtype: of the scores.
        lowest: a number below all scores. never: one above.
    """

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def lowest(self) -> Any: ...

    @property
    def never(self) -> Any: ...

    def turned(self, vectors: NDArray[np.float32]) -> Any:
        """(n, D) vectors as `scores` wants them."""

    def scores(self, words: slice, turned: Any, out: NDArray[Any]) -> None:
        """The scores of words with all vectors, into `out` (k, n), as numbers of the same order where it matters."""

    def bounds(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) how far off a score of a vector can be, before the scores themselves are rounded."""

    def least(self, bounds: NDArray[np.float64], best: NDArray[Any], kth: NDArray[Any]) -> NDArray[Any]:
        """(n,) what a word's score has to be if it is one of the k nearest, given the best and k-th best score so
        far; `never` where that cannot be said."""


class WordSearch:
    """Finds the nearest of K words.

    Args:
        centroids: (K, D) float32, finite.
        precision: "float32", or "bfloat16", which is several times faster on processors with instructions for it.
    """

    def __init__(self, centroids: NDArray[np.float32], precision: str = "float32") -> None:
        self._centroids = centroids
        doubled = centroids.astype(np.float64)
        self._halves = np.einsum("ij,ij->i", doubled, doubled) / 2
        self._products: list[Product] = [_Float32(centroids, self._halves)]
        if precision == "bfloat16":
            self._products.insert(0, _BFloat16(centroids, self._halves))

    def nearest(self, vectors: NDArray[np.float32], k: int) -> NDArray[np.int32]:
        """(n, k) the k nearest words of (n, D) vectors, nearest first; of equally near ones the first."""
        workers = os.cpu_count() or 1
        rows = min(_VECTORS, -(-len(vectors) // workers))
        if len(self._centroids) < 16 * _GROUP * k or k > _WORDS // _GROUP:
            return self._in_float64(vectors, k)
        parts = [vectors[start : start + rows] for start in range(0, len(vectors), rows)]
        with serial_pool(workers) as pool:
            return np.concatenate(list(pool.map(lambda part: self._nearest(part, k), parts)))

    def _nearest(self, vectors: NDArray[np.float32], k: int) -> NDArray[np.int32]:
        found = np.empty((len(vectors), k), np.int32)
        left = np.arange(len(vectors))
        for product in self._products:
            if left.size:
                found[left], sound = self._by(product, vectors[left], k)
                left = left[~sound]
        if left.size:
            found[left] = self._in_float64(vectors[left], k)
        return found

    def _by(
        self, product: Product, vectors: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """(n, k) the nearest words, and False for rows where `product` cannot tell."""
        found = np.zeros((len(vectors), k), np.int32)
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large for float32 is found otherwise
            rows, words, sound = self._candidates(product, vectors, k)
        if k == 1:  # most vectors have one candidate, which is the answer
            found[rows, 0] = words
            several = (np.bincount(rows, minlength=len(vectors)) > 1)[rows]
            rows, words = rows[several], words[several]
        if rows.size:
            found[np.unique(rows)] = self._best_of(vectors, rows, words, k)
        return found, sound

    def _candidates(
        self, product: Product, vectors: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        """Pairs of a row and a word that may be among its k nearest; and False for rows where that failed."""
        size = len(self._centroids)
        turned, bounds = product.turned(vectors), product.bounds(vectors)
        buffer = np.empty((_WORDS, len(vectors)), product.dtype)
        tops: NDArray[Any] = np.full((k, len(vectors)), product.lowest)
        fewer = int(np.clip(32 * k * _WORDS // size, 1, _WORDS // _GROUP))
        pools: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[Any]]] = []
        sound = np.ones(len(vectors), bool)
        for start in range(0, size, _WORDS):
            scores = buffer[: min(_WORDS, size - start)]
            product.scores(slice(start, start + len(scores)), turned, scores)
            whole = len(scores) // _GROUP * _GROUP
            groups = scores[:whole].reshape(-1, _GROUP, len(vectors))
            maxima = groups.max(axis=1)
            # the k-th largest maximum of parts of the words is at most the k-th best score
            parts = min(fewer if start else len(maxima), len(maxima))
            _insert(tops, (maxima[i::parts].max(axis=0) for i in range(parts)))
            least = product.least(bounds, tops[0], tops[-1])
            sound &= least != product.never
            group, rows = np.nonzero(maxima >= least)
            pair, place = np.nonzero(groups[group, :, rows] >= least[rows, None])
            rows, words = rows[pair], group[pair] * _GROUP + place
            pools.append((rows, words + start, scores[words, rows]))
            words, rows = np.nonzero(scores[whole:] >= least)  # what fills no group
            pools.append((rows, words + (start + whole), scores[words + whole, rows]))
        rows, words, values = (np.concatenate(column) for column in zip(*pools, strict=True))
        kept = (values >= least[rows]) & sound[rows]
        return rows[kept], words[kept], sound

    def _best_of(
        self, vectors: NDArray[np.float32], rows: NDArray[np.intp], words: NDArray[np.intp], k: int
    ) -> NDArray[np.intp]:
        """The k best words of each row among the given ones, in float64; one line for each row that occurs."""
        scores = np.einsum("ij,ij->i", vectors[rows], self._centroids[words], dtype=np.float64)
        scores -= self._halves[words]
        order = np.lexsort((words, -scores, rows))
        first = np.flatnonzero(np.diff(rows[order], prepend=-1))
        best: NDArray[np.intp] = words[order][first[:, None] + np.arange(k)]
        return best

    def _in_float64(self, vectors: NDArray[np.float32], k: int) -> NDArray[np.int32]:
        found = np.empty((len(vectors), k), np.int32)
        doubled = self._centroids.astype(np.float64)
        rows = max(1, _FEW // len(doubled))
        for start in range(0, len(vectors), rows):
            scores = vectors[start : start + rows].astype(np.float64) @ doubled.T - self._halves
            found[start : start + rows] = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return found


def _insert(tops: NDArray[Any], rows: Iterable[NDArray[Any]]) -> None:
    """Let each number of `rows` sink to its place in its column of `tops` (k, n), where the largest are kept."""
    for row in rows:
        for place in tops:
            smaller = np.minimum(place, row)
            np.maximum(place, row, out=place)
            row = smaller


class _Float32:
    dtype = np.dtype(np.float32)
    lowest, never = np.float32(-np.inf), np.float32(np.inf)

    def __init__(self, centroids: NDArray[np.float32], halves: NDArray[np.float64]) -> None:
        self._matrix = np.hstack([centroids, -halves[:, None].astype(np.float32)])
        self._longest = float(np.sqrt(2 * halves.max()))

    def turned(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.vstack([vectors.T, np.ones((1, len(vectors)), np.float32)])

    def scores(self, words: slice, turned: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        np.matmul(self._matrix[words], turned, out=out)

    def bounds(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        # a sum of D + 1 products, gamma_n (Higham 2002, eq. 3.5); one more for the rounding of |c|^2 / 2
        gamma = (vectors.shape[1] + 2) * _FLOAT32
        return gamma * self._longest * (_norms(vectors) + self._longest / 2)

    def least(
        self, bounds: NDArray[np.float64], best: NDArray[np.float32], kth: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        least = np.nextafter((kth - 2 * _SAFETY * bounds).astype(np.float32), np.float32(-np.inf))
        return np.where(np.isfinite(least), least, self.never)


class _BFloat16:
    """Scores c.x + (h - |c|^2 / 2) with h the largest |c|^2 / 2, as the bits of bfloat16 numbers.

    The bits of positive numbers order as the numbers do, and those of negative ones lie below. Of the nearest words
    the score is positive unless they point away from x; where it may not be, this product cannot tell.
    """

    dtype = np.dtype(np.int16)
    lowest, never = np.int16(-(2**15)), np.int16(2**15 - 1)

    def __init__(self, centroids: NDArray[np.float32], halves: NDArray[np.float64]) -> None:
        import torch

        parts, rest = (
            [torch.tensor(centroids).bfloat16()],
            torch.from_numpy(halves.max() - halves[:, None]),
        )
        for _ in range(3):  # the second summand in three parts, 24 bits
            parts.append(rest.bfloat16())
            rest = rest - parts[-1].double()
        self._matrix = torch.cat(parts, dim=1)
        rounded = parts[0].float().numpy()
        self._longest = float(max(_norms(rounded).max(), _norms(centroids).max()))
        self._off = float(_norms(rounded - centroids).max())

    def turned(self, vectors: NDArray[np.float32]) -> Any:
        import torch

        ones = torch.ones((3, len(vectors)), dtype=torch.bfloat16)
        return torch.cat([torch.tensor(vectors.T).bfloat16(), ones])

    def scores(self, words: slice, turned: Any, out: NDArray[np.int16]) -> None:
        import torch

        torch.matmul(self._matrix[words], turned, out=torch.from_numpy(out).view(torch.bfloat16))

    def bounds(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        import torch

        rounded = torch.tensor(vectors).bfloat16().float().numpy()
        norms, gamma = _norms(rounded), (vectors.shape[1] + 4) * _FLOAT32
        bounds = _norms(rounded - vectors) * self._longest + norms * self._off
        return bounds + gamma * self._longest * (norms + self._longest / 2)

    def least(
        self, bounds: NDArray[np.float64], best: NDArray[np.int16], kth: NDArray[np.int16]
    ) -> NDArray[np.int16]:
        bounds = bounds + _BFLOAT16 * (
            _as_float(best) + 2 * bounds
        )  # the product itself is rounded to bfloat16
        least = (_as_float(kth) - 2 * _SAFETY * bounds).astype(np.float32)
        bits = (least.view(np.int32) >> 16).astype(np.int16)  # cut off towards zero, that is down
        return np.where((kth > 0) & (least > 0) & np.isfinite(least), bits, self.never)


def _as_float(bits: NDArray[np.int16]) -> NDArray[np.float32]:
    return (bits.astype(np.int32) << 16).view(np.float32)


def _norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) Euclidean norms in float64."""
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
