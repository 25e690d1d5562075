"""HOW + ASMK from pictures to numbers: train, extract, codebook, index, rank; each step is kept in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lowq_core.data.benchmark import Benchmark, own_pictures
from lowq_core.data.pictures import database_pictures, query_pictures
from lowq_core.extraction.local import extract_local
from lowq_core.extraction.local_features import LocalFeatures
from lowq_core.images import Picture
from lowq_core.methods.data import benchmark_of, training_tuples
from lowq_core.methods.digests import array_digest, benchmark_digest, file_digest, pictures_digest
from lowq_core.methods.kept import kept_network, undamaged
from lowq_core.methods.local_validation import AsmkValidation, local_config
from lowq_core.methods.parts import LocalMethod, check_skip
from lowq_core.methods.report import MethodReport, NoiseAt, PerQuery, Skip, by_level, over_conditions
from lowq_core.methods.say import Say, shows_progress, tell_failed, telling, to_stderr
from lowq_core.models.how import how
from lowq_core.models.how_checkpoints import save_how
from lowq_core.models.how_config import HowConfig
from lowq_core.reproduce.profiles import Profile
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.asmk.codebook import Codebook
from lowq_core.retrieval.asmk.retriever import ASMK
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.hamming_expansion import HammingExpansion
from lowq_core.retrieval.verification.rerank import Verification
from lowq_core.training.how import HowTraining, train_how
from lowq_core.training.how_recipe import fit_whitening
from lowq_core.training.tuples import TrainingTuples

MODEL = "model.safetensors"
CODEBOOK = "codebook"


class RankPictures(Protocol):
    """How queries rank a database."""

    def __call__(
        self, queries: Sequence[Picture], own: NDArray[np.int64] | None = None, skip: Skip | None = None
    ) -> Ranking:
        """`queries` -> the whole database, ranked.

        Args:
            own: see `own_pictures`; a query is not expanded by it.
            skip: what geometry does not look at.
        """


@dataclass(frozen=True)
class LocalPipeline:
    """Runs HOW + ASMK on benchmarks with one profile's recipe.

    Attributes:
        profile: sizes, training data; `profile.local` has what is particular to local features.
        store: where finished steps are kept.
        strict: stop at the first picture that cannot be read, instead of reporting it and going on.
        say: told what takes long.
    """

    profile: Profile
    store: Store
    strict: bool = False
    say: Say = to_stderr

    @cached_property
    def _data(self) -> TrainingTuples:
        return training_tuples(self.profile)

    def network(self, method: LocalMethod) -> Path:
        """The file of the network, for `load_how`; trained once on the profile's training pictures."""
        if method.checkpoint is not None:
            return method.checkpoint
        data, training = self._data, self.training(method)
        validation = self._validation() if method.seed is not None else None

        def make(out: Path) -> None:
            sets = ", ".join(self.profile.train)
            with telling(self.say, f"{method.name}: training on {len(data.pictures)} pictures of {sets}"):
                if method.seed is not None:
                    train_how(training, data, out, validation)
                else:
                    model = how(training.config, training.weights)
                    fit_whitening(model, training, data.pictures)
                    save_how(model, out / MODEL)

        folder = self.store.get(
            "how",
            config={
                "training": asdict(training),
                "trained": method.seed is not None,
                "validation": None if validation is None else asdict(validation.local),
            },
            inputs={
                "pictures": pictures_digest(data.pictures),
                "pairs": array_digest(data.queries) + array_digest(data.positives),
                "clusters": array_digest(data.clusters),
                "validation": "" if validation is None else benchmark_digest(validation.benchmark),
            },
            code=["lowq_core.training.how"] + (["lowq_core.methods.local_validation"] if validation else []),
            make=make,
            resume=method.seed is not None,
        )
        return kept_network(folder, MODEL, "how")

    def features(
        self,
        method: LocalMethod,
        pictures: Sequence[Picture],
        *,
        scales: Sequence[float] | None = None,
        strict: bool | None = None,
    ) -> LocalFeatures:
        """Local features of `pictures`; those that cannot be read have none, and are told.

        Args:
            scales, strict: instead of the profile's and the pipeline's.

        Raises:
            LowqError: with `strict`, the first picture that cannot be read.
        """
        strict = self.strict if strict is None else strict
        model = self.network(method)
        config = local_config(self.profile.local, model, scales)
        folder = self.store.get(
            "local_features",
            config=asdict(config) | {"model": None},
            inputs={"pictures": pictures_digest(pictures), "model": file_digest(model)},
            code=["lowq_core.extraction.local"],
            make=lambda out: extract_local(
                pictures,
                config,
                out,
                strict=strict,
                progress=shows_progress(self.say, len(pictures)),
            ),
            resume=True,
        )
        found = undamaged(folder, lambda: LocalFeatures.open(folder))
        tell_failed(found.failed, strict, self.say)
        return found

    def codebook(self, method: LocalMethod) -> Codebook:
        """Visual words of the training pictures' features, one scale, as HOW makes them."""
        local = self.profile.local
        pictures = self._data.pictures[: local.codebook_pictures]
        found = self.features(method, pictures, scales=(1.0,))
        model = file_digest(self.network(method))

        def make(out: Path) -> None:
            self.say(f"{method.name}: {local.words} visual words of {len(found.descriptors)} features")
            Codebook.train(found.descriptors, local.words).save(out / CODEBOOK)

        folder = self.store.get(
            "codebook",
            config={
                "words": local.words,
                "size": local.size,
                "count": local.count,
                "precision": local.precision,
            },
            inputs={"model": model, "pictures": pictures_digest(pictures)},
            code=["lowq_core.retrieval.asmk.codebook", "lowq_core.extraction.local"],
            make=make,
        )
        return undamaged(folder, lambda: Codebook.load(folder / CODEBOOK))

    def index(self, method: LocalMethod, pictures: Sequence[Picture]) -> ASMK:
        """The database of `pictures`, ready to be searched."""
        search = ASMK(codebook=self.codebook(method), **dict(method.asmk))
        return search.fit(self.features(method, pictures))

    def retriever(self, method: LocalMethod, pictures: Sequence[Picture]) -> ASMK | HammingExpansion:
        """The index, or what expands queries over it."""
        index = self.index(method, pictures)
        return HammingExpansion(index=index) if method.expanded else index

    def rank(self, method: LocalMethod, pictures: Sequence[Picture]) -> RankPictures:
        """How queries rank the database of `pictures`; a query that cannot be read is an error."""
        index = self.retriever(method, pictures)
        verifier = Verification().fit(self.features(method, pictures)) if method.verified else None

        def rank(
            queries: Sequence[Picture], own: NDArray[np.int64] | None = None, skip: Skip | None = None
        ) -> Ranking:
            asked = self.features(method, queries, strict=True)
            found = index.rank(asked, own=own) if isinstance(index, HammingExpansion) else index.rank(asked)
            if verifier is None:
                return found
            return verifier.rerank(found, asked, self.profile.searches["sv"]["candidates"], skip)

        return rank

    def search(
        self, method: LocalMethod, pictures: Sequence[Picture], query: Picture
    ) -> list[tuple[int, float]]:
        """(index, score) of those of `pictures` that can be read, the most similar to `query` first."""
        bad = self.features(method, pictures).failed
        ranking = self.rank(method, pictures)([query])
        ranked = zip(ranking.ids[0].tolist(), ranking.scores[0].tolist(), strict=True)
        return [(index, score) for index, score in ranked if pictures[index].name not in bad]

    def evaluate(
        self, method: LocalMethod, benchmark: Benchmark, noises: Mapping[str, Sequence[int]] | None = None
    ) -> MethodReport:
        """Average precisions on clean queries and under each of `noises`, as `Pipeline.evaluate` gives them."""
        check_skip(method)
        rank, own = self.rank(method, database_pictures(benchmark)), own_pictures(benchmark)

        def per_query_at(noise: NoiseAt | None) -> PerQuery:
            asked = partial(rank, query_pictures(benchmark, noise), own)
            return by_level(asked, benchmark, own, skip_junk=method.skip_junk)

        names = tuple(query.image for query in benchmark.queries)
        configuration = {
            "method": method.name,
            "seed": method.seed,
            "asmk": dict(method.asmk),
            "expanded": method.expanded,
            "verified": method.verified,
            "skip_junk": method.skip_junk,
            "profile": self.profile.name,
            "train": self.profile.train,
            "local": asdict(self.profile.local),
            "noises": {name: list(levels) for name, levels in (noises or {}).items()},
        }
        return MethodReport(
            method.name, benchmark.name, names, over_conditions(per_query_at, noises), configuration
        )

    def _validation(self) -> AsmkValidation | None:
        """What selects an epoch, where the profile names a benchmark for it."""
        local = self.profile.local
        if not local.validation:
            return None
        benchmark = benchmark_of(self.profile, local.validation)
        return AsmkValidation(benchmark, self._data.pictures, local)

    def training(self, method: LocalMethod) -> HowTraining:
        """How the network of `method` is trained."""
        local = self.profile.local
        config = HowConfig(
            backbone=local.backbone,
            dim=local.dim,
            context=method.context,
            smoothing=method.smoothing,
            kernel=method.kernel,
            mode=method.mode,
        )
        return HowTraining(
            config,
            epochs=local.epochs,
            queries_per_epoch=local.queries_per_epoch,
            pool=local.pool,
            negatives=local.negatives,
            batch=local.batch,
            lr=local.lr,
            size=local.train_size,
            whitening_pictures=local.whitening_pictures,
            whitening_features=local.whitening_features,
            seed=method.seed or 0,
        )
