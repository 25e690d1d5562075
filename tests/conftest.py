"""Fixtures that several test modules share."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """Let processes that tests start be interrupted, also where a shell started the tests in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Little maps on several threads are mostly waiting."""
    import torch  # only where it is used: most tests do without

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def little_room() -> Callable[[int], AbstractContextManager[None]]:
    """A block in which no file can grow beyond so many bytes, so that writes end in the middle as on a full disk."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="session")
def lowq_data() -> Path:
    """The folder of real photos, or a skip that says how to give one."""
    root = os.environ.get("LOWQ_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("no real photos: set LOWQ_DATA to their folder")
    return Path(root)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A benchmark of 13 little pictures: folder `tiny` with `gnd_tiny.json` and, in sub-folders, its pictures.

    Three places, four views each; the third has no hard view, and `lone` shows none of them. Names carry
    sub-folders and extensions; queries are boxed.
    """
    folder = tmp_path / "tiny"
    generator = np.random.default_rng(5)
    names: list[str] = []
    for place in "abc":
        base = generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        for view in range(5):  # the last one is the query
            shifted = np.clip(base + generator.normal(0, 8 * view, base.shape), 0, 255).astype(np.uint8)
            name = f"{place}/{place}{view}.png"
            save_photo(folder / "jpg" / name, shifted)
            names.append(name)
    save_photo(folder / "jpg" / "lone.png", generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    database = [name for name in names if "4" not in name] + ["lone.png"]
    ids = {place: [i for i, name in enumerate(database) if name.startswith(place)] for place in "abc"}
    levels = [{"easy": i[:2], "hard": i[2:3], "junk": i[3:]} for i in (ids["a"], ids["b"])]
    levels.append({"easy": ids["c"], "hard": [], "junk": []})
    gnd = [{"bbx": [8, 6, 88.5, 66]} | level for level in levels]
    queries = [name for name in names if "4" in name]
    truth = {"imlist": database, "qimlist": queries, "gnd": gnd}
    (folder / "gnd_tiny.json").write_text(json.dumps(truth))
    return folder


def save_photo(path: Path, colours: np.ndarray) -> None:
    """A few coloured patches as a picture of 96 x 72."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours).resize((96, 72), Image.Resampling.BICUBIC).save(path)
