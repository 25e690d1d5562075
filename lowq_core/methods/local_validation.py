"""How the published training of HOW selects its epoch: by the score of the features when ASMK searches them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.pictures import database_pictures, query_pictures
from lowq_core.errors import LowqError
from lowq_core.evaluation.protocols import evaluate
from lowq_core.extraction.local import LocalConfig, extract_local
from lowq_core.extraction.local_features import LocalFeatures
from lowq_core.images import Picture
from lowq_core.models.how import HOW
from lowq_core.models.how_checkpoints import save_how
from lowq_core.reproduce.settings import LocalSettings
from lowq_core.retrieval.asmk.codebook import Codebook
from lowq_core.retrieval.asmk.retriever import ASMK


@dataclass(frozen=True)
class AsmkValidation:
    """A network in evaluation mode -> its score, in percent, for `train_how(validate=...)`.

    Words are made anew for every network, of the training pictures' features at one scale; then the benchmark is
    searched as it would be in the end. Source: Tolias, Jenicek, Chum, ECCV 2020, and their released code, whose
    benchmark is `sfm120k`'s validation part.

    Attributes:
        benchmark: what is searched.
        pictures: training pictures; words are made of the first `local.codebook_pictures`.
        local: sizes, scales, features a picture, words.
    """

    benchmark: Benchmark
    pictures: Sequence[Picture]
    local: LocalSettings

    def __call__(self, model: HOW) -> float:
        """Mean AP, of the Medium setup where the ground truth has several.

        Raises:
            LowqError: a picture that cannot be read, or no query with an answer.
        """
        with tempfile.TemporaryDirectory() as folder:
            search = ASMK(codebook=self._words(model, Path(folder)))
            search.fit(self._features(model, database_pictures(self.benchmark), Path(folder) / "database"))
            asked = self._features(model, query_pictures(self.benchmark), Path(folder) / "queries")
            score = evaluate(search.rank(asked).ids, self.benchmark).map["medium"]
        if score is None:
            raise LowqError(f"{self.benchmark.name}: no query has an answer; choose another validation set")
        return score

    def _words(self, model: HOW, folder: Path) -> Codebook:
        pictures = self.pictures[: self.local.codebook_pictures]
        found = self._features(model, pictures, folder / "training", scales=(1.0,))
        return Codebook.train(found.descriptors, self.local.words)

    def _features(
        self, model: HOW, pictures: Sequence[Picture], out: Path, scales: Sequence[float] | None = None
    ) -> LocalFeatures:
        """On disk, as there may be many; they go with the folder that `out` is in."""
        network = out.with_name("model.safetensors")
        if not network.exists():
            save_how(model, network)
        config = local_config(self.local, network, scales)
        found = extract_local(pictures, config, out, strict=True, progress=False)
        assert found is not None  # one shard is all of them
        return found


def local_config(local: LocalSettings, model: Path, scales: Sequence[float] | None = None) -> LocalConfig:
    """How the network in the file `model` extracts with a profile's settings, or with other `scales`.

    >>> from lowq_core.reproduce.recipes import MINI
    >>> local_config(MINI, Path("how.safetensors"), (1.0,)).scales
    (1.0,)
    """
    return LocalConfig(
        str(model), local.size, tuple(scales or local.scales), local.count, local.precision, local.engine
    )
