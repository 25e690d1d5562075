"""Smoothing and context of local descriptors: learned filter against average pooling, graph against attention.

Learned smoothing, forward and backward, is timed against `avg_pool2d` of the same kernel on the same map, in both
memory layouts; its memory against that of the map. Graph refinement, forward, is timed against the trunk's
forward on the picture whose map it refines, of 768 cells: 1024 x 768 pixels, or 512 x 384 where a trunk's cells are
16 pixels wide. Then, forward too, it is held against the two ways to look around that the slides call expensive
(SOLAR's second-order attention) and hard to train (self-attention), on maps of 768 and 3,072 cells. Trunks have
random weights here, which takes as long. Memory is the peak above what was there before (map, its gradient, the
module), so it includes the result and, for training, the gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from _harness import Case, main
from torch import Tensor, nn

from lowq_core.models.attention import SecondOrderAttention, SelfAttention
from lowq_core.models.backbone import backbone
from lowq_core.models.graph_refinement import GraphRefinement
from lowq_core.models.smoothing import AverageSmoothing, LearnableSmoothing, SmoothingMode

MODES: tuple[SmoothingMode, ...] = ("spatial", "feature", "both")
LAYOUTS = ("channels first", "channels last")
ATTENTIONS: tuple[tuple[str, Callable[[int], nn.Module]], ...] = (
    ("SOLAR's second-order attention", SecondOrderAttention),
    ("self-attention", SelfAttention),
)

Both = tuple[nn.Module, nn.Module, Tensor]


def smoothings(
    channels: int, height: int, width: int, kernel: int, mode: SmoothingMode, layout: torch.memory_format
) -> Both:
    torch.manual_seed(0)
    x = torch.rand(1, channels, height, width).contiguous(memory_format=layout).requires_grad_()
    both = AverageSmoothing(kernel), LearnableSmoothing(channels, kernel, mode)
    for module in both:  # what a library does at its first use is not this map's memory
        small = torch.rand(1, channels, 2, 2).contiguous(memory_format=layout).requires_grad_()
        module(small).backward(small.detach())
    return *both, x


def train(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Result and gradient of x; the gradient of the result is x itself, so that it costs nothing."""
    x.grad = None
    y = module(x)
    y.backward(x.detach())
    return y.detach(), x.grad


def agree(theirs: tuple[Tensor, Tensor], ours: tuple[Tensor, Tensor]) -> str:
    """At its start the learned filter is the average, so results and gradients have to be the same."""
    difference = max(float((a - b).abs().max()) for a, b in zip(theirs, ours, strict=True))
    if difference > 1e-4:
        raise SystemExit(f"the learned filter starts {difference:.1e} from the average")
    return f"difference {difference:.1e}"


def smoothing_case(
    kernel: int,
    mode: SmoothingMode,
    layout: str,
    size: tuple[int, int, int],
    promise: float | None = None,
) -> Case:
    channels, height, width = size
    memory_format = torch.channels_last if layout == "channels last" else torch.contiguous_format
    megabytes = channels * height * width * 4 / 2**20
    return Case(
        what=f"learned smoothing, {mode}, kernel {kernel}, {layout}",
        size=f"{channels}x{height}x{width} ({megabytes:.0f} MB)",
        peer_name="average smoothing",
        prepare=functools.partial(smoothings, *size, kernel, mode, memory_format),
        peer=lambda average, learned, x: train(average, x),
        ours=lambda average, learned, x: train(learned, x),
        check=agree,
        promise=promise,
        repeats=15,
    )


@torch.inference_mode()
def smooth(average: nn.Module, learned: nn.Module, x: Tensor) -> Tensor:
    smoothed: Tensor = learned(x)
    return smoothed


def forward_case(layout: str) -> Case:
    """Memory alone: what inference takes, the result included."""
    memory_format = torch.channels_last if layout == "channels last" else torch.contiguous_format
    return Case(
        what=f"learned smoothing, spatial, kernel 7, {layout}, forward",
        size="1024x48x64 (12 MB)",
        peer_name="none (promised: below 36 MB)",
        prepare=functools.partial(smoothings, 1024, 48, 64, 7, "spatial", memory_format),
        peer=None,
        ours=smooth,
    )


Picture = tuple[nn.Module, Tensor, GraphRefinement, Tensor]


