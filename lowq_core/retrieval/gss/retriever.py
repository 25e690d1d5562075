"""GSS as a retriever: the graph, the network trained on it, and queries that look at the index."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lowq_core.errors import LowqError
from lowq_core.losses.gss_beta import PAIRS
from lowq_core.models.gss import GSSNetwork, NormalisedGraph, check_network, normalised
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.graph import Adjacency, check_lists, query_rows, union_graph
from lowq_core.retrieval.gss.training import Schedule, Trained, TrainingPrecision, train
from lowq_core.retrieval.knn import NeighbourIndex, Search, check_search
from lowq_core.retrieval.saved import read_saved, write_saved
from lowq_core.retrieval.threads import one_torch_thread
from lowq_core.retrieval.unit import UnitSearch, as_unit_descriptors, zero_rows

_QUERIES = 256  # at a time
_FEW = 16  # times fewer than the database has pictures
_SERIAL = 8  # queries at most, for which a second thread has next to nothing to do


class GSS:
    """Ranks by the cosine of a graph network's outputs, trained without labels on the index alone.

    Guided similarity separation (Liu, Yu, Hoi, Volkovs, NeurIPS 2019): a graph of nearest neighbours, a network that
    starts as averaging over it, and a loss by which similar pairs become more similar, others less. Queries change
    nothing in the index, whose outputs are computed once; a query takes `query_k` of its pictures and two products
    with the layers' weights. Parts of the graph that are not connected learn with the same weights.

    Pictures whose descriptor is zero are connected to nothing and are found last; a query of zeros finds all others
    by index.

    Args:
        k: pictures in each list of the graph, itself among them, so k - 1 others.
        query_k: index pictures that a query is connected to.
        epochs: steps of Adam; 0 for the untrained network. The work has 200 for Oxford and Paris, 500 for INSTRE.
        lr: of Adam.
        decay: lambda, the share of each layer after the first.
        layers: of the network.
        alpha: scales the loss, which Adam undoes.
        beta_percentile: of the untrained outputs' similarities, where the loss turns.
        seed: of the weights' noise and of drawn pairs.
        precision: "float32", "bf16" for quicker products in training, or "auto" for what is faster here; what ranks
            is float32 in any case.
        search: how neighbours are found, see `NeighbourIndex`.
        all_pairs_up_to: N; above it the loss takes `pairs` drawn anew in each epoch.

    Raises:
        LowqError: an option out of range.

    >>> database = np.float32([[1, 0], [0.8, 0.6], [0, 1]])
    >>> search = GSS(k=2, query_k=1, epochs=3).fit(database)
    >>> search.rank([[0.8, 0.6]], k=1).ids.tolist(), len(search.history)
    ([[1]], 4)
    """

    def __init__(
        self,
        *,
        k: int = 5,
        query_k: int = 5,
        epochs: int = 200,
        lr: float = 1e-4,
        decay: float = 0.3,
        layers: int = 2,
        alpha: float = 1.0,
        beta_percentile: float = 98.0,
        seed: int = 0,
        precision: TrainingPrecision = "float32",
        search: Search = "exact",
        all_pairs_up_to: int = 30_000,
        pairs: int = PAIRS,
    ) -> None:
        for name, value in (("k", k), ("query_k", query_k)):
            if value < 1:
                raise LowqError(f"{name}={value}: choose 1 or more")
        check_network(layers, decay)
        check_search(search)
        self.k, self.query_k = k, query_k
        self.decay, self.layers, self.search = decay, layers, search
        self.schedule = Schedule(epochs, lr, alpha, beta_percentile, precision, all_pairs_up_to, pairs, seed)
        self._index: NeighbourIndex | None = None
        self._degrees = np.empty(0)
        self._inputs: list[NDArray[np.float32]] = []  # of each layer: the descriptors, h_1, ...
        self._outputs = UnitSearch()
        self._quick: NeighbourIndex | None = None  # the same, where no output is zero and few are asked for
        self._trained = Trained(np.nan, np.empty(0))
        self.network: GSSNetwork | None = None
        self.graph: Adjacency | None = None

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """(N, D) outputs for the index, of length 1, or 0 where the descriptor is."""
        self._fitted()
        return self._outputs.database

    @property
    def beta(self) -> float:
        """Where the loss turned; NaN for the untrained network."""
        return self._trained.beta

    @property
    def history(self) -> NDArray[np.float64]:
        """(epochs + 1,) the loss after 0, 1, ... epochs; empty for the untrained network, and while it trains."""
        return self._trained.history

    def fit(
        self,
        database: ArrayLike,
        *,
        neighbours: ArrayLike | None = None,
        watch: Callable[[int, GSS], None] | None = None,
        every: int = 10,
    ) -> Self:
        """Build the graph of (N, D) unit vectors, and train on it.

        Args:
            neighbours: (N, K) int, ranked picture numbers for the graph instead of the nearest by descriptor, such
                as those that geometry confirmed; -1 for none. The first k count, as in the released code, the
                picture's own number among them if it is there. Edges are weighted by the descriptors' cosines.
            watch: called with the number of epochs done and this retriever, ready to rank as it would if it
                stopped there: before the first epoch, after every `every` ones, and after the last.
            every: 1 or more.

        Raises:
            LowqError: descriptors that are not (N, D), empty, not finite, not normalised; k of N or more, query_k
                of more than N; lists that do not fit; a loss that is no longer a number.
        """
        if every < 1:
            raise LowqError(f"every={every}: watch after every 1 or more epochs")
        rows = as_unit_descriptors(database, "database")
        size = len(rows)
        if self.k >= size:
            raise LowqError(
                f"k={self.k}: the database has {size} pictures, and k counts the picture itself; choose a smaller k"
            )
        if self.query_k > size:
            raise LowqError(
                f"query_k={self.query_k}: the database has {size} pictures; choose at most {size}"
            )
        self._index = NeighbourIndex(rows, self.search)
        self.graph = union_graph(rows, self._lists(self._index, neighbours))
        self._degrees = self.graph.degrees
        self._trained = Trained(np.nan, np.empty(0))
        generator = torch.Generator().manual_seed(self.schedule.seed)
        self.network = GSSNetwork(rows.shape[1], self.layers, self.decay, generator=generator)
        x, graph = _tensor(rows), _normalised_graph(self.graph)

        def after(epoch: int) -> None:
            last = epoch == self.schedule.epochs
            if last or (watch is not None and epoch % every == 0):
                self._take_outputs(x, graph)
            if watch is not None and (last or epoch % every == 0):
                watch(epoch, self)

        self._trained = train(self.network, x, graph, self.schedule, after)
        return self

    def embed(self, queries: ArrayLike, *, neighbours: ArrayLike | None = None) -> NDArray[np.float32]:
        """(Q, D) outputs of (Q, D) queries, which are connected to index pictures and to no other query.

        Args:
            neighbours: (Q, K) int, ranked index pictures of each query instead of the nearest by descriptor, -1
                for none; the first `query_k` count.

        Raises:
            LowqError: not fitted, queries of another dimension, not finite or not normalised, lists that do not fit.
        """
        index, network = self._fitted()
        asked = as_unit_descriptors(queries, "queries", dim=index.database.shape[1])
        if neighbours is None:
            lists = index.of(asked, self.query_k).ids
        else:
            lists = check_lists(neighbours, "query neighbours", rows=len(asked), size=len(index.database))
        lists = lists[:, : self.query_k]
        parts = [
            self._embed(network, asked[start : start + _QUERIES], lists[start : start + _QUERIES])
            for start in range(0, len(asked), _QUERIES)
        ]
        return np.concatenate(parts)

    def rank(
        self, queries: ArrayLike, k: int | None = None, *, neighbours: ArrayLike | None = None
    ) -> Ranking:
        """The k best for each of (Q, D) queries, all N where k is None; equal scores by index.

        Args:
            neighbours: as in `embed`.

        Raises:
            LowqError: as `embed`, k outside 1..N.
        """
        embedded, size = self.embed(queries, neighbours=neighbours), len(self.embeddings)
        if self._quick is None or k is None or not 1 <= k <= size // _FEW:
            return self._outputs.rank(embedded, k)
        found = self._quick.of(embedded, k)
        return Ranking(found.ids, found.similarities)

    def save(self, path: Path) -> None:
        """Write what ranking takes, and the history, into the folder `path`; not the graph of the index."""
        _, network = self._fitted()
        arrays: dict[str, NDArray[Any]] = {
            "degrees": self._degrees,
            "embeddings": self._outputs.database,
            "beta": np.array(self.beta),
            "history": self.history,
        }
        for level, h in enumerate(self._inputs):
            arrays["database" if level == 0 else f"hidden_{level}"] = h
        for name, value in network.state_dict().items():
            arrays[f"network.{name}"] = value.numpy()
        write_saved(path, "GSS", self._options(), arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; the index stays on disk, memory-mapped.

        Raises:
            LowqError: nothing saved there, something else, or a part that does not match its digest.
        """
        options, arrays = read_saved(path, "GSS")
        self = cls(**options)
        self._index = NeighbourIndex(arrays["database"], self.search)
        self._degrees = arrays["degrees"]
        self._inputs = [arrays["database"], *(arrays[f"hidden_{level}"] for level in range(1, self.layers))]
        self._take_embeddings(arrays["embeddings"])
        self._trained = Trained(float(arrays["beta"]), np.array(arrays["history"]))
        self.network = GSSNetwork(arrays["database"].shape[1], self.layers, self.decay, noise=0.0)
        names = [name for name in arrays if name.startswith("network.")]
        self.network.load_state_dict(
            {name.removeprefix("network."): torch.tensor(arrays[name]) for name in names}
        )
        return self

    def _options(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("k", "query_k", "decay", "layers", "search")}
        return own | asdict(self.schedule)

    def _lists(self, index: NeighbourIndex, neighbours: ArrayLike | None) -> NDArray[np.int64]:
        size = len(index.database)
        if neighbours is not None:
            return check_lists(neighbours, "neighbours", rows=size, size=size)[:, : self.k]
        own = np.arange(size)[:, None]
        return own if self.k == 1 else np.hstack([own, index.among(self.k - 1).ids])

    @torch.no_grad()
    def _take_outputs(self, x: Tensor, graph: NormalisedGraph) -> None:
        assert self.network is not None
        hidden = self.network.hidden(x, graph)
        self._inputs = [one.numpy() for one in (x, *hidden[:-1])]
        self._take_embeddings(normalised(hidden[-1], x).numpy())

    def _take_embeddings(self, embeddings: NDArray[np.float32]) -> None:
        self._outputs = UnitSearch().fit(embeddings)
        self._quick = None if len(zero_rows(embeddings)) else NeighbourIndex(embeddings)

    @torch.no_grad()
    def _embed(
        self, network: GSSNetwork, asked: NDArray[np.float32], lists: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        rows = query_rows(asked, self._inputs[0], lists, self._degrees)
        own, weights = torch.from_numpy(rows.own)[:, None], torch.from_numpy(rows.weights)[:, None]

        def spread(h: Tensor, level: int) -> Tensor:
            seen = torch.from_numpy(self._inputs[level][rows.ids])
            return torch.addcmul(torch.bmm(weights, seen).squeeze(1), own, h)

        with one_torch_thread() if len(asked) <= _SERIAL else nullcontext():
            outputs: NDArray[np.float32] = network(_tensor(asked), spread).numpy()
        return outputs

    def _fitted(self) -> tuple[NeighbourIndex, GSSNetwork]:
        if self._index is None or self.network is None or not self._inputs:
            raise LowqError("GSS: has no database; call fit first")
        return self._index, self.network


def _tensor(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _normalised_graph(graph: Adjacency) -> NormalisedGraph:
    parts = (torch.from_numpy(part) for part in (graph.offsets, graph.columns, graph.weights))
    return NormalisedGraph.of(*parts)
