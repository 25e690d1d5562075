"""What heals or searches descriptors: how a method ranks a database for its queries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.extraction.activation_regions import ActivationRegions
from lowq_core.extraction.config import EmbedConfig
from lowq_core.extraction.hessian_affine import HessianAffine
from lowq_core.extraction.local_features import LocalFeatures
from lowq_core.extraction.local_job import Extractor, extract_with
from lowq_core.images import Picture
from lowq_core.methods.digests import pictures_digest
from lowq_core.methods.local import LocalPipeline
from lowq_core.methods.parts import LocalMethod, Method
from lowq_core.methods.say import shows_progress
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.augmentation import DatabaseAugmentation
from lowq_core.retrieval.base import Ranking, Retriever, Started
from lowq_core.retrieval.catalogue import QUERY_OPTIONS, RETRIEVERS, retriever
from lowq_core.retrieval.exact import ExactSearch
from lowq_core.retrieval.gss.retriever import GSS
from lowq_core.retrieval.knn import nearest_neighbours
from lowq_core.retrieval.unit import UnitSearch
from lowq_core.retrieval.verification.dsm import DeepSpatialMatching
from lowq_core.retrieval.verification.rerank import Verification
from lowq_core.retrieval.verification.verifier import Verifier

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
        options = self._options_of(method.verified, method if method.search is None else None)
        top = _at_most(options["candidates"], len(database), method)
        verifier = _verifier(method.verified).fit(self._features(method.verified, pictures, query=False))
        if search is not None:
            return self._from_verified(cast(Started, search), method.verified, verifier, database, top)
        plain = UnitSearch().fit(database)
        return lambda queries, shown: verifier.rerank(
            plain.rank(queries), self._features(method.verified, shown, query=True), top
        )

    def _from_verified(
        self, search: Started, name: str | None, verifier: Verifier[Any], database: Descriptors, top: int
    ) -> Rank:
        """`search` started from those of the `top` nearest that agree most."""
        plain = UnitSearch().fit(database)

        def rank(queries: Descriptors, shown: Sequence[Picture]) -> Ranking:
            local = self._features(name, shown, query=True)
            first = verifier.neighbours(plain.rank(queries, top).ids, top, local).ids
            return search.rank(queries, neighbours=first)

        return rank

    def _verified_graph(self, method: Method, database: Descriptors, pictures: Sequence[Picture]) -> Rank:
        """GSS on a graph that geometry has checked; for gss_v-sv the query's edges, too."""
        options = self._options_of(method.search, method)
        top = int(options.pop("candidates"))
        verifier = _verifier("sv").fit(self._features("sv", pictures, query=False))
        near = nearest_neighbours(database, _at_most(top, len(database) - 1, method)).ids
        gss = GSS(**options).fit(database, neighbours=verifier.neighbours(near, options["k"]).ids)
        if method.search == "gss_v":
            return lambda queries, _: gss.rank(queries)
        return self._from_verified(gss, "sv", verifier, database, min(top, len(database)))

    def _features(self, verifier: str | None, pictures: Sequence[Picture], *, query: bool) -> LocalFeatures:
        """What geometry compares: activation regions, Hessian-affine features, or HOW's."""
        embed = self.embed
        extractor: Extractor
        if verifier == "dsm":
            extractor = ActivationRegions(embed.backbone, embed.weights, embed.size, query=query)
        elif verifier == "hesaff":
            extractor = HessianAffine(embed.size)
        else:
            return self.local.features(LocalMethod(), pictures, strict=query or self.local.strict)
        folder = self.store.get(
            "regions",
            config=dict(extractor.described),
            inputs={"pictures": pictures_digest(pictures)},
            code=[type(extractor).__module__, "lowq_core.extraction.local_job"],
            make=lambda out: extract_with(
                extractor,
                pictures,
                out,
                strict=query or self.local.strict,
                progress=shows_progress(self.local.say, len(pictures)),
            ),
            resume=True,
        )
        return LocalFeatures.open(folder)


def _verifier(name: str | None) -> Verifier[Any]:
    if name == "dsm":
        return DeepSpatialMatching()
    return Verification(threshold=5.0, ratio=0.85) if name == "hesaff" else Verification()


def _at_most(candidates: int, others: int, method: Method) -> int:
    if others < 1:
        raise LowqError(f"{method.name}: needs a database of two pictures or more")
    return min(int(candidates), others)
