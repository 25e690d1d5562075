"""Database-side augmentation: each picture of the database moves towards its neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from lowq_core.errors import LowqError
from lowq_core.retrieval.base import Ranking, Retriever
from lowq_core.retrieval.expansion import check_expansion, similarity_weights
from lowq_core.retrieval.knn import Search, check_search, nearest_neighbours
from lowq_core.retrieval.saved import read_saved, write_saved
from lowq_core.retrieval.unit import UnitSearch, as_unit_descriptors, normalised

_AT_ONCE = 1 << 22  # numbers, when rows are combined


class DatabaseAugmentation:
    """Augmented descriptors of the database (DBA, Turcot & Lowe 2009; alpha-DBA, Gordo et al. 2017), and a search.

    x' = l2n(x + sum over its n nearest others x_i of max(x.x_i, 0)^alpha x_i): the picture itself has weight 1 and
    is none of its neighbours. alpha = 0 is plain DBA. A zero row stays zero. Queries are not augmented; give
    `then=AlphaQE()` to expand them over the augmented database, or any other retriever, such as GSS.

    Args:
        n: how many of the nearest are added; 0 changes nothing.
        alpha: exponent of their similarity, at least 0.
        then: what ranks the augmented descriptors; plain exact search if None.
        search: how neighbours are found, see `nearest_neighbours`.

    >>> augmentation = DatabaseAugmentation(n=1, alpha=0.0)
    >>> augmentation.transform([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0]])[0].astype(float).round(3).tolist()
    [0.949, 0.316]
    """

    def __init__(
        self, *, n: int = 10, alpha: float = 3.0, then: Retriever | None = None, search: Search = "exact"
    ) -> None:
        check_expansion(n, alpha)
        check_search(search)
        self.n = n
        self.alpha = alpha
        self.then = then
        self.search = search
        self._plain = UnitSearch()

    def transform(self, database: ArrayLike) -> NDArray[np.float32]:
        """(N, D) augmented descriptors of (N, D) L2-normalised ones.

        Raises:
            LowqError: not (N, D), empty, not finite, not normalised, or n at least N.
        """
        rows = as_unit_descriptors(database, "database")
        size, dim = rows.shape
        if self.n >= size:
            raise LowqError(
                f"n={self.n}: each of {size} pictures has {size - 1} others; choose at most {size - 1}"
            )
        if self.n == 0:
            return rows
        near = nearest_neighbours(rows, self.n, search=self.search)
        weights = similarity_weights(near.similarities.astype(np.float64), self.alpha)
        weights[~rows.any(axis=1)] = 0  # an unreadable picture has no neighbours
        starts = np.arange(0, size * self.n + 1, self.n)
        mix = sparse.csr_array(
            (weights.ravel().astype(np.float32), near.ids.ravel(), starts), shape=(size, size)
        )
        augmented = np.empty_like(rows)
        step = max(1, _AT_ONCE // dim)
        for start in range(0, size, step):
            part = slice(start, start + step)
            augmented[part] = normalised(rows[part] + mix[part] @ rows)
        return augmented

    def fit(self, database: ArrayLike) -> Self:
        """Augment (N, D) L2-normalised descriptors and take them.

        Raises:
            LowqError: as for `transform`, and what `then` refuses.
        """
        (self._plain if self.then is None else self.then).fit(self.transform(database))
        return self

    def rank(self, queries: ArrayLike, k: int | None = None) -> Ranking:
        """The k best for each of (Q, D) L2-normalised queries, all N where k is None.

        Raises:
            LowqError: not fitted, queries of another dimension, not finite or not normalised, k outside 1..N.
        """
        if self.then is not None:
            return self.then.rank(queries, k)
        database = self._fitted().database
        return self._plain.rank(as_unit_descriptors(queries, "queries", dim=database.shape[1]), k)

    def save(self, path: Path) -> None:
        """Write the augmented database and options into the folder `path`; `then` into its folder "then"."""
        options = {"n": self.n, "alpha": self.alpha, "search": self.search}
        if self.then is None:
            write_saved(path, "DatabaseAugmentation", options, {"database": self._fitted().database})
        else:
            self.then.save(Path(path) / "then")
            write_saved(path, "DatabaseAugmentation", options, {})

    @classmethod
    def load(cls, path: Path, then: type[Retriever] | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            then: the class of the retriever that was given as `then`, if one was.

        Raises:
            LowqError: nothing saved there, something else, a part that does not match its digest, or another `then`.
        """
        options, arrays = read_saved(path, "DatabaseAugmentation")
        if (then is None) != ("database" in arrays):
            mend = "load it without then" if then is not None else "load it with then, that retriever's class"
            raise LowqError(f"{path}: was saved {'without' if then is not None else 'with'} then; {mend}")
        if then is not None:
            return cls(**options, then=then.load(Path(path) / "then"))
        self = cls(**options)
        self._plain.fit(arrays["database"])
        return self

    def _fitted(self) -> UnitSearch:
        if self._plain.database.size == 0:
            raise LowqError("DatabaseAugmentation: has no database; call fit first")
        return self._plain
