"""Whitening of global descriptors: PCA, and learned from matching pairs (Lw)."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.models.pooling import l2n
from lowq_core.models.saved import save_tensors


class Whitening(nn.Module):
    """x -> l2n(W x + b): a linear layer from D to d dimensions, then L2.

    Make one with `fit_pca_whitening` or `fit_lw`.

    Args:
        mean: (D,), subtracted first.
        projection: (d, D), applied to the rest; so W = projection and b = -projection mean.

    >>> whitening = Whitening(np.zeros(2), np.eye(2))
    >>> whitening.transform([[3.0, 4.0]]).round(4).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """

    def __init__(self, mean: ArrayLike, projection: ArrayLike) -> None:
        super().__init__()
        mean, projection = np.asarray(mean, np.float64).ravel(), np.asarray(projection, np.float64)
        if projection.ndim != 2 or projection.shape[1] != mean.size:
            raise LowqError(
                f"whitening: projection {projection.shape} does not fit a mean of {mean.size} values; it has to "
                f"be (d, {mean.size})"
            )
        self.linear = nn.Linear(projection.shape[1], projection.shape[0])
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(projection))
            self.linear.bias.copy_(torch.from_numpy(-projection @ mean))

    @property
    def dim_in(self) -> int:
        """D."""
        return self.linear.in_features

    @property
    def dim_out(self) -> int:
        """d."""
        return self.linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., d), L2-normalised."""
        return l2n(self.linear(x), dim=-1)

    @torch.inference_mode()
    def transform(self, X: ArrayLike, block: int = 65_536) -> NDArray[np.float32]:
        """(N, D) array -> (N, d) float32, `block` rows at a time.

        Raises:
            LowqError: `X` is not (N, D).
        """
        shape = np.shape(X)
        if len(shape) != 2 or shape[1] != self.dim_in:
            raise LowqError(
                f"descriptors of shape {shape}: this whitening wants (N, {self.dim_in}); use one model"
            )
        rows = X if hasattr(X, "shape") else np.asarray(X)
        out = np.empty((shape[0], self.dim_out), np.float32)
        for start in range(0, shape[0], block):
            # np.array copies: torch must not be handed a read-only memory map.
            part = torch.from_numpy(np.array(rows[start : start + block], np.float32))  # type: ignore[index]
            out[start : start + block] = self(part).numpy()
        return out

    def save(self, path: Path) -> None:
        """Write to `path` as safetensors, whole or not at all; LowqError where it cannot be written."""
        save_tensors(self.state_dict(), Path(path), {"kind": "lowq whitening"})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; LowqError where the file is missing or holds something else."""
        if not Path(path).is_file():
            raise LowqError(f"{path}: no such whitening; fit one and save it there")
        try:
            state = load_file(path)
            weight, bias = state["linear.weight"], state["linear.bias"]
        except (SafetensorError, KeyError, OSError):
            raise LowqError(f"{path}: not a saved whitening; fit one and save it again") from None
        whitening = cls(np.zeros(weight.shape[1]), weight.numpy())
        whitening.load_state_dict({"linear.weight": weight, "linear.bias": bias})
        return whitening


def fit_pca_whitening(X: ArrayLike, dim: int | None = None, shrinkage: float = 0.0) -> Whitening:
    """PCA whitening: the `dim` main axes of `X`, each divided by its standard deviation.

    With the covariance C = E Lambda E^T of `X`, x -> Lambda^(-1/2) E^T (x - mean). Shrinkage replaces
    Lambda by (1 - shrinkage) Lambda + shrinkage mean(Lambda), for few vectors or noisy small axes.

    Args:
        X: (N, D), finite.
        dim: dimensions kept; None keeps all D.
        shrinkage: 0 (none) up to, but without, 1.

    Raises:
        LowqError: `X` is not finite, all rows are equal, or `X` spans fewer than `dim` axes (fewer vectors
            than dimensions, or duplicates) and there is no shrinkage to fill the rest.

    >>> fit_pca_whitening([[0.0, 1.0], [2.0, 1.0], [1.0, 3.0]], dim=1).dim_out
    1
    """
    data = _checked(X, "whitening")
    dim = _checked_dim(dim, data.shape[1])
    _check_shrinkage(shrinkage)
    mean = data.mean(0)
    centred = data - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(data))
    values, vectors = values[::-1], vectors[:, ::-1]
    floor = max(values[0], 0.0) * max(data.shape) * np.finfo(np.float64).eps
    if floor == 0.0 or np.ptp(data, axis=0).max() == 0.0:
        raise LowqError(f"whitening: all {len(data)} vectors are equal; give it different pictures")
    rank = int((values > floor).sum())
    if shrinkage == 0.0 and rank < dim:
        raise LowqError(
            f"whitening: {len(data)} vectors span {rank} axes, but dim={dim}; ask for dim={rank} or less, give "
            f"more vectors or set shrinkage above 0"
        )
    values = (1.0 - shrinkage) * values.clip(0.0) + shrinkage * values.mean()
    return Whitening(mean, vectors[:, :dim].T / np.sqrt(values[:dim, None]))


def fit_lw(
    X: ArrayLike, q_idx: ArrayLike, p_idx: ArrayLike, dim: int | None = None, shrinkage: float = 0.0
) -> Whitening:
    """Learned whitening from matching pairs (Mikolajczyk and Matas 2007; Radenovic et al. 2019, section 4).

    m is the mean of the query vectors X[q_idx]; S the mean of (x_q - x_p)(x_q - x_p)^T over the pairs, and
    P1 = L^(-1) with S = L L^T: differences inside a pair become white. Then the axes are rotated to the
    eigenvectors E of P1 (X - m) (P1 (X - m))^T over all vectors, largest first, and the first `dim` kept:
    x -> E^T P1 (x - m). Where S is not positive definite, 1e-10 is added to its diagonal, then ten times as
    much, until it is (as cirtorch does). With fewer pairs than dimensions that makes a valid but poor
    whitening; `shrinkage` above 0 replaces S by (1 - shrinkage) S + shrinkage trace(S)/D I instead.

    Args:
        X: (N, D), finite.
        q_idx, p_idx: (M,) row numbers of the two sides of each matching pair.
        dim: dimensions kept; None keeps all D.

    Raises:
        LowqError: `X` is not finite, no pairs, unequal lists, a row number outside `X`, or pairs that are
            all made of equal vectors.

    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> fit_lw(X, [0, 1, 2, 3], [4, 5, 6, 7], dim=2).dim_out
    2
    """
    data = _checked(X, "learned whitening")
    dim = _checked_dim(dim, data.shape[1])
    _check_shrinkage(shrinkage)
    queries, positives = _checked_pairs(q_idx, p_idx, len(data))
    mean = data[queries].mean(0)
    differences = data[queries] - data[positives]
    if not differences.any():
        raise LowqError(
            "learned whitening: both sides of every pair are equal; give pairs of different pictures"
        )
    S = differences.T @ differences / len(differences)
    S = (1.0 - shrinkage) * S + shrinkage * np.trace(S) / len(S) * np.eye(len(S))
    P1 = np.linalg.inv(_cholesky(S))
    projected = (data - mean) @ P1.T
    _, vectors = np.linalg.eigh(projected.T @ projected)
    return Whitening(mean, (vectors[:, ::-1].T @ P1)[:dim])


def pairs_from_labels(
    labels: ArrayLike, seed: int, per_class: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Matching pairs out of labels: for each class, up to `per_class` different pairs, drawn without order.

    Args:
        labels: (N,) class of each picture.
        seed: of the draw.
        per_class: most pairs of one class; a class of n pictures has n (n - 1) / 2.

    Returns:
        (M,) and (M,) int64: row numbers of the two sides.

    Raises:
        LowqError: no class has two pictures, or `per_class` is below 1.

    >>> pairs_from_labels([0, 0, 1], seed=0, per_class=5)
    (array([0]), array([1]))
    """
    labels = np.asarray(labels)
    if per_class < 1:
        raise LowqError(f"per_class={per_class}: ask for at least one pair a class")
    generator = np.random.default_rng(seed)
    pairs = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        n = members.size
        count = min(per_class, n * (n - 1) // 2)
        if count:
            # Pair number t of the upper triangle, without ever listing all pairs of a large class.
            t = generator.choice(n * (n - 1) // 2, count, replace=False)
            second = np.floor((1 + np.sqrt(1 + 8 * t.astype(np.float64))) / 2).astype(np.int64)
            second -= second * (second - 1) // 2 > t
            pairs.append(np.stack([members[t - second * (second - 1) // 2], members[second]]))
    if not pairs:
        raise LowqError("labels: no class has two pictures, so there is no matching pair; give more pictures")
    both = np.concatenate(pairs, axis=1)
    return both[0], both[1]


def _cholesky(S: NDArray[np.float64]) -> NDArray[np.float64]:
    added = 0.0
    while True:
        try:
            return np.asarray(np.linalg.cholesky(S + added * np.eye(len(S))), np.float64)
        except np.linalg.LinAlgError:
            added = 10.0 * added or 1e-10


def _checked(X: ArrayLike, what: str) -> NDArray[np.float64]:
    data = np.asarray(X, np.float64)
    if data.ndim != 2 or len(data) < 2:
        raise LowqError(f"{what}: shape {data.shape}; it needs two or more vectors as rows, (N, D)")
    bad = np.flatnonzero(~np.isfinite(data).all(1))
    if bad.size:
        raise LowqError(f"{what}: row {bad[0]} holds NaN or infinity; extract it again or drop it")
    return data


def _checked_dim(dim: int | None, most: int) -> int:
    if dim is not None and not 1 <= dim <= most:
        raise LowqError(f"dim={dim}: the vectors have {most} dimensions; choose 1 to {most}")
    return dim or most


def _check_shrinkage(shrinkage: float) -> None:
    if not 0.0 <= shrinkage < 1.0:
        raise LowqError(f"shrinkage={shrinkage}: choose 0 (none) or more, and less than 1")


def _checked_pairs(q_idx: ArrayLike, p_idx: ArrayLike, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    queries, positives = np.asarray(q_idx, np.int64), np.asarray(p_idx, np.int64)
    if queries.ndim != 1 or queries.shape != positives.shape or not queries.size:
        raise LowqError(
            f"pairs: lists of shape {queries.shape} and {positives.shape}; give two flat lists of one length, not 0"
        )
    for rows in (queries, positives):
        if rows.min() < 0 or rows.max() >= n:
            bad = rows.min() if rows.min() < 0 else rows.max()
            raise LowqError(
                f"pairs: row {bad} is outside the {n} vectors; check that pairs and vectors belong together"
            )
    return queries, positives
