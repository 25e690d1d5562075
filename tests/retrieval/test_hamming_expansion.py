"""Hamming query expansion on codes made by hand, and against a transcription with sets and loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lowq_core.errors import LowqError
from lowq_core.retrieval.asmk.codebook import Codebook
from lowq_core.retrieval.asmk.index import Entries
from lowq_core.retrieval.asmk.retriever import ASMK
from lowq_core.retrieval.base import LocalArrays
from lowq_core.retrieval.hamming_expansion import (
    HammingExpansion,
    PictureCodes,
    majority,
    reliable_words,
    strong_matches,
)

DIM = 64


def cells(found: dict[int, list[int]]) -> Entries:
    """A picture's words and the numbers of the bits that are set in their codes of 64."""
    words = np.array(sorted(found), np.int32)
    bits = np.zeros((len(words), 64), np.uint8)
    for row, word in enumerate(words):
        bits[row, found[int(word)]] = 1
    return Entries(np.zeros(len(words), np.int32), words, np.packbits(bits, axis=1))


def bits_of(words: np.ndarray, codes: np.ndarray) -> dict[int, list[int]]:
    return {
        int(word): np.flatnonzero(np.unpackbits(code)).tolist()
        for word, code in zip(words, codes, strict=True)
    }


def test_strong_matches_by_hand() -> None:
    query, picture = cells({1: [0, 1], 4: [5], 6: []}), cells({1: [1, 2], 5: [5], 6: [9, 10, 11]})
    assert [strong_matches(query, picture, most) for most in (0, 1, 2, 3)] == [0, 0, 1, 2]


def test_reliable_words_by_hand() -> None:
    """Three pictures; 8 is in all of them, 2 and 9 in two, the rest in one; the query has 2, 5, 7, 8."""
    pictures = [np.array(words, np.int32) for words in ([2, 8, 9], [1, 2, 8], [3, 8, 9])]
    query = np.array([2, 5, 7, 8], np.int32)
    taken = {
        growth: reliable_words(pictures, query, growth).tolist()
        for growth in (0.0, 0.25, 0.49, 0.5, 0.75, 9.0)
    }
    assert taken == {
        0.0: [8, 2],  # all before the first new one
        0.25: [8, 2, 9],
        0.49: [8, 2, 9],
        0.5: [8, 2, 9, 1],
        0.75: [8, 2, 9, 1, 3],
        9.0: [8, 2, 9, 1, 3],
    }


def test_majority_by_hand() -> None:
    voters = [cells({3: [0, 1], 5: [7]}), cells({3: [1, 2]}), cells({3: [2, 1], 4: [8]}), cells({4: [9]})]
    words, codes = majority([(one.words, one.codes) for one in voters])
    assert bits_of(words, codes) == {
        3: [1, 2],
        4: [8],
        5: [7],
    }  # word 4 is a tie, which its first voter decides
    words, codes = majority([(one.words, one.codes) for one in voters[:2]])
    assert bits_of(words, codes)[3] == [0, 1]  # again


Cells = dict[int, np.ndarray]


def pictures(seed: int, count: int, *, most: int = 30, least: int = 0) -> LocalArrays:
    generator = np.random.default_rng(seed)
    points = np.random.default_rng(99).standard_normal((12, DIM))
    sizes = generator.integers(least, most + 1, count)
    rows = points[generator.integers(0, len(points), sizes.sum())]
    rows = (rows + 0.5 * generator.standard_normal(rows.shape)).astype(np.float32)
    return LocalArrays(rows, np.concatenate([[0], np.cumsum(sizes)]))


def index(**options: float) -> ASMK:
    words = pictures(2, 1, most=25, least=25).descriptors
    return ASMK(codebook=Codebook(words), **options)


