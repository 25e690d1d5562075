"""Our ASMK beside the package `asmk`, part by part and as a whole, on the same made-up features and codebook.

Features are 1,000 a picture, 128 dimensions, unit length: noisy copies of 200,000 points. The codebook is a
sample of such features; how well it fits them does not matter for the time. Build and query are the whole way
from descriptors to an index and to a ranking of all pictures. The parts begin where the one before ends:
aggregation has the words, adding has the aggregated cells, and the query without word search has the words.
The agreement column says how far scores are apart, or how many entries of the index differ.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from _harness import Case, main

from lowq_core.retrieval.asmk.codebook import Codebook
from lowq_core.retrieval.asmk.encoding import Encoder
from lowq_core.retrieval.asmk.index import Entries, InvertedFile
from lowq_core.retrieval.asmk.retriever import ASMK
from lowq_core.retrieval.base import LocalArrays, Ranking

DIM, ASSIGNMENT = 128, 5
SKIP = "" if importlib.util.find_spec("asmk") else "asmk is not installed; pip install lowq[asmk]"


class Setting(NamedTuple):
    pictures: int
    each: int
    words: int
    queries: int

    def __str__(self) -> str:
        return f"{self.pictures:,} x {self.each:,}, {self.words:,} words"


def cases(quick: bool) -> list[Case]:
    settings = (
        (Setting(40, 200, 2_048, 5),)
        if quick
        else (Setting(5_000, 1_000, 16_384, 70), Setting(1_000, 1_000, 65_536, 70))
    )
    return [case for setting in settings for case in _cases(setting)]


def _cases(setting: Setting) -> list[Case]:
    large = setting.words >= 65_536
    case = partial(Case, size=str(setting), skip=SKIP, memory=False)
    few, queries = min(setting.pictures, 200), f"{setting.queries} queries on {setting}"
    return [
        case(
            what="aggregation",
            size=f"{few} x {setting.each:,}, {setting.words:,} words",
            peer_name="asmk kernel.aggregate",
            peer=lambda s, package: package.aggregate(s.some, s.some_words),
            ours=lambda s, package: s.encode(s.some, s.some_words),
            prepare=partial(_with_some, setting, few),
            repeats=3,
            check=_same_codes,
            promise=3.0,
        ),
        case(
            what="adding",
            peer_name="asmk IVF.add",
            peer=lambda s, package: package.add(s.cells),
            ours=lambda s, package: s.add(s.cells),
            prepare=partial(_everything, setting),
            repeats=1,
            promise=20.0,
        ),
        case(
            what="query without word search",
            size=queries,
            peer_name="asmk aggregate_image, IVF.search",
            peer=lambda s, package: package.query(s.queries, s.query_words),
            ours=lambda s, package: s.query(s.query_words),
            prepare=partial(_everything, setting),
            repeats=3,
            check=_same_scores,
            promise=15.0,
        ),
        *(
            case(
                what=f"whole query, {search}",
                size=queries,
                peer_name="asmk query_ivf",
                peer=lambda s, package: package.query(s.queries, None),
                ours=lambda s, package, search=search: s.searching(search).rank(s.queries),
                prepare=partial(_everything, setting),
                repeats=3,
                check=_same_scores,
                promise={("exact", False): 4.0, ("exact", True): 2.0, ("bf16", True): 3.0}.get(
                    (search, large)
                ),
            )
            for search in ("exact", "bf16")
        ),
        *(
            case(
                what=f"whole build, {search}",
                peer_name="asmk build_ivf",
                peer=lambda pictures, package: package.build(pictures),
                ours=lambda pictures, package, search=search: ASMK(
                    codebook=codebook(setting.words), search=search
                ).fit(pictures),
                prepare=partial(_with_database, setting),
                repeats=1,
                check=_same_index,
                promise={("exact", False): 1.5, ("bf16", True): 3.0}.get((search, large)),
            )
            for search in ("exact", "bf16")
        ),
    ]


def features(pictures: int, each: int, seed: int) -> LocalArrays:
    """Unit vectors around 200,000 points, `each` a picture."""
    points = np.random.default_rng(0).standard_normal((200_000, DIM), dtype=np.float32)
    generator = np.random.default_rng(seed)
    rows = np.empty((pictures * each, DIM), np.float32)
    for start in range(0, len(rows), 1 << 16):
        part = rows[start : start + (1 << 16)]
        part[:] = points[generator.integers(0, len(points), len(part))]
        part += 0.7 * generator.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return LocalArrays(rows, np.arange(pictures + 1) * each)


@lru_cache(1)
def codebook(words: int) -> Codebook:
    return Codebook(features(1, words, 1).descriptors * np.float32(0.8))


class Package:
    """The package `asmk` with our codebook."""

    def __init__(self, book: Codebook) -> None:
        from asmk import asmk_method, index
        from asmk import codebook as codebooks

        one = {"aggregate": {}}
        params = {
            "index": {"gpu_id": None},
            "build_ivf": {
                "kernel": {"binary": True},
                "ivf": {"use_idf": False},
                "quantize": {"multiple_assignment": 1},
            }
            | one,
            "query_ivf": {
                "quantize": {"multiple_assignment": ASSIGNMENT},
                "search": {"topk": None},
                "similarity": {"similarity_threshold": 0.0, "alpha": 3.0},
            }
            | one,
        }
        book_of_theirs = codebooks.Codebook(index.initialize_index(gpu_id=None), size=book.size)
        book_of_theirs.index(book.centroids)
        self.untrained = asmk_method.ASMKMethod(params, {}, codebook=book_of_theirs)
        self.builder = self.untrained.create_ivf_builder()
        self.built: Any = None

    def build(self, pictures: LocalArrays) -> Any:
        return self.untrained.build_ivf(pictures.descriptors, _numbers(pictures))

    def aggregate(self, pictures: LocalArrays, words: np.ndarray) -> Any:
        return self.builder.kernel.aggregate(pictures.descriptors, words, _numbers(pictures))

    def add(self, cells: Entries) -> Any:
        from asmk.inverted_file import IVF

        ivf = IVF.initialize_empty(codebook_size=self.untrained.codebook.size, use_idf=False)
        ivf.add(cells.codes.view(">u4").astype(np.uint32), cells.words, cells.pictures.astype(np.int64))
        return ivf

    def query(self, queries: LocalArrays, words: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Ranks and scores; without searching words where they are given."""
        if words is not None:
            found = iter(np.split(words, queries.offsets[1:-1]))
            book = self.built.codebook
            search, book.quantize = book.quantize, lambda des, *cols, **_: (des, next(found), *cols)
        try:
            return self.built.query_ivf(queries.descriptors, _numbers(queries))[2:]
        finally:
            if words is not None:
                book.quantize = search


