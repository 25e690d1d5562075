"""Hamming query expansion: a query's binary codes are refined by those of the pictures it found first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.asmk.encoding import Encoder
from lowq_core.retrieval.asmk.index import Entries, InvertedFile
from lowq_core.retrieval.asmk.kernel import code_bits
from lowq_core.retrieval.asmk.retriever import ASMK
from lowq_core.retrieval.asmk.scoring import Scorer
from lowq_core.retrieval.base import LocalDescriptors, Ranking, check_k
from lowq_core.retrieval.order import rank_scores
from lowq_core.retrieval.saved import read_saved, write_saved


class HammingExpansion:
    """HQE without geometry (Tolias & Jegou, Pattern Recognition 2014), over an ASMK index of binary codes.

    1. The query is searched plainly. Of the first `short_list` pictures those are reliable that share at least
       `matches` visual words with it whose codes differ in at most the share `strict` of their bits.
    2. The reliable pictures' words are put in order of how many of these pictures have them, ties by number, and
       taken until `growth` times as many new words are in as the query has.
    3. Each word of the query, and each one taken, gets one code: bit by bit what most of the query's own code and
       the reliable pictures' codes say. A tie is settled by the query's own bit, or, for a new word, by the bit of
       the best of these pictures; the authors' code throws a coin.
    4. The database is searched again with these words and codes. Without a reliable picture the plain search stands.

    The defaults are those of the authors' released code: a strict distance of 32 in 128 bits, 5 matches, 100
    pictures, half as many new words. Reconstruction: theirs expands Hamming Embedding, one code a descriptor; ours
    ASMK, one code a word and picture, scored by the selective match kernel.

    Memory: 8 bytes an entry of the index, once a query has come.

    Args:
        index: what is searched; its kernel has to be binary. It may be trained and fitted already.
        short_list: pictures that may be reliable.
        matches: strong matches that make one so.
        strict: largest share of differing bits of a strong match, 0 to 1.
        growth: new words for each word of the query.

    >>> from lowq_core.retrieval.base import LocalArrays
    >>> generator = np.random.default_rng(0)
    >>> pictures = LocalArrays.of([generator.standard_normal((20, 32), dtype=np.float32) for _ in range(4)])
    >>> search = HammingExpansion(index=ASMK(words=8).train(pictures.descriptors)).fit(pictures)
    >>> search.rank(pictures, k=1).ids.ravel().tolist()
    [0, 1, 2, 3]
    """

    def __init__(
        self,
        *,
        index: ASMK,
        short_list: int = 100,
        matches: int = 5,
        strict: float = 0.25,
        growth: float = 0.5,
    ) -> None:
        for name, value in (("short_list", short_list), ("matches", matches)):
            if value < 1:
                raise LowqError(f"{name}={value}: has to be at least 1")
        if not 0 <= strict <= 1:
            raise LowqError(f"strict={strict}: has to be between 0 and 1, a share of differing bits")
        if not 0 <= growth < float("inf"):
            raise LowqError(f"growth={growth}: has to be a number of at least 0; the authors use 0.5")
        if not index.binary:
            raise LowqError(
                "index: its codes are not binary, so they have no bits to vote; use ASMK(binary=True)"
            )
        self.index = index
        self.short_list = short_list
        self.matches = matches
        self.strict = strict
        self.growth = growth
        self._pictures: PictureCodes | None = None

    def train(self, vectors: ArrayLike, *, seed: int = 1234) -> Self:
        """Make the index' codebook, see `ASMK.train`."""
        self.index.train(vectors, seed=seed)
        self._pictures = None
        return self

    def fit(self, database: LocalDescriptors, names: Sequence[str] | None = None) -> Self:
        """Index the pictures of `database`, see `ASMK.fit`."""
        self.index.fit(database, names)
        self._pictures = None
        return self

    def rank(
        self, queries: LocalDescriptors, k: int | None = None, *, own: NDArray[np.int64] | None = None
    ) -> Ranking:
        """The k best for each of Q query pictures, all N where k is None; equal scores by index.

        Args:
            own: (Q,) a picture of the database for each query that does not expand it, -1 for none: the query's own
                picture where a benchmark leaves one out.

        Raises:
            LowqError: not fitted, no queries, queries of another dimension or not finite, k outside 1..N.
        """
        file, encoder, scorer = self._parts()
        k = check_k(k, len(file.cells))
        if self._pictures is None or self._pictures.file is not file:
            self._pictures = PictureCodes(file)
        left_out = iter(() if own is None else own.tolist())
        parts = []
        for block in encoder.blocks(queries, "queries"):
            entries = encoder.entries(block, self.index.query_assignment)
            for query in range(len(block.offsets) - 1):
                asked = entries.of(query, query + 1)
                scores = scorer.scores(asked, 1)
                better = self._expanded(asked, scores, encoder.codebook.dim, next(left_out, -1))
                parts.append(rank_scores(scores if better is None else scorer.scores(better, 1), k))
        return Ranking(
            np.concatenate([one.ids for one in parts]), np.concatenate([one.scores for one in parts])
        )

    def save(self, path: Path) -> None:
        """Write the options into the folder `path`, and the index into its folder "index"."""
        names = ("short_list", "matches", "strict", "growth")
        self.index.save(Path(path) / "index")
        write_saved(path, "HammingExpansion", {name: getattr(self, name) for name in names}, {})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; the index stays on disk, memory-mapped.

        Raises:
            LowqError: nothing saved there, something else, or a file that does not match its digest.
        """
        options, _ = read_saved(path, "HammingExpansion")
        return cls(index=ASMK.load(Path(path) / "index"), **options)

    def _parts(self) -> tuple[InvertedFile, Encoder, Scorer]:
        index = self.index
        file, encoder = index._fitted(), index._encoder()
        dim = encoder.codebook.dim
        return (
            file,
            encoder,
            Scorer.of(file, dim=dim, alpha=index.alpha, threshold=index.threshold, idf=index.idf),
        )

    def _expanded(
        self, query: Entries, scores: NDArray[np.float64], dim: int, left_out: int
    ) -> Entries | None:
        """The query's new words and codes, or None if no picture but the one left out is reliable."""
        assert self._pictures is not None
        first = rank_scores(scores, min(self.short_list + 1, scores.shape[1])).ids[0]
        first = first[first != left_out][: self.short_list]
        found = [self._pictures.of(int(picture)) for picture in first]
        most = int(self.strict * code_bits(dim) + 1e-9)
        reliable = [one for one in found if strong_matches(query, one, most) >= self.matches]
        if not reliable:
            return None
        chosen = reliable_words([one.words for one in reliable], query.words, self.growth)
        voters = [query] + [_only(one, chosen) for one in reliable]
        words, codes = majority([(one.words, one.codes) for one in voters])
        return Entries(np.zeros(len(words), np.int32), words, codes)


