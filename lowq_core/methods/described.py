"""Global descriptors of pictures before whitening, each set kept in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lowq_core.extraction.config import EmbedConfig
from lowq_core.extraction.extract import extract
from lowq_core.extraction.features import Features
from lowq_core.extraction.stage_maps import finish_maps, read_failed, write_stage_maps
from lowq_core.files import write_array
from lowq_core.images import Picture
from lowq_core.methods.digests import file_digest, pictures_digest
from lowq_core.methods.kept import undamaged
from lowq_core.methods.say import Say, shows_progress, tell_failed
from lowq_core.reproduce.store import Store

Descriptors = NDArray[np.float32]
FINISHED = "descriptors.npy"


@dataclass(frozen=True)
class Described:
    """Makes descriptors where the store does not have them.

    Attributes:
        store: where they are kept.
        strict: stop at the first picture that cannot be read, instead of reporting it and going on.
        say: told what takes long.
    """

    store: Store
    strict: bool
    say: Say

    def plainly(self, config: EmbedConfig, head: str, pictures: Sequence[Picture]) -> Descriptors:
        """(N, D) by `head`: all heads of one pass over the pictures are kept; zero rows for unreadable ones."""
        folder = self.store.get(
            "descriptors",
            config=asdict(config) | {"weights": None},
            inputs={"pictures": pictures_digest(pictures)} | _weights(config),
            code=["lowq_core.extraction.extract"],
            make=lambda out: extract(
                pictures,
                config,
                out,
                strict=self.strict,
                progress=shows_progress(self.say, len(pictures)),
            ),
            resume=True,
        )
        features = undamaged(folder, lambda: Features.open(folder / head))
        tell_failed(features.failed, self.strict, self.say)
        return np.asarray(features.descriptors)

    def by_stages(
        self,
        config: EmbedConfig,
        head: str,
        pictures: Sequence[Picture],
        stages: int,
        untrained: str | None,
    ) -> Descriptors:
        """As `plainly` up to rounding, with the maps after the first `stages` stages kept as well.

        Args:
            config: at one scale, in float32; of a network trained from the weights `untrained` with these stages
                frozen, so that it shares them with every other network trained so.
        """
        shared = replace(config, weights=untrained, heads=("gem",))
        maps = self.store.get(
            "stage_maps",
            config={"backbone": config.backbone, "size": config.size, "stages": stages},
            inputs={"pictures": pictures_digest(pictures)} | _weights(shared),
            code=["lowq_core.extraction.stage_maps"],
            make=lambda out: write_stage_maps(
                pictures,
                shared,
                stages,
                out,
                strict=self.strict,
                progress=shows_progress(self.say, len(pictures)),
            ),
        )
        tell_failed(undamaged(maps, lambda: read_failed(maps)), self.strict, self.say)
        one = replace(config, heads=(head,))
        folder = self.store.get(
            "finished_descriptors",
            config=asdict(one) | {"weights": None},
            inputs={"maps": maps.name} | _weights(config),
            code=["lowq_core.extraction.stage_maps"],
            make=lambda out: write_array(
                out / FINISHED,
                undamaged(maps, lambda: finish_maps(maps, len(pictures), one, stages))[head],
            ),
        )
        found: Descriptors = undamaged(folder, lambda: np.load(folder / FINISHED))
        return found


def _weights(config: EmbedConfig) -> dict[str, str]:
    return {"weights": file_digest(Path(config.weights))} if config.weights else {}
