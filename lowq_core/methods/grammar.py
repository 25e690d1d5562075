"""What `--method` says: one embedding, then what heals or searches it, joined by `+`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowq_core.errors import LowqError

if TYPE_CHECKING:  # the networks' module loads torch
    from lowq_core.models.how_config import Context, Smoothing
    from lowq_core.models.smoothing import SmoothingMode

EMBEDDINGS = {
    "mac": "maximum over the feature map (MAC)",
    "spoc": "mean over the feature map (SPoC)",
    "gem": "generalised mean over the feature map (GeM)",
    "rmac": "sum of the maxima of regions on a grid of three scales (R-MAC)",
}
WHITENINGS = {
    "pcaw": "PCA whitening, fitted on the profile's training pictures",
    "lw": "learned whitening from pairs of the same landmark, fitted on the profile's training pictures (Lw)",
}
TUNED = {
    "finetuned": "trunk trained on the profile's clean pictures",
    "augmented": "trunk trained on them with degradations as augmentation",
    "distilled": "trunk trained to say of degraded copies what it said of the clean pictures",
    "qcb": "augmented, with AdapNet's quality compensation block and InfoNCE",
    "ngb": "augmented, with AdapNet's margin by quality (NoiRetrieval)",
    "adapnet": "AdapNet: both",
}
RESTORED = {
    "restored": "queries restored before they are described, by what the picture itself shows to be wrong"
}
HOW = {"how": "HOW local descriptors searched by ASMK, trained on the profile's training pictures"}
LOCAL_PARTS = {
    "asmk": "the aggregated selective match kernel, which always searches: may be left out",
    "gcn": "graph refinement of the map",
    "reweight": "graph refinement as a gate of the attention",
    "solar": "SOLAR's second-order attention on the map",
    "selfattention": "plain self-attention on the map",
    "smoothing3": "learnable smoothing in place of the average, kernel 3 (or 5, 7, ...)",
    "unsmoothed": "no smoothing",
    "untrained": "trunk as ImageNet made it, the whitening alone fitted",
}
_CONTEXTS: dict[str, Context] = {
    "gcn": "gcn",
    "reweight": "gcn_reweight",
    "solar": "solar",
    "selfattention": "self_attention",
}
_SMOOTHING = re.compile(r"(?P<kind>smoothing|average)(?P<kernel>\d+)(?:-(?P<mode>feature|both))?|unsmoothed")


@dataclass(frozen=True)
class Tuned:
    """A trunk trained for bad pictures.

    Attributes:
        row: a key of `TUNED`, see `lowq_core.training.adapnet.ROWS`.
        seed: of the training.
        changes: fields of `AdapNetTraining` (or `branches`) that differ from the profile's and the row's.
        drawn: how many pictures, of how many landmarks, are drawn of the training pictures; None takes all.
    """

    row: str
    seed: int = 0
    changes: tuple[tuple[str, Any], ...] = ()
    drawn: tuple[int, int] | None = None


@dataclass(frozen=True)
class Method:
    """A retrieval system of global descriptors, part by part.

    Attributes:
        embedding: a key of `EMBEDDINGS`, or the path of a published checkpoint.
        whitening: a key of `WHITENINGS`, or None.
        tuned: how the trunk is trained; None leaves it as ImageNet made it.
        restored: whether queries are restored first.
    """

    embedding: str = "gem"
    whitening: str | None = None
    tuned: Tuned | None = None
    restored: bool = False

    @property
    def name(self) -> str:
        """The short name, as typed: `gem+adapnet+lw`; seeds and changes share one."""
        parts = (
            self.embedding,
            self.tuned and self.tuned.row,
            self.whitening,
            "restored" if self.restored else None,
        )
        return "+".join(part for part in parts if part)

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint's path where the embedding is one."""
        return None if self.embedding in EMBEDDINGS else Path(self.embedding)

    @property
    def trained(self) -> bool:
        """Whether a part of it is fitted on training pictures before it can be used."""
        return self.whitening is not None or self.tuned is not None