@dataclass(frozen=True)
class PictureCodes:
    """An inverted file, read by picture."""

    file: InvertedFile

    def of(self, picture: int) -> Entries:
        """The words of a picture, rising, and their codes."""
        places = np.sort(self._order[self._starts[picture] : self._starts[picture + 1]])
        words = np.searchsorted(self.file.offsets, places, side="right") - 1
        return Entries(self.file.pictures[places], words.astype(np.int32), self.file.codes[places])

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self.file.pictures, kind="stable")

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.file.cells, dtype=np.int64)])


def strong_matches(query: Entries, picture: Entries, most: int) -> int:
    """How many words both have, once each, with codes that differ in at most `most` bits."""
    _, i, j = np.intersect1d(query.words, picture.words, assume_unique=True, return_indices=True)
    different = query.codes[i].view(np.uint64) ^ picture.codes[j].view(np.uint64)
    return int((np.bitwise_count(different).sum(axis=1, dtype=np.int64) <= most).sum())


def reliable_words(
    pictures: Sequence[NDArray[np.int32]], query: NDArray[np.int32], growth: float
) -> NDArray[np.int32]:
    """Words that several pictures have, the most frequent first, until floor(growth |query|) new ones are in.

    Args:
        pictures: the words of each, none twice.
        query: the query's words, none twice.

    >>> reliable_words([np.array([1, 2, 5]), np.array([2, 5, 7])], np.array([5, 9]), growth=0.5).tolist()
    [2]
    """
    words, counts = np.unique(np.concatenate(pictures), return_counts=True)
    words = words[np.argsort(-counts, kind="stable")]
    new = np.cumsum(~np.isin(words, query))
    most = int(growth * len(query))
    if not len(new) or new[-1] < most:
        return words
    end = np.searchsorted(new, most) + 1 if most else np.searchsorted(new, 1)
    return words[:end]


def majority(
    voters: Sequence[tuple[NDArray[np.int32], NDArray[np.uint8]]],
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """For each word that occurs the code whose bits most of its voters have; a tie is the first voter's.

    Args:
        voters: words (n,) and their codes (n, B) of each, the most trusted first.

    Returns:
        The words, rising, and their codes.

    >>> codes = [np.array([[0b1100]], np.uint8), np.array([[0b1010]], np.uint8)]
    >>> majority([(np.array([3]), code) for code in codes])[1].tolist(), bin(12)
    ([[12]], '0b1100')
    """
    words = np.concatenate([one[0] for one in voters])
    bits = np.unpackbits(np.concatenate([one[1] for one in voters]), axis=1)
    if not len(words):
        return words, np.concatenate([one[1] for one in voters])
    order = np.argsort(words, kind="stable")
    starts = np.flatnonzero(np.diff(words[order], prepend=-1))
    votes = 2 * np.add.reduceat(bits[order], starts, axis=0, dtype=np.int64)
    count = np.diff(starts, append=len(words))[:, None]
    won = np.where(votes == count, bits[order[starts]], votes > count)
    return words[order[starts]], np.packbits(won.astype(np.uint8), axis=1)


def _only(picture: Entries, words: NDArray[np.int32]) -> Entries:
    kept = np.isin(picture.words, words)
    return Entries(picture.pictures[kept], picture.words[kept], picture.codes[kept])
