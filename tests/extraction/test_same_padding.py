""" "Same" padding as a larger kernel and symmetric padding, against timm's padded copy of the map."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from lowq_core.errors import LowqError
from lowq_core.extraction.same_padding import symmetric


@given(
    sides=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kernel=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    groups=st.sampled_from([1, 2]),
)
def test_equals_the_padded_copy(
    sides: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], groups: int
) -> None:
    torch.manual_seed(0)
    conv = Conv2dSame(4, 6, kernel, stride=stride, groups=groups).double()
    x = torch.randn(2, 4, *sides, dtype=torch.float64)
    weight, padding = symmetric(conv, x.shape)
    found = F.conv2d(x, weight, conv.bias, stride, padding, groups=groups)
    torch.testing.assert_close(found, conv(x), rtol=0, atol=1e-12)


def test_a_dilated_kernel_is_refused() -> None:
    with pytest.raises(LowqError, match=r"dilation=\(2, 2\)"):
        symmetric(nn.Conv2d(1, 1, 3, dilation=2), torch.Size((1, 1, 8, 8)))
