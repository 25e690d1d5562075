"""Feature map to vector: MAC, SPoC, GeM, R-MAC, and L2 normalisation; each as a function and as a module.

None of the functions normalises its result, except that R-MAC normalises each region before the sum.
Conventions are those of cirtorch (Radenovic, Tolias, Chum, TPAMI 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-6
"""Floor of GeM's activations, and what is added to a norm before dividing by it."""


def l2n(x: Tensor, eps: float = EPS, dim: int = 1) -> Tensor:
    """x / (||x||_2 + eps) along `dim`; a zero vector stays zero.

    >>> l2n(torch.tensor([[3.0, 4.0]]), eps=0.0)
    tensor([[0.6000, 0.8000]])
    """
    return x / (torch.linalg.vector_norm(x, dim=dim, keepdim=True) + eps)


def mac(x: Tensor) -> Tensor:
    """Maximum of each channel (Razavian et al. 2014): (B, C, H, W) -> (B, C).

    >>> mac(torch.tensor([[[[1.0, 5.0]]]]))
    tensor([[5.]])
    """
    return x.amax((2, 3))


def spoc(x: Tensor) -> Tensor:
    """Mean of each channel (Babenko and Lempitsky 2015): (B, C, H, W) -> (B, C).

    >>> spoc(torch.tensor([[[[1.0, 5.0]]]]))
    tensor([[3.]])
    """
    return x.mean((2, 3))


def gem(x: Tensor, p: float | Tensor = 3.0, eps: float = EPS) -> Tensor:
    """Generalised mean, (mean max(x, eps)^p)^(1/p): (B, C, H, W) -> (B, C); Radenovic et al. 2019, eq. 4.

    `p` = 1 is SPoC and `p` to infinity MAC (on maps of at least `eps`). `p` may be one number, or a tensor
    that requires a gradient.

    >>> round(gem(torch.tensor([[[[1.0, 7.0]]]]), p=2.0).item(), 4)
    5.0
    """
    powers = torch.exp(p * x.clamp(min=eps).log())  # half the time of pow, forwards and backwards
    return powers.mean((2, 3)).pow(1.0 / p)


def rmac(x: Tensor, levels: int = 3) -> Tensor:
    """Sum of the L2-normalised maxima of a grid of regions: (B, C, H, W) -> (B, C); Tolias et al. 2016.

    The regions are those of `rmac_regions`; the whole map counts as one more region, as in cirtorch.

    >>> rmac(torch.ones(1, 1, 1, 1)).shape
    torch.Size([1, 1])
    """
    total = l2n(mac(x))
    for top, left, side in rmac_regions(x.shape[2], x.shape[3], levels):
        total = total + l2n(mac(x[:, :, top : top + side, left : left + side]))
    return total


def rmac_regions(height: int, width: int, levels: int = 3) -> list[tuple[int, int, int]]:
    """Square regions (top, left, side) of a map of `height` x `width` cells.

    Level l has regions of side floor(2 w / (l + 1)), w the shorter side, l along the shorter side and l + d
    along the longer one; d, 1 to 6, brings the overlap of neighbours at level 1 nearest to 40 %. Regions are
    spread evenly, their corners rounded down.

    >>> rmac_regions(2, 2, levels=1)
    [(0, 0, 2)]
    """
    short, long = min(height, width), max(height, width)
    extra = 0
    if long > short:
        # |overlap - 0.4| times 5 short, overlap = 1 - (long - short) / (d short); the first of equals.
        extra = min(range(1, 7), key=lambda d: abs(3 * d * short - 5 * (long - short)) / d)
    regions = []
    for level in range(1, levels + 1):
        side = 2 * short // (level + 1)
        if side == 0:
            continue
        tops = _spread(height - side, level + (extra if height > width else 0))
        lefts = _spread(width - side, level + (extra if width > height else 0))
        regions += [(top, left, side) for top in tops for left in lefts]
    return regions


def _spread(room: int, count: int) -> list[int]:
    """`count` whole numbers from 0 to `room`, evenly spread, rounded down."""
    return [0] if count == 1 else [i * room // (count - 1) for i in range(count)]


class L2N(nn.Module):
    """Module twin of `l2n`."""

    def forward(self, x: Tensor) -> Tensor:
        return l2n(x)


class MAC(nn.Module):
    """Module twin of `mac`."""

    def forward(self, x: Tensor) -> Tensor:
        return mac(x)


class SPoC(nn.Module):
    """Module twin of `spoc`."""

    def forward(self, x: Tensor) -> Tensor:
        return spoc(x)


class GeM(nn.Module):
    """Module twin of `gem`; the exponent `p`, shape (1,), is learned.

    >>> GeM(p=4.0).p.item()
    4.0
    """

    def __init__(self, p: float = 3.0, eps: float = EPS) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), float(p)))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return gem(x, self.p, self.eps)


class RMAC(nn.Module):
    """Module twin of `rmac`."""

    def __init__(self, levels: int = 3) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        return rmac(x, self.levels)
