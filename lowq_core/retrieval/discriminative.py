"""Query expansion by a classifier: what was found first against what was found last."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowq_core.errors import LowqError
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.graph import check_lists
from lowq_core.retrieval.saved import read_saved, write_saved
from lowq_core.retrieval.unit import UnitSearch, as_unit_descriptors, normalised

_TOLERANCE = 1e-8  # of the classifier's optimality conditions


class DiscriminativeQE:
    """Discriminative query expansion (Arandjelovic & Zisserman, CVPR 2012, section 4), on global descriptors.

    A linear SVM learns to tell the query and its n nearest pictures from the last `negatives` of the plain search;
    the database is then ranked by w.x, the signed distance from the plane but for a constant. w is L2-normalised, so
    scores lie between -1 and 1. A zero query, and one whose positives and negatives cannot be told apart at all
    (w = 0), is searched as it is.

    Reconstruction: the paper has visual words, positives that geometry has verified, and 200 negatives of the lowest
    tf-idf score. Here positives are the n nearest, and n and C (libsvm's default) are ours.

    Args:
        n: positives besides the query.
        negatives: at most so many; fewer if the database has not that many besides the n.
        C: how much an error costs.

    >>> search = DiscriminativeQE(n=1, negatives=1).fit([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, -1.0]])
    >>> search.rank([[0.8, 0.6]]).ids.tolist()
    [[1, 2, 0, 3]]
    """

    def __init__(self, *, n: int = 10, negatives: int = 200, C: float = 1.0) -> None:
        for name, value in (("n", n), ("negatives", negatives)):
            if value < 1:
                raise LowqError(f"{name}={value}: has to be at least 1")
        if not (C > 0 and math.isfinite(C)):
            raise LowqError(f"C={C}: has to be a number above 0; 1 is usual")
        self.n = n
        self.negatives = negatives
        self.C = C
        self._search = UnitSearch()
        self._readable: NDArray[np.bool_] = np.empty(0, bool)

    def fit(self, database: ArrayLike) -> Self:
        """Take (N, D) L2-normalised descriptors; zero rows are found last, and are no examples.

        Raises:
            LowqError: not (N, D), empty, not finite, not normalised, or no picture left for a negative.
        """
        search = UnitSearch().fit(database)
        readable = np.asarray(search.database.any(axis=1))
        if self.n >= readable.sum():
            raise LowqError(
                f"n={self.n}: the database has {readable.sum()} pictures, so no negative is left; "
                f"choose a smaller n"
            )
        self._search, self._readable = search, readable
        return self

    def planes(self, queries: ArrayLike, *, neighbours: ArrayLike | None = None) -> NDArray[np.float32]:
        """(Q, D) normals w of the queries' planes, L2-normalised.

        Args:
            neighbours: (Q, K) int, ranked pictures of the database, -1 for none, that examples are taken from instead
                of the whole plain ranking: the first `n` are positives, the last of the others negatives.

        Raises:
            LowqError: not fitted, queries of another dimension, not finite or not normalised, lists that do not fit
                or leave no negative.
        """
        database = self._fitted().database
        asked = as_unit_descriptors(queries, "queries", dim=database.shape[1])
        if neighbours is None:
            return np.stack([self._plane(query, None) for query in asked])
        lists = check_lists(neighbours, "neighbours", rows=len(asked), size=len(database))
        return np.stack([self._plane(query, row) for query, row in zip(asked, lists, strict=True)])

    def rank(
        self, queries: ArrayLike, k: int | None = None, *, neighbours: ArrayLike | None = None
    ) -> Ranking:
        """The k best for each of (Q, D) queries, all N where k is None; equal scores by index.

        Args:
            neighbours: as in `planes`.

        Raises:
            LowqError: as for `planes`, or k outside 1..N.
        """
        return self._fitted().rank(self.planes(queries, neighbours=neighbours), k)

    def save(self, path: Path) -> None:
        """Write the database and options into the folder `path`."""
        options: dict[str, Any] = {"n": self.n, "negatives": self.negatives, "C": self.C}
        write_saved(path, "DiscriminativeQE", options, {"database": self._fitted().database})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; the database stays on disk, memory-mapped.

        Raises:
            LowqError: nothing saved there, something else, or a part that does not match its digest.
        """
        options, arrays = read_saved(path, "DiscriminativeQE")
        return cls(**options).fit(arrays["database"])

    def _plane(self, query: NDArray[np.float32], given: NDArray[np.int64] | None) -> NDArray[np.float32]:
        # Its import draws random numbers, which importing a module of ours must not.
        from sklearn.svm import SVC

        if not query.any():
            return query
        search = self._search
        if given is None:
            order = search.rank(query[None], int(self._readable.sum())).ids[0]
        else:
            order = given[given >= 0]
            order = order[self._readable[order]]
            if len(order) <= self.n:
                raise LowqError(
                    f"neighbours: a list of {len(order)} pictures leaves no negative besides n={self.n}; give more"
                )
        last = order[self.n :][-self.negatives :]
        examples = np.concatenate([query[None], search.database[order[: self.n]], search.database[last]])
        labels = np.repeat([1, -1], [1 + self.n, len(last)])
        machine = SVC(kernel="linear", C=self.C, tol=_TOLERANCE).fit(examples.astype(np.float64), labels)
        plane = normalised(machine.coef_)[0]
        return plane if plane.any() else query

    def _fitted(self) -> UnitSearch:
        if self._search.database.size == 0:
            raise LowqError("DiscriminativeQE: has no database; call fit first")
        return self._search
