"""What heals or searches descriptors: how a method ranks a database for its queries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.extraction.config import EmbedConfig
from lowq_core.images import Picture
from lowq_core.methods.geometry import Geometry
from lowq_core.methods.local import LocalPipeline
from lowq_core.methods.parts import Method
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.augmentation import DatabaseAugmentation
from lowq_core.retrieval.base import Ranking, Retriever, Started
from lowq_core.retrieval.catalogue import QUERY_OPTIONS, RETRIEVERS, retriever
from lowq_core.retrieval.exact import ExactSearch
from lowq_core.retrieval.gss.retriever import GSS
from lowq_core.retrieval.knn import nearest_neighbours
from lowq_core.retrieval.unit import UnitSearch
from lowq_core.retrieval.verification.reorder import rerank_by_inliers
from lowq_core.retrieval.verification.verified import verified_neighbours

Descriptors = NDArray[np.float32]
Rank = Callable[[Descriptors, Sequence[Picture]], Ranking]
"""((Q, D) descriptors, the queries' pictures) -> the whole database, ranked."""
SAVED = "retriever"


@dataclass(frozen=True)
class Searches:
    """Fits the searches of a profile.

    Attributes:
        options: by the name of a search: what differs from the papers'.
        store: where fitted searches are kept.
        local: makes the local features that verification needs.
        embed: of the descriptors; its network and size serve activation regions too.
    """

    options: dict[str, dict[str, Any]]
    store: Store
    local: LocalPipeline
    embed: EmbedConfig

    def fitted(self, method: Method, database: Descriptors, pictures: Sequence[Picture]) -> Rank:
        """How `method` ranks `database`, (N, D) descriptors of `pictures`.

        Raises:
            LowqError: a search that the database is too small for, an option that it does not have.
        """
        if method.augmented:
            database = DatabaseAugmentation(**self._options_of("dba")).transform(database)
        if method.search in ("gss_v", "gss_v-sv"):
            return self._verified_graph(method, database, pictures)
        search = None
        if method.search is not None:
            search = self._kept(method.search, self._options_of(method.search, method), database)
        if method.verified is not None:
            return self._verified(method, search, database, pictures)
        plain: Retriever = search or ExactSearch().fit(database)  # which is nothing worth keeping
        return lambda queries, _: plain.rank(queries)

    @property
    def _geometry(self) -> Geometry:
        return Geometry(self.store, self.local, self.embed)

    def _options_of(self, part: str | None, method: Method | None = None) -> dict[str, Any]:
        own = dict(method.options) if method is not None else {}
        return dict(self.options.get(part or "", {})) | own

    def _kept(self, name: str, options: dict[str, Any], database: Descriptors) -> Retriever:
        of_queries = {key: options[key] for key in QUERY_OPTIONS if key in options}
        fitted = {key: value for key, value in options.items() if key not in of_queries}
        if name == "gss-untrained":
            name, fitted = "gss", fitted | {"epochs": 0}
        kind = RETRIEVERS[name]
        folder = self.store.get(
            "search",
            config={"name": name, "options": fitted},
            inputs={"database": hashlib.sha256(np.ascontiguousarray(database).tobytes()).hexdigest()},
            code=[kind.__module__],
            make=lambda out: retriever(name, **fitted).fit(database).save(out / SAVED),
        )
        search = kind.load(folder / SAVED)
        for key, value in of_queries.items():
            setattr(search, key, value)
        return search

    def _verified(
        self, method: Method, search: Retriever | None, database: Descriptors, pictures: Sequence[Picture]
    ) -> Rank:
        """A plain ranking whose first geometry re-orders, or a search that starts from those first ones."""
        name = str(method.verified)
        options = self._options_of(name, method if method.search is None else None)
        top = _at_most(options["candidates"], len(database), method)
        if search is not None:
            return self._from_verified(cast(Started, search), name, database, pictures, top)
        plain = UnitSearch().fit(database)

        def rank(queries: Descriptors, shown: Sequence[Picture]) -> Ranking:
            found = plain.rank(queries)
            return rerank_by_inliers(
                found, self._geometry.inliers(name, pictures, found.ids[:, :top], shown), top=top
            )

        return rank

    def _from_verified(
        self, search: Started, name: str, database: Descriptors, pictures: Sequence[Picture], top: int
    ) -> Rank:
        """`search` started from those of the `top` nearest that agree most."""
        plain = UnitSearch().fit(database)

        def rank(queries: Descriptors, shown: Sequence[Picture]) -> Ranking:
            near = plain.rank(queries, top).ids
            first = verified_neighbours(near, self._geometry.inliers(name, pictures, near, shown), top).ids
            return search.rank(queries, neighbours=first)

        return rank

    def _verified_graph(self, method: Method, database: Descriptors, pictures: Sequence[Picture]) -> Rank:
        """GSS on a graph that geometry has checked; for gss_v-sv the query's edges, too."""
        options = self._options_of(method.search, method)
        top = int(options.pop("candidates"))
        near = nearest_neighbours(database, _at_most(top, len(database) - 1, method)).ids
        count = self._geometry.inliers("sv", pictures, near)
        graph = verified_neighbours(near, count, options["k"], own=True).ids
        gss = GSS(**options).fit(database, neighbours=graph)
        if method.search == "gss_v":
            return lambda queries, _: gss.rank(queries)
        return self._from_verified(gss, "sv", database, pictures, min(top, len(database)))


def _at_most(candidates: int, others: int, method: Method) -> int:
    if others < 1:
        raise LowqError(f"{method.name}: needs a database of two pictures or more")
    return min(int(candidates), others)
