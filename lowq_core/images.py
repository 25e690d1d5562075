"""Pictures from disk: the one place where a photo is opened, cropped, degraded and resized.

The order is fixed: decode, turn upright (EXIF), crop to the query's box, degrade at native resolution, restore,
resize.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lowq_core.degrade import Noise
from lowq_core.errors import LowqError
from lowq_core.restore import restore

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the upright picture."""

OVERHANG = 1.0
"""Pixels that a box may reach outside its picture: ground truth is rounded, and some of it counts from 1."""


@dataclass(frozen=True)
class View:
    """A picture as a network sees it, and where that lies in the upright original.

    Attributes:
        image: cropped, degraded, restored, resized.
        origin: x, y of its upper left corner in pixels of the original.
        zoom: pixels of the original that one of its pixels stands for, across and down.
    """

    image: Image.Image
    origin: tuple[float, float]
    zoom: tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """One picture to read, and how.

    Attributes:
        path: its file.
        name: its name in the benchmark.
        bbx: box of the query in pixels, or None for the whole picture.
        noise: degradation of the (cropped) picture, or None.
        restorer: what then tries to undo it, a key of `lowq_core.restore.RESTORERS`, or None.
    """

    path: Path
    name: str
    bbx: Box | None = None
    noise: Noise | None = None
    restorer: str | None = None

    def load(self, size: int | None) -> Image.Image:
        """The picture, cropped, degraded, restored, and resized so that its *full* longer side is `size` pixels.

        A query is therefore seen at the zoom of its full picture (cirtorch 1.2); nothing is enlarged, and with
        None nothing is resized.

        Raises:
            LowqError: see `open_image` and `crop`.
        """
        return self.view(size).image

    def view(self, size: int | None) -> View:
        """What `load` gives, with its place in the original."""
        image = open_image(self.path)
        full, origin = image.size, (0.0, 0.0)
        if self.bbx is not None:
            image = crop(image, self.bbx, what=str(self.path))
            origin = (float(round(self.bbx[0])), float(round(self.bbx[1])))  # as PIL rounds a box
        if self.noise is not None:
            image = from_array(self.noise(to_array(image)))
        return self._seen(image, origin, full, size)

    def _seen(
        self, image: Image.Image, origin: tuple[float, float], full: tuple[int, int], size: int | None
    ) -> View:
        """What is left to do with the cropped, degraded picture: restore it, and resize it at the zoom of `full`."""
        if self.restorer is not None:
            image = from_array(restore(to_array(image), self.restorer))
        seen = resize_longer(image, None if size is None else query_size(size, image.size, full))
        return View(seen, origin, (image.width / seen.width, image.height / seen.height))


