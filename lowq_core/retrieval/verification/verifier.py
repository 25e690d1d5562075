"""What all verifiers share: a database of local features, pairs counted, rankings re-ranked, graphs verified."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from lowq_core.errors import LowqError
from lowq_core.extraction.local_features import LocalFeatures, PictureFeatures
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.saved import read_saved, write_saved
from lowq_core.retrieval.verification.pairs import Counter
from lowq_core.retrieval.verification.ransac import Verified
from lowq_core.retrieval.verification.reorder import rerank_by_inliers
from lowq_core.retrieval.verification.verified import VerifiedNeighbours, verified_neighbours

T = TypeVar("T")
_ARRAYS = ("descriptors", "strength", "xy", "scale", "offsets")


class Verifier(ABC, Generic[T]):
    """Counts the features of two pictures that agree on one transformation; T is a picture made ready for that.

    A sub-class has `prepare` and `verify`, and attributes named like the options of its constructor.
    """

    _OPTIONS: tuple[str, ...]

    def __init__(self) -> None:
        self._database: LocalFeatures | None = None

    @abstractmethod
    def prepare(self, features: PictureFeatures) -> T:
        """A picture's features, checked and ready for `verify`."""

    @abstractmethod
    def verify(self, query: T, picture: T) -> Verified:
        """The transformation from `query` to `picture`; rows in it are those of the features as extracted."""

    def fit(self, database: LocalFeatures) -> Self:
        """Take local features, on disk or in memory; they are used in place.

        Raises:
            LowqError: not `LocalFeatures`, or no pictures.
        """
        self._database = _checked(database, "database", None)
        return self

    def count(self, query: PictureFeatures, picture: int) -> Verified:
        """Verify one picture of the database, with all that is needed to draw it.

        Args:
            query: features of one picture: `queries[i]` of `LocalFeatures`.
            picture: its number.

        Raises:
            LowqError: not fitted, no such picture, features of another dimension or not finite.
        """
        database = self._fitted()
        if not 0 <= picture < len(database):
            raise LowqError(f"picture {picture}: the database has {len(database)}, numbered from 0")
        asked = np.asarray(query.descriptors)
        if asked.ndim != 2 or asked.shape[1] != database.descriptors.shape[1]:
            raise LowqError(
                f"query: descriptors of shape {asked.shape}, but the database has dimension "
                f"{database.descriptors.shape[1]}; extract both in one way"
            )
        return self.verify(self.prepare(query), _Prepared(self, database, "database")[picture])

    def counter(self, queries: LocalFeatures | None = None, *, progress: bool = False) -> Counter[T]:
        """Inliers of pairs of query and picture, remembered; without `queries`, of two pictures of the database.

        Raises:
            LowqError: not fitted, queries that are not `LocalFeatures` or of another dimension.
        """
        database = self._fitted()
        asked = (
            None if queries is None else _Prepared(self, _checked(queries, "queries", database), "queries")
        )
        return Counter(
            asked,
            _Prepared(self, database, "database"),
            lambda query, picture: self.verify(query, picture).inliers,
            progress=progress,
        )

    def rerank(
        self,
        ranking: Ranking,
        queries: LocalFeatures,
        top: int = 100,
        skip: Sequence[ArrayLike] | None = None,
        *,
        progress: bool = False,
    ) -> Ranking:
        """The first `top` of each query in another retriever's ranking, by inliers; see `rerank_by_inliers`.

        For several protocols make one `counter(queries)` and call `rerank_by_inliers` with each one's `skip`.

        Args:
            ranking: (Q, k) of the database that was fitted.
            queries: local features of the Q queries, of their boxes where they have any.
            top, skip: see there; `skip` is None where the ground truth is to be kept from the search.

        Raises:
            LowqError: not fitted, as many rows in the ranking as queries, ids that the database does not have,
                another dimension, features that are not finite, `top` below 1, `skip` not one list a query.
        """
        counter = self.counter(queries, progress=progress)
        if len(ranking.ids) != len(queries):
            raise LowqError(
                f"ranking: has {len(ranking.ids)} rows for {len(queries)} queries; rank these queries"
            )
        return rerank_by_inliers(ranking, counter, top=top, skip=skip)

    def neighbours(
        self, ids: ArrayLike, k: int, queries: LocalFeatures | None = None, *, progress: bool = False
    ) -> VerifiedNeighbours:
        """The `k` of each picture's (or query's) candidates with the most inliers: a verified graph for GSS.

        Args:
            ids: (N, K) candidates of each picture of the database without itself; of each query where given.
            k: 1 to K.
            queries: local features of the queries.

        Raises:
            LowqError: not fitted, and as `verified_neighbours` does.
        """
        rows = len(self._fitted() if queries is None else queries)
        if len(np.asarray(ids)) != rows:
            raise LowqError(f"ids: {len(np.asarray(ids))} rows for {rows} pictures; give one for each")
        return verified_neighbours(ids, self.counter(queries, progress=progress), k, own=queries is None)

    def save(self, path: Path) -> None:
        """Write the database's features and the options into the folder `path`."""
        database = self._fitted()
        arrays = {name: np.asarray(_whole(getattr(database, name))) for name in _ARRAYS}
        arrays["names"] = np.frombuffer(json.dumps(database.names).encode(), np.uint8)
        write_saved(path, type(self).__name__, {name: getattr(self, name) for name in self._OPTIONS}, arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; the features stay on disk, memory-mapped.

        Raises:
            LowqError: nothing saved there, something else, or a part that does not match its digest.
        """
        options, arrays = read_saved(path, cls.__name__)
        names = json.loads(arrays["names"].tobytes())
        descriptors, strength, xy, scale, offsets = (arrays[name] for name in _ARRAYS)
        return cls(**options).fit(LocalFeatures(tuple(names), descriptors, strength, xy, scale, offsets))

    def _fitted(self) -> LocalFeatures:
        if self._database is None:
            raise LowqError(f"{type(self).__name__}: has no database; call fit first")
        return self._database


class _Prepared(Generic[T]):
    """Pictures of `LocalFeatures`, each made ready when it is asked for."""

    def __init__(self, verifier: Verifier[T], features: LocalFeatures, what: str) -> None:
        self._verifier, self._features, self._what = verifier, features, what

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, i: int) -> T:
        try:
            return self._verifier.prepare(self._features[i])
        except LowqError as error:
            raise LowqError(f"{self._what}: {self._features.names[i]}: {error}") from None


def check_finite(features: PictureFeatures) -> None:
    """LowqError where a descriptor or place is NaN or infinite."""
    if not (np.isfinite(features.descriptors).all() and np.isfinite(features.xy).all()):
        raise LowqError("a local feature holds NaN or infinity; extract the picture again")


def _checked(features: LocalFeatures, what: str, database: LocalFeatures | None) -> LocalFeatures:
    if not isinstance(features, LocalFeatures):
        raise LowqError(
            f"{what}: {type(features).__name__}; verification needs the places of features, give LocalFeatures"
        )
    if not len(features):
        raise LowqError(f"{what}: holds no pictures; give at least one")
    if database is not None and features.descriptors.shape[1] != database.descriptors.shape[1]:
        raise LowqError(
            f"{what}: dimension {features.descriptors.shape[1]}, but the database has "
            f"{database.descriptors.shape[1]}; extract both in one way"
        )
    return features


def _whole(values: Any) -> Any:
    """All rows of an array or of several parts on disk."""
    return values[: values.shape[0]]
