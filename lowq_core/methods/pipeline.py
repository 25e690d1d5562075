"""From a method's name to its numbers; every costly step is kept in the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from lowq_core.data.benchmark import Benchmark, own_pictures
from lowq_core.data.named import RENDERED
from lowq_core.data.pictures import database_pictures, query_pictures
from lowq_core.evaluation.protocols import evaluate_scores
from lowq_core.extraction.extract import EmbedConfig
from lowq_core.images import Picture
from lowq_core.methods.described import Described, Descriptors
from lowq_core.methods.digests import benchmark_digest, stamp
from lowq_core.methods.local import LocalPipeline
from lowq_core.methods.parts import EMBEDDINGS, LocalMethod, Method, check_skip
from lowq_core.methods.report import (
    MethodReport,
    NoiseAt,
    PerQuery,
    by_level,
    over_conditions,
    with_groups,
)
from lowq_core.methods.say import Say, to_stderr
from lowq_core.methods.say import quiet as quiet
from lowq_core.methods.searches import Searches
from lowq_core.methods.tuned import TunedNetworks
from lowq_core.methods.whitenings import Whitenings
from lowq_core.models.checkpoints import load_checkpoint
from lowq_core.models.whitening import Whitening
from lowq_core.reproduce.profiles import Profile, profile
from lowq_core.reproduce.store import Store

Describe = Callable[[Sequence[Picture], bool], Descriptors]
"""(pictures, strict) -> (N, D) descriptors."""


@dataclass(frozen=True)
class Pipeline:
    """Runs methods on benchmarks with one profile's recipe.

    Attributes:
        profile: sizes, training data, seeds.
        embed: how pictures become global descriptors.
        store: where finished steps are kept.
        strict: stop at the first picture that cannot be read, instead of reporting it and going on.
        say: told what takes long.
    """

    profile: Profile
    embed: EmbedConfig
    store: Store
    strict: bool = False
    say: Say = to_stderr

    @classmethod
    def for_profile(
        cls,
        name: str | None = None,
        *,
        store: Store | None = None,
        strict: bool = False,
        say: Say = to_stderr,
        **embed: Any,
    ) -> Pipeline:
        """The pipeline of a profile (default: `real` where LOWQ_DATA is set, else `mini`).

        Args:
            embed: fields of `EmbedConfig` that replace the profile's; None leaves the profile's. `size`,
                `scales`, `precision` and `engine` hold for local descriptors too.
        """
        chosen = profile(name or ("real" if os.environ.get("LOWQ_DATA") else "mini"))
        config = EmbedConfig(chosen.backbone, tuple(EMBEDDINGS), size=chosen.size, scales=chosen.scales)
        given = {key: value for key, value in embed.items() if value is not None}
        shared = {key: given[key] for key in ("size", "scales", "precision", "engine") if key in given}
        chosen = replace(chosen, local=replace(chosen.local, **shared))
        return cls(chosen, replace(config, **given), store or Store(), strict, say)

    def while_choosing(self) -> Pipeline:
        """The same recipe, trained on what shares no landmark with the profile's validation sets."""
        return replace(self, profile=replace(self.profile, train=self.profile.choice_train))

    def for_variants(self) -> Pipeline:
        """The same with the profile's settings for comparing many networks, which are trained for it."""
        smaller = replace(self.embed, size=self.profile.tuned.variant_size)
        return replace(self, profile=replace(self.profile, local=self.profile.variants), embed=smaller)

    @property
    def _searches(self) -> Searches:
        return Searches(self.profile.searches, self.store, self.local, self.embed, self.say)

    @property
    def _networks(self) -> TunedNetworks:
        return TunedNetworks(self.profile, self.embed, self.store, self.say)

    @property
    def local(self) -> LocalPipeline:
        """The same for methods of local descriptors."""
        return LocalPipeline(self.profile, self.store, self.strict, self.say)

    def describe(
        self, method: Method, pictures: Sequence[Picture], *, strict: bool | None = None
    ) -> Descriptors:
        """(N, D) float32 descriptors of `pictures`, L2-normalised; zero rows for those that cannot be read.

        Args:
            strict: instead of the pipeline's.

        Raises:
            LowqError: with `strict`, the first picture that cannot be read.
        """
        return self._describer(method)(pictures, self.strict if strict is None else strict)

    def database(self, method: Method, benchmark: Benchmark) -> Descriptors:
        """(N, D) descriptors of the database."""
        return self.describe(method, database_pictures(benchmark))

    def queries(self, method: Method, benchmark: Benchmark, noise: NoiseAt | None = None) -> Descriptors:
        """(Q, D) descriptors of the queries, cropped and then, with `noise` (name, severity), degraded.

        Raises:
            LowqError: a query that cannot be read; its benchmark has no score then.
        """
        return self.describe(method, _as_queries(method, query_pictures(benchmark, noise)), strict=True)

    def whitening(self, method: Method) -> Whitening:
        """The whitening of `method`, fitted once on the profile's training pictures and then kept."""
        config, head = self._embed_config(method)
        plain = self._describer(replace(method, whitening=None))
        whitenings = Whitenings(self.profile, self.store, self.say)
        return whitenings.fitted(str(method.whitening), config, head, lambda some: plain(some, self.strict))

    def digest(self, benchmark: Benchmark) -> str:
        """What the numbers on `benchmark` stand on, see `benchmark_digest`."""
        return benchmark_digest(benchmark)

    def search(
        self, method: Method | LocalMethod, pictures: Sequence[Picture], query: Picture
    ) -> list[tuple[int, float]]:
        """(index, score) of those of `pictures` that can be read, the most similar to `query` first."""
        if isinstance(method, LocalMethod):
            return self.local.search(method, pictures, query)
        database = self.describe(method, pictures)
        described = self.describe(method, _as_queries(method, [query]), strict=True)
        read = np.flatnonzero(database.any(axis=1))
        if not read.size:
            return []
        searched = [pictures[index] for index in read.tolist()]
        ranking = self._searches.fitted(method, database[read], searched)(described, [query])
        return list(zip(read[ranking.ids[0]].tolist(), ranking.scores[0].tolist(), strict=True))

    def evaluate(
        self,
        method: Method | LocalMethod,
        benchmark: Benchmark,
        noises: Mapping[str, Sequence[int]] | None = None,
    ) -> MethodReport:
        """Average precisions on clean queries and under each of `noises` (name -> severities, averaged).

        `known` and `held_out` are added where all noises of the group are asked for. Where the benchmark leaves one
        out, no search begins with the query's own picture, see `Searches`.
        """
        if benchmark.name in self._taught(method) - set(RENDERED):
            self.say(
                f"{benchmark.name}: {method.name} was trained on other photos of its landmarks; it is flattered"
            )
        if isinstance(method, LocalMethod):
            return self.local.evaluate(method, benchmark, noises)
        check_skip(method)
        describe = self._describer(method)
        database = describe(database_pictures(benchmark), self.strict)
        rank, own = None, own_pictures(benchmark)
        if method.search or method.verified or method.augmented:
            rank = self._searches.fitted(method, database, database_pictures(benchmark))

        def per_query_at(noise: NoiseAt | None) -> PerQuery:
            queries = _as_queries(method, query_pictures(benchmark, noise))
            described = describe(queries, True)
            if rank is None:
                return _per_query(described, database, benchmark)
            asked = partial(rank, described, queries, own)
            return by_level(asked, benchmark, own, skip_junk=method.skip_junk)

        names = tuple(query.image for query in benchmark.queries)
        return MethodReport(
            method.name,
            benchmark.name,
            names,
            over_conditions(per_query_at, noises),
            self._configuration(method, noises),
        )

    def evaluate_seeds(
        self,
        method: Method | LocalMethod,
        seeds: Sequence[int],
        benchmark: Benchmark,
        noises: Mapping[str, Sequence[int]] | None = None,
    ) -> list[MethodReport]:
        """One report a seed, with `with_groups`; a single one where nothing is trained with a seed."""
        runs: list[Method | LocalMethod] = [method]
        if isinstance(method, LocalMethod) and method.seed is not None:
            runs = [replace(method, seed=seed) for seed in seeds]
        elif isinstance(method, Method) and method.tuned is not None:
            runs = [replace(method, tuned=replace(method.tuned, seed=seed)) for seed in seeds]
        return [with_groups(self.evaluate(run, benchmark, noises)) for run in runs]

    def _taught(self, method: Method | LocalMethod) -> set[str]:
        """The training sets that a part of `method` was fitted on."""
        if isinstance(method, LocalMethod):
            return set(self.profile.train if method.trained else ())
        of_trunk = self.profile.tuned.train if method.tuned else ()
        return {*of_trunk, *(self.profile.train if method.whitening else ())}

    def _embed_config(self, method: Method) -> tuple[EmbedConfig, str]:
        """The embedding's configuration, and which of its heads `method` takes."""
        if method.tuned is not None:
            network = self._networks.network(method.tuned)
            return replace(self.embed, weights=str(network)), method.embedding
        if method.checkpoint is None:
            return self.embed, method.embedding
        architecture, head = _published(method.checkpoint, *stamp(method.checkpoint))
        config = replace(self.embed, backbone=architecture, heads=(head,), weights=str(method.checkpoint))
        return config, head

    def _describer(self, method: Method) -> Describe:
        """Pictures to descriptors by `method`, whose parts are looked up once, however often this is called."""
        config, head = self._embed_config(method)
        whitening = None if method.whitening is None else self.whitening(method)
        stages = self._shared_stages(method)

        def describe(pictures: Sequence[Picture], strict: bool) -> Descriptors:
            described = Described(self.store, strict, self.say)
            if stages:
                plain = described.by_stages(config, head, pictures, stages, self.embed.weights)
            else:
                plain = described.plainly(config, head, pictures)
            if whitening is None:
                return plain
            whitened = whitening.transform(plain)
            whitened[~plain.any(axis=1)] = 0  # an unreadable picture stays similar to nothing
            return whitened

        return describe

    def _shared_stages(self, method: Method) -> int:
        """How many first stages `method` shares with all networks trained so; 0 where that is no help."""
        one_pass = (self.embed.scales, self.embed.engine, self.embed.precision) == (
            (1.0,),
            "torch",
            "float32",
        )
        if method.tuned is None or not one_pass:
            return 0
        return self._networks.training(method.tuned).frozen

    def _configuration(self, method: Method, noises: Mapping[str, Sequence[int]] | None) -> dict[str, Any]:
        # Of a trained trunk `tuned` tells; where the store keeps its weights says nothing.
        config = replace(self.embed, weights=None) if method.tuned else self._embed_config(method)[0]
        return {
            "method": method.name,
            "profile": self.profile.name,
            "train": self.profile.train if method.trained else None,
            "embed": asdict(config),
            "tuned": method.tuned and asdict(method.tuned),
            "search": method.search and {"name": method.search} | dict(method.options),
            "augmented": method.augmented,
            "augmentation": dict(method.augmentation),
            "verified": method.verified,
            "skip_junk": method.skip_junk,
            "noises": {name: list(levels) for name, levels in (noises or {}).items()},
        }


def _as_queries(method: Method, pictures: Sequence[Picture]) -> Sequence[Picture]:
    """`pictures` as `method` wants its queries: restored where it says so. The database never is."""
    return [replace(picture, restorer="auto") for picture in pictures] if method.restored else pictures


def _per_query(queries: Descriptors, database: Descriptors, benchmark: Benchmark) -> PerQuery:
    scores = queries @ database.T
    scores[:, ~database.any(axis=1)] = -np.inf  # what cannot be read is found last
    return {str(level): values for level, values in evaluate_scores(scores, benchmark).per_query.items()}


@lru_cache(maxsize=8)
def _published(checkpoint: Path, size: int, modified: int) -> tuple[str, str]:
    """Architecture and pooling of a checkpoint, read again when the file changes."""
    found = load_checkpoint(checkpoint)
    return found.architecture, found.pooling
