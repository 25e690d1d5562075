"""Whitenings of a profile's training pictures: fitted once for each kind and embedding, and then kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lowq_core.extraction.config import EmbedConfig
from lowq_core.images import Picture
from lowq_core.methods.data import TrainingPairs, training_pairs
from lowq_core.methods.described import Descriptors
from lowq_core.methods.digests import array_digest, file_digest, pictures_digest
from lowq_core.methods.kept import undamaged
from lowq_core.methods.say import Say, telling
from lowq_core.models.whitening import Whitening, fit_lw, fit_pca_whitening
from lowq_core.reproduce.profiles import Profile
from lowq_core.reproduce.store import Store

FILE = "whitening.safetensors"


@dataclass(frozen=True)
class Whitenings:
    """Fits the whitenings of a profile.

    Attributes:
        profile: its training pictures and shrinkage.
        store: where they are kept.
        say: told what takes long.
    """

    profile: Profile
    store: Store
    say: Say

    def fitted(
        self, kind: str, config: EmbedConfig, head: str, describe: Callable[[Sequence[Picture]], Descriptors]
    ) -> Whitening:
        """The whitening `kind` of the descriptors that `describe` makes by the `head` of `config`."""
        pairs = training_pairs(self.profile)

        def fit(out: Path) -> None:
            sets = ", ".join(self.profile.train)
            with telling(self.say, f"fitting {kind} on {len(pairs.pictures)} pictures of {sets}", "fitted"):
                found = describe(pairs.pictures)
                fit_whitening(kind, found, pairs, self.profile.shrinkage).save(out / FILE)

        folder = self.store.get(
            "whitening",
            config={
                "kind": kind,
                "head": head,
                "embed": asdict(config)
                | {"weights": file_digest(Path(config.weights)) if config.weights else None},
                "shrinkage": self.profile.shrinkage,
                "pairs": [array_digest(pairs.queries), array_digest(pairs.positives)],
            },
            inputs={"pictures": pictures_digest(pairs.pictures)},
            code=["lowq_core.models.whitening", "lowq_core.extraction.extract"],
            make=fit,
        )
        return undamaged(folder, lambda: Whitening.load(folder / FILE))


def fit_whitening(kind: str, found: Descriptors, pairs: TrainingPairs, shrinkage: float) -> Whitening:
    """The whitening called `kind`, fitted on descriptors (N, D); pictures that could not be read are left out."""
    read = np.asarray(found.any(axis=1))
    if kind == "pcaw":
        return fit_pca_whitening(found[read], shrinkage=shrinkage)
    number = np.cumsum(read) - 1  # of each picture among those that were read
    both = read[pairs.queries] & read[pairs.positives]
    return fit_lw(
        found[read], number[pairs.queries[both]], number[pairs.positives[both]], shrinkage=shrinkage
    )
