"""Training step of the margin losses against a plain linear classifier: time and memory, forward and backward.

The peer is `nn.Linear` without bias and `F.cross_entropy`, on embeddings as they are. Both give the gradients of
the embeddings and of the class weights, which take the same memory on either side. The largest case is GLDv2-clean's
number of classes; its memory beyond the gradient is what has to stay below a second matrix of B x C.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from _harness import Case, main
from torch import Tensor, nn

from lowq_core.losses.margin import MarginLoss
from lowq_core.losses.noiretrieval import NoiRetrieval
from lowq_core.losses.siblings import AdaFace, ArcFace, CosFace, Softmax

Arguments = tuple[Tensor, MarginLoss, Tensor, Tensor]
Gradients = tuple[Tensor, Tensor]


def prepare(loss: type[MarginLoss], batch: int, classes: int, dim: int) -> Arguments:
    """Class weights for the peer (a copy: no gradient is shared), our loss, embeddings and labels."""
    torch.manual_seed(0)
    ours = loss(dim, classes)  # type: ignore[call-arg]
    embeddings = torch.randn(batch, dim)
    small = torch.randn(
        2, 8, requires_grad=True
    )  # what a library does at its first use is not this loss's memory
    plain_step(torch.randn(3, 8, requires_grad=True), small, torch.tensor([0, 1]))
    loss(8, 3)(small, torch.tensor([0, 1])).backward()  # type: ignore[call-arg]
    return ours.weight, ours, embeddings.requires_grad_(), torch.randint(classes, (batch,))


def plain_step(weight: Tensor, embeddings: Tensor, labels: Tensor) -> Gradients:
    loss = F.cross_entropy(F.linear(embeddings, weight), labels)
    of_weight, of_embeddings = torch.autograd.grad(loss, (weight, embeddings))
    return of_weight, of_embeddings


def plain(weight: Tensor, ours: nn.Module, embeddings: Tensor, labels: Tensor) -> Gradients:
    return plain_step(weight, embeddings, labels)


def margin(weight: Tensor, ours: nn.Module, embeddings: Tensor, labels: Tensor) -> Gradients:
    of_weight, of_embeddings = torch.autograd.grad(ours(embeddings, labels), (weight, embeddings))
    return of_weight, of_embeddings


def sound(theirs: Gradients, ours: Gradients) -> str:
    """The losses differ, and so do their gradients; tests hold ours against loops."""
    for gradient, name in zip(ours, ("class weights", "embeddings"), strict=True):
        if not torch.isfinite(gradient).all():
            raise SystemExit(f"the gradient of the {name} is not finite")
    return "finite"


def case(loss: type[MarginLoss], batch: int, classes: int, dim: int, repeats: int) -> Case:
    return Case(
        what=f"{loss.__name__}, forward and backward",
        size=f"{batch} x {classes:,} classes x {dim:,} ({batch * classes * 4 / 2**20:.0f} MB of logits)",
        peer_name="plain softmax",
        prepare=functools.partial(prepare, loss, batch, classes, dim),
        peer=plain,
        ours=margin,
        check=sound,
        promise=1 / 1.1 if classes > 80_000 else None,
        repeats=repeats,
    )


def cases(quick: bool) -> list[Case]:
    if quick:
        return [case(NoiRetrieval, 16, 500, 64, 3)]
    return [
        case(NoiRetrieval, 128, 81_313, 2048, 5),
        case(AdaFace, 128, 81_313, 2048, 3),
        *(case(loss, 128, 10_000, 2048, 7) for loss in (Softmax, CosFace, ArcFace, AdaFace, NoiRetrieval)),
    ]


if __name__ == "__main__":
    main(cases, __doc__)
