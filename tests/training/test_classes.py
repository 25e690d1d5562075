"""Classes: labels without gaps, parts drawn evenly, sets joined without mixing their landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.images import Picture
from lowq_core.training.classes import TrainingClasses, join_classes


def of(labels: list[int], name: str = "set") -> TrainingClasses:
    return TrainingClasses(
        name, tuple(Picture(Path(f"{i}.jpg"), f"{name}{i}") for i in range(len(labels))), labels
    )


def test_gaps_are_closed_and_the_order_kept() -> None:
    found = of([9, -3, 9, 40, -3])
    assert found.labels.tolist() == [1, 0, 1, 2, 0]
    assert found.labels.dtype == np.int64
    assert found.count == 3


def test_joined_sets_share_no_class() -> None:
    both = join_classes([of([5, 5, 6], "a"), of([5, 7], "b")])
    assert both.name == "a+b"
    assert [picture.name for picture in both.pictures] == ["a0", "a1", "a2", "b0", "b1"]
    assert both.labels.tolist() == [0, 0, 1, 2, 3]
    with pytest.raises(LowqError, match="the list is empty"):
        join_classes([])


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_a_part_is_drawn_evenly(sizes: list[int], share: float, seed: int, data: st.DataObject) -> None:
    whole = of(np.repeat(np.arange(len(sizes)), sizes).tolist())
    classes = data.draw(st.integers(2, len(sizes)))
    pictures = classes + round(share * (sum(sizes) - classes))
    part = whole.drawn(pictures, classes, seed)
    assert part.count == classes
    label_of = {picture.name: label for picture, label in zip(whole.pictures, whole.labels, strict=True)}
    kept = [label_of[picture.name] for picture in part.pictures]
    taken = {label: kept.count(label) for label in set(kept)}
    available = sum(sizes[label] for label in taken)
    assert len(part.pictures) == min(pictures, available)
    most = max(taken.values())
    assert all(count >= most - 1 or count == sizes[label] for label, count in taken.items())
    again = whole.drawn(pictures, classes, seed)
    assert [p.name for p in again.pictures] == [p.name for p in part.pictures]


def test_the_digest_tells_sets_apart() -> None:
    assert of([0, 1, 1]).digest == of([3, 8, 8]).digest
    assert of([0, 1, 1]).digest != of([0, 1, 0]).digest
    assert of([0, 1, 1]).digest != of([0, 1, 1], "other").digest


def test_bad_input() -> None:
    with pytest.raises(LowqError, match="2 pictures and 3 labels"):
        TrainingClasses("two", of([0, 1]).pictures, np.arange(3))
    with pytest.raises(LowqError, match="has 1 classes"):
        of([4, 4])
    for pictures, classes in ((5, 4), (1, 2), (3, 1)):
        with pytest.raises(LowqError, match="cannot be drawn"):
            of([0, 0, 1, 2]).drawn(pictures, classes, 0)
