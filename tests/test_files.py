"""Files that are whole or not there, also where the disk has no room for them."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lowq_core.files import write_array


@pytest.mark.parametrize(
    "array",
    [np.arange(24, dtype=np.int64).reshape(4, 6).T, np.zeros((0, 3), np.float32), np.float32(2.5)],
)
def test_arrays_are_written_as_numpy_does(array: NDArray[np.generic], tmp_path: Path) -> None:
    np.save(tmp_path / "numpy.npy", array)
    assert write_array(tmp_path / "ours.npy", array).read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_a_disk_without_room_is_named_and_what_was_there_stays(tmp_path: Path, little_room) -> None:
    file = write_array(tmp_path / "a.npy", np.ones(2))
    with little_room(10_000), pytest.raises(OSError, match="too large") as told:
        write_array(file, np.zeros(10_000))
    assert (told.value.errno, told.value.filename) == (errno.EFBIG, str(file))
    assert np.load(file).tolist() == [1, 1]
    assert list(tmp_path.iterdir()) == [file]
