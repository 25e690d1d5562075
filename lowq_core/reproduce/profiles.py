"""Profiles: how much is computed, on which data, with how much patience."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from lowq_core.degrade import NOISES
from lowq_core.errors import LowqError
from lowq_core.reproduce import recipes
from lowq_core.reproduce.settings import LocalSettings, TunedSettings

_THREE_SCALES = (1.0, 2**-0.5, 0.5)


@dataclass(frozen=True)
class Profile:
    """One way to run every notebook.

    Attributes:
        name, what: the word given to `--profile`, and one line about it.
        benchmarks: names of what is evaluated.
        distractors: the same benchmarks with distractors added to the database, where they are.
        validation: names of what choices are made on, never one of `benchmarks`.
        train: names of the training sets, which share no landmark with `benchmarks`.
        choice_train: those of them that share no landmark with `validation` either: what is fitted while a
            choice is made there.
        town: size of the rendered benchmark.
        backbone, size, scales: the embedding: trunk, longer side in pixels, relative scales.
        shrinkage: how far whitenings are pulled towards doing nothing, 0 to 1; chosen on `validation`.
        local: what is particular to local features.
        variants: the same where many networks are trained and compared with each other.
        tuned: what is particular to training a trunk for bad pictures.
        searches: options of searches that differ from the papers', by the search's name, see
            `lowq_core.retrieval.catalogue`; `candidates` is how many of a plain ranking geometry looks at.
        grids: options of searches that are tried on `validation`, by the search's name.
        noises, severities: degradations of the queries that are averaged, in the order of the tables.
        samples: resamples of a bootstrap interval.
        seeds: one training run each.
        time_limit: wall-clock seconds that one notebook may take.
    """

    name: str
    what: str
    benchmarks: tuple[str, ...]
    distractors: tuple[str, ...]
    validation: tuple[str, ...]
    train: tuple[str, ...]
    choice_train: tuple[str, ...]
    town: Literal["smoke", "mini"]
    backbone: str
    size: int
    scales: tuple[float, ...]
    shrinkage: float
    local: LocalSettings
    variants: LocalSettings
    tuned: TunedSettings
    searches: dict[str, dict[str, Any]]
    grids: dict[str, dict[str, tuple[Any, ...]]]
    noises: tuple[str, ...]
    severities: tuple[int, ...]
    samples: int
    seeds: tuple[int, ...]
    time_limit: float

    @property
    def crowded(self) -> str:
        """The benchmark among distractors (the last of them), or the first benchmark where there are none.

        >>> PROFILES["mini"].crowded, PROFILES["real"].crowded
        ('papertown', 'rparis_mini+distractors')
        """
        return (self.benchmarks[0], *self.distractors)[-1]


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            what="does every notebook run? rendered scenes, few pictures, seconds",
            benchmarks=("papertown",),
            distractors=(),
            validation=("papertown_val",),
            train=("papertown",),
            choice_train=("papertown",),
            town="smoke",
            backbone="lite0-",
            size=128,
            scales=(1.0,),
            shrinkage=0.9,
            local=recipes.SMOKE,
            variants=recipes.SMOKE,
            tuned=TunedSettings(
                train=("papertown",),
                size=64,
                epochs=1,
                pictures_per_epoch=4,
                batch=4,
                group=4,
                lr=1e-4,
                frozen=5,
                seeds=(0,),
                variant_size=96,
                variant_noises=("jpeg", "fog"),
            ),
            searches=recipes.FEW,
            grids=recipes.FEW_GRIDS,
            noises=("gaussian", "motion_blur", "fog"),
            severities=(5,),
            samples=500,
            seeds=(0,),
            time_limit=240,
        ),
        Profile(
            name="mini",
            what="every table and figure on the rendered benchmark, two CPU cores",
            benchmarks=("papertown",),
            distractors=(),
            validation=("papertown_val",),
            train=("papertown",),
            choice_train=("papertown",),
            town="mini",
            backbone="lite0",
            size=320,
            scales=(1.0,),
            shrinkage=0.9,
            local=recipes.MINI,
            variants=replace(recipes.MINI, size=192, scales=(1.0,), count=100, words=512, noises=()),
            tuned=TunedSettings(
                train=("papertown",),
                size=128,
                epochs=2,
                pictures_per_epoch=240,
                batch=24,
                group=24,
                lr=1e-4,
                frozen=6,
                seeds=(0, 1, 2),
                variant_size=192,
                variant_noises=("gaussian", "motion_blur", "jpeg", "low_light", "defocus", "contrast"),
            ),
            searches=recipes.HUNDREDS,
            grids=recipes.GRIDS,
            noises=NOISES,
            severities=(5,),
            samples=10_000,
            seeds=(0,),
            time_limit=1800,
        ),
        Profile(
            name="real",
            what="real photos under LOWQ_DATA, two CPU cores",
            benchmarks=("rparis_mini", "papertown"),
            distractors=("rparis_mini+distractors",),
            validation=("porto", "papertown_val"),
            train=("ds4002", "reichstag", "porto"),
            choice_train=("ds4002", "reichstag"),
            town="mini",
            backbone="lite0",
            size=640,
            scales=(1.0,),
            shrinkage=0.9,
            local=recipes.REAL,
            variants=replace(
                recipes.REAL,
                size=512,
                train_size=256,
                count=600,
                codebook_pictures=300,
                queries_per_epoch=60,
                pool=200,
                whitening_pictures=200,
            ),
            tuned=TunedSettings(
                train=("ds4002", "reichstag", "porto"),
                size=160,
                epochs=4,
                pictures_per_epoch=1200,
                batch=48,
                group=48,
                lr=1e-4,
                distil=10.0,
                frozen=3,
                seeds=(0, 1, 2),
                variant_size=320,
                variant_noises=NOISES,
            ),
            searches=recipes.HUNDREDS,
            grids=recipes.GRIDS,
            noises=NOISES,
            severities=(5,),
            samples=10_000,
            seeds=(0, 1, 2),
            time_limit=4 * 3600,
        ),
        Profile(
            name="paper",
            what="the papers' own data sets and schedules, GPUs",
            benchmarks=("roxford5k", "rparis6k", "instre"),
            distractors=("roxford5k+r1m", "rparis6k+r1m"),
            validation=("papertown_val",),
            train=("sfm120k",),
            choice_train=("sfm120k",),
            town="mini",
            backbone="resnet101",
            size=1024,
            scales=_THREE_SCALES,
            shrinkage=0.9,
            local=recipes.PAPER,
            variants=replace(recipes.PAPER, backbone="resnet18", lr=5e-6),
            tuned=TunedSettings(
                train=("gldv2",),
                size=512,
                epochs=20,
                pictures_per_epoch=100_000,
                batch=128,
                group=32,
                lr=1e-4,
                frozen=0,
                seeds=(0, 1, 2),
                variant_size=1024,
                variant_noises=NOISES,
                precision="bf16",
                class_start="random",
            ),
            searches=recipes.THOUSANDS,
            grids=recipes.GRIDS,
            noises=NOISES,
            severities=(1, 2, 3, 4, 5),
            samples=10_000,
            seeds=(0, 1, 2),
            time_limit=7 * 24 * 3600,
        ),
    )
}


def profile(name: str, /, **overrides: Any) -> Profile:
    """The profile called `name`, with single fields replaced.

    Raises:
        LowqError: an unknown profile, or an unknown field.

    >>> profile("smoke").town
    'smoke'
    >>> profile("mini", size=448).size
    448
    """
    if name not in PROFILES:
        raise LowqError(f"profile {name!r}: there is none of that name; choose among {', '.join(PROFILES)}")
    known = [field.name for field in fields(Profile) if field.name != "name"]
    for key in overrides:
        if key not in known:
            raise LowqError(f"profile {name}: has no field {key!r}; choose among {', '.join(known)}")
    return replace(PROFILES[name], **overrides)
