"""What heals or searches descriptors: how a method ranks a database for its queries."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.extraction.config import EmbedConfig
from lowq_core.images import Picture
from lowq_core.methods.digests import array_digest
from lowq_core.methods.geometry import Geometry
from lowq_core.methods.kept import undamaged
from lowq_core.methods.local import LocalPipeline
from lowq_core.methods.parts import BEGUN, Method
from lowq_core.methods.report import Skip
from lowq_core.methods.say import Say, telling
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.augmentation import DatabaseAugmentation
from lowq_core.retrieval.base import Ranking, Retriever, Started
from lowq_core.retrieval.catalogue import QUERY_OPTIONS, RETRIEVERS, retriever
from lowq_core.retrieval.exact import ExactSearch
from lowq_core.retrieval.gss.retriever import GSS
from lowq_core.retrieval.knn import nearest_neighbours, without_own
from lowq_core.retrieval.unit import UnitSearch
from lowq_core.retrieval.verification.reorder import rerank_by_inliers
from lowq_core.retrieval.verification.verified import verified_neighbours

Descriptors = NDArray[np.float32]
Own = NDArray[np.int64] | None
SAVED = "retriever"


class Rank(Protocol):
    """How queries rank a database."""

    def __call__(
        self, queries: Descriptors, shown: Sequence[Picture], own: Own = None, skip: Skip | None = None
    ) -> Ranking:
        """(Q, D) descriptors, and the pictures `shown` that they describe -> the whole database, ranked.

        Args:
            own: see `own_pictures`; no query begins with it.
            skip: what geometry does not look at, where it re-orders.
        """


@dataclass(frozen=True)
class Searches:
    """Fits the searches of a profile.

    Where a benchmark leaves one out, the query's own picture is in the database, and nearest to it: it would expand
    the query by itself, and start diffusion from the answer. So a query begins with its nearest *others*. Expansion
    (AQE, alpha-QE, DQE, HQE) and re-ordering then do what they would do on a database without the picture.

    What remains: whatever is prepared before the query comes is prepared of all pictures. The own one is a node of
    the graphs (DFS, FSR, GSS and their kin), joined to its neighbours, not to its query; DBA averages its neighbours
    with it, and IME learns from it. So it may still join pictures of its landmark to one another, which favours these
    searches on benchmarks that leave one out; on others it changes nothing. To take it away would be a fit for each
    query: thousands where now there is one.

    Attributes:
        options: by the name of a search: what differs from the papers'.
        store: where fitted searches are kept.
        local: makes the local features that verification needs.
        embed: of the descriptors; its network and size serve activation regions too.
        say: told what takes long.
    """

    options: dict[str, dict[str, Any]]
    store: Store
    local: LocalPipeline
    embed: EmbedConfig
    say: Say

    def fitted(self, method: Method, database: Descriptors, pictures: Sequence[Picture]) -> Rank:
        """How `method` ranks `database`, (N, D) descriptors of `pictures`.

        Raises:
            LowqError: a search that the database is too small for, an option that it does not have.
        """
        if method.augmented:
            augmentation = self._options_of("dba") | dict(method.augmentation)
            database = DatabaseAugmentation(**augmentation).transform(database)
        if method.search in ("gss_v", "gss_v-sv"):
            return self._verified_graph(method, database, pictures)
        search = None
        if method.search is not None:
            search = self._kept(method, method.search, self._options_of(method.search, method), database)
        if method.verified is not None:
            return self._verified(method, search, database, pictures)
        return self._begun(method, search or ExactSearch().fit(database), database)

    @property
    def _geometry(self) -> Geometry:
        return Geometry(self.store, self.local, self.embed)

    def _options_of(self, part: str | None, method: Method | None = None) -> dict[str, Any]:
        own = dict(method.options) if method is not None else {}
        return dict(self.options.get(part or "", {})) | own

    def _begun(self, method: Method, search: Retriever, database: Descriptors) -> Rank:
        """`search` of all, or of queries that begin with their nearest others."""

        @cache  # of all noises, and only where a query has its own picture in the database
        def plain() -> UnitSearch:
            return UnitSearch().fit(database)

        def rank(
            queries: Descriptors, shown: Sequence[Picture], own: Own = None, skip: Skip | None = None
        ) -> Ranking:
            if own is None or method.search not in BEGUN:
                return search.rank(queries)
            others = without_own(plain().rank(queries).ids, own)
            return cast(Started, search).rank(queries, neighbours=others)

        return rank

    def _kept(
        self,
        method: Method,
        name: str,
        options: dict[str, Any],
        database: Descriptors,
        graph: NDArray[np.int64] | None = None,
    ) -> Retriever:
        """The search `name`, fitted once; GSS on the lists of `graph` where it is given."""
        of_queries = {key: options[key] for key in QUERY_OPTIONS if key in options}
        fitted = {key: value for key, value in options.items() if key not in of_queries}
        if name == "gss-untrained":
            name, fitted = "gss", fitted | {"epochs": 0}
        kind = RETRIEVERS[name]

        def make(out: Path) -> None:
            search = retriever(name, **fitted)
            trained = isinstance(search, GSS) and search.schedule.epochs > 0
            words = f"{method.name}: training on {len(database)} descriptors"
            with telling(self.say, words) if trained else nullcontext():
                if isinstance(search, GSS):
                    search.fit(database, neighbours=graph)
                else:
                    search.fit(database)
                search.save(out / SAVED)

        inputs = {"database": array_digest(database)}
        folder = self.store.get(
            "search",
            config={"name": name, "options": fitted},
            inputs=inputs if graph is None else inputs | {"graph": array_digest(graph)},
            code=[kind.__module__],
            make=make,
        )
        search = undamaged(folder, lambda: kind.load(folder / SAVED))
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

        def rank(
            queries: Descriptors, shown: Sequence[Picture], own: Own = None, skip: Skip | None = None
        ) -> Ranking:
            count = self._geometry.inliers(name, pictures, shown)
            return rerank_by_inliers(plain.rank(queries), count, top=top, skip=skip)

        return rank

    def _from_verified(
        self, search: Started, name: str, database: Descriptors, pictures: Sequence[Picture], top: int
    ) -> Rank:
        """`search` started from those of the `top` nearest that agree most."""
        plain = UnitSearch().fit(database)

        def rank(
            queries: Descriptors, shown: Sequence[Picture], own: Own = None, skip: Skip | None = None
        ) -> Ranking:
            if own is None:
                near = plain.rank(queries, top).ids
            else:
                near = without_own(plain.rank(queries).ids, own)[:, : min(top, len(database) - 1)]
            count = self._geometry.inliers(name, pictures, shown)
            first = verified_neighbours(near, count, near.shape[1]).ids
            return search.rank(queries, neighbours=first)

        return rank

    def _verified_graph(self, method: Method, database: Descriptors, pictures: Sequence[Picture]) -> Rank:
        """GSS on a graph that geometry has checked; for gss_v-sv the query's edges, too."""
        options = self._options_of(method.search, method)
        top = int(options.pop("candidates"))
        near = nearest_neighbours(database, _at_most(top, len(database) - 1, method)).ids
        graph = verified_neighbours(near, self._geometry.inliers("sv", pictures), options["k"], own=True).ids
        gss = self._kept(method, "gss", options, database, graph)
        if method.search == "gss_v":
            return self._begun(method, gss, database)
        return self._from_verified(cast(Started, gss), "sv", database, pictures, min(top, len(database)))


def _at_most(candidates: int, others: int, method: Method) -> int:
    if others < 1:
        raise LowqError(f"{method.name}: needs a database of two pictures or more")
    return min(int(candidates), others)
