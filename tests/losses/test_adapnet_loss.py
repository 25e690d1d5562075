"""The sum of AdapNet's terms: weights, terms that are switched off, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.losses import infonce
from lowq_core.losses.adapnet import AdapNetLoss, Pairs
from lowq_core.losses.infonce import info_nce
from lowq_core.losses.noiretrieval import NoiRetrieval
from lowq_core.losses.siblings import ArcFace


def batch() -> tuple[Tensor, Tensor, Pairs, Pairs]:
    """Degraded and clean embeddings are classified, so labels come twice; pairs are of one each."""
    generator = torch.Generator().manual_seed(0)
    degraded, clean, local, clean_local = torch.randn(4, 4, 6, generator=generator).unbind()
    labels = torch.tensor([0, 1, 1, 2])
    degraded.requires_grad_()
    return (
        torch.cat([degraded, clean]),
        labels.repeat(2),
        Pairs(degraded, clean, labels),
        Pairs(local, clean_local, labels),
    )


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.1, 2.0), (0.5, 0.0), (0.0, 2.0)])
def test_weighted_sum(alpha: float, beta: float) -> None:
    z, y, of_global, of_local = batch()
    classification = ArcFace(6, 3)
    terms = AdapNetLoss(classification, alpha, beta, temperature=0.2)(z, y, of_global, of_local)
    wanted = classification(z, y)
    for weight, pairs in ((alpha, of_global), (beta, of_local)):
        wanted = wanted + weight * info_nce(*pairs, temperature=0.2)
    torch.testing.assert_close(terms.total, wanted)
    assert torch.equal(terms.classification, classification(z, y))
    assert (terms.of_global is None, terms.of_local is None) == (alpha == 0, beta == 0)


def test_both_weights_zero_is_noiretrieval_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("InfoNCE was computed")

    monkeypatch.setattr(infonce, "info_nce", never)
    z, y, *both = batch()
    classification = NoiRetrieval(6, 3).eval()
    loss = AdapNetLoss(classification, 0, 0)
    for pairs in (both, []):
        terms = loss(z, y, *pairs)
        assert torch.equal(terms.total, classification(z, y))
        assert terms[2:] == (None, None)


def test_all_parts_are_trained() -> None:
    z, y, of_global, of_local = batch()
    loss = AdapNetLoss(NoiRetrieval(6, 3))
    terms = loss(z, y, of_global, of_local)
    terms.total.backward()
    assert [name for name, _ in loss.named_parameters()] == ["classification.weight"]
    degraded = of_global.compensated.grad
    assert degraded is not None
    assert torch.isfinite(degraded).all()
    assert loss.classification.weight.grad is not None


def test_mode_reaches_the_statistics() -> None:
    z, y, *pairs = batch()
    loss = AdapNetLoss(NoiRetrieval(6, 3)).eval()
    loss(z, y, *pairs)
    assert isinstance(loss.classification, NoiRetrieval)
    assert loss.classification.statistics.mu.item() == 20.0
    loss.train()(z, y, *pairs)
    assert loss.classification.statistics.mu.item() != 20.0


def test_bad_input() -> None:
    z, y, of_global, of_local = batch()
    for value in (-0.1, math.nan, math.inf):
        with pytest.raises(LowqError, match="alpha="):
            AdapNetLoss(nn.Identity(), alpha=value)
        with pytest.raises(LowqError, match="beta="):
            AdapNetLoss(nn.Identity(), beta=value)
    loss = AdapNetLoss(NoiRetrieval(6, 3))
    with pytest.raises(LowqError, match="beta=1 needs pairs"):
        loss(z, y, of_global)
    with pytest.raises(LowqError, match="alpha=1 needs pairs"):
        loss(z, y, of_local=of_local)
    with pytest.raises(LowqError, match="temperature"):
        AdapNetLoss(nn.Identity(), temperature=0)
