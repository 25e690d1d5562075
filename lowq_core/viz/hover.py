"""A plane of pictures to point at: hovering over a dot shows the picture, in a notebook and on a page alike."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.pictures import database_pictures
from lowq_core.errors import LowqError
from lowq_core.viz.plane import hues

SIDE = 460
"""Pixels along each side of the plane."""
THUMBNAIL = 96
"""Longer side of a shown picture; it is enlarged twice."""


@dataclass(frozen=True)
class Hover:
    """What `hover` returns; shows itself, without any script, where HTML is shown.

    Attributes:
        html: an SVG whose dots carry their pictures.
        dots: how many.
    """

    html: str
    dots: int

    def __repr__(self) -> str:
        return f"Hover({self.dots} pictures; open this notebook in a browser and point at a dot)"

    def _repr_html_(self) -> str:
        return self.html


def hover(places: ArrayLike, benchmark: Benchmark, landmarks: ArrayLike | None = None) -> Hover:
    """The database pictures of `benchmark` as dots; the one pointed at is shown beside the plane with its name.

    Args:
        places: (N, 2) of the pictures, in any unit.
        landmarks: (N,) numbers, dots of one number share a colour, and -1 is grey; None makes all grey.

    Raises:
        LowqError: places that are not two finite numbers for each picture; a picture that cannot be read.
    """
    at = np.asarray(places, float)
    pictures = database_pictures(benchmark)
    if at.shape != (len(pictures), 2) or not np.isfinite(at).all():
        raise LowqError(f"places: {at.shape} for {len(pictures)} pictures; give two finite numbers for each")
    spread = np.ptp(at, axis=0)
    scaled = (at - at.min(axis=0)) / np.where(spread > 0, spread, 1) * (SIDE - 20) + 10
    numbers = np.full(len(pictures), -1) if landmarks is None else np.asarray(landmarks)
    dots = "\n".join(
        _dot(x, y, picture.name, _uri(picture.load(THUMBNAIL)), colour)
        for (x, y), picture, colour in zip(scaled, pictures, _colours(numbers), strict=True)
    )
    style = ".lowq-dot image,.lowq-dot text{display:none}.lowq-dot:hover image,.lowq-dot:hover text{display:block}"
    size = f'width="{SIDE + 2 * THUMBNAIL + 30}" height="{SIDE}"'
    return Hover(f'<svg {size} role="img"><style>{style}</style>\n{dots}\n</svg>', len(pictures))


def _dot(x: float, y: float, name: str, uri: str, colour: str) -> str:
    side = f'x="{SIDE + 20}" width="{2 * THUMBNAIL}"'
    return (
        f'<g class="lowq-dot"><circle cx="{x:.1f}" cy="{SIDE - y:.1f}" r="5" fill="{colour}"/>'
        f'<image {side} y="10" height="{2 * THUMBNAIL}" href="{uri}"/>'
        f'<text x="{SIDE + 20}" y="{2 * THUMBNAIL + 30}" font-size="12">{escape(name)}</text></g>'
    )


def _uri(image: Image.Image) -> str:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode()


def _colours(landmarks: NDArray[np.int64]) -> list[str]:
    return [
        "#BBBBBB" if number < 0 else f"hsl({360 * hue:.0f} 70% 45%)"
        for number, hue in zip(landmarks, hues(landmarks), strict=True)
    ]
