"""`Benchmark`: what is searched, with which queries, and what counts as found."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.data.finder import PictureFinder
from lowq_core.errors import LowqError

if TYPE_CHECKING:
    from lowq_core.images import Picture  # opens pictures, which nobody who only counts needs

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the picture after EXIF orientation."""

Measure = Literal["revisited", "map", "map@100"]
"""`revisited`: trapezoidal AP with easy / hard / junk; `map`: the same AP, one list of positives (INSTRE,
leave-one-out); `map@100`: the plain AP cut at rank 100 of Google Landmarks."""


@dataclass(frozen=True, eq=False)
class Query:
    """One query and its ground truth.

    Attributes:
        image: name of the query's picture, with or without file extension.
        bbx: box of the object in pixels, or None for the whole picture.
        easy, hard, junk: int64 indices into `Benchmark.images`; sorted, unique. Single-level ground
            truth keeps its positives in `easy`.
    """

    image: str
    bbx: Box | None = None
    easy: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    hard: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    junk: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        for name in ("easy", "hard", "junk"):
            object.__setattr__(self, name, _indices(getattr(self, name), f"{self.image}: {name}"))

    def __eq__(self, other: object) -> bool:
        """Same picture, box and ground truth; by hand because arrays compare element by element."""
        if not isinstance(other, Query):
            return NotImplemented
        same = self.image == other.image and self.bbx == other.bbx
        return same and all(
            np.array_equal(getattr(self, level), getattr(other, level)) for level in ("easy", "hard", "junk")
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none


class StoredQueries(Protocol):
    """Noisy queries that lie on the disk, see `lowq_core.data.noise_benchmark`."""

    @property
    def conditions(self) -> tuple[tuple[str, int], ...]:
        """The noises and severities that there are."""

    def pictures(self, noise: str, severity: int) -> list[Picture]:
        """One picture a query; LowqError where that noise is not there at that severity."""


@dataclass(frozen=True, repr=False)
class Benchmark:
    """A database of pictures and the queries to find in it.

    Attributes:
        name: short name, part of every noise seed and store key.
        images: names of the database's pictures, in the order that the ground truth's indices count.
        queries: the queries.
        root: folder that holds the pictures (any depth); names resolve with or without extension.
        measure: how a ranking is scored, see `Measure`.
        more_roots: further folders, searched after `root`: those of distractors.
        stored: noisy queries to take from files, in place of those made on the fly.

    Raises:
        LowqError: an index of the ground truth points past `images`.

    >>> from pathlib import Path
    >>> town = Benchmark("two", ("a", "b"), (Query("q", easy=[1]),), Path("."))
    >>> town.queries[0].easy.tolist()
    [1]
    >>> town
    Benchmark('two', 2 pictures, 1 queries, revisited)
    """

    name: str
    images: tuple[str, ...]
    queries: tuple[Query, ...]
    root: Path
    measure: Measure = "revisited"
    more_roots: tuple[Path, ...] = ()
    stored: StoredQueries | None = None

    def __post_init__(self) -> None:
        for query in self.queries:
            for level in ("easy", "hard", "junk"):
                ids = getattr(query, level)
                if ids.size and (ids[-1] >= len(self.images) or ids[0] < 0):
                    bad = int(ids[-1] if ids[-1] >= len(self.images) else ids[0])
                    raise LowqError(
                        f"{self.name}: query {query.image!r} lists {level} index {bad}, but the database has "
                        f"{len(self.images)} pictures; check that ground truth and image list belong together"
                    )

    def __repr__(self) -> str:
        """Short: a notebook shows it, and the lists may hold a million names."""
        return f"Benchmark({self.name!r}, {len(self.images)} pictures, {len(self.queries)} queries, {self.measure})"

    @cached_property
    def _finders(self) -> tuple[PictureFinder, ...]:
        return tuple(PictureFinder(folder) for folder in (self.root, *self.more_roots))

    def find(self, image: str) -> Path | None:
        """The file of the picture called `image`, or None where there is none."""
        return next((path for finder in self._finders if (path := finder.find(image))), None)

    def path(self, image: str) -> Path:
        """The file of the picture called `image`; LowqError where there is none, or several."""
        path = self.find(image)
        if path is None:
            raise LowqError(
                f"{self.root}: holds no picture called {image!r} (tried with and without extension, at any "
                f"depth); put it there or point --images at its folder"
            )
        return path


def own_pictures(benchmark: Benchmark) -> NDArray[np.int64] | None:
    """(Q,) number of each query's own picture in the database, -1 where it is not there; None where none is.

    A picture is a query's own if it is called the same and is junk for it: what leaves one out has such, see
    `leave_one_out` and `read_val_eccv2020`. One that the ground truth seeks is to be found as any other.

    >>> from pathlib import Path
    >>> queries = (Query("b", easy=[0], junk=[1]), Query("a", easy=[0]))
    >>> own_pictures(Benchmark("pair", ("a", "b"), queries, Path("."))).tolist()
    [1, -1]
    """
    own = np.array(
        [
            next((i for i in query.junk.tolist() if benchmark.images[i] == query.image), -1)
            for query in benchmark.queries
        ],
        np.int64,
    )
    return own if (own >= 0).any() else None


def _indices(values: ArrayLike, what: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise LowqError(
            f"{what} is {array.dtype} of shape {array.shape}; it has to be a flat list of whole numbers"
        )
    return np.unique(array.astype(np.int64))