def picture(name: str, width: int, height: int) -> Picture:
    torch.manual_seed(0)
    trunk = backbone(name, "random")
    cells = torch.rand(1, trunk.channels, height // trunk.stride, width // trunk.stride) - 0.3
    return trunk, torch.rand(1, 3, height, width), GraphRefinement(trunk.channels), cells


@torch.inference_mode()
def run_trunk(trunk: nn.Module, photo: Tensor, graph: GraphRefinement, cells: Tensor) -> None:
    trunk(photo)


@torch.inference_mode()
def run_graph(trunk: nn.Module, photo: Tensor, graph: GraphRefinement, cells: Tensor) -> None:
    if not torch.equal(graph(cells).features, cells):
        raise SystemExit("graph refinement does not start as the identity")


def graph_case(name: str, width: int, height: int) -> Case:
    return Case(
        what=f"graph refinement, k = 8, against {name}",
        size=f"{width}x{height} pixels",
        peer_name="its trunk",
        prepare=functools.partial(picture, name, width, height),
        peer=run_trunk,
        ours=run_graph,
        promise=1.0,
        memory=False,
    )


Rivals = tuple[nn.Module, GraphRefinement, Tensor]


def rivals(make: Callable[[int], nn.Module], channels: int, height: int, width: int) -> Rivals:
    torch.manual_seed(0)
    cells = (torch.rand(1, channels, height, width) - 0.3).contiguous(memory_format=torch.channels_last)
    both = make(channels).eval(), GraphRefinement(channels)
    for module in both:  # what a library does at its first use is not this map's memory
        module(cells[:, :, :2, :2])
    return *both, cells


@torch.inference_mode()
def look_around(module: nn.Module, cells: Tensor) -> Tensor:
    refined: Tensor = module(cells).features
    return refined


def same(theirs: Tensor, ours: Tensor) -> str:
    """Each starts as the identity, so the results have to be the same."""
    if not torch.equal(theirs, ours):
        raise SystemExit("a context module does not start as the identity")
    return "equal"


def rival_case(name: str, make: Callable[[int], nn.Module], channels: int, height: int, width: int) -> Case:
    return Case(
        what="graph refinement, k = 8",
        size=f"{channels} channels, {height * width:,} cells",
        peer_name=name,
        prepare=functools.partial(rivals, make, channels, height, width),
        peer=lambda attention, graph, cells: look_around(attention, cells),
        ours=lambda attention, graph, cells: look_around(graph, cells),
        check=same,
    )


def large_graph(channels: int, height: int, width: int) -> tuple[GraphRefinement, Tensor]:
    torch.manual_seed(0)
    return GraphRefinement(channels), torch.rand(1, channels, height, width) - 0.3


@torch.inference_mode()
def refine(graph: GraphRefinement, cells: Tensor) -> None:
    graph(cells)


def cases(quick: bool) -> list[Case]:
    found = [
        smoothing_case(3, mode, layout, (1024, 24, 32), promise=1 / 3) for mode in MODES for layout in LAYOUTS
    ]
    found += [smoothing_case(7, mode, layout, (1024, 48, 64)) for mode in MODES for layout in LAYOUTS]
    if quick:
        found = [smoothing_case(3, "spatial", "channels first", (64, 6, 8))]
        return [
            *found,
            graph_case("resnet18", 256, 192),
            *(rival_case(*rival, 64, 6, 8) for rival in ATTENTIONS),
        ]
    cells = (96, 128)
    return [
        *found,
        *map(forward_case, LAYOUTS),
        graph_case("resnet18", 1024, 768),
        graph_case("resnet50-", 512, 384),
        graph_case("lite0-", 512, 384),
        *(
            rival_case(*rival, channels, height, width)
            for channels in (112, 512)  # of lite0-, and of ResNet-18, the slides' trunk
            for height, width in ((24, 32), (48, 64))
            for rival in ATTENTIONS
        ),
        Case(
            what="memory of graph refinement, 1024 channels",
            size=f"{cells[0] * cells[1]:,} cells",
            peer_name="none (promised: below 1,024 MB)",
            prepare=functools.partial(large_graph, 1024, *cells),
            peer=None,
            ours=refine,
            repeats=1,
        ),
    ]


if __name__ == "__main__":
    main(cases, __doc__)
