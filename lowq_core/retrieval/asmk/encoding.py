"""Pictures' local descriptors, read a block at a time, to entries of an inverted file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.asmk.aggregation import aggregate
from lowq_core.retrieval.asmk.codebook import Codebook
from lowq_core.retrieval.asmk.index import Entries
from lowq_core.retrieval.asmk.kernel import binarise, normalise
from lowq_core.retrieval.base import LocalDescriptors, as_descriptors
from lowq_core.retrieval.threads import in_threads

_VECTORS = 1 << 17  # in a block
_CELLS = 1 << 14  # that one thread aggregates at a time, at most; more if one picture has more


@dataclass(frozen=True)
class Block:
    """Some pictures that follow each other.

    Attributes:
        first: number of the first one.
        descriptors: (m, D) float32.
        offsets: (n + 1,) int64, from 0 to m.
    """

    first: int
    descriptors: NDArray[np.float32]
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class Encoder:
    """How descriptors become entries.

    Attributes:
        codebook: the words.
        binary: the kernel; see `kernel.binarise` and `kernel.normalise`.
        search: see `Codebook.assign`.
    """

    codebook: Codebook
    binary: bool
    search: str

    def blocks(self, pictures: LocalDescriptors, what: str) -> Iterator[Block]:
        """The pictures in blocks, so that memory does not depend on how many there are.

        Raises:
            LowqError: offsets that do not fit, no pictures, another dimension than the words', NaN or infinity.
        """
        offsets = checked_offsets(pictures, what, self.codebook.dim)
        first = 0
        while first < len(offsets) - 1:
            last = int(np.searchsorted(offsets, offsets[first] + _VECTORS, side="right")) - 1
            last = min(max(last, first + 1), len(offsets) - 1)
            some = pictures.descriptors[int(offsets[first]) : int(offsets[last])]
            if len(some):
                some = as_descriptors(some, f"{what}, pictures {first} to {last - 1}")
            yield Block(first, some, offsets[first : last + 1] - offsets[first])
            first = last

    def entries(self, block: Block, assignment: int) -> Entries:
        """The block's occupied cells, coded; pictures count from the block's first.

        Args:
            assignment: to how many words each descriptor belongs.
        """
        words = self.codebook.assign(block.descriptors, assignment, search=self.search)

        def some(pictures: slice) -> Entries:
            offsets = block.offsets[pictures.start : pictures.stop + 1]
            rows = slice(offsets[0], offsets[-1])
            cells = aggregate(
                block.descriptors[rows], offsets - offsets[0], words[rows], self.codebook.centroids
            )
            codes = (binarise if self.binary else normalise)(cells.residuals)
            return Entries(cells.pictures + np.int32(pictures.start), cells.words, codes)

        return Entries.joined(in_threads(some, _runs(block.offsets * assignment, _CELLS)))


def checked_offsets(pictures: LocalDescriptors, what: str, dim: int) -> NDArray[np.int64]:
    """The offsets of at least one picture, never falling from 0 to the number of descriptors, whose dimension
    is `dim`; else LowqError."""
    offsets = np.asarray(pictures.offsets)
    shape = np.shape(pictures.descriptors)
    if len(shape) != 2:
        raise LowqError(f"{what}: descriptors of shape {shape}; give one row a descriptor, (M, D)")
    if shape[1] != dim:
        raise LowqError(f"{what}: dimension {shape[1]}, but the codebook has {dim}; use one model for both")
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or offsets.size < 1:
        raise LowqError(
            f"{what}: offsets of shape {offsets.shape}, {offsets.dtype}; give N + 1 whole numbers"
        )
    if offsets.size == 1:
        raise LowqError(f"{what}: has no pictures; give at least one")
    if offsets[0] != 0 or offsets[-1] != shape[0] or (np.diff(offsets.astype(np.int64)) < 0).any():
        raise LowqError(
            f"{what}: offsets go from {offsets[0]} to {offsets[-1]} over {shape[0]} descriptors; "
            f"they have to rise from 0 to the number of descriptors"
        )
    return offsets.astype(np.int64)


def _runs(offsets: NDArray[np.int64], size: int) -> list[slice]:
    """Runs of pictures of at most `size` each in `offsets`, at least one picture."""
    runs, first, last = [], 0, len(offsets) - 1
    while first < last:
        stop = int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1
        runs.append(slice(first, min(max(stop, first + 1), last)))
        first = runs[-1].stop
    return runs
