"""Word by word: the shares add up to the score that the inverted file gives, and the box is where they lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.retrieval.asmk.codebook import Codebook
from lowq_core.retrieval.asmk.matching import WordMatch, match_box
from lowq_core.retrieval.asmk.retriever import ASMK
from lowq_core.retrieval.base import LocalArrays


def pictures(seed: int, count: int, dim: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [
        generator.standard_normal((int(generator.integers(1, 40)), dim), dtype=np.float32)
        for _ in range(count)
    ]


@given(
    seed=st.integers(0, 10_000),
    dim=st.sampled_from([5, 32, 100]),
    binary=st.booleans(),
    idf=st.booleans(),
    assignment=st.sampled_from([1, 5]),
    threshold=st.sampled_from([0.0, 0.25]),
)
@settings(max_examples=40, deadline=None)
def test_shares_add_up_to_the_score(
    seed: int, dim: int, binary: bool, idf: bool, assignment: int, threshold: float
) -> None:
    database = pictures(seed, 6, dim)
    words = np.random.default_rng(seed + 1).standard_normal((12, dim), dtype=np.float32)
    search = ASMK(
        codebook=Codebook(words), binary=binary, idf=idf, query_assignment=assignment, threshold=threshold
    ).fit(LocalArrays.of(database))
    (query,) = pictures(seed + 2, 1, dim)
    ranking = search.rank(LocalArrays.of([query]))
    for index, score in zip(ranking.ids[0], ranking.scores[0], strict=True):
        found = search.matches(query, database[index])
        assert sum(match.share for match in found) == pytest.approx(score, abs=1e-6)
        assert all(match.share > 0 for match in found)
        assert [match.share for match in found] == sorted((m.share for m in found), reverse=True)


def test_features_meet_at_their_word() -> None:
    """By hand: two words at (0, 0) and (10, 0); the features right of the first one share it."""
    search = ASMK(
        codebook=Codebook(np.array([[0, 0], [10, 0]], np.float32)), query_assignment=1, binary=False
    )
    query = np.array([[1, 0], [10, 1]], np.float32)
    picture = np.array([[10, -1], [2, 0], [3, 0]], np.float32)
    (match,) = search.matches(query, picture)
    assert match.word == 0
    assert match.query.tolist() == [0]
    assert match.picture.tolist() == [1, 2]
    assert match.share == pytest.approx(1 / 2, abs=1e-5)  # sigma = 1, two cells in each picture


def test_box_leaves_strays_out() -> None:
    xy = np.array([[10, 20], [12, 22], [14, 24], [16, 26], [900, 900]], np.float32)
    good = [WordMatch(n, 1.0, np.array([0]), np.array([n])) for n in range(4)]
    stray = WordMatch(9, 0.1, np.array([0]), np.array([4]))
    assert match_box([*good, stray], xy) == (10, 20, 16, 26)
    assert match_box([*good, stray], xy, keep=1.0) == (10, 20, 900, 900)


def test_bad_input() -> None:
    search = ASMK(codebook=Codebook(np.eye(4, dtype=np.float32)), query_assignment=1, idf=True)
    one = np.ones((2, 4), np.float32)
    with pytest.raises(LowqError, match="fit first"):
        search.matches(one, one)
    with pytest.raises(LowqError, match="dimension 3"):
        search.matches(one, one[:, :3])
    with pytest.raises(LowqError, match="NaN"):
        search.matches(one * np.nan, one)
    with pytest.raises(LowqError, match="share no word"):
        match_box([], one[:, :2])
    match = WordMatch(0, 1.0, np.array([0]), np.array([0]))
    for keep in (0.0, 1.5):
        with pytest.raises(LowqError, match="keep"):
            match_box([match], one[:, :2], keep)
