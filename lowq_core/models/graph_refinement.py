"""Context by a graph: similar cells of one picture, however far apart, exchange their features."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.models.context import Refined, check_map
from lowq_core.models.neighbours import Neighbours, dot_products, weighted_sums
from lowq_core.models.pooling import l2n

GraphVariant = Literal["residual", "reweight"]


class CosineGraph(NamedTuple):
    """A + I of one picture's cells: symmetric, without edges of weight 0.

    Attributes:
        neighbours: the E pairs, each cell's own (i, i) among them.
        weights: (E,); the cosine of the two cells, more than 0; 1 for (i, i).
    """

    neighbours: Neighbours
    weights: Tensor

    def normalised(self) -> Tensor:
        """(E,); D^(-1/2) (A + I) D^(-1/2), D the row sums of A + I (Kipf and Welling 2017)."""
        firsts, others = self.neighbours.firsts, self.neighbours.others
        sums = self.weights.new_zeros(len(self.neighbours.offsets) - 1).index_add(0, firsts, self.weights)
        root = sums.rsqrt()
        return self.weights * root.index_select(0, firsts) * root.index_select(0, others)


def cosine_graph(
    features: Tensor, k: int | None = 8, threshold: float | None = None, chunk: int = 1024
) -> CosineGraph:
    """Connect each cell to the `k` cells of largest cosine, to all with a cosine above `threshold`, or both.

    An edge needs a cosine above 0; with both `k` and `threshold` it has to meet both. (i, j) is an edge where
    i chose j or j chose i. Which cells are connected is not differentiated; the weights are. A cell of norm 0
    is connected to none. Maps after a ReLU have large cosines everywhere, so choose a threshold as a quantile
    of them.

    Args:
        features: (N, C).
        k: most cells that one cell chooses; None for no limit.
        threshold: of the cosine; None for no other than 0.
        chunk: cells whose N cosines are held at a time. With `k` it bounds memory, at 4 chunk N bytes and what
            at most 2 k N edges take; a threshold alone may leave any number of edges, up to N^2.

    Raises:
        LowqError: neither `k` nor `threshold`, k below 1, a threshold outside -1 to 1, features that are NaN or
            infinite.

    >>> graph = cosine_graph(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), k=1)
    >>> graph.neighbours.others.tolist(), [round(w, 2) for w in graph.weights.tolist()]
    ([0, 1, 0, 1, 2, 1, 2], [1.0, 0.71, 0.71, 1.0, 0.71, 0.71, 1.0])
    """
    check_choice(k, threshold)
    unit = l2n(features)
    neighbours = _symmetric(_chosen(unit.detach(), k, max(threshold or 0.0, 0.0), chunk), len(unit))
    weights = dot_products(unit.unsqueeze(0), neighbours).squeeze(0).clamp(min=0)
    return CosineGraph(neighbours, weights.masked_fill(neighbours.firsts == neighbours.others, 1.0))


@torch.no_grad()
def _chosen(unit: Tensor, k: int | None, floor: float, chunk: int) -> Tensor:
    """(2, E) pairs (i, j), i != j, that cell i chooses."""
    if not unit.isfinite().all():
        raise LowqError("graph: a feature is NaN or infinite; check the picture and the weights of the trunk")
    cells = len(unit)
    found = [torch.zeros(2, 0, dtype=torch.int64, device=unit.device)]
    for start in range(0, cells, chunk):
        cosines = unit[start : start + chunk] @ unit.t()
        rows = torch.arange(len(cosines), device=unit.device)
        cosines[rows, rows + start] = -2.0
        if k is None:
            found.append((cosines > floor).nonzero().t() + rows.new_tensor([[start], [0]]))
            continue
        values, others = cosines.topk(min(k, cells - 1), sorted=False)
        firsts = (rows + start).unsqueeze(1).expand_as(others)
        found.append(torch.stack([firsts, others])[:, values > floor])
    return torch.cat(found, 1)


def _symmetric(pairs: Tensor, cells: int) -> Neighbours:
    """`pairs`, their mirror images and (i, i) for each cell, sorted, each once."""
    own = torch.arange(cells, device=pairs.device)
    keys = torch.cat([pairs[0] * cells + pairs[1], pairs[1] * cells + pairs[0], own * (cells + 1)]).unique()
    firsts, others = keys // cells, keys % cells
    offsets = torch.searchsorted(firsts, torch.arange(cells + 1, device=pairs.device))
    reverse = torch.searchsorted(keys, others * cells + firsts)
    return Neighbours(offsets.int(), firsts.int(), others.int(), reverse.int())


class GraphRefinement(nn.Module):
    """Residual graph convolutions over the cells of each picture.

        X_0 = F,   X_(l+1) = X_l + gamma_l ReLU(Â X_l W_l),   Â of the cosine graph of F

    gamma_l starts at 0 and W_l at I, so the module starts as the identity. Variants: "residual" hands X_L to
    both attention and smoothing; "reweight" hands on F as it is and a gate for the attention alone, sigmoid(w
    X_L + b) with w = b = 0 at the start: 1/2 everywhere, which changes no order and no normalised descriptor.

    Reconstruction: the slides on context for local descriptors (Seo and Han, KAIST, 2024) name a graph of all
    local features of a picture, edges chosen by similarity, blocks that pass messages on, and re-weighting; not
    the layer, for which this takes that of Kipf and Welling (ICLR 2017), nor how edges are chosen.

    Features may be signed (trunks without a last ReLU): negative cosines are no edges.

    Args:
        channels: C.
        blocks: L.
        k, threshold: of `cosine_graph`.
        variant: "residual" or "reweight".

    Raises:
        LowqError: unknown variant, fewer than 1 block, and as `cosine_graph`.

    >>> x = torch.rand(2, 4, 3, 5)
    >>> refined = GraphRefinement(4)(x)
    >>> bool(torch.equal(refined.features, x)), refined.gate
    (True, None)
    """

    def __init__(
        self,
        channels: int,
        blocks: int = 2,
        k: int | None = 8,
        threshold: float | None = None,
        variant: GraphVariant = "residual",
    ) -> None:
        super().__init__()
        check_choice(k, threshold)
        if variant not in get_args(GraphVariant):
            raise LowqError(
                f"graph variant {variant!r} is unknown; choose {' or '.join(get_args(GraphVariant))}"
            )
        if blocks < 1:
            raise LowqError(f"blocks={blocks}: choose 1 or more, or no graph refinement")
        self.channels, self.k, self.threshold = channels, k, threshold
        self.layers = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in range(blocks))
        for weight in self.layers.parameters():
            nn.init.eye_(weight)
        self.gains = nn.Parameter(torch.zeros(blocks))
        self.readout = nn.Linear(channels, 1) if variant == "reweight" else None
        if self.readout is not None:
            nn.init.zeros_(self.readout.weight)
            nn.init.zeros_(self.readout.bias)

    def forward(self, x: Tensor) -> Refined:
        """(B, C, H, W) -> refined map, and with "reweight" the gate; each picture has a graph of its own.

        Raises:
            LowqError: another number of channels, no cell, NaN.
        """
        check_map(x, self.channels, "graph refinement")
        with torch.autocast(x.device.type, enabled=False):
            cells = x.to(self.gains.dtype).flatten(2).transpose(1, 2)
            refined = torch.stack([self._refine(picture) for picture in cells])
            if self.readout is not None:
                gate = self.readout(refined).sigmoid().view(len(x), *x.shape[2:])
                return Refined(x, gate)
        return Refined(refined.transpose(1, 2).reshape(x.shape).to(x.dtype))

    def _refine(self, cells: Tensor) -> Tensor:
        """(N, C) -> (N, C), all blocks on one picture."""
        graph = cosine_graph(cells, self.k, self.threshold)
        weights = graph.normalised().unsqueeze(0)
        for layer, gain in zip(self.layers, self.gains, strict=True):
            messages = weighted_sums(weights, layer(cells).unsqueeze(0), graph.neighbours).squeeze(0)
            cells = cells + gain * F.relu(messages)
        return cells

    @torch.no_grad()
    def connections(self, x: Tensor, location: tuple[int, int]) -> Tensor:
        """Edge weights (cosines) of the cell at `location` = (row, column) to all others, 0 where there is no edge.

        Args:
            x: (1, C, H, W), as given to `forward`.

        Returns:
            (H, W), 0 at the location itself; for the edge-connection map.

        Raises:
            LowqError: more than one picture, a location outside the map.
        """
        check_map(x, self.channels, "graph refinement")
        height, width = x.shape[2:]
        row, column = location
        if len(x) != 1 or not (0 <= row < height and 0 <= column < width):
            raise LowqError(
                f"connections of {location} in maps of shape {tuple(x.shape)}: give one map, and a location inside"
            )
        graph = cosine_graph(x[0].to(self.gains.dtype).flatten(1).t(), self.k, self.threshold)
        cell = row * width + column
        edges = slice(*graph.neighbours.offsets[cell : cell + 2].tolist())
        weights = x.new_zeros(height * width)
        weights[graph.neighbours.others[edges]] = graph.weights[edges].to(x.dtype)
        weights[cell] = 0
        return weights.view(height, width)


def check_choice(k: int | None, threshold: float | None) -> None:
    """LowqError where `k` and `threshold` of a cosine graph make no choice of edges."""
    if k is None and threshold is None:
        raise LowqError(
            "graph: k and threshold are both None; give one of them, or every cell meets every other"
        )
    if k is not None and k < 1:
        raise LowqError(f"graph: k={k}; connect each cell to at least one other")
    if threshold is not None and not -1 <= threshold < 1:
        raise LowqError(f"graph: threshold={threshold}; cosines lie between -1 and 1, so choose less than 1")
