"""NoiRetrieval, the noise gradient bias of AdapNet: the worse the picture, the wider the margin. Reconstruction.

Certain (abstract of arXiv 2405.17718): a softmax with an angular margin that depends on an image quality descriptor,
the normalised norm of the feature; a smaller norm has a larger margin. Reconstructed: everything with a number or a
symbol below, as neither formula nor code could be had. The descriptor is AdaFace's, of the fused feature before
normalisation; both forms are the plainest that do what is certain.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from lowq_core.errors import LowqError
from lowq_core.losses.margin import check_margin, check_per_sample, margin_softmax
from lowq_core.losses.quality import QualityMarginLoss

Form = Literal["linear", "mirrored"]


def noiretrieval(
    embeddings: Tensor,
    labels: Tensor,
    weight: Tensor,
    quality: Tensor,
    scale: float = 30.0,
    margin: float = 0.15,
    lam: float = 1.0,
    form: Form = "linear",
) -> Tensor:
    """Cross-entropy of cosine logits whose margin falls with the quality z (reconstruction).

        linear      s cos(min(theta + m (1 - l z), pi - 1e-3))
        mirrored    s (cos(clip(theta + m l z, 1e-3, pi - 1e-3)) - m (1 - l z))

    The linear form is ArcFace with a margin of 0..2m. The mirrored one is AdaFace with -z in z's place: CosFace at
    z = 0, ArcFace at 1, and at -1 the angle shrinks by m while the cosine loses 2m. In both, what the target's cosine
    drops by grows as z falls, strictly, at every angle (the linear form's until theta + margin reaches pi). The
    drop is to the loss what it is to the gradient: a bad picture is pulled to its class for longer.

    l = 0 is ArcFace (linear) or CosFace (mirrored) of the same m.

    Args:
        quality: z, (B,), -1..1.
        scale: s; 30 and m = 0.15 as usual for landmarks (DOLG, CVNet), assumed here.
        margin: m, 0..pi / 2.
        lam: l, 0..1, how much of the margin follows the quality.
        form: "linear" or "mirrored".
        embeddings, labels, weight: as in `margin_softmax`, whose errors are raised here, too.

    Raises:
        LowqError: margin or lam out of range, another form.

    >>> import torch
    >>> z, y, w = torch.tensor([[4.0, 3.0]]).expand(3, 2), torch.tensor([0, 0, 0]), torch.eye(2)
    >>> for quality in (-0.5, 0.0, 0.5):
    ...     round(noiretrieval(z, y, w, torch.full((3,), quality)).item(), 3)
    0.225
    0.047
    0.01
    """
    check_margin(margin)
    _check_form(lam, form)
    check_per_sample("quality", quality, len(embeddings))
    share = lam * quality
    if form == "linear":
        return margin_softmax(embeddings, labels, weight, margin * (1 - share), 0.0, scale)
    return margin_softmax(embeddings, labels, weight, margin * share, margin * (1 - share), scale)


class NoiRetrieval(QualityMarginLoss):
    """`noiretrieval` with the quality of `NormStatistics` (reconstruction).

    Args:
        dim: D of the embeddings.
        classes: C, two or more.
        scale, margin, lam, form: as in `noiretrieval`.
        h, momentum: as in `NormStatistics`.

    Raises:
        LowqError: an argument out of range.

    >>> import torch
    >>> loss = NoiRetrieval(8, 3)
    >>> loss(torch.rand(4, 8), torch.tensor([0, 1, 2, 1])).backward()
    >>> loss.weight.grad.shape
    torch.Size([3, 8])
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        scale: float = 30.0,
        margin: float = 0.15,
        lam: float = 1.0,
        form: Form = "linear",
        h: float = 0.333,
        momentum: float = 0.01,
    ) -> None:
        _check_form(lam, form)
        super().__init__(dim, classes, scale, margin, h, momentum)
        self.lam, self.form = float(lam), form

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D) fused features before normalisation, (B,) int64 -> the mean loss."""
        quality = self._quality_in_training(embeddings, labels)
        return noiretrieval(
            embeddings, labels, self.weight, quality, self.scale, self.margin, self.lam, self.form
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, lam={self.lam:g}, form={self.form!r}"


def _check_form(lam: float, form: str) -> None:
    if not 0 <= lam <= 1:
        raise LowqError(f"lam={lam}: choose a number from 0 (margin as it is) to 1 (all of it by quality)")
    if form not in get_args(Form):
        raise LowqError(f"form={form!r} is unknown; choose linear or mirrored")
