"""What a method is composed of: parts by name, and methods as data."""

from __future__ import annotations

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
BLOCK = ("branches", "gate")
"""Of the compensation block; what of `AdapNetConfig` a tuned trunk may change."""
RESTORED = {
    "restored": "queries restored before they are described, by what the picture itself shows to be wrong"
}
AUGMENTED = {
    "dba": "database pictures averaged with their nearest, α-weighted (DBA); before a search, or alone"
}
SEARCHES = {
    "aqe": "average query expansion",
    "alphaqe": "query expansion weighted by similarity (α-QE)",
    "dqe": "discriminative query expansion: a linear classifier of first and last",
    "dfs": "diffusion on the graph of mutual neighbours (DFS)",
    "dfst": "the same, truncated and solved beforehand",
    "fsr": "fast spectral ranking (FSR)",
    "dfs-fsr": "spectral ranking refined by a few steps of diffusion",
    "ime": "iterative manifold embedding (IME)",
    "gss": "guided similarity separation: a graph network trained on the database (GSS)",
    "gss-untrained": "the same network as it starts",
    "gss_v": "GSS on a graph that geometric verification has checked (GSS_V)",
    "gss_v-sv": "the same, with the query's neighbours verified too (GSS_V-SV)",
}
VERIFIERS = {
    "sv": "the first of a plain ranking re-ordered by geometric verification of HOW's features; a search after it "
    "starts from those that agree most",
    "hesaff": "the same with hand-made features (Hessian-affine, RootSIFT)",
    "dsm": "the same with regions of the trunk's own maps (deep spatial matching)",
}
STARTED = ("aqe", "alphaqe", "dfs", "dfst", "fsr", "dfs-fsr", "gss", "gss-untrained")
"""Searches that can start from verified pictures."""
BEGUN = (*STARTED, "dqe", "gss_v", "gss_v-sv")
"""Searches that begin with a query's nearest pictures."""
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
    "hqe": "Hamming query expansion after a first search",
    "sv": "the first of the ranking re-ordered by geometric verification of the same features",
}
CONTEXTS: dict[str, Context] = {
    "gcn": "gcn",
    "reweight": "gcn_reweight",
    "solar": "solar",
    "selfattention": "self_attention",
}


@dataclass(frozen=True)
class Tuned:
    """A trunk trained for bad pictures.

    Attributes:
        row: a key of `TUNED`, see `lowq_core.training.adapnet.ROWS`.
        seed: of the training.
        changes: fields of `AdapNetTraining`, or of its network (`BLOCK`), that differ from the profile's
            and the row's.
        drawn: how many pictures, of how many landmarks, are drawn of the training pictures; None takes all.
        share: how much of the way from the untrained weights to the trained ones is gone, see
            `lowq_core.models.adapnet.between`.

    Raises:
        LowqError: a share outside 0..1.
    """

    row: str
    seed: int = 0
    changes: tuple[tuple[str, Any], ...] = ()
    drawn: tuple[int, int] | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:  # said here, before anything is trained
            raise LowqError(
                f"{self.row}, share={self.share}: choose a number from 0, untrained, to 1, trained"
            )


@dataclass(frozen=True)
class Method:
    """A retrieval system of global descriptors, part by part.

    Attributes:
        embedding: a key of `EMBEDDINGS`, or the path of a published checkpoint.
        whitening: a key of `WHITENINGS`, or None.
        tuned: how the trunk is trained; None leaves it as ImageNet made it.
        restored: whether queries are restored first.
        augmented: whether the database is augmented.
        augmentation: options of that, that differ from the profile's.
        verified: a key of `VERIFIERS`: geometry re-orders the first of a plain ranking; None trusts the descriptors.
        skip_junk: whether this re-ordering leaves out what each protocol ignores, see `by_level`; only where there is
            ground truth, and to be compared with works that do so.
        search: a key of `SEARCHES`, or None for the plain inner product; with `verified` a key of `STARTED`.
        options: of the search (or, without one, of the verification), that differ from the profile's.
    """

    embedding: str = "gem"
    whitening: str | None = None
    tuned: Tuned | None = None
    restored: bool = False
    augmented: bool = False
    augmentation: tuple[tuple[str, Any], ...] = ()
    verified: str | None = None
    skip_junk: bool = False
    search: str | None = None
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The short name, as typed: `gem+adapnet+lw+gss`; seeds, changes and options share one."""
        parts = (
            self.embedding,
            self.tuned and self.tuned.row,
            self.whitening,
            "restored" if self.restored else None,
            "dba" if self.augmented else None,
            self.verified,
            self.search,
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
        expanded: whether queries are expanded after a first search (Hamming query expansion).
        verified: whether geometry re-orders the first of the ranking.
        skip_junk: as in `Method`.

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
    expanded: bool = False
    verified: bool = False
    skip_junk: bool = False

    @property
    def name(self) -> str:
        """The short name, as typed; seeds and options of ASMK share one."""
        after = ["hqe"] * self.expanded + ["sv"] * self.verified
        if self.checkpoint is not None:
            return "+".join(["how", str(self.checkpoint), *after])
        parts = ["how", *(key for key, context in CONTEXTS.items() if context == self.context)]
        if self.smoothing == "none":
            parts.append("unsmoothed")
        elif self.smoothing == "learnable":
            parts.append(f"smoothing{self.kernel}" + (f"-{self.mode}" if self.mode != "spatial" else ""))
        elif self.kernel != 3:
            parts.append(f"average{self.kernel}")
        return "+".join(parts + ["untrained"] * (self.seed is None) + after)

    @property
    def trained(self) -> bool:
        """Whether a part of it (the whitening at least) is fitted on training pictures."""
        return self.checkpoint is None


def check_skip(method: Method | LocalMethod) -> None:
    """LowqError where `method` skips junk, but re-orders nothing.

    >>> check_skip(Method(verified="sv", skip_junk=True))
    """
    if method.skip_junk and not (method.verified and (isinstance(method, LocalMethod) or not method.search)):
        raise LowqError(
            f"{method.name}: skip_junk=True, but no re-ordering comes last; leave it out, or end in one of "
            f"{', '.join(VERIFIERS)}"
        )
