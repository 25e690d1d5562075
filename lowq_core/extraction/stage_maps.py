"""Descriptors by way of what several networks share: maps after their first, equal stages, computed once.

A comparison of many networks that were all trained from one trunk, with its first stages frozen, spends nearly all
of its time on those stages. They are run once for each picture; each network then only finishes the maps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from lowq_core.errors import LowqError
from lowq_core.extraction.batch import attempt
from lowq_core.extraction.config import EmbedConfig
from lowq_core.extraction.engine import as_tensor, in_parallel
from lowq_core.extraction.fusion import fuse
from lowq_core.files import write_text
from lowq_core.images import Picture, to_array
from lowq_core.models.backbone import Backbone
from lowq_core.models.saved import save_tensors

PART_SIZE = 256
BATCH = 64
FAILED = "failed.json"


class FirstStages:
    """The first stages of a trunk, made faster: (H, W, 3) uint8 -> (C, h, w) float32, as `Backbone.start`.

    Safe to call from several threads at once.
    """

    def __init__(self, trunk: Backbone, stages: int) -> None:
        layers = [layer for stage in trunk.stages()[:stages] for layer in stage]
        self._trunk = trunk
        self._layers = fuse(nn.Sequential(*layers)).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = self._trunk.normalise(as_tensor(pixels, "cpu"))
        found: NDArray[np.float32] = self._layers(x)[0].contiguous().numpy()
        return found


def write_stage_maps(
    pictures: Sequence[Picture],
    config: EmbedConfig,
    stages: int,
    out: Path,
    *,
    strict: bool = False,
    progress: bool = True,
) -> None:
    """Write the maps of `pictures` after the first `stages` stages of `config`'s trunk into the folder `out`.

    Args:
        config: backbone, weights and size count.
        strict: stop at the first picture that cannot be read; otherwise it is listed in `failed.json`.

    Raises:
        LowqError: with `strict`, a bad picture; a full disk.
    """
    start = FirstStages(config.embedder().trunk, stages)

    def of_picture(picture: Picture) -> NDArray[np.float32]:
        return start(to_array(picture.load(config.size)))

    failed: dict[str, str] = {}
    with (
        in_parallel(partial(attempt, of_picture), pictures) as results,
        tqdm(total=len(pictures), unit="picture", disable=not progress) as bar,
    ):
        for begin in range(0, len(pictures), PART_SIZE):
            part: dict[str, torch.Tensor] = {}
            for index in range(begin, min(begin + PART_SIZE, len(pictures))):
                found = next(results)
                bar.update()
                if not isinstance(found, LowqError):
                    part[str(index)] = torch.from_numpy(found)
                elif strict:
                    raise found
                else:
                    failed[pictures[index].name] = str(found)
            save_tensors(part, out / f"part-{begin // PART_SIZE:05d}.safetensors")
    write_text(out / FAILED, json.dumps(failed))


def finish_maps(folder: Path, count: int, config: EmbedConfig, stages: int) -> dict[str, NDArray[np.float32]]:
    """{head: (N, D) descriptors} of the maps in `folder` by the network of `config`; zero rows for bad pictures.

    Args:
        count: N, of the pictures that the maps were made of.
        config: whose weights differ from those of the maps after the first `stages` stages alone.
    """
    embedder = config.embedder().to(memory_format=torch.channels_last)
    out = {head: np.zeros((count, embedder.dim), np.float32) for head in config.heads}
    for file in sorted(folder.glob("part-*.safetensors")):
        maps = load_file(file)
        for rows in _alike({int(index): map_.shape for index, map_ in maps.items()}):
            x = torch.stack([maps[str(row)] for row in rows]).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode():
                vectors = embedder.pool(embedder.trunk.finish(x, stages))
            for head, vector in vectors.items():
                out[head][rows] = vector.numpy()
    return out


def read_failed(folder: Path) -> dict[str, str]:
    """Reason by name of the pictures that `write_stage_maps` could not read."""
    return dict(json.loads((folder / FAILED).read_text()))


def _alike(shapes: dict[int, torch.Size]) -> list[list[int]]:
    """Rows whose maps are equally large, at most `BATCH` together."""
    groups: dict[torch.Size, list[int]] = {}
    for row, shape in sorted(shapes.items()):
        groups.setdefault(shape, []).append(row)
    return [rows[i : i + BATCH] for rows in groups.values() for i in range(0, len(rows), BATCH)]