def signs(picture: np.ndarray, words: np.ndarray, assigned: int) -> dict[int, np.ndarray]:
    """Signs of the summed residuals of each word."""
    picture, words = picture.astype(np.float64), words.astype(np.float64)
    near = [np.argsort(((x - words) ** 2).sum(axis=1), kind="stable")[:assigned] for x in picture]
    found = sorted({int(word) for one in near for word in one})
    return {
        word: sum(x - words[word] for x, one in zip(picture, near, strict=True) if word in one) > 0
        for word in found
    }


def kernel(query: dict[int, np.ndarray], picture: dict[int, np.ndarray], alpha: float) -> float:
    total = 0.0
    for word in query.keys() & picture.keys():
        total += max(1 - 2 * (query[word] != picture[word]).sum() / DIM, 0) ** alpha
    return total / np.sqrt(len(query) * len(picture)) if query and picture else 0.0


def transcribed(query: Cells, database: list[Cells], search: HammingExpansion) -> np.ndarray:
    plain = np.array([kernel(query, one, search.index.alpha) for one in database])
    reliable = []
    for i in np.argsort(-plain.astype(np.float32), kind="stable")[: search.short_list]:
        both = query.keys() & database[i].keys()
        strong = sum((query[w] != database[i][w]).sum() <= search.strict * DIM for w in both)
        if strong >= search.matches:
            reliable.append(database[i])
    if not reliable:
        return plain
    counts = {word: sum(word in one for one in reliable) for one in reliable for word in one}
    chosen, new = [], 0
    for word in sorted(counts, key=lambda word: (-counts[word], word)):
        most = int(search.growth * len(query))
        if (new == most and most) or (not most and word not in query):
            break
        chosen.append(word)
        new += word not in query
    better = {}
    for word in {*query, *chosen}:
        votes = [one[word] for one in [query] + (reliable if word in chosen else []) if word in one]
        shares = np.mean(votes, axis=0)
        better[word] = np.where(shares == 0.5, votes[0], shares > 0.5)
    return np.array([kernel(better, one, search.index.alpha) for one in database])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"matches": 1, "growth": 2.0},
        {"matches": 3, "strict": 0.35, "short_list": 4},
        {"matches": 1, "strict": 0.3, "growth": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("assigned", [1, 3])
def test_equals_the_transcription(options: dict[str, float], assigned: int) -> None:
    search = HammingExpansion(index=index(query_assignment=assigned), **options)
    database, queries = pictures(0, 20), pictures(1, 6)
    found = search.fit(database).rank(queries)
    words = search.index.codebook.centroids
    theirs = [signs(x, words, 1) for x in np.split(database.descriptors, database.offsets[1:-1])]
    plain = search.index.rank(queries)
    changed = 0
    for q, x in enumerate(np.split(queries.descriptors, queries.offsets[1:-1])):
        scores = np.empty(20)
        scores[found.ids[q]] = found.scores[q]
        np.testing.assert_allclose(scores, transcribed(signs(x, words, assigned), theirs, search), atol=1e-5)
        changed += not np.allclose(found.scores[q], plain.scores[q])
    assert changed or options == {}


def test_nothing_reliable_is_the_plain_search() -> None:
    database, queries = pictures(0, 20), pictures(1, 6)
    search = HammingExpansion(index=index(), matches=1000).fit(database)
    found, plain = search.rank(queries, 9), search.index.rank(queries, 9)
    np.testing.assert_array_equal(found.ids, plain.ids)
    np.testing.assert_allclose(found.scores, plain.scores, rtol=1e-6)


def test_codes_read_by_picture() -> None:
    """What the inverted file says of a picture is what the picture alone would be indexed as."""
    database = pictures(0, 9)
    asmk = index().fit(database)
    codes = PictureCodes(asmk._fitted())
    for i in range(9):
        rows = database.descriptors[database.offsets[i] : database.offsets[i + 1]]
        alone = index().fit(LocalArrays(rows, np.array([0, len(rows)])))._fitted()
        found = codes.of(i)
        np.testing.assert_array_equal(found.words, np.repeat(np.arange(25), np.diff(alone.offsets)))
        np.testing.assert_array_equal(found.codes, alone.codes)


def test_queries_do_not_change_the_index_or_each_other(tmp_path: Path) -> None:
    database, queries = pictures(0, 20), pictures(1, 6, least=1)
    search = HammingExpansion(index=index(), matches=2).fit(database)
    together = search.rank(queries)
    for q in (4, 0):
        rows = queries.descriptors[queries.offsets[q] : queries.offsets[q + 1]]
        alone = search.rank(LocalArrays(rows, np.array([0, len(rows)])))
        np.testing.assert_allclose(alone.scores[0], together.scores[q], atol=1e-6)
    search.save(tmp_path / "it")
    loaded = HammingExpansion.load(tmp_path / "it")
    assert (loaded.matches, loaded.short_list) == (2, 100)
    np.testing.assert_array_equal(loaded.rank(queries).ids, together.ids)
    search.fit(pictures(5, 7))
    assert search.rank(queries).ids.shape == (6, 7)


def test_permuting_the_database_permutes_the_scores() -> None:
    database, queries = pictures(0, 20, least=5), pictures(1, 6, least=5)
    parts = np.split(database.descriptors, database.offsets[1:-1])
    order = np.random.default_rng(0).permutation(20)
    straight = HammingExpansion(index=index(), matches=2).fit(database).rank(queries)
    permuted = (
        HammingExpansion(index=index(), matches=2)
        .fit(LocalArrays.of([parts[i] for i in order]))
        .rank(queries)
    )
    np.testing.assert_allclose(permuted.scores, straight.scores, atol=1e-6)


def test_trains_its_codebook() -> None:
    database = pictures(0, 20)
    search = HammingExpansion(index=ASMK(words=8)).train(database.descriptors).fit(database)
    assert search.rank(database, 3).ids.shape == (20, 3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"short_list": 0}, "short_list=0"),
        ({"matches": 0}, "matches=0"),
        ({"strict": 1.5}, "strict=1.5"),
        ({"growth": -1.0}, "growth=-1"),
        ({"index": ASMK(words=8, binary=False)}, "not binary"),
    ],
)
def test_bad_options(options: dict, sentence: str) -> None:
    with pytest.raises(LowqError, match=sentence):
        HammingExpansion(**({"index": index()} | options))


