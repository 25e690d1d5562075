"""Pictures with a label each: the `ImageSet`, its CSV, and the benchmark that leaves one out."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lowq_core.data.benchmark import Benchmark, Query
from lowq_core.data.finder import PictureFinder
from lowq_core.errors import LowqError

LABEL_COLUMNS = ("landmark", "object", "instance", "label", "class")


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Pictures to train on, or to make a benchmark of, with one label each.

    Attributes:
        name: short name.
        root: folder that the names of `images` count from.
        images: names of the pictures, unique.
        labels: (N,) int64, contiguous from 0: indices into `label_names`.
        label_names: what the source calls the labels.

    Raises:
        LowqError: empty, lengths differ, labels that are not 0..L-1, or a picture listed twice.

    >>> landmarks = ImageSet("two", Path("."), ("a", "b", "c"), [0, 1, 0], ("dome", "tower"))
    >>> landmarks.labels.tolist()
    [0, 1, 0]
    """

    name: str
    root: Path
    images: tuple[str, ...]
    labels: NDArray[np.int64]
    label_names: tuple[str, ...]

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        object.__setattr__(self, "labels", labels.astype(np.int64))
        if not self.images or labels.shape != (len(self.images),):
            raise LowqError(
                f"{self.name}: {len(self.images)} pictures, labels of shape {labels.shape}; it needs one each"
            )
        used = np.unique(labels)
        if labels.dtype.kind not in "iu" or not np.array_equal(used, np.arange(len(self.label_names))):
            raise LowqError(
                f"{self.name}: its labels run from {used[0]} to {used[-1]} in {used.size} different values; "
                f"re-map them to the whole numbers 0 to {len(self.label_names) - 1}, each at least once"
            )
        if len(set(self.images)) != len(self.images):
            seen: set[str] = set()
            twice = next(image for image in self.images if image in seen or seen.add(image))  # type: ignore[func-returns-value]
            raise LowqError(f"{self.name}: lists {twice!r} twice; keep one of the two")

    def __repr__(self) -> str:
        """Short, as that of `Benchmark`."""
        return f"ImageSet({self.name!r}, {len(self.images)} pictures, {len(self.label_names)} labels)"

    @classmethod
    def from_names(cls, name: str, root: Path, images: Iterable[str], labels: Sequence[str]) -> ImageSet:
        """The set of `images` labelled `labels`, which are numbered in sorted order (numbers by value)."""
        order = sorted(set(labels), key=lambda label: (int(label) if label.isdecimal() else -1, label))
        number = {label: index for index, label in enumerate(order)}
        ids = np.fromiter((number[label] for label in labels), np.int64, len(labels))
        return cls(name, root, tuple(images), ids, tuple(order))

    @cached_property
    def _finder(self) -> PictureFinder:
        return PictureFinder(self.root)

    def find(self, image: str) -> Path | None:
        """The file of the picture called `image`, or None where there is none."""
        return self._finder.find(image)

    def path(self, image: str) -> Path:
        """The file of the picture called `image`; LowqError where there is none."""
        path = self.find(image)
        if path is None:
            raise LowqError(
                f"{self.root}: holds no picture called {image!r}, which {self.name} lists; put it there"
            )
        return path


def read_labels(
    path: Path | str, split: str | None = None, column: str | None = None, images: Path | None = None
) -> ImageSet:
    """The pictures of a labels CSV: a header, a column `image` and one of labels.

    Args:
        path: the CSV, in UTF-8. `image` counts from its folder.
        split: keep the rows with this value in the column `split`; None keeps all.
        column: the column of labels; by default the first of landmark, object, instance, label and class
            that it has.
        images: folder that `image` counts from, where it is another one.

    Raises:
        LowqError: the file is missing, empty or not UTF-8, lacks a column, has no such split, a row without
            picture or label, or a picture twice.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "labels.csv").write_text("image,landmark\\na.jpg,tower\\nb.jpg,dome\\n")
    ...     read_labels(Path(folder, "labels.csv")).label_names
    ('dome', 'tower')
    """
    path = Path(path)
    rows = read_table(path, ["image"])
    columns = list(rows[0])
    if column is None:
        column = next((name for name in LABEL_COLUMNS if name in columns), None)
    if column is None or column not in columns:
        wanted = f"column {column!r}" if column else f"column of labels ({', '.join(LABEL_COLUMNS)})"
        raise LowqError(
            f"{path}: has no {wanted}, only {', '.join(columns)}; name the one that holds the labels"
        )
    for number, row in enumerate(rows, start=2):
        if not row["image"] or not row[column]:
            raise LowqError(
                f"{path}: row {number} lacks its image or its {column}; fill it in or drop the row"
            )
    if split is not None:
        if "split" not in columns:
            raise LowqError(f"{path}: has no column 'split', so no {split!r}; read it without split")
        splits = sorted({row["split"] for row in rows})
        rows = [row for row in rows if row["split"] == split]
        if not rows:
            raise LowqError(f"{path}: has no split {split!r}; choose one of {', '.join(splits)}")
    name = path.parent.name if path.stem == "labels" else path.stem
    root = images or path.parent
    try:
        return ImageSet.from_names(name, root, [row["image"] for row in rows], [row[column] for row in rows])
    except LowqError as error:
        raise LowqError(f"{path}: {error}") from None


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV with a header that has at least `columns`; LowqError where it is anything else."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            missing = [column for column in columns if column not in header]
            if missing:
                raise LowqError(
                    f"{path}: has no column {missing[0]!r}, only {', '.join(header) or 'none'}; add it"
                )
            rows = list(reader)
    except OSError as error:
        raise LowqError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise LowqError(f"{path}: is not a CSV in UTF-8 ({error}); save it as one") from None
    if not rows:
        raise LowqError(f"{path}: has a header and no rows; it needs one for each picture")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise LowqError(f"{path}: row {number} has not {len(header)} fields as the header; mend the row")
    return rows


def leave_one_out(images: ImageSet) -> Benchmark:
    """Each picture of `images` as a query for the others of its label.

    The query itself is in the database and counts as junk; the others of its label are `easy`. A label with a
    single picture gives a query without positives, whose AP is undefined (NaN) and does not enter the mean.
    No search should begin with the query itself: `own_pictures` says which picture that is.

    >>> trio = ImageSet("trio", Path("."), ("a", "b", "c"), [0, 1, 0], ("dome", "tower"))
    >>> [query.easy.tolist() for query in leave_one_out(trio).queries]
    [[2], [], [0]]
    """
    order = np.argsort(images.labels, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(images.labels))[:-1])
    queries = tuple(
        Query(image, easy=members[label][members[label] != index], junk=np.array([index]))
        for index, (image, label) in enumerate(zip(images.images, images.labels, strict=True))
    )
    return Benchmark(images.name, images.images, queries, images.root, "map")
