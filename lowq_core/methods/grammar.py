"""What `--method` says: one embedding, then what heals or searches it, joined by `+`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lowq_core.errors import LowqError
from lowq_core.methods.parts import (
    AUGMENTED,
    CONTEXTS,
    EMBEDDINGS,
    LOCAL_PARTS,
    RESTORED,
    SEARCHES,
    STARTED,
    TUNED,
    VERIFIERS,
    WHITENINGS,
    LocalMethod,
    Method,
    Tuned,
)

_AFTER = {"hqe": "expanded", "sv": "verified"}
_SWITCHES = ("how", "asmk", "untrained", *_AFTER)
_SMOOTHING = re.compile(r"(?P<kind>smoothing|average)(?P<kernel>\d+)(?:-(?P<mode>feature|both))?|unsmoothed")


def parse_method(text: str) -> Method | LocalMethod:
    """The method that `text` names; a part that needs descriptors alone stands on `gem`.

    Raises:
        LowqError: an unknown part, two parts of one kind, or a checkpoint that does not exist.

    >>> parse_method("rmac+lw") == Method("rmac", "lw")
    True
    >>> parse_method("lw").name, parse_method("how+asmk+gcn").name
    ('gem+lw', 'how+gcn')
    """
    parts = _parts(text)
    return _local(text, parts) if "how" in parts else _global(text, parts)


def _global(text: str, parts: list[str]) -> Method:
    embedding, whitening, tuned, restored, augmented, verified, search = (None,) * 7
    for part in parts:
        if part in EMBEDDINGS or _looks_like_a_file(part):
            embedding = _once(text, embedding, part, "embedding")
        elif part in WHITENINGS:
            whitening = _once(text, whitening, part, "whitening")
        elif part in TUNED:
            tuned = _once(text, tuned, part, "training")
        elif part in RESTORED:
            restored = _once(text, restored, part, "restoration")
        elif part in AUGMENTED:
            augmented = _once(text, augmented, part, "augmentation")
        elif part in VERIFIERS:
            verified = _once(text, verified, part, "verification")
        elif part in SEARCHES:
            search = _once(text, search, part, "search")
        elif part in LOCAL_PARTS or _SMOOTHING.fullmatch(part):
            raise LowqError(f"--method {text}: {part} is a part of how; write how+{part}")
        else:
            raise LowqError(
                f"--method {text}: there is no {part or 'empty part'!r}; join one of {', '.join(EMBEDDINGS)} "
                f"(or a checkpoint's path) and at most one of {', '.join(TUNED)}, one of "
                f"{', '.join(WHITENINGS)}, restored, dba, one of {', '.join(VERIFIERS)} and one of "
                f"{', '.join(SEARCHES)} with +, or how and its parts (see `lowq list methods`)"
            )
    if embedding is not None and embedding not in EMBEDDINGS:
        _must_exist(embedding)
        if tuned is not None:
            raise LowqError(f"--method {text}: a checkpoint is trained already; leave {tuned} out")
    if verified is not None and search is not None and search not in STARTED:
        raise LowqError(
            f"--method {text}: {search} does not start from verified pictures; after {verified} comes one of "
            f"{', '.join(STARTED)}, or none"
        )
    trunk = Tuned(tuned) if tuned else None
    return Method(
        embedding or "gem",
        whitening,
        trunk,
        bool(restored),
        bool(augmented),
        verified=verified,
        search=search,
    )


def _local(text: str, parts: list[str]) -> LocalMethod:
    context, smoothing, checkpoint = None, None, None
    for part in parts:
        if part in CONTEXTS:
            context = _once(text, context, part, "context")
        elif _SMOOTHING.fullmatch(part):
            smoothing = _once(text, smoothing, part, "smoothing")
        elif _looks_like_a_file(part):
            checkpoint = _once(text, checkpoint, part, "checkpoint")
        elif part not in _SWITCHES:
            raise LowqError(
                f"--method {text}: how has no part {part or 'empty part'!r}; join {', '.join(LOCAL_PARTS)} "
                f"or a checkpoint's path to it with +"
            )
    after: dict[str, Any] = {field: part in parts for part, field in _AFTER.items()}
    for part in _SWITCHES:
        if parts.count(part) > 1:
            raise LowqError(f"--method {text}: says {part} twice; say it once")
    if checkpoint is not None:
        _must_exist(checkpoint)
        if {*parts} - {"how", "asmk", *_AFTER, checkpoint}:
            raise LowqError(f"--method {text}: a checkpoint brings its own parts; leave the others out")
        return LocalMethod(checkpoint=Path(checkpoint), **after)
    found = LocalMethod(
        context=CONTEXTS[context] if context else "none",
        seed=None if "untrained" in parts else 0,
        **after,
        **_smoothing(smoothing) if smoothing else {},
    )
    if found.kernel % 2 == 0:
        raise LowqError(f"--method {text}: kernel {found.kernel} has no middle; use an odd one, such as 3")
    return found


def _smoothing(part: str) -> dict[str, Any]:
    match = _SMOOTHING.fullmatch(part)
    if match is None or match["kind"] is None:
        return {"smoothing": "none"}
    kind = "learnable" if match["kind"] == "smoothing" else "average"
    return {"smoothing": kind, "kernel": int(match["kernel"]), "mode": match["mode"] or "spatial"}


def _parts(text: str) -> list[str]:
    """`text` split at +, but for a path of an existing file that holds a + itself, in front or after `how+`."""
    pieces = text.split("+")
    for start in (0, 1):
        for count in range(len(pieces), start + 1, -1):
            path = "+".join(pieces[start:count])
            if Path(path).is_file():
                return [*pieces[:start], path, *pieces[count:]]
    return pieces


def _looks_like_a_file(part: str) -> bool:
    return "/" in part or Path(part).suffix in (".pth", ".pt", ".tar", ".safetensors") or Path(part).is_file()


def _must_exist(checkpoint: str) -> None:
    if not Path(checkpoint).is_file():
        raise LowqError(f"{checkpoint}: no such checkpoint; give the path of a file that exists")


def _once(text: str, before: str | None, part: str, kind: str) -> str:
    if before is not None:
        raise LowqError(f"--method {text}: names two parts of the kind {kind}, {before} and {part}; keep one")
    return part
