"""What there is to choose from, as (name, what it is)."""

from __future__ import annotations

from typing import Literal

from lowq_core.errors import LowqError
from lowq_core.methods.parts import (
    AUGMENTED,
    EMBEDDINGS,
    HOW,
    LOCAL_PARTS,
    RESTORED,
    SEARCHES,
    TUNED,
    VERIFIERS,
    WHITENINGS,
)

Kind = Literal["methods", "benchmarks", "degradations", "notebooks", "profiles"]


def listing(kind: Kind) -> list[tuple[str, str]]:
    """The rows that `lowq list KIND` prints.

    >>> listing("profiles")[0][0]
    'smoke'
    """
    if kind == "methods":
        whitenings = [(f"+{name}", what) for name, what in WHITENINGS.items()]
        tuned = [(f"+{name}", what) for name, what in (TUNED | RESTORED).items()]
        searches = [(f"+{name}", what) for name, what in (AUGMENTED | VERIFIERS | SEARCHES).items()]
        local = [(f"how+{name}", what) for name, what in LOCAL_PARTS.items()]
        return [*EMBEDDINGS.items(), *tuned, *whitenings, *searches, *HOW.items(), *local]
    if kind == "degradations":
        return _degradations()
    if kind == "benchmarks":
        return _benchmarks()
    if kind == "notebooks":
        from lowq_core.reproduce.anatomy import title_of
        from lowq_core.reproduce.runner import find_notebooks

        return [(path.stem, title_of(path)) for path in find_notebooks()]
    if kind == "profiles":
        from lowq_core.reproduce.profiles import PROFILES

        return [(name, profile.what) for name, profile in PROFILES.items()]
    raise LowqError(
        f"{kind!r}: there is no such list; choose methods, benchmarks, degradations, notebooks, profiles"
    )


def _benchmarks() -> list[tuple[str, str]]:
    """What `evaluate` takes by name, and what may be added to a name."""
    from lowq_core.data.catalogue import list_datasets
    from lowq_core.data.named import DISTRACTORS, R1M, RENDERED

    rows = {entry.name: entry.what for entry in list_datasets() if entry.read is not None}
    rendered = {name: f"rendered landmarks, embedded: split {split}" for name, split in RENDERED.items()}
    more = {
        DISTRACTORS: "after a name: the pictures of LOWQ_DATA's folder distractors join the database",
        R1M: "after a name of photos: the million pictures of R1M join the database",
    }
    return list((rendered | rows | more).items())


def _degradations() -> list[tuple[str, str]]:
    from lowq_core.degrade import HELD_OUT, KNOWN

    groups = [("known", KNOWN), ("held_out", HELD_OUT)]
    rows = [(name, f"{group}, severities 1 to 5") for group, names in groups for name in names]
    return [*rows, *((group, f"all {len(names)} of the group") for group, names in groups), ("all", "all 16")]
