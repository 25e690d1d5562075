"""Retrievers of global descriptors by the short names that methods are composed of."""

from __future__ import annotations

from numbers import Integral, Real
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


_KINDS = {int: ("whole number", Integral), float: ("number", Real), str: ("word", str)}


def retriever(name: str, **options: Any) -> Retriever:
    """A new retriever; what `options` leave out is the paper's.

    Options are numbers and words, as they can be written in a command; a retriever that is given another one, as
    `DatabaseAugmentation` can be, is made from its class.

    Raises:
        LowqError: an unknown name, an option that it does not have, one of another kind or out of range.

    >>> retriever("aqe", n=1).fit([[1.0, 0.0], [0.0, 1.0]]).rank([[0.6, 0.8]], k=1).ids.tolist()
    [[1]]
    """
    if name not in RETRIEVERS:
        raise LowqError(f"there is no retriever {name!r}; choose among {', '.join(RETRIEVERS)}")
    kind = RETRIEVERS[name]
    known = plain_options(kind)
    for key, value in options.items():
        if key not in known:
            raise LowqError(f"{name} has no option {key!r}; choose among {', '.join(known)}")
        wanted, numbers = _KINDS[type(known[key])]
        if not isinstance(value, numbers) or isinstance(value, bool):
            raise LowqError(f"{name}: {key}={value!r} is no {wanted}; write one, such as {key}={known[key]}")
    return kind(**options)


def plain_options(kind: type[Retriever]) -> dict[str, int | float | str]:
    """The options of a retriever's constructor that are numbers or words, with their defaults.

    >>> plain_options(DatabaseAugmentation)
    {'n': 10, 'alpha': 3.0, 'search': 'exact'}
    """
    defaults = kind.__init__.__kwdefaults__ or {}
    return {key: value for key, value in defaults.items() if type(value) in _KINDS}