@dataclass(frozen=True)
class LocalMethod:
    """A retrieval system of local descriptors: HOW, with or without context, searched by ASMK.

    Attributes:
        context, smoothing, kernel, mode: as in `HowConfig`.
        seed: of the training; None leaves the trunk as ImageNet made it and fits the whitening alone.
        checkpoint: a network that is trained already, ours or a published one; the other fields do not count then.
        asmk: options of `ASMK` that differ from the paper's.

    >>> LocalMethod(context="gcn", smoothing="learnable").name
    'how+gcn+smoothing3'
    """

    context: Context = "none"
    smoothing: Smoothing = "average"
    kernel: int = 3
    mode: SmoothingMode = "spatial"
    seed: int | None = 0
    checkpoint: Path | None = None
    asmk: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The short name, as typed; seeds and options of ASMK share one."""
        if self.checkpoint is not None:
            return f"how+{self.checkpoint}"
        parts = ["how", *(key for key, context in _CONTEXTS.items() if context == self.context)]
        if self.smoothing == "none":
            parts.append("unsmoothed")
        elif self.smoothing == "learnable":
            parts.append(f"smoothing{self.kernel}" + (f"-{self.mode}" if self.mode != "spatial" else ""))
        elif self.kernel != 3:
            parts.append(f"average{self.kernel}")
        return "+".join(parts + ["untrained"] * (self.seed is None))

    @property
    def trained(self) -> bool:
        """Whether a part of it (the whitening at least) is fitted on training pictures."""
        return self.checkpoint is None


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
    embedding, whitening, tuned, restored = None, None, None, None
    for part in parts:
        if part in EMBEDDINGS or _looks_like_a_file(part):
            embedding = _once(text, embedding, part, "embedding")
        elif part in WHITENINGS:
            whitening = _once(text, whitening, part, "whitening")
        elif part in TUNED:
            tuned = _once(text, tuned, part, "training")
        elif part in RESTORED:
            restored = _once(text, restored, part, "restoration")
        elif part in LOCAL_PARTS or _SMOOTHING.fullmatch(part):
            raise LowqError(f"--method {text}: {part} is a part of how; write how+{part}")
        else:
            raise LowqError(
                f"--method {text}: there is no {part or 'empty part'!r}; join one of {', '.join(EMBEDDINGS)} "
                f"(or a checkpoint's path) and at most one of {', '.join(TUNED)}, one of "
                f"{', '.join(WHITENINGS)} and restored with +, or how and its parts (see `lowq list methods`)"
            )
    if embedding is not None and embedding not in EMBEDDINGS:
        _must_exist(embedding)
        if tuned is not None:
            raise LowqError(f"--method {text}: a checkpoint is trained already; leave {tuned} out")
    return Method(embedding or "gem", whitening, Tuned(tuned) if tuned else None, bool(restored))


def _local(text: str, parts: list[str]) -> LocalMethod:
    context, smoothing, checkpoint = None, None, None
    for part in parts:
        if part in _CONTEXTS:
            context = _once(text, context, part, "context")
        elif _SMOOTHING.fullmatch(part):
            smoothing = _once(text, smoothing, part, "smoothing")
        elif _looks_like_a_file(part):
            checkpoint = _once(text, checkpoint, part, "checkpoint")
        elif part not in ("how", "asmk", "untrained"):
            raise LowqError(
                f"--method {text}: how has no part {part or 'empty part'!r}; join {', '.join(LOCAL_PARTS)} "
                f"or a checkpoint's path to it with +"
            )
    for part in ("how", "asmk", "untrained"):
        if parts.count(part) > 1:
            raise LowqError(f"--method {text}: says {part} twice; say it once")
    if checkpoint is not None:
        _must_exist(checkpoint)
        if {*parts} - {"how", "asmk", checkpoint}:
            raise LowqError(f"--method {text}: a checkpoint brings its own parts; leave the others out")
        return LocalMethod(checkpoint=Path(checkpoint))
    found = LocalMethod(
        context=_CONTEXTS[context] if context else "none",
        seed=None if "untrained" in parts else 0,
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
