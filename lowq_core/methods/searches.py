"""What heals or searches descriptors: how a method ranks a database for its queries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.extraction.local_features import LocalFeatures
from lowq_core.images import Picture
from lowq_core.methods.local import LocalPipeline
from lowq_core.methods.parts import VERIFIED, LocalMethod, Method
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.augmentation import DatabaseAugmentation
from lowq_core.retrieval.base import Ranking, Retriever
from lowq_core.retrieval.catalogue import RETRIEVERS, retriever
from lowq_core.retrieval.gss.retriever import GSS
from lowq_core.retrieval.knn import nearest_neighbours, neighbours_of
from lowq_core.retrieval.unit import UnitSearch
from lowq_core.retrieval.verification.rerank import Verification

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
    """

    options: dict[str, dict[str, Any]]
    store: Store
    local: LocalPipeline

    def fitted(self, method: Method, database: Descriptors, pictures: Sequence[Picture]) -> Rank:
        """How `method` ranks `database`, (N, D) descriptors of `pictures`.

        Raises:
            LowqError: a search that the database is too small for, an option that it does not have.
        """
        if method.augmented:
            database = DatabaseAugmentation(**self._options_of("dba")).transform(database)
        if method.search in VERIFIED:
            return self._verified(method, database, pictures)
        search = self._kept(method.search or "exact", self._options_of(method.search, method), database)
        return lambda queries, _: search.rank(queries)

    def _options_of(self, search: str | None, method: Method | None = None) -> dict[str, Any]:
        own = dict(method.options) if method is not None else {}
        return dict(self.options.get(search or "exact", {})) | own

    def _kept(self, name: str, options: dict[str, Any], database: Descriptors) -> Retriever:
        untrained = {"epochs": 0} if name == "gss-untrained" else {}
        name = "gss" if untrained else name
        kind = RETRIEVERS[name]
        folder = self.store.get(
            "search",
            config={"name": name, "options": options | untrained},
            inputs={"database": hashlib.sha256(np.ascontiguousarray(database).tobytes()).hexdigest()},
            code=[kind.__module__],
            make=lambda out: retriever(name, **options | untrained).fit(database).save(out / SAVED),
        )
        return kind.load(folder / SAVED)

    def _verified(self, method: Method, database: Descriptors, pictures: Sequence[Picture]) -> Rank:
        """GSS on a graph that geometry has checked, or a plain ranking whose first it re-orders."""
        options = self._options_of(method.search, method)
        top = int(options.pop("candidates"))
        how = LocalMethod()
        verification = Verification().fit(self.local.features(how, pictures))

        def local(queries: Sequence[Picture]) -> LocalFeatures:
            return self.local.features(how, queries, strict=True)

        if method.search == "sv":
            plain = UnitSearch().fit(database)
            return lambda queries, shown: verification.rerank(plain.rank(queries), local(shown), top)
        near = nearest_neighbours(database, _at_most(top, len(database) - 1, method)).ids
        graph = verification.neighbours(near, options["k"]).ids
        gss = GSS(**options).fit(database, neighbours=graph)
        if method.search == "gss_v":
            return lambda queries, _: gss.rank(queries)

        def rank(queries: Descriptors, shown: Sequence[Picture]) -> Ranking:
            found = neighbours_of(queries, database, min(top, len(database))).ids
            lists = verification.neighbours(found, gss.query_k, local(shown)).ids
            return gss.rank(queries, neighbours=lists)

        return rank


def _at_most(candidates: int, others: int, method: Method) -> int:
    if others < 1:
        raise LowqError(f"{method.name}: needs a database of two pictures or more")
    return min(candidates, others)