class Ours(NamedTuple):
    """What the cases of one setting work on."""

    index: ASMK
    queries: LocalArrays | None = None
    query_words: np.ndarray | None = None
    some: LocalArrays | None = None
    some_words: np.ndarray | None = None
    cells: Entries | None = None

    def searching(self, search: str) -> ASMK:
        self.index.search = search
        return self.index

    def encode(self, pictures: LocalArrays, words: np.ndarray, assignment: int = 1) -> Entries:
        encoder = Encoder(_Known(self.index.codebook.centroids, words), True, "auto")
        return Entries.joined(
            [
                Entries(part.pictures + np.int32(block.first), part.words, part.codes)
                for block in encoder.blocks(pictures, "pictures")
                for part in [encoder.entries(block, assignment)]
            ]
        )

    def add(self, cells: Entries) -> InvertedFile:
        return InvertedFile.build([cells], words=self.index.words, pictures=int(cells.pictures[-1]) + 1)

    def query(self, words: np.ndarray) -> Ranking:
        book = self.index.codebook
        self.index.codebook = _Known(book.centroids, words)
        try:
            return self.index.rank(self.queries)
        finally:
            self.index.codebook = book


class _Known(Codebook):
    """A codebook whose words were searched for before; each row is asked for once, in order."""

    def __init__(self, centroids: np.ndarray, words: np.ndarray) -> None:
        super().__init__(centroids)
        object.__setattr__(self, "_waiting", words)

    def assign(self, vectors: Any, k: int = 1, *, search: str = "auto") -> np.ndarray:
        now, later = np.split(self._waiting, [len(vectors)])
        object.__setattr__(self, "_waiting", later)
        return now


def _numbers(pictures: LocalArrays) -> np.ndarray:
    return np.repeat(np.arange(len(pictures.offsets) - 1), np.diff(pictures.offsets))


@lru_cache(1)
def _database(setting: Setting) -> LocalArrays:
    return features(setting.pictures, setting.each, 2)


@lru_cache(1)
def _everything(setting: Setting) -> tuple[Ours, Package]:
    book, database = codebook(setting.words), _database(setting)
    package, index = Package(book), ASMK(codebook=book)
    cells = Ours(index).encode(database, book.assign(database.descriptors, search="bf16"))
    index._file = InvertedFile.build([cells], words=book.size, pictures=setting.pictures)
    package.built = package.untrained.add_ivf_builder(package.builder)
    package.built.inverted_file = package.add(cells)
    queries = features(setting.queries, setting.each, 3)
    words = book.assign(queries.descriptors, ASSIGNMENT, search="bf16")
    return Ours(index, queries=queries, query_words=words, cells=cells), package


def _with_some(setting: Setting, count: int) -> tuple[Ours, Package]:
    book = codebook(setting.words)
    some = features(count, setting.each, 2)
    words = book.assign(some.descriptors, search="bf16")
    return Ours(ASMK(codebook=book), some=some, some_words=words), Package(book)


def _with_database(setting: Setting) -> tuple[LocalArrays, Package]:
    return _database(setting), Package(codebook(setting.words))


def _same_codes(peer: Any, ours: Entries) -> str:
    codes, words, pictures = peer
    assert (words == ours.words).all(), "other words"
    assert (pictures == ours.pictures).all(), "other pictures"
    assert (codes.astype(">u4").view(np.uint8) == ours.codes).all(), "other codes"
    return "same codes"


def _same_scores(peer: tuple[np.ndarray, np.ndarray], ours: Ranking) -> str:
    theirs, mine = np.empty_like(peer[1]), np.empty(peer[1].shape)
    np.put_along_axis(theirs, peer[0], peer[1], axis=1)
    np.put_along_axis(mine, ours.ids, ours.scores.astype(np.float64), axis=1)
    off = np.abs(theirs - mine).max(
        axis=1
    )  # a near-tie between words, resolved otherwise, moves one query's scores
    assert np.median(off) <= 1e-6, f"scores differ by {off.max()}"
    return f"scores within {off.max():.0e}"


def _same_index(peer: Any, ours: ASMK) -> str:
    counts, file = peer.inverted_file.counts, ours._file
    moved = int(np.abs(counts - np.diff(file.offsets)).sum())
    assert moved <= 1e-4 * counts.sum(), f"{moved} entries at other words"
    size = sum(array.nbytes for array in (file.offsets, file.pictures, file.codes, file.cells))
    return f"{moved} of {counts.sum():,} entries elsewhere; {size / len(file.pictures):.2f} bytes an entry"


if __name__ == "__main__":
    main(cases, __doc__)
