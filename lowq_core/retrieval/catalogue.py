"""Retrievers of global descriptors by the short names that methods are composed of."""

from __future__ import annotations

from typing import Any

from lowq_core.errors import LowqError
from lowq_core.retrieval.augmentation import DatabaseAugmentation
from lowq_core.retrieval.base import Retriever
from lowq_core.retrieval.diffusion.dfs import Diffusion
from lowq_core.retrieval.diffusion.truncated import TruncatedDiffusion
from lowq_core.retrieval.discriminative import DiscriminativeQE
from lowq_core.retrieval.exact import ExactSearch
from lowq_core.retrieval.expansion import AlphaQE, AverageQE
from lowq_core.retrieval.gss.retriever import GSS
from lowq_core.retrieval.manifold import ManifoldEmbedding
from lowq_core.retrieval.spectral import HybridDiffusion, SpectralRanking

RETRIEVERS: dict[str, type[Retriever]] = {
    "exact": ExactSearch,
    "aqe": AverageQE,
    "alphaqe": AlphaQE,
    "dqe": DiscriminativeQE,
    "dba": DatabaseAugmentation,
    "dfs": Diffusion,
    "dfst": TruncatedDiffusion,
    "fsr": SpectralRanking,
    "dfs-fsr": HybridDiffusion,
    "ime": ManifoldEmbedding,
    "gss": GSS,
}

QUERY_OPTIONS = ("query_k",)
"""Options that only queries mind: what is fitted is the same whatever they are."""


def retriever(name: str, **options: Any) -> Retriever:
    """A new retriever; what `options` leave out is the paper's.

    Raises:
        LowqError: an unknown name, an option that it does not have, or one out of range.

    >>> retriever("aqe", n=1).fit([[1.0, 0.0], [0.0, 1.0]]).rank([[0.6, 0.8]], k=1).ids.tolist()
    [[1]]
    """
    if name not in RETRIEVERS:
        raise LowqError(f"there is no retriever {name!r}; choose among {', '.join(RETRIEVERS)}")
    kind = RETRIEVERS[name]
    known = kind.__init__.__kwdefaults__ or {}
    for key in options:
        if key not in known:
            raise LowqError(f"{name} has no option {key!r}; choose among {', '.join(known)}")
    return kind(**options)
