"""Pictures to local features: a HOW network run over many pictures, to disk or in memory."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lowq_core.errors import LowqError
from lowq_core.extraction.config import PRECISIONS
from lowq_core.extraction.engine import as_tensor, check_finite, device_of, speed_up, stamp_of
from lowq_core.extraction.local_features import LocalFeatures, PictureFeatures
from lowq_core.extraction.local_job import PART_SIZE, embed_with, extract_with
from lowq_core.images import Picture, View, to_array
from lowq_core.models.embedder import check_scales
from lowq_core.models.how import HOW, SCALES
from lowq_core.models.how_checkpoints import load_how
from lowq_core.models.weights import weights_digest

__all__ = ["LocalConfig", "LocalEngine", "LocalFeatures", "PictureFeatures", "embed_local", "extract_local"]

ENGINES = ("torch", "cuda")


@dataclass(frozen=True)
class LocalConfig:
    """How local features are made; equal configs on equal pictures give equal features.

    Attributes:
        model: file of a HOW network, see `load_how`.
        size: longer side in pixels that pictures are brought down to; never enlarged.
        scales: factors of that size; those that leave no pixel of a picture are passed over.
        count: features kept of a picture, the strongest of all scales.
        precision: `float32`, or `bf16` for the trunk: faster on processors that have it, descriptors about a
            hundredth away.
        engine: `torch` (processor) or `cuda`.

    Raises:
        LowqError: unknown precision or engine; size, count or scale out of range.

    >>> LocalConfig("how.safetensors", scales=[1, 0.5]).scales
    (1.0, 0.5)
    """

    model: str
    size: int = 1024
    scales: tuple[float, ...] = SCALES
    count: int = 1000
    precision: str = "float32"
    engine: str = "torch"

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", os.fspath(self.model))
        object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        check_scales(self.scales)
        for name, value, known in (
            ("precision", self.precision, PRECISIONS),
            ("engine", self.engine, ENGINES),
        ):
            if value not in known:
                raise LowqError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")
        if self.size < 1 or self.count < 1:
            raise LowqError(f"size={self.size}, count={self.count}: both have to be 1 or more")


class LocalEngine:
    """Pixels to local features; safe to call from several threads at once.

    Args:
        model: the network; it is copied, never changed.
        config: `precision` and `engine` choose how it runs, `scales` and `count` what is kept.

    Raises:
        LowqError: no GPU for `cuda`; weights that are not finite.

    >>> from lowq_core.models.how import how
    >>> from lowq_core.models.how_config import HowConfig
    >>> engine = LocalEngine(how(HowConfig(dim=16)), LocalConfig("unsaved", scales=(1.0,), count=5))
    >>> engine(np.zeros((64, 96, 3), np.uint8)).xy.shape
    (5, 2)
    """

    def __init__(self, model: HOW, config: LocalConfig) -> None:
        check_finite(model, config.model)
        self.digest = weights_digest(model)
        self.dim = model.config.dim
        self._device = device_of(config.engine)
        self._scales, self._count = config.scales, config.count
        self._model = copy.deepcopy(model).eval()
        speed_up(self._model.trunk, config.precision)
        self._model.to(self._device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8]) -> PictureFeatures:
        """(H, W, 3) uint8 RGB -> features with `xy` in its pixels."""
        found = self._model.local(as_tensor(pixels, self._device), self._count, self._scales)
        return PictureFeatures(*(tensor.float().cpu().numpy() for tensor in found))


def local_engine_for(config: LocalConfig) -> LocalEngine:
    """The engine of a config, kept for the next call; made anew when the model's file has changed."""
    return _engine_for(config, stamp_of(config.model))


@lru_cache(maxsize=2)
def _engine_for(config: LocalConfig, stamp: tuple[int, int] | None) -> LocalEngine:
    return LocalEngine(load_how(config.model), config)


def extract_local(
    pictures: Sequence[Picture],
    config: LocalConfig,
    out: str | Path,
    *,
    shard: tuple[int, int] = (1, 1),
    strict: bool = False,
    progress: bool = True,
    part_size: int = PART_SIZE,
) -> LocalFeatures | None:
    """Local features of `pictures` in the folder `out`.

    Resumes, shards and treats bad pictures as `extraction.extract.extract` does, except that a picture that
    cannot be read has no features instead of a zero row. Memory does not grow with the number of pictures:
    a part of 64 pictures with 1000 features of 128 dimensions takes 34 MB.

    Args:
        pictures: what to read, how.
        config: the network.
        out: folder, made where it is not there.
        shard: (3, 10) does the third of ten shares.
        strict: stop at the first picture that cannot be read; otherwise it is listed in `failed`.
        progress: show a bar.
        part_size: pictures a part; the least that an interruption costs.

    Returns:
        The features; None while other shards are not finished.

    Raises:
        LowqError: no pictures, an impossible shard, no such model, `out` holds features of other pictures or
            another config, a finished part that does not match its digest, a full disk; with `strict`, a bad
            picture.
    """
    return extract_with(
        _How.of(config), pictures, out, shard=shard, strict=strict, progress=progress, part_size=part_size
    )


def embed_local(pictures: Sequence[Picture], config: LocalConfig) -> LocalFeatures:
    """Local features of a few pictures in memory.

    Raises:
        LowqError: no pictures, no such model, a picture that cannot be read.
    """
    return embed_with(_How.of(config), pictures)


@dataclass(frozen=True)
class _How:
    """The `Extractor` of a config."""

    config: LocalConfig
    engine: LocalEngine

    @classmethod
    def of(cls, config: LocalConfig) -> _How:
        return cls(config, local_engine_for(config))

    @property
    def dim(self) -> int:
        return self.engine.dim

    @property
    def size(self) -> int:
        return self.config.size

    @property
    def described(self) -> Mapping[str, Any]:
        config = dataclasses.asdict(self.config)
        del config["model"]  # what the weights are counts, not where they lie
        return {"config": config, "weights_digest": self.engine.digest}

    def __call__(self, view: View) -> PictureFeatures:
        found = self.engine(to_array(view.image))
        origin, zoom = np.array(view.origin, np.float32), np.array(view.zoom, np.float32)
        return found._replace(xy=origin + found.xy * zoom)
