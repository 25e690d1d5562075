"""What geometry says of pictures: local features and counts of inliers, each kept in the store.

Many searches ask about the same pairs (`gem+sv`, `gem+sv+aqe`, `gem+gss_v-sv`): whoever is first counts for all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowq_core.extraction.activation_regions import ActivationRegions
from lowq_core.extraction.config import EmbedConfig
from lowq_core.extraction.hessian_affine import HessianAffine
from lowq_core.extraction.local_features import LocalFeatures
from lowq_core.extraction.local_job import Extractor, extract_with
from lowq_core.files import write_array
from lowq_core.images import Picture
from lowq_core.methods.digests import array_digest, pictures_digest
from lowq_core.methods.kept import undamaged
from lowq_core.methods.local import LocalPipeline
from lowq_core.methods.parts import LocalMethod
from lowq_core.methods.say import shows_progress
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.verification.dsm import DeepSpatialMatching
from lowq_core.retrieval.verification.pairs import Count
from lowq_core.retrieval.verification.rerank import Verification
from lowq_core.retrieval.verification.verifier import Verifier

VERIFIERS: dict[str, tuple[type[Verifier[Any]], dict[str, Any]]] = {
    "sv": (Verification, {}),
    "hesaff": (Verification, {"threshold": 5.0, "ratio": 0.85}),
    "dsm": (DeepSpatialMatching, {}),
}
"""By the name in a method: what counts, and its options."""
COUNTED = "inliers.npy"


@dataclass(frozen=True)
class Geometry:
    """Compares the pictures of a database with queries, and with one another.

    Attributes:
        store: where features and counts are kept.
        local: makes HOW's features, for `sv`.
        embed: its size is that of hand-made features, its network and size those of activation regions.
    """

    store: Store
    local: LocalPipeline
    embed: EmbedConfig

    def inliers(
        self, name: str, pictures: Sequence[Picture], queries: Sequence[Picture] | None = None
    ) -> Count:
        """What counts pairs of one of `queries`, or of `pictures` without them, and one of `pictures`.

        Args:
            name: a key of `VERIFIERS`.

        Raises:
            LowqError: a query that cannot be read.
        """
        database = self._features(name, pictures, query=False)
        asked = None if queries is None else self._features(name, queries, query=True)
        kind, options = VERIFIERS[name]

        def count(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
            folder = self.store.get(
                "inliers",
                config={"verifier": kind.__name__, "options": options},
                inputs={
                    "pairs": array_digest(pairs),
                    "database": _digest(database),
                    "queries": "" if asked is None else _digest(asked),
                },
                code=[kind.__module__],
                make=lambda out: write_array(
                    out / COUNTED, kind(**options).fit(database).counter(asked)(pairs)
                ),
            )
            return np.asarray(undamaged(folder, lambda: np.load(folder / COUNTED)))

        return count

    def _features(self, name: str, pictures: Sequence[Picture], *, query: bool) -> LocalFeatures:
        """What geometry compares: activation regions, Hessian-affine features, or HOW's."""
        embed, strict = self.embed, query or self.local.strict
        extractor: Extractor
        if name == "dsm":
            extractor = ActivationRegions(embed.backbone, embed.weights, embed.size, query=query)
        elif name == "hesaff":
            extractor = HessianAffine(embed.size)
        else:
            return self.local.features(LocalMethod(), pictures, strict=strict)
        folder = self.store.get(
            "regions",
            config=dict(extractor.described),
            inputs={"pictures": pictures_digest(pictures)},
            code=[type(extractor).__module__, "lowq_core.extraction.local_job"],
            make=lambda out: extract_with(
                extractor,
                pictures,
                out,
                strict=strict,
                progress=shows_progress(self.local.say, len(pictures)),
            ),
            resume=True,
        )
        return undamaged(folder, lambda: LocalFeatures.open(folder))


def _digest(features: LocalFeatures) -> str:
    """Of features on disk, whose manifest has the digest of each part."""
    return hashlib.sha256(json.dumps(features.manifest, sort_keys=True).encode()).hexdigest()
