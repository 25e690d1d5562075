"""HOW + ASMK from pictures to numbers: train, extract, codebook, index, rank; each step is kept in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.pictures import database_pictures, query_pictures
from lowq_core.errors import LowqError
from lowq_core.evaluation.protocols import evaluate
from lowq_core.extraction.local import LocalConfig, extract_local
from lowq_core.extraction.local_features import LocalFeatures
from lowq_core.images import Picture
from lowq_core.methods.data import training_tuples
from lowq_core.methods.digests import array_digest, file_digest, pictures_digest
from lowq_core.methods.report import MethodReport, NoiseAt, PerQuery, over_conditions
from lowq_core.models.how import how
from lowq_core.models.how_checkpoints import save_how
from lowq_core.models.how_config import Context, HowConfig, Smoothing
from lowq_core.models.smoothing import SmoothingMode
from lowq_core.reproduce.profiles import Profile, profile
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.asmk.codebook import Codebook
from lowq_core.retrieval.asmk.retriever import ASMK
from lowq_core.training.how import HowTraining, train_how
from lowq_core.training.how_recipe import fit_whitening

MODEL = "model.safetensors"
CODEBOOK = "codebook"


@dataclass(frozen=True)
class LocalMethod:
    """A system of local features: HOW, with or without context, and ASMK.

    Attributes:
        context, smoothing, kernel, mode: as in `HowConfig`.
        seed: of the training; None leaves the trunk as ImageNet made it and fits the whitening alone.
        asmk: options of `ASMK` that differ from the paper's.

    >>> LocalMethod(context="gcn", smoothing="learnable", seed=0).name
    'how+gcn+filter'
    >>> LocalMethod().name
    'how (untrained)'
    """

    context: Context = "none"
    smoothing: Smoothing = "average"
    kernel: int = 3
    mode: SmoothingMode = "spatial"
    seed: int | None = None
    asmk: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The row of a table; seeds share one."""
        parts = ["how"]
        if self.context != "none":
            parts.append(self.context)
        if self.smoothing != "average":
            parts.append({"learnable": "filter", "none": "unsmoothed"}[self.smoothing])
        if self.kernel != 3:
            parts.append(f"k{self.kernel}")
        if self.mode != "spatial":
            parts.append(self.mode)
        return "+".join(parts) + (" (untrained)" if self.seed is None else "")


@dataclass(frozen=True)
class LocalPipeline:
    """Runs HOW + ASMK on benchmarks with one profile's recipe.

    Attributes:
        profile: sizes, training data; `profile.local` has what is particular to local features.
        store: where finished steps are kept.
        say: told what takes long.
    """

    profile: Profile
    store: Store
    say: Callable[[str], None]

    @classmethod
    def for_profile(
        cls, name: str, *, store: Store | None = None, say: Callable[[str], None]
    ) -> LocalPipeline:
        """The pipeline of a profile."""
        return cls(profile(name), store or Store(), say)

    def while_choosing(self) -> LocalPipeline:
        """The same recipe, trained on what shares no landmark with the profile's validation sets."""
        return replace(self, profile=replace(self.profile, train=self.profile.choice_train))

    def network(self, method: LocalMethod) -> Path:
        """The file of the trained network, for `load_how`; trained once on the profile's training pictures."""
        data, training = training_tuples(self.profile), self._training(method)

        def make(out: Path) -> None:
            self.say(f"{method.name}, seed {method.seed}: training on {len(data.pictures)} pictures")
            if method.seed is not None:
                train_how(training, data, out)
                return
            model = how(training.config, training.weights)
            fit_whitening(model, training, data.pictures)
            save_how(model, out / MODEL)

        folder = self.store.get(
            "how",
            config={"training": asdict(training), "trained": method.seed is not None},
            inputs={
                "pictures": pictures_digest(data.pictures),
                "pairs": array_digest(data.queries) + array_digest(data.positives),
                "clusters": array_digest(data.clusters),
            },
            code=["lowq_core.training.how"],
            make=make,
            resume=method.seed is not None,
        )
        return folder / MODEL

    def features(
        self, method: LocalMethod, pictures: Sequence[Picture], scales: Sequence[float] | None = None
    ) -> LocalFeatures:
        """Local features of `pictures`; those that cannot be read have none, and are told.

        Args:
            scales: instead of the profile's.
        """
        model = self.network(method)
        local = self.profile.local
        config = LocalConfig(
            str(model), local.size, tuple(scales or local.scales), local.count, local.precision
        )
        folder = self.store.get(
            "local_features",
            config=asdict(config) | {"model": None},
            inputs={"pictures": pictures_digest(pictures), "model": file_digest(model)},
            code=["lowq_core.extraction.local"],
            make=lambda out: extract_local(pictures, config, out, progress=False),
            resume=True,
        )
        found = LocalFeatures.open(folder)
        for name, reason in found.failed.items():
            self.say(f"left out: {name}: {reason}")
        return found

    def codebook(self, method: LocalMethod) -> Codebook:
        """Visual words of the training pictures' features, one scale, as HOW makes them."""
        local = self.profile.local
        pictures = training_tuples(self.profile).pictures[: local.codebook_pictures]
        found = self.features(method, pictures, (1.0,))
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
        return Codebook.load(folder / CODEBOOK)

    def index(self, method: LocalMethod, benchmark: Benchmark) -> ASMK:
        """The database of `benchmark`, ready to be searched."""
        search = ASMK(codebook=self.codebook(method), **dict(method.asmk))
        return search.fit(self.features(method, database_pictures(benchmark)))

    def evaluate(
        self, method: LocalMethod, benchmark: Benchmark, noises: Mapping[str, Sequence[int]] | None = None
    ) -> MethodReport:
        """Average precisions on clean queries and under each of `noises`, as `Pipeline.evaluate` gives them."""
        search = self.index(method, benchmark)

        def per_query_at(noise: NoiseAt | None) -> PerQuery:
            found = self.features(method, query_pictures(benchmark, noise))
            if found.failed:
                raise LowqError(next(iter(found.failed.values())))
            ranks = search.rank(found).ids
            return {str(level): values for level, values in evaluate(ranks, benchmark).per_query.items()}

        names = tuple(query.image for query in benchmark.queries)
        configuration = {
            "method": asdict(method),
            "profile": self.profile.name,
            "train": self.profile.train,
            "local": asdict(self.profile.local),
            "noises": {name: list(levels) for name, levels in (noises or {}).items()},
        }
        return MethodReport(
            method.name, benchmark.name, names, over_conditions(per_query_at, noises), configuration
        )

    def _training(self, method: LocalMethod) -> HowTraining:
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
