"""Softmax with a margin on the angle to the own class, by one function; and what all such losses share.

Each loss of the family says two things of a sample, and no more: by how much its angle is widened, and what is
taken off its cosine. Embeddings are as they come out of the network, before normalisation, since their length
is what the losses of quality look at.

    softmax    angle + 0        cosine - 0                           `siblings`
    CosFace    angle + 0        cosine - m                           `siblings`
    ArcFace    angle + m        cosine - 0                           `siblings`
    AdaFace    angle - m z      cosine - m (1 + z)                   `siblings`;  z: quality, -1..1
    NoiRetrieval, linear        angle + m (1 - l z)   cosine - 0     `noiretrieval`
    NoiRetrieval, mirrored      angle + m l z         cosine - m (1 - l z)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.losses.cosine_softmax import cosine_softmax

ANGLE_EPS = 1e-3
"""A widened angle stays in 1e-3..pi - 1e-3, as in AdaFace."""

NORM_EPS = 1e-6
"""Shorter embeddings count as this long: one of zeros has the cosine 0 with every class and a finite gradient."""


def margin_softmax(
    embeddings: Tensor,
    labels: Tensor,
    weight: Tensor,
    angle: Tensor | float = 0.0,
    additive: Tensor | float = 0.0,
    scale: float = 30.0,
) -> Tensor:
    """Mean cross-entropy of cosine logits, the own class's with a margin.

        cos_ij = clip(z_i . w_j / (||z_i|| ||w_j||), -(1 - 1e-3), 1 - 1e-3)
        logit of y(i)      s (cos(clip(arccos(cos_iy) + angle_i, 1e-3, pi - 1e-3)) - additive_i)
        logit of others    s cos_ij

    With p the softmax of these logits, the gradient to cos_iy is -s (1 - p_iy) sin(theta + angle) / sin(theta), to
    any other cos_ij s p_ij, each over B; nothing passes a clip. Gradients also reach `angle` and `additive` where
    they ask for one. The formula is that of AdaFace (Kim, Jain, Liu 2022), of which the rest are cases.

    All is computed in float32 (float64 where an argument is), whatever autocast says: in float16 a cosine near 1
    is known to 5e-4 only, which times the scale would be a visible step of the logit.

    Args:
        embeddings: (B, D), any float type, not normalised.
        labels: (B,) int64, 0..C-1.
        weight: (C, D), any float type, of any length.
        angle: (B,) or one number, radians.
        additive: (B,) or one number.
        scale: s, above 0.

    Returns:
        The mean, a scalar.

    Raises:
        LowqError: shapes that do not fit, an empty batch, labels that are not int64 or out of range, fewer than two
            classes, NaN or infinity, a scale that is not above 0.

    >>> z, weight = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> round(margin_softmax(z, torch.tensor([1]), weight, scale=10.0).item(), 4)  # log(1 + exp(10 (0.6 - 0.8)))
    0.1269
    """
    check_scale(scale)
    check_batch(embeddings, labels, weight)
    for name, value in (("angle", angle), ("additive", additive)):
        check_per_sample(name, value, len(embeddings))
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, weight.dtype), torch.float32)
    x = F.normalize(embeddings.to(dtype), eps=NORM_EPS)
    cosine, others = cosine_softmax(x, weight, labels, scale)
    widened = (cosine.acos() + angle).clamp(ANGLE_EPS, torch.pi - ANGLE_EPS)
    return F.softplus(others - scale * (widened.cos() - additive)).mean()


class MarginLoss(nn.Module):
    """What the family shares: a classifier without bias, whose rows start at random, of length 1.

    Attributes:
        weight: (classes, dim) float32, learned; of each row only the direction counts.
        scale: s.
    """

    def __init__(self, dim: int, classes: int, scale: float) -> None:
        super().__init__()
        if dim < 1 or classes < 2:
            raise LowqError(f"dim={dim}, classes={classes}: give one dimension and two classes, or more")
        check_scale(scale)
        self.weight = nn.Parameter(F.normalize(torch.rand(classes, dim) * 2 - 1))
        self.scale = float(scale)

    def extra_repr(self) -> str:
        return f"dim={self.weight.shape[1]}, classes={len(self.weight)}, scale={self.scale:g}"


def check_batch(embeddings: Tensor, labels: Tensor, weight: Tensor) -> None:
    """LowqError where these can't be trained with; the weights' numbers are seen by `cosine_softmax`."""
    sizes = [tuple(tensor.shape) for tensor in (embeddings, labels, weight)]
    shapes = "embeddings {}, labels {}, class weights {}".format(*sizes)
    fits = embeddings.ndim == 2 and labels.ndim == 1 and weight.ndim == 2
    if not fits or len(embeddings) != len(labels) or embeddings.shape[1] != weight.shape[1]:
        raise LowqError(f"margin loss: {shapes}; they have to be (B, D), (B,) and (C, D)")
    if embeddings.numel() == 0 or len(weight) < 2:
        raise LowqError(f"margin loss: {shapes}; give at least one embedding and two classes")
    if not embeddings.is_floating_point() or labels.dtype != torch.int64:
        raise LowqError(
            f"margin loss: embeddings are {embeddings.dtype} and labels {labels.dtype}; "
            "make them a float type and torch.int64"
        )
    if not torch.isfinite(embeddings).all():
        raise LowqError(
            "margin loss: embeddings hold NaN or infinity; look for it in the pictures and the network"
        )
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high >= len(weight):
        raise LowqError(
            f"margin loss: labels {low}..{high} do not fit {len(weight)} classes; number them from 0 to "
            f"{len(weight) - 1}, without gaps"
        )


def check_per_sample(name: str, value: Tensor | float, batch: int) -> None:
    """LowqError where `value` is a tensor, but not of one finite number a sample."""
    if isinstance(value, Tensor) and not (value.shape == (batch,) and torch.isfinite(value).all()):
        raise LowqError(
            f"margin loss: {name} {tuple(value.shape)} for {batch} embeddings; give ({batch},) finite numbers"
        )


def check_scale(scale: float) -> None:
    """LowqError where `scale` is not a finite number above 0."""
    if not 0 < scale < float("inf"):
        raise LowqError(f"scale={scale}: choose a finite number above 0, such as 30")


def check_margin(margin: float) -> None:
    """LowqError where `margin` is not in 0..pi / 2."""
    if not 0 <= margin <= torch.pi / 2:
        raise LowqError(f"margin={margin}: choose a number from 0 to {torch.pi / 2:.2f}, such as 0.15")
