"""AdapNet's compensation block: a trunk with it against the trunk alone, at inference.

Pictures of 448 x 336, one at a time, float32, channels last, under `inference_mode`; malloc keeps freed memory,
as it does during extraction. Each trunk runs as it is, on all of torch's threads, and fused on one thread, as
each of our engine's workers runs it; that leaves the block the smaller share to hide in. Promised: at most 15 %
more time, so a ratio of at least 1 / 1.15. Weights are random; time does not depend on them.
"""

from __future__ import annotations

import functools

import torch
from _harness import Case, main
from torch import Tensor

from lowq_core.extraction.engine import speed_up
from lowq_core.extraction.memory import keep_freed_memory
from lowq_core.models.backbone import Backbone, backbone
from lowq_core.models.qcb import QCB, QCBConfig

PROMISE = 1 / 1.15
THREADS = torch.get_num_threads()

Picture = tuple[Backbone, QCB, Tensor]


def picture(name: str, fused: bool, branches: int, width: int, height: int) -> Picture:
    keep_freed_memory()
    torch.set_num_threads(1 if fused else THREADS)
    torch.manual_seed(0)
    trunk = backbone(name, "random")
    if fused:
        speed_up(trunk, "float32")
    block = QCB(QCBConfig(trunk.channels, branches)).eval()
    for module in (trunk, block):
        module.to(memory_format=torch.channels_last)
    return trunk, block, torch.rand(1, 3, height, width).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def alone(trunk: Backbone, block: QCB, photo: Tensor) -> Tensor:
    found: Tensor = trunk(photo)
    return found


@torch.inference_mode()
def compensated(trunk: Backbone, block: QCB, photo: Tensor) -> Tensor:
    found: Tensor = block(trunk(photo))
    return found


def same(theirs: Tensor, ours: Tensor) -> str:
    if not torch.equal(theirs, ours):
        raise SystemExit("the block does not start as the identity")
    return "identity at the start"


def case(name: str, fused: bool, branches: int, width: int, height: int, repeats: int) -> Case:
    way = "fused, 1 thread" if fused else f"as it is, {THREADS} thread{'s' * (THREADS > 1)}"
    return Case(
        what=f"{name} and {branches} branch{'es' * (branches > 1)}",
        size=f"{width}x{height} pixels",
        peer_name=f"{name}, {way}",
        prepare=functools.partial(picture, name, fused, branches, width, height),
        peer=alone,
        ours=compensated,
        check=same,
        promise=PROMISE,
        repeats=repeats,
        memory=False,
    )


def cases(quick: bool) -> list[Case]:
    if quick:
        return [case("lite0", fused, 8, 224, 160, 3) for fused in (False, True)]
    found = [case("lite0", fused, branches, 448, 336, 101) for fused in (False, True) for branches in (1, 8)]
    return found + [case("resnet50", fused, 8, 448, 336, 31) for fused in (False, True)]


if __name__ == "__main__":
    main(cases, __doc__)
