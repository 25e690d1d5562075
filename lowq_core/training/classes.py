"""Pictures and the landmark that each shows: what a classification starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.images import Picture


@dataclass(frozen=True, eq=False, repr=False)
class TrainingClasses:
    """Pictures with labels.

    Attributes:
        name: short name.
        pictures: N of them.
        labels: (N,) int64; numbers with gaps are closed up to 0..C-1, in their order.

    Raises:
        LowqError: not one label for each picture, fewer than two classes.

    >>> from pathlib import Path
    >>> pictures = tuple(Picture(Path(name), name) for name in ("a.jpg", "b.jpg", "c.jpg"))
    >>> classes = TrainingClasses("three", pictures, [7, 2, 7])
    >>> classes, classes.labels.tolist()
    (TrainingClasses('three', 3 pictures, 2 classes), [1, 0, 1])
    """

    name: str
    pictures: tuple[Picture, ...]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.shape != (len(self.pictures),):
            raise LowqError(
                f"{self.name}: {len(self.pictures)} pictures and {labels.size} labels; give each picture one"
            )
        names, closed = np.unique(labels, return_inverse=True)
        if len(names) < 2:
            raise LowqError(f"{self.name}: has {len(names)} classes; to classify, it needs two or more")
        object.__setattr__(self, "pictures", tuple(self.pictures))
        object.__setattr__(self, "labels", closed.astype(np.int64))

    def __repr__(self) -> str:
        return f"TrainingClasses({self.name!r}, {len(self.pictures)} pictures, {self.count} classes)"

    @property
    def count(self) -> int:
        """C, how many classes there are."""
        return int(self.labels.max()) + 1

    @property
    def digest(self) -> str:
        """sha256 of names, boxes, noises and labels; what is in the files does not count."""
        return training_digest(self.pictures, self.labels)

    def drawn(self, pictures: int, classes: int, seed: int) -> TrainingClasses:
        """A part: so many classes, drawn alike, and of these so many pictures in all, spread evenly over them.

        Raises:
            LowqError: more classes than there are, fewer pictures than classes.

        >>> from pathlib import Path
        >>> all_of_it = TrainingClasses("d", [Picture(Path(str(i)), str(i)) for i in range(9)], np.arange(9) % 3)
        >>> all_of_it.drawn(pictures=4, classes=2, seed=0)
        TrainingClasses('d', 4 pictures, 2 classes)
        """
        if not 2 <= classes <= self.count or pictures < classes:
            raise LowqError(
                f"{self.name}: {pictures} pictures of {classes} classes cannot be drawn; ask for 2 to {self.count} "
                "classes, and a picture for each at least"
            )
        generator = np.random.default_rng(seed)
        chosen = generator.permutation(self.count)[:classes]
        members = [generator.permutation(np.flatnonzero(self.labels == label)) for label in chosen]
        # The first of each class, then the second of each, and so on, until there are enough.
        in_turn = sorted((turn, k, index) for k, own in enumerate(members) for turn, index in enumerate(own))
        kept = np.sort([index for _, _, index in in_turn[:pictures]])
        return TrainingClasses(self.name, tuple(self.pictures[i] for i in kept), self.labels[kept])


def join_classes(parts: Sequence[TrainingClasses]) -> TrainingClasses:
    """Several sets as one. They should show different landmarks: one in two sets would be two classes.

    Raises:
        LowqError: no parts.
    """
    if not parts:
        raise LowqError("training sets: the list is empty; give at least one")
    offsets = np.cumsum([0, *(part.count for part in parts[:-1])])
    labels = np.concatenate([part.labels + offset for part, offset in zip(parts, offsets, strict=True)])
    pictures = tuple(picture for part in parts for picture in part.pictures)
    return TrainingClasses("+".join(part.name for part in parts), pictures, labels)


def training_digest(pictures: Sequence[Picture], *arrays: NDArray[np.int64]) -> str:
    """sha256 of names, boxes, noises and of `arrays`; what is in the files does not count."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(repr((picture.name, picture.bbx, picture.noise)).encode())
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()
