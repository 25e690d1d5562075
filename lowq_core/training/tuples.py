"""Matching pairs of pictures, and which place each picture shows: what a contrastive training starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowq_core.data.labels import ImageSet
from lowq_core.data.pictures import set_pictures
from lowq_core.data.sfm120k import Tuples
from lowq_core.errors import LowqError
from lowq_core.images import Picture
from lowq_core.models.whitening import pairs_from_labels
from lowq_core.training.classes import training_digest

PAIRS_PER_LABEL = 400


@dataclass(frozen=True, eq=False, repr=False)
class TrainingTuples:
    """Pictures and the matching pairs among them; negatives are any pictures of other clusters.

    Attributes:
        name: short name.
        pictures: N of them.
        queries, positives: (P,) int64 indices into `pictures`; pair i shows one place twice.
        clusters: (N,) int64, the place that each picture shows.

    Raises:
        LowqError: no pairs, lists of other lengths, an index past the pictures, or a pair of two clusters.

    >>> from pathlib import Path
    >>> pictures = tuple(Picture(Path(name), name) for name in ("a.jpg", "b.jpg", "c.jpg"))
    >>> TrainingTuples("three", pictures, [0], [2], [4, 5, 4])
    TrainingTuples('three', 3 pictures, 1 pairs, 2 clusters)
    """

    name: str
    pictures: tuple[Picture, ...]
    queries: NDArray[np.int64]
    positives: NDArray[np.int64]
    clusters: NDArray[np.int64]

    def __post_init__(self) -> None:
        for field in ("queries", "positives", "clusters"):
            object.__setattr__(self, field, np.asarray(getattr(self, field), np.int64))
        object.__setattr__(self, "pictures", tuple(self.pictures))
        N, P = len(self.pictures), self.queries.size
        if self.clusters.shape != (N,) or self.queries.shape != (P,) or self.positives.shape != (P,) or not P:
            raise LowqError(
                f"{self.name}: {N} pictures, {self.clusters.size} clusters, {P} queries, {self.positives.size} "
                f"positives; it needs a cluster for each picture, and one pair or more"
            )
        for side in (self.queries, self.positives):
            if side.min() < 0 or side.max() >= N:
                raise LowqError(
                    f"{self.name}: its pairs run from {side.min()} to {side.max()}, but it has {N} pictures"
                )
        mixed = np.flatnonzero(self.clusters[self.queries] != self.clusters[self.positives])
        if mixed.size:
            pair = [self.pictures[int(side[mixed[0]])].name for side in (self.queries, self.positives)]
            raise LowqError(f"{self.name}: {pair[0]} and {pair[1]} are a pair of two clusters; drop the pair")

    def __repr__(self) -> str:
        """Short, as that of `ImageSet`."""
        counts = f"{len(self.pictures)} pictures, {self.queries.size} pairs, {np.unique(self.clusters).size} clusters"
        return f"TrainingTuples({self.name!r}, {counts})"

    @property
    def digest(self) -> str:
        """sha256 of names, boxes, noises, pairs and clusters; what is in the files does not count."""
        return training_digest(self.pictures, self.queries, self.positives, self.clusters)

    def shuffled(self, seed: int) -> TrainingTuples:
        """The same pairs of the same pictures, in another order, so that the first of them are a fair sample."""
        order = np.random.default_rng(seed).permutation(len(self.pictures))
        place = np.argsort(order)
        return TrainingTuples(
            self.name,
            tuple(self.pictures[index] for index in order),
            place[self.queries],
            place[self.positives],
            self.clusters[order],
        )


def from_tuples(tuples: Tuples) -> TrainingTuples:
    """The pairs of SfM-120k, as `lowq_core.data.sfm120k.read_tuples` reads them.

    Raises:
        LowqError: the whitening set, which has no clusters.
    """
    if tuples.clusters is None:
        raise LowqError(f"{tuples.name}: has no clusters to take negatives from; read the split 'train'")
    pictures = tuple(Picture(tuples.root / image, image) for image in tuples.images)
    return TrainingTuples(tuples.name, pictures, tuples.queries, tuples.positives, tuples.clusters)


def from_labels(images: ImageSet, seed: int, per_label: int = PAIRS_PER_LABEL) -> TrainingTuples:
    """Pairs of pictures with one label; a label is a cluster. PaperTown's training set and labels CSVs are such.

    Args:
        images: the labelled pictures.
        seed: of the draw of pairs, and of which of the two is the query.
        per_label: most pairs of one label.

    Raises:
        LowqError: no label has two pictures; none of the pictures is there.
    """
    first, second = pairs_from_labels(images.labels, seed, per_label)
    swapped = np.random.default_rng(seed).random(first.size) < 0.5
    queries, positives = np.where(swapped, second, first), np.where(swapped, first, second)
    return TrainingTuples(images.name, tuple(set_pictures(images)), queries, positives, images.labels)


def join(parts: Sequence[TrainingTuples]) -> TrainingTuples:
    """Several sets as one. They should show different places: a place in two sets would be two clusters.

    Raises:
        LowqError: no parts.
    """
    if not parts:
        raise LowqError("training sets: the list is empty; give at least one")
    pictures = [picture for part in parts for picture in part.pictures]
    offsets = np.cumsum([0] + [len(part.pictures) for part in parts[:-1]])
    queries, positives = (
        np.concatenate([getattr(part, side) + offset for part, offset in zip(parts, offsets, strict=True)])
        for side in ("queries", "positives")
    )
    clusters, taken = [], 0
    for part in parts:
        names, numbers = np.unique(part.clusters, return_inverse=True)
        clusters.append(numbers + taken)
        taken += len(names)
    name = "+".join(part.name for part in parts)
    return TrainingTuples(name, tuple(pictures), queries, positives, np.concatenate(clusters))
