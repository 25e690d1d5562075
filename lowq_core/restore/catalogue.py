"""Which restorers there are, and the one call that applies them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowq_core.errors import LowqError

RESTORERS = {
    "nlm": "non-local means, as strong as the noise it measures",
    "median": "takes off black and white impulses",
    "deblock": "takes off the blocks of JPEG, at the quality that it finds",
    "light": "stretches brightness and contrast",
    "auto": "decides from the picture alone which of the others it needs",
}
"""Name -> what it is."""


def restore(image: NDArray[np.uint8], method: str) -> NDArray[np.uint8]:
    """A restored copy of a picture: "restore first, then retrieve". A pure function of its two arguments.

    Blind: no restorer is told which noise was laid on the picture, nor how much. See `lowq_core.restore.filters`
    for each.

    Args:
        image: (H, W, 3) uint8, RGB, any size and memory layout; not changed.
        method: one of `RESTORERS`.

    Returns:
        (H, W, 3) uint8, C-contiguous, sharing no memory with `image`.

    Raises:
        LowqError: not such a picture, unknown method.

    >>> image = np.full((32, 48, 3), 128, np.uint8)
    >>> image[10, 10] = 255
    >>> int(restore(image, "median").max())
    128
    """
    if method not in RESTORERS:
        raise LowqError(f"there is no restorer {method!r}; choose among {', '.join(RESTORERS)}")
    from lowq_core.restore import filters, measures  # here, so that OpenCV loads with the first picture only

    measures.check_picture(image)
    functions = {
        "nlm": filters.nlm,
        "median": filters.median,
        "deblock": filters.deblock,
        "light": filters.light,
        "auto": filters.auto,
    }
    return functions[method](np.array(image, order="C"))
