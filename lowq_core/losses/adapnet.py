"""The sum AdapNet is trained on: classification with a margin by quality, and InfoNCE twice."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.losses.infonce import InfoNCE


class Pairs(NamedTuple):
    """Features of the same pictures, degraded and clean.

    Attributes:
        compensated: (B, D), of the degraded copies, after compensation.
        clean: (B, D), of the clean pictures.
        labels: (B,) int64, the landmarks; None where all differ.
    """

    compensated: Tensor
    clean: Tensor
    labels: Tensor | None = None


class AdapNetTerms(NamedTuple):
    """Scalars; a term that is switched off is None.

    Attributes:
        total: what is made small.
        classification: L_noi.
        of_global, of_local: InfoNCE, before its weight.
    """

    total: Tensor
    classification: Tensor
    of_global: Tensor | None = None
    of_local: Tensor | None = None


class AdapNetLoss(nn.Module):
    """L = L_noi + alpha L_nce(global) + beta L_nce(local).

    Three terms and two weights are certain (abstract of arXiv 2405.17718); where the features are taken, what L_nce
    is, and alpha = beta = 1 are a reconstruction. A weight of 0 switches its term off: it is not computed and its
    pairs need not be given, so with both at 0 this is `classification` alone.

    Args:
        classification: a `NoiRetrieval`, or a sibling of it, for ablations.
        alpha, beta: weights, 0 or more.
        temperature, stop_gradient: as in `info_nce`.

    Raises:
        LowqError: a weight below 0 or not finite, a temperature that is not above 0.

    >>> import torch
    >>> from lowq_core.losses.noiretrieval import NoiRetrieval
    >>> loss = AdapNetLoss(NoiRetrieval(8, 3), alpha=0.5, beta=0.0)
    >>> degraded, clean, labels = torch.rand(4, 8), torch.rand(4, 8), torch.tensor([0, 1, 2, 1])
    >>> terms = loss(degraded, labels, of_global=Pairs(degraded, clean, labels))
    >>> bool(terms.total == terms.classification + 0.5 * terms.of_global)
    True
    """

    def __init__(
        self,
        classification: nn.Module,
        alpha: float = 1.0,
        beta: float = 1.0,
        temperature: float = 0.07,
        stop_gradient: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not 0 <= value < float("inf"):
                raise LowqError(
                    f"{name}={value}: choose a finite number from 0, where its term is switched off"
                )
        self.classification = classification
        self.alpha, self.beta = float(alpha), float(beta)
        self.info_nce = InfoNCE(temperature, stop_gradient)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        of_global: Pairs | None = None,
        of_local: Pairs | None = None,
    ) -> AdapNetTerms:
        """The terms and their sum.

        Args:
            embeddings: (N, D) to be classified, before normalisation: of the degraded copies, and of the clean
                pictures where these are classified, too.
            labels: (N,) int64, theirs.
            of_global: pooled features; needed where alpha is above 0.
            of_local: features of single places, or of an earlier layer, pooled; needed where beta is above 0.

        Raises:
            LowqError: pairs that are needed are missing, or do not fit together.
        """
        classification = self.classification(embeddings, labels)
        of_pairs = self._term("alpha", self.alpha, of_global), self._term("beta", self.beta, of_local)
        total = classification
        for weight, term in zip((self.alpha, self.beta), of_pairs, strict=True):
            if term is not None:
                total = total + weight * term
        return AdapNetTerms(total, classification, *of_pairs)

    def _term(self, name: str, weight: float, pairs: Pairs | None) -> Tensor | None:
        if weight == 0:
            return None
        if pairs is None:
            raise LowqError(f"{name}={weight:g} needs pairs of features; give them, or set {name} to 0")
        return self.info_nce(*pairs)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}, beta={self.beta:g}"
