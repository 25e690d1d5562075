"""The losses NoiRetrieval is compared with, in its call shape: cosine softmax, CosFace, ArcFace, AdaFace."""

from __future__ import annotations

from torch import Tensor

from lowq_core.losses.margin import MarginLoss, check_margin, check_per_sample, margin_softmax
from lowq_core.losses.quality import QualityMarginLoss


def softmax(embeddings: Tensor, labels: Tensor, weight: Tensor, scale: float = 30.0) -> Tensor:
    """Cross-entropy of s cos, without margin (normalised softmax; Wang et al., NormFace, 2017).

    Arguments, result and errors are those of `margin_softmax`.

    >>> import torch
    >>> round(softmax(torch.tensor([[9.0, 9.0]]), torch.tensor([0]), torch.eye(2)).item(), 4)  # log 2
    0.6931
    """
    return margin_softmax(embeddings, labels, weight, scale=scale)


def cosface(
    embeddings: Tensor, labels: Tensor, weight: Tensor, scale: float = 64.0, margin: float = 0.35
) -> Tensor:
    """Target logit s (cos theta - m) (Wang et al. 2018, eq. 4); the rest as in `margin_softmax`.

    >>> import torch
    >>> z = torch.tensor([[9.0, 9.0]])
    >>> round(cosface(z, torch.tensor([0]), torch.eye(2), scale=1.0, margin=0.5).item(), 4)  # log(1 + e^0.5)
    0.9741
    """
    check_margin(margin)
    return margin_softmax(embeddings, labels, weight, 0.0, margin, scale)


def arcface(
    embeddings: Tensor, labels: Tensor, weight: Tensor, scale: float = 64.0, margin: float = 0.5
) -> Tensor:
    """Target logit s cos(min(theta + m, pi - 1e-3)) (Deng et al. 2019, eq. 3); the rest as in `margin_softmax`.

    The logit stops where theta + m reaches pi, so that it never rises again; there it has no gradient.

    >>> import torch
    >>> z, m = torch.tensor([[9.0, 9.0]]), torch.pi / 4
    >>> round(arcface(z, torch.tensor([0]), torch.eye(2), scale=1.0, margin=m).item(), 4)  # log(1 + e^cos(45 deg))
    1.1079
    """
    check_margin(margin)
    return margin_softmax(embeddings, labels, weight, margin, 0.0, scale)


def adaface(
    embeddings: Tensor,
    labels: Tensor,
    weight: Tensor,
    quality: Tensor,
    scale: float = 64.0,
    margin: float = 0.4,
) -> Tensor:
    """Target logit s (cos(clip(theta - m z, 1e-3, pi - 1e-3)) - m (1 + z)) (Kim, Jain, Liu 2022, eq. 9).

    ArcFace at z = -1, CosFace at 0. At most angles the cosine drops by more the *better* the picture: at 60
    degrees and m = 0.4 by 0.377 at z = -1, 0.400 at 0 and 0.502 at 1. NoiRetrieval asks for the opposite.

    Args:
        quality: z, (B,), -1..1; the rest as in `margin_softmax`.

    >>> import torch
    >>> z, y, m = torch.tensor([[9.0, 3.0]]), torch.tensor([0]), 0.4
    >>> bool(adaface(z, y, torch.eye(2), torch.tensor([-1.0])) == arcface(z, y, torch.eye(2), margin=m))
    True
    """
    check_margin(margin)
    check_per_sample("quality", quality, len(embeddings))
    return margin_softmax(embeddings, labels, weight, -margin * quality, margin * (1 + quality), scale)


class Softmax(MarginLoss):
    """Module twin of `softmax`.

    Args:
        dim: D of the embeddings.
        classes: C, two or more.
        scale: s.

    >>> import torch
    >>> Softmax(8, 3)(torch.rand(4, 8), torch.tensor([0, 1, 2, 1])).shape
    torch.Size([])
    """

    def __init__(self, dim: int, classes: int, scale: float = 30.0) -> None:
        super().__init__(dim, classes, scale)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D) before normalisation, (B,) int64 -> the mean loss."""
        return softmax(embeddings, labels, self.weight, self.scale)


class CosFace(MarginLoss):
    """Module twin of `cosface`; defaults are those of faces.

    >>> CosFace(8, 3).margin
    0.35
    """

    def __init__(self, dim: int, classes: int, scale: float = 64.0, margin: float = 0.35) -> None:
        super().__init__(dim, classes, scale)
        check_margin(margin)
        self.margin = float(margin)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D) before normalisation, (B,) int64 -> the mean loss."""
        return cosface(embeddings, labels, self.weight, self.scale, self.margin)


class ArcFace(MarginLoss):
    """Module twin of `arcface`; defaults are those of faces.

    >>> ArcFace(8, 3).margin
    0.5
    """

    def __init__(self, dim: int, classes: int, scale: float = 64.0, margin: float = 0.5) -> None:
        super().__init__(dim, classes, scale)
        check_margin(margin)
        self.margin = float(margin)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D) before normalisation, (B,) int64 -> the mean loss."""
        return arcface(embeddings, labels, self.weight, self.scale, self.margin)


class AdaFace(QualityMarginLoss):
    """`adaface` with the quality of `NormStatistics`; defaults are those of its repository's command line.

    >>> import torch
    >>> loss = AdaFace(8, 3)
    >>> loss.quality(torch.full((1, 8), 1e3)).tolist()  # 100, to which norms are clipped, beside 20 +- 100
    [0.2663973271846771]
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        scale: float = 64.0,
        margin: float = 0.4,
        h: float = 0.333,
        momentum: float = 0.01,
    ) -> None:
        super().__init__(dim, classes, scale, margin, h, momentum)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D) before normalisation, (B,) int64 -> the mean loss."""
        quality = self._quality_in_training(embeddings, labels)
        return adaface(embeddings, labels, self.weight, quality, self.scale, self.margin)
