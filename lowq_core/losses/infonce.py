"""InfoNCE between compensated and clean features, without the false negatives that a batch of landmarks has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowq_core.errors import LowqError

NORM_EPS = 1e-6
"""Shorter vectors count as this long: one of zeros is equally far from all."""


def info_nce(
    compensated: Tensor,
    clean: Tensor,
    labels: Tensor | None = None,
    temperature: float = 0.07,
    stop_gradient: bool = False,
) -> Tensor:
    """Each compensated feature has to find the clean one of its own picture among those of the batch.

        L = -1/B sum_i log( exp(c_i . h_i / t) / sum_{j in N(i)} exp(c_i . h_j / t) )
        N(i) = {i} and all j of another landmark

    c and h of length 1. Without labels N(i) is the whole batch (van den Oord et al. 2018, eq. 4). That AdapNet has
    this loss between compensated low-quality and clean features, global and local, is in its abstract; formula,
    temperature, mask and stop-gradient are a reconstruction.

    A row without negatives (a batch of one, or of one landmark) adds 0, with a gradient of 0. Computed in
    float32, or float64 where an argument is, whatever autocast says.

    Args:
        compensated: (B, D), any float type and length; row i belongs to row i of `clean`.
        clean: (B, D).
        labels: (B,) int64, any numbers; which landmark each picture shows. None where all differ.
        temperature: t, above 0.
        stop_gradient: True where `clean` is a goal that this loss must not move.

    Returns:
        The mean over the batch, a scalar, 0 or more.

    Raises:
        LowqError: shapes that do not fit, an empty batch, NaN or infinity, a temperature that is not above 0.

    >>> c = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> round(info_nce(c, c, temperature=1.0).item(), 4)  # log(1 + exp(-1))
    0.3133
    >>> info_nce(c, c, torch.tensor([7, 7])).item()
    0.0
    """
    _check_temperature(temperature)
    _check(compensated, clean, labels)
    dtype = torch.promote_types(torch.promote_types(compensated.dtype, clean.dtype), torch.float32)
    goal = clean.detach() if stop_gradient else clean
    with torch.autocast(compensated.device.type, enabled=False):
        c, h = (F.normalize(vectors.to(dtype), eps=NORM_EPS) for vectors in (compensated, goal))
        logits = c @ h.t() / temperature
        if labels is not None:
            same = labels.unsqueeze(1) == labels
            logits = logits.masked_fill(same.fill_diagonal_(False), -torch.inf)
        return (logits.logsumexp(1) - logits.diagonal()).mean()


class InfoNCE(nn.Module):
    """Module twin of `info_nce`.

    >>> InfoNCE(temperature=0.1).temperature
    0.1
    """

    def __init__(self, temperature: float = 0.07, stop_gradient: bool = False) -> None:
        super().__init__()
        _check_temperature(temperature)
        self.temperature, self.stop_gradient = float(temperature), stop_gradient

    def forward(self, compensated: Tensor, clean: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, D), (B, D), (B,) int64 or None -> the mean loss."""
        return info_nce(compensated, clean, labels, self.temperature, self.stop_gradient)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}, stop_gradient={self.stop_gradient}"


def _check(compensated: Tensor, clean: Tensor, labels: Tensor | None) -> None:
    shapes = f"compensated {tuple(compensated.shape)} and clean {tuple(clean.shape)}"
    if compensated.ndim != 2 or compensated.shape != clean.shape or compensated.numel() == 0:
        raise LowqError(f"InfoNCE: {shapes}; they have to be (B, D) of the same pictures, one or more")
    if not (compensated.is_floating_point() and clean.is_floating_point()):
        raise LowqError(f"InfoNCE: {compensated.dtype} and {clean.dtype}; make the features a float type")
    if not (torch.isfinite(compensated).all() and torch.isfinite(clean).all()):
        raise LowqError("InfoNCE: features hold NaN or infinity; look for it in the pictures and the network")
    if labels is None:
        return
    if labels.shape != compensated.shape[:1] or labels.dtype != torch.int64:
        raise LowqError(
            f"InfoNCE: labels {tuple(labels.shape)} {labels.dtype} for {len(compensated)} pictures; "
            "give one torch.int64 a picture, or None"
        )


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise LowqError(f"temperature={temperature}: choose a finite number above 0, such as 0.07")
