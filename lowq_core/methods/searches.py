"""What heals or searches descriptors: how a method ranks a database for its queries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
from lowq_core.methods.parts import VERIFIED, LocalMethod, Method
from lowq_core.methods.say import shows_progress
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.augmentation import DatabaseAugmentation
from lowq_core.retrieval.base import Ranking, Retriever
from lowq_core.retrieval.catalogue import RETRIEVERS, retriever
from lowq_core.retrieval.exact import ExactSearch
from lowq_core.retrieval.gss.retriever import GSS
from lowq_core.retrieval.knn import nearest_neighbours, neighbours_of
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
        if method.search in VERIFIED:
            return self._verified(method, database, pictures)
        if method.search is None:  # nothing is prepared, so nothing is worth keeping
            search: Retriever = ExactSearch().fit(database)
        else:
            search = self._kept(method.search, self._options_of(method.search, method), database)
        return lambda queries, _: search.rank(queries)

    def _options_of(self, search: str | None, method: Method | None = None) -> dict[str, Any]:
        own = dict(method.options) if method is not None else {}
        return dict(self.options.get(search or "", {})) | own

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
        verifier = _verifier(method.search).fit(self._features(method.search, pictures, query=False))

        def local(queries: Sequence[Picture]) -> LocalFeatures:
            return self._features(method.search, queries, query=True)

        if method.search not in ("gss_v", "gss_v-sv"):
            plain = UnitSearch().fit(database)
            return lambda queries, shown: verifier.rerank(plain.rank(queries), local(shown), top)
        near = nearest_neighbours(database, _at_most(top, len(database) - 1, method)).ids
        gss = GSS(**options).fit(database, neighbours=verifier.neighbours(near, options["k"]).ids)
        if method.search == "gss_v":
            return lambda queries, _: gss.rank(queries)

        def rank(queries: Descriptors, shown: Sequence[Picture]) -> Ranking:
            found = neighbours_of(queries, database, min(top, len(database))).ids
            return gss.rank(queries, neighbours=verifier.neighbours(found, gss.query_k, local(shown)).ids)

        return rank

    def _features(self, search: str | None, pictures: Sequence[Picture], *, query: bool) -> LocalFeatures:
        """What geometry compares: activation regions, Hessian-affine features, or HOW's."""
        embed = self.embed
        extractor: Extractor
        if search == "dsm":
            extractor = ActivationRegions(embed.backbone, embed.weights, embed.size, query=query)
        elif search == "hesaff":
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


def _verifier(search: str | None) -> Verifier[Any]:
    if search == "dsm":
        return DeepSpatialMatching()
    return Verification(threshold=5.0, ratio=0.85) if search == "hesaff" else Verification()


def _at_most(candidates: int, others: int, method: Method) -> int:
    if others < 1:
        raise LowqError(f"{method.name}: needs a database of two pictures or more")
    return min(candidates, others)
