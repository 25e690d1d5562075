"""The visual words: k-means centroids of local descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.asmk.words import WordSearch
from lowq_core.retrieval.base import as_descriptors
from lowq_core.retrieval.saved import read_saved, write_saved

SEARCHES = ("auto", "exact", "bf16")
"""How words may be found; see `Codebook.assign`."""


@dataclass(frozen=True)
class Codebook:
    """K visual words.

    Attributes:
        centroids: (K, D) float32.

    >>> book = Codebook(np.eye(3, dtype=np.float32))
    >>> book.assign([[0.9, 0.2, 0.1]], k=2).tolist()
    [[0, 1]]
    """

    centroids: NDArray[np.float32]

    @classmethod
    def train(
        cls,
        vectors: ArrayLike,
        words: int = 65_536,
        *,
        iterations: int = 10,
        seed: int = 1234,
        points_per_word: int = 256,
    ) -> Self:
        """k-means with faiss, the defaults those of the reference implementation, so the same words come out.

        Args:
            vectors: (n, D), of other pictures than the database's; HOW takes those of 20,000 pictures.
            words: K.
            iterations: of Lloyd's algorithm.
            seed: of the sample and the first centroids.
            points_per_word: more than K times as many vectors are sampled down to that.

        Raises:
            LowqError: fewer vectors than words, or vectors that are not (n, D) finite numbers.
        """
        points = as_descriptors(vectors, "training vectors")
        if not 1 <= words <= len(points):
            raise LowqError(
                f"words={words}: there are {len(points)} training vectors; "
                f"choose between 1 and {len(points)} words, or give more vectors"
            )
        clustering = faiss.Clustering(points.shape[1], words)
        clustering.niter, clustering.seed = iterations, seed
        clustering.max_points_per_centroid = points_per_word
        clustering.min_points_per_centroid = 1  # faiss would print a warning
        clustering.train(points, faiss.IndexFlatL2(points.shape[1]))
        return cls(faiss.vector_float_to_array(clustering.centroids).reshape(words, points.shape[1]))

    @property
    def size(self) -> int:
        """K."""
        return len(self.centroids)

    @property
    def dim(self) -> int:
        """D."""
        return int(self.centroids.shape[1])

    def assign(self, vectors: ArrayLike, k: int = 1, *, search: str = "auto") -> NDArray[np.int32]:
        """(n, k) the k nearest words of each of (n, D) vectors, nearest first; of equally near ones the first.

        Args:
            vectors: (n, D); n may be 0.
            k: 1 to K.
            search: how candidates are found; the words are the same. "exact" multiplies float32, "bf16" bfloat16,
                several times faster where the processor has instructions for it and slower elsewhere; "auto" takes
                what is faster here.

        Raises:
            LowqError: k or search out of range, vectors of another dimension or not finite.
        """
        if search not in SEARCHES:
            raise LowqError(f"search={search!r}: unknown; choose one of {', '.join(SEARCHES)}")
        if not 1 <= k <= self.size:
            raise LowqError(f"k={k}: there are {self.size} words; choose k between 1 and {self.size}")
        shape = np.shape(vectors)
        if len(shape) == 2 and shape[1] != self.dim:
            raise LowqError(
                f"vectors: dimension {shape[1]}, but the codebook has {self.dim}; use one model for both"
            )
        if len(shape) == 2 and shape[0] == 0:
            return np.empty((0, k), np.int32)
        checked = as_descriptors(vectors, "vectors")
        if search == "auto":
            from lowq_core.retrieval.exact_graph import bfloat16_is_fast  # here, because it needs torch

            search = "bf16" if bfloat16_is_fast() else "exact"
        return (self._bf16 if search == "bf16" else self._exact).nearest(checked, k)

    def save(self, path: Path) -> None:
        """Write the centroids into the folder `path`."""
        write_saved(path, "Codebook", {}, {"centroids": self.centroids})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            LowqError: nothing saved there, something else, or a file that does not match its digest.
        """
        return cls(np.asarray(read_saved(path, "Codebook")[1]["centroids"]))

    @cached_property
    def _exact(self) -> WordSearch:
        return WordSearch(self.centroids)

    @cached_property
    def _bf16(self) -> WordSearch:
        return WordSearch(self.centroids, "bfloat16")