def open_image(path: str | Path) -> Image.Image:
    """A picture file as an upright RGB picture, fully decoded.

    The EXIF orientation is applied. Palette, grey, CMYK and other modes are converted; transparent parts show
    white; 16-bit grey is brought down to 8 bits; of several frames the first is taken.

    Raises:
        LowqError: no such file, empty file, not a picture, truncated or otherwise broken.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (40, 30), 200).save(f"{folder}/grey.png")
    ...     image = open_image(f"{folder}/grey.png")
    >>> image.mode, image.size, image.getpixel((0, 0))
    ('RGB', (40, 30), (200, 200, 200))
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a picture" if path.is_dir() else "no such picture"
        raise LowqError(f"{path}: {what}; check the name and the folder that it is looked for in")
    if path.stat().st_size == 0:
        raise LowqError(f"{path}: the file is empty; copy it again or drop it from the list")
    try:
        with Image.open(path) as file:
            file.load()
            return _rgb(_upright(file))
    except LowqError as error:
        raise LowqError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        raise LowqError(
            f"{path}: not a picture that can be decoded; replace it or drop it from the list"
        ) from None
    except PermissionError:
        raise LowqError(f"{path}: may not be read; change its permissions") from None
    except MemoryError:
        raise
    except (
        Exception
    ) as error:  # decoders raise nearly anything on broken files: OSError, SyntaxError, struct.error
        raise LowqError(
            f"{path}: truncated or broken ({error}); copy it again or drop it from the list"
        ) from None


def crop(image: Image.Image, bbx: Box, what: str = "picture") -> Image.Image:
    """The part of `image` inside a box, as the authors of the revisited benchmarks cut it: PIL rounds each side.

    Args:
        image: an upright picture.
        bbx: x1, y1, x2, y2 in pixels, may be fractional.
        what: the picture's name, for messages.

    Raises:
        LowqError: a box without area or with numbers that are not finite; a box that reaches outside the
            picture by more than `OVERHANG`. What hangs over by less is black, as PIL makes it.

    >>> crop(Image.new("RGB", (100, 80)), (10.4, 0.0, 60.6, 80.0)).size
    (51, 80)
    """
    corners = tuple(float(side) for side in bbx)
    size = f"the picture has {image.width} x {image.height} pixels"
    shown = f"box ({', '.join(f'{side:g}' for side in corners)})"
    if len(corners) != 4 or not all(math.isfinite(side) for side in corners):
        raise LowqError(
            f"{what}: {shown} is not four finite numbers x1, y1, x2, y2; correct the ground truth"
        )
    x1, y1, x2, y2 = corners
    if round(x2) <= round(x1) or round(y2) <= round(y1):
        raise LowqError(f"{what}: {shown} has no area, {size}; give x1, y1, x2, y2 with x1 < x2 and y1 < y2")
    if min(x1, y1) < -OVERHANG or x2 > image.width + OVERHANG or y2 > image.height + OVERHANG:
        raise LowqError(
            f"{what}: {shown} reaches outside, {size}; check that box and picture are of the same size"
        )
    return image.crop(corners)


def resize_longer(image: Image.Image, size: int | None) -> Image.Image:
    """A copy whose longer side is `size` pixels, never enlarged; with None, of the same size.

    PIL's `thumbnail` with the Lanczos filter over all pixels, as in cirtorch.

    Raises:
        LowqError: size below 1.

    >>> resize_longer(Image.new("RGB", (640, 480)), 320).size
    (320, 240)
    """
    if size is not None and size < 1:
        raise LowqError(f"size {size}: give the longer side in pixels, 1 or more")
    image = image.copy()
    if size is not None:
        image.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=None)
    return image


def query_size(size: int, crop_size: tuple[int, int], full_size: tuple[int, int]) -> int:
    """Longer side for a query's crop so that it has the zoom of its full picture at longer side `size`.

    size * max(crop) / max(full), cut down to a whole number (cirtorch 1.2), at least 1.

    >>> query_size(512, (300, 200), (1024, 768))
    150
    """
    return max(1, size * max(crop_size) // max(full_size))


def to_array(image: Image.Image) -> NDArray[np.uint8]:
    """An RGB picture as (H, W, 3) uint8, a copy that may be written to.

    >>> to_array(Image.new("RGB", (4, 3))).shape
    (3, 4, 3)
    """
    return np.array(image.convert("RGB") if image.mode != "RGB" else image)


def from_array(values: NDArray[np.uint8]) -> Image.Image:
    """(H, W, 3) uint8 as an RGB picture.

    Raises:
        LowqError: another dtype or shape.

    >>> from_array(np.zeros((3, 4, 3), np.uint8)).size
    (4, 3)
    """
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != 3 or values.size == 0:
        raise LowqError(
            f"values are {values.dtype} of shape {values.shape}; a picture is uint8 of shape (height, width, 3)"
        )
    return Image.fromarray(values)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # an EXIF block that cannot be parsed says nothing about the pixels, which are whole
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        deep = np.asarray(image)
        if deep.min(initial=0) < 0 or deep.max(initial=0) > 65535:
            raise LowqError(
                f"grey levels from {deep.min()} to {deep.max()}; save it with 8 or 16 bits a channel"
            )
        image = Image.fromarray(np.rint(deep / 257).astype(np.uint8))
    elif image.mode == "F":
        raise LowqError("grey levels are floating-point numbers; save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")
