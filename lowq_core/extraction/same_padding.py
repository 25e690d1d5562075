"""TensorFlow's "same" padding without a padded copy of the map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowq_core.errors import LowqError


def symmetric(conv: nn.Conv2d, shape: torch.Size) -> tuple[Tensor, tuple[int, int]]:
    """Kernel and symmetric padding that do for `shape` what "same" padding does, to the last bit.

    "Same" padding gives ceil(side / stride) outputs along a side, and puts an odd column of zeros last. The usual
    way writes the whole map once more with its zeros, which takes longer than the convolution itself. Here
    the kernel gets a first column of zeros where the padding is odd, and the map one column more before it:
    their product is zero.

    Args:
        conv: its kernel (D, C / groups, H, W), stride and dilation count, its padding does not.
        shape: (B, C, H, W) of the input.

    Raises:
        LowqError: a dilated kernel, for which a column of zeros would be too wide.

    >>> conv = nn.Conv2d(1, 1, 3, stride=2, bias=False)
    >>> _ = nn.init.ones_(conv.weight)
    >>> weight, padding = symmetric(conv, torch.Size((1, 1, 4, 5)))
    >>> weight[0, 0].tolist(), padding
    ([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], (1, 1))
    """
    if conv.dilation != (1, 1):
        raise LowqError(
            f'dilation={conv.dilation} with "same" padding cannot be fused; take a trunk without it'
        )
    rows, columns = (
        max((-(-side // stride) - 1) * stride + kernel - side, 0)
        for side, stride, kernel in zip(shape[2:], conv.stride, conv.kernel_size, strict=True)
    )
    return F.pad(conv.weight, (columns % 2, 0, rows % 2, 0)), (-(-rows // 2), -(-columns // 2))