def test_used_before_fit_and_bad_k(tmp_path: Path) -> None:
    with pytest.raises(LowqError, match="call fit"):
        HammingExpansion(index=index()).rank(pictures(0, 2))
    with pytest.raises(LowqError, match="call fit"):
        HammingExpansion(index=index()).save(tmp_path)
    with pytest.raises(LowqError, match="k=21"):
        HammingExpansion(index=index()).fit(pictures(0, 20)).rank(pictures(1, 2), 21)


def test_a_picture_left_out_expands_nothing() -> None:
    """As if it were not in the database; short lists are as long as before."""
    database = pictures(3, 20, least=10)
    rows = np.split(database.descriptors, database.offsets[1:-1])
    asked = LocalArrays.of([rows[4], rows[11], rows[4]])
    options = {"short_list": 3, "matches": 2, "strict": 0.3}
    search = HammingExpansion(index=index(), **options).fit(database)
    found = (
        search.rank(asked, own=np.array([4, 11, -1])).scores,
        search.rank(asked, own=np.array([4, 11, -1])).ids,
    )
    assert (found[0][0] != found[0][2]).any()
    np.testing.assert_array_equal(found[1][2], search.rank(asked).ids[2])
    for query, own in enumerate((4, 11)):
        others = LocalArrays.of([row for number, row in enumerate(rows) if number != own])
        smaller = HammingExpansion(index=index(), **options).fit(others)
        ids = found[1][query][found[1][query] != own]
        expected = smaller.rank(LocalArrays.of([rows[own]])).ids[0]
        np.testing.assert_array_equal(ids, expected + (expected >= own))
