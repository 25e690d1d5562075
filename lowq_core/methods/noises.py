"""What `--degrade` says: which noises, at which severities."""

from __future__ import annotations

from collections.abc import Iterable

from lowq_core.degrade import HELD_OUT, KNOWN, NOISES, SEVERITIES
from lowq_core.errors import LowqError

GROUPS = {"known": KNOWN, "held_out": HELD_OUT, "all": NOISES}


def parse_degrade(text: str) -> dict[str, tuple[int, ...]]:
    """Noise -> severities, from `NAME`, `NAME:SEVERITY` or a comma-joined list of those.

    `NAME` is a noise or a group (`known`, `held_out`, `all`). Without a severity all five are meant, and the
    result is their mean, as ImageNet-C reports it.

    Raises:
        LowqError: an unknown noise or a severity outside 1..5.

    >>> parse_degrade("jpeg:3")
    {'jpeg': (3,)}
    >>> len(parse_degrade("all:5"))
    16
    """
    wanted: dict[str, tuple[int, ...]] = {}
    for item in text.split(","):
        name, _, severity = item.strip().partition(":")
        if name not in NOISES and name not in GROUPS:
            raise LowqError(
                f"--degrade {item}: there is no noise {name!r}; choose among {', '.join((*GROUPS, *NOISES))}"
            )
        if severity and severity not in {str(level) for level in SEVERITIES}:
            raise LowqError(
                f"--degrade {item}: severity {severity!r} is not one of 1 to 5; write {name}:3, say"
            )
        levels = (int(severity),) if severity else SEVERITIES
        for noise in GROUPS.get(name, (name,)):
            wanted[noise] = levels
    return wanted


def stored_noises(conditions: Iterable[tuple[str, int]]) -> dict[str, tuple[int, ...]]:
    """Noise -> severities, of all that a noise benchmark holds.

    >>> stored_noises([("jpeg", 1), ("jpeg", 3), ("fog", 5)])
    {'jpeg': (1, 3), 'fog': (5,)}
    """
    found: dict[str, tuple[int, ...]] = {}
    for noise, severity in conditions:
        found[noise] = (*found.get(noise, ()), severity)
    return found
