"""What `lowq data make` and `lowq data check` do with noise benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lowq_core.data import catalogue
from lowq_core.data.benchmark import Benchmark
from lowq_core.data.catalogue import load_benchmark
from lowq_core.data.check import Expected
from lowq_core.data.datasets import DATASETS
from lowq_core.data.noise_benchmark import check_noise_benchmark, conditions, make_noise_benchmark
from lowq_core.data.noise_manifest import MANIFEST
from lowq_core.data.pictures import query_pictures
from lowq_core.data.revisited import write_revisited
from lowq_core.degrade import NOISES, SEVERITIES
from lowq_core.errors import LowqError
from lowq_core.methods.digests import pictures_digest
from lowq_core.methods.noises import GROUPS
from lowq_core.methods.say import Say, shows_progress, to_stderr
from lowq_core.reproduce.store import Store

PREFIX = "noise-"
SHORT = {"roxford": "roxford5k", "rparis": "rparis6k"}
"""Names that the works use for short."""


def make(
    name: str,
    images: Path | None = None,
    out: Path | None = None,
    noises: Sequence[str] = NOISES,
    severities: Sequence[int] = SEVERITIES,
    say: Say = to_stderr,
) -> str:
    """Make the noise benchmark `name`, unless it is there; what `lowq data make` says of it.

    One of a ground truth that has no name here gets a copy of it, so that its folder says what is to be found.

    Args:
        name: `noise-` and a benchmark's name (`SHORT` ones too), or the path of its ground truth.
        images: folder of the pictures, where they do not lie beside the ground truth.
        out: folder to write to, by default one in the store.
        noises: names of noises and of their groups (`known`, `held_out`, `all`).
        severities: 1 to 5.

    Raises:
        LowqError: no such benchmark; see also `parse_noises`, `make_noise_benchmark` and `write_revisited`.
    """
    if not name.startswith(PREFIX):
        raise LowqError(f"{name!r}: is no noise benchmark; write {PREFIX}{name or 'papertown'}")
    chosen = parse_noises(noises)
    asked = name.removeprefix(PREFIX)
    benchmark = load_benchmark(SHORT.get(asked, asked), images)
    pictures = len(benchmark.queries) * len(conditions(benchmark, chosen, severities))
    folder = _in_store(benchmark) if out is None else out
    made = make_noise_benchmark(benchmark, folder, chosen, severities, progress=shows_progress(say, pictures))
    if made.name not in DATASETS and not made.own_truth.exists():
        write_revisited(benchmark, made.own_truth)
    return (
        f"{folder}: {len(benchmark.queries)} queries of {made.name}, {len(made.files)} pictures, {MANIFEST}"
    )


def parse_noises(words: Sequence[str]) -> tuple[str, ...]:
    """The noises that `words` name, groups spelled out, each once.

    Raises:
        LowqError: neither a noise nor a group.

    >>> parse_noises(["jpeg", "known"])[:2]
    ('jpeg', 'gaussian')
    """
    found: list[str] = []
    for word in words:
        if word not in GROUPS and word not in NOISES:
            raise LowqError(f"there is no noise {word!r}; choose among {', '.join((*GROUPS, *NOISES))}")
        found += GROUPS.get(word, (word,))
    return tuple(dict.fromkeys(found))


def check(name: str, root: Path | None = None) -> list[Expected]:
    """What `lowq data check` finds of a data set of the catalogue, or in the folder of a noise benchmark.

    Raises:
        LowqError: neither of them.
    """
    if (Path(name) / MANIFEST).is_file():
        return check_noise_benchmark(name)
    return catalogue.check(name, root)


def _in_store(benchmark: Benchmark) -> Path:
    """The folder for `benchmark` in the store, one for each state of its queries and of the noises' code."""
    return Store().get(
        "noise",
        config={"benchmark": benchmark.name},
        inputs={"queries": pictures_digest(query_pictures(benchmark))},
        code=["lowq_core.data.noise_benchmark"],
        make=lambda folder: None,  # the folder is filled by whoever asks for noises, a few at a time
    )
