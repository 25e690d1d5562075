"""Re-ranking, graphs and `Verification` itself, on made-up pictures whose true overlaps are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.data.papertown.town import correspondences, town
from lowq_core.data.pictures import database_pictures, query_pictures
from lowq_core.errors import LowqError
from lowq_core.extraction.local import LocalConfig, embed_local
from lowq_core.extraction.local_features import LocalFeatures, PictureFeatures
from lowq_core.models.how import how
from lowq_core.models.how_checkpoints import save_how
from lowq_core.models.how_config import HowConfig
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.graph import union_graph
from lowq_core.retrieval.verification.pairs import Counter
from lowq_core.retrieval.verification.ransac import project
from lowq_core.retrieval.verification.reorder import rerank_by_inliers
from lowq_core.retrieval.verification.rerank import Verification
from lowq_core.retrieval.verification.verified import verified_neighbours

DIM = 24


def stray(generator: np.random.Generator, n: int) -> PictureFeatures:
    """n features of nothing in particular."""
    strength = np.sort(generator.uniform(0, 1, n))[::-1]
    descriptors = generator.standard_normal((n, DIM)) * generator.uniform(1, 5, (n, 1))
    return PictureFeatures(descriptors, strength, generator.uniform(0, 640, (n, 2)), np.ones(n))


def joined(*parts: PictureFeatures) -> PictureFeatures:
    return PictureFeatures(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def view(thing: PictureFeatures, seed: int, show: int, transform: np.ndarray, others: int) -> PictureFeatures:
    """A picture that shows the first `show` features of a thing through `transform`, and other things."""
    generator = np.random.default_rng(seed)
    seen = PictureFeatures(*(array[:show] for array in thing))
    seen = seen._replace(
        xy=project(transform, seen.xy) + generator.normal(0, 0.5, seen.xy.shape),
        descriptors=seen.descriptors + generator.normal(0, 0.1, seen.descriptors.shape),
    )
    return joined(seen, stray(generator, others))


TURN = np.array([[0.8, -0.3, 90], [0.3, 0.8, 30], [1e-4, 0, 1]])
SHOWN = (12, 50, 30, 0, 40)


@pytest.fixture(scope="module")
def things() -> tuple[PictureFeatures, LocalFeatures]:
    """A query, and a database that shows 12, 50, 30, 0 and 40 of its 60 features; the last picture is empty."""
    thing = stray(np.random.default_rng(0), 60)
    database = [view(thing, 1 + i, show, TURN, others=40) for i, show in enumerate(SHOWN)]
    none = PictureFeatures(np.empty((0, DIM)), np.empty(0), np.empty((0, 2)), np.empty(0))
    return thing, LocalFeatures.of([f"{i}.jpg" for i in range(6)], [*database, none])


def flat(rows: int, size: int) -> Ranking:
    ids = np.tile(np.arange(size), (rows, 1))
    return Ranking(ids, np.linspace(1, 0, size, dtype=np.float32)[None].repeat(rows, 0))


def test_counts_what_is_shared(things: tuple[PictureFeatures, LocalFeatures]) -> None:
    thing, database = things
    search = Verification(threshold=4).fit(database)
    for picture, show in enumerate((*SHOWN, 0)):
        found = search.count(thing, picture)
        if show:
            assert show * 0.9 <= found.inliers <= show + 3
            assert found.transform is not None
            assert (found.pairs[:, 0] == found.pairs[:, 1]).mean() > 0.9  # rows of the thing come first
            corners = np.array([[100, 100], [500, 100], [100, 500], [500, 500]])
            assert np.abs(project(found.transform, corners) - project(TURN, corners)).max() < 12
        else:
            assert found.inliers < 10
        assert found.pairs.shape == (found.inliers, 2)
    assert search.count(thing, 5).transform is None


def test_identical_pictures(things: tuple[PictureFeatures, LocalFeatures]) -> None:
    _, database = things
    for model in ("homography", "affine", "fundamental"):
        search = Verification(model=model).fit(database)  # type: ignore[arg-type]
        found = search.count(database[1], 1)
        assert found.inliers == len(database[1].xy)
        assert found.transform is not None
        if model != "fundamental":
            np.testing.assert_allclose(found.transform, np.eye(3), atol=1e-3)


def test_head_by_inliers(things: tuple[PictureFeatures, LocalFeatures]) -> None:
    thing, database = things
    queries = LocalFeatures.of(["a", "b"], [thing, database[5]])
    search = Verification(threshold=4, least=8).fit(database)
    found = search.rerank(flat(2, 6), queries, top=6)
    assert found.ids.tolist() == [[1, 4, 2, 0, 3, 5], [0, 1, 2, 3, 4, 5]]
    assert (np.diff(found.scores, axis=1) < 0).all()
    assert np.floor(found.scores[0]).tolist() == [search.count(thing, i).inliers for i in found.ids[0]]
    head = search.rerank(flat(2, 6), queries, top=3)
    assert head.ids[0].tolist() == [1, 2, 0, 3, 4, 5]
    assert search.rerank(flat(2, 6), queries, top=100).ids.tolist() == found.ids.tolist()


def test_junk_is_passed_over(things: tuple[PictureFeatures, LocalFeatures]) -> None:
    thing, database = things
    search = Verification(threshold=4, least=8).fit(database)
    counter = search.counter(LocalFeatures.of(["a"], [thing]))
    ranking = flat(1, 6)
    assert rerank_by_inliers(ranking, counter, top=2).ids[0].tolist() == [1, 0, 2, 3, 4, 5]
    assert rerank_by_inliers(ranking, counter, top=2, skip=[[0, 3]]).ids[0].tolist() == [1, 2, 0, 3, 4, 5]
    assert set(counter.known) == {(0, 0), (0, 1), (0, 2)}  # the second protocol cost one pair


def rerank_by_loops(ids: list[int], inliers: dict[int, int], top: int, junk: set[int]) -> list[int]:
    head = [i for i in ids if i not in junk][:top]
    return sorted(head, key=lambda i: (-inliers[i], ids.index(i))) + [i for i in ids if i not in head]


@given(seed=st.integers(0, 10_000), top=st.integers(1, 15), size=st.integers(1, 12), rows=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_order_against_loops(seed: int, top: int, size: int, rows: int) -> None:
    generator = np.random.default_rng(seed)
    table = generator.integers(0, 4, (rows, size + 3))
    ids = np.stack([generator.permutation(size + 3)[:size] for _ in range(rows)])
    junk = [generator.choice(size + 3, 2, replace=False) for _ in range(rows)]
    ranking = Ranking(ids, np.zeros(ids.shape, np.float32))
    found = rerank_by_inliers(ranking, lambda p: table[p[:, 0], p[:, 1]], top=top, skip=junk)
    for q in range(rows):
        counts = dict(enumerate(table[q].tolist()))
        assert found.ids[q].tolist() == rerank_by_loops(ids[q].tolist(), counts, top, set(junk[q].tolist()))
        assert (np.diff(found.scores[q]) < 0).all()
        verified = [i for i in ids[q] if i not in junk[q]][:top]
        assert np.floor(found.scores[q]).tolist() == [
            counts[i] if i in verified else 0 for i in found.ids[q].tolist()
        ]


def test_permuted_database(things: tuple[PictureFeatures, LocalFeatures]) -> None:
    thing, database = things
    order = np.array([3, 1, 5, 0, 4, 2])
    moved = LocalFeatures.of([database.names[i] for i in order], [database[int(i)] for i in order])
    pairs = np.column_stack([np.zeros(6, int), np.arange(6)])
    query = LocalFeatures.of(["q"], [thing])
    before, after = (Verification().fit(one).counter(query)(pairs) for one in (database, moved))
    np.testing.assert_array_equal(after, before[order])


def test_permuted_features(things: tuple[PictureFeatures, LocalFeatures]) -> None:
    """Which features there are counts, not their order."""
    thing, database = things
    order = np.random.default_rng(0).permutation(len(thing.xy))
    mixed = PictureFeatures(*(array[order] for array in thing))
    search = Verification().fit(database)
    one, other = search.count(thing, 1), search.count(mixed, 1)
    assert one.transform is not None
    assert other.transform is not None
    np.testing.assert_allclose(one.transform, other.transform, rtol=1e-9)
    assert sorted(map(tuple, one.pairs)) == sorted((order[a], b) for a, b in other.pairs)


def test_a_pair_does_not_depend_on_the_others(things: tuple[PictureFeatures, LocalFeatures]) -> None:
    _, database = things
    search = Verification().fit(database)
    every = np.array([(i, j) for i in range(6) for j in range(6)] * 5)
    together = search.counter()(every)
    alone = [int(search.counter()(np.array([pair]))[0]) for pair in every[:36]]
    assert together[:36].tolist() == alone


def test_graph_of_the_index(things: tuple[PictureFeatures, LocalFeatures]) -> None:
    _, database = things
    search = Verification(threshold=4, least=10).fit(database)
    candidates = [[j for j in range(6) if j != i] for i in range(6)]
    found = search.neighbours(candidates, 3)
    assert found.ids[1].tolist() == [4, 2, 0]
    assert found.ids[4].tolist() == [1, 2, 0]
    assert found.ids[5].tolist() == [0, 1, 2]  # nothing verified: as they were
    assert found.inliers[5].tolist() == [0, 0, 0]
    assert found.inliers[1, 0] == found.inliers[4, 0]  # counted one way round
    assert (np.diff(found.inliers, axis=1) <= 0).all()


def test_graph_for_gss(things: tuple[PictureFeatures, LocalFeatures]) -> None:
    """What comes out is what GSS's graph takes; pictures that nothing confirms are connected to nothing."""
    _, database = things
    candidates = [[j for j in range(6) if j != i] for i in range(6)]
    found = Verification(threshold=4).fit(database).neighbours(candidates, 2)
    vectors = np.abs(np.random.default_rng(0).standard_normal((6, 4))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    confirmed = np.where(found.inliers >= 20, found.ids, -1)
    every, sure = union_graph(vectors, found.ids), union_graph(vectors, confirmed)
    assert 4 in every.columns[every.offsets[1] : every.offsets[2]]
    assert sure.columns[sure.offsets[1] : sure.offsets[2]].tolist() == [1, 2, 4]
    assert sure.columns[sure.offsets[3] : sure.offsets[4]].tolist() == [3]
    assert sure.columns[sure.offsets[5] : sure.offsets[6]].tolist() == [5]


def test_graph_of_queries(things: tuple[PictureFeatures, LocalFeatures]) -> None:
    thing, database = things
    search = Verification(threshold=4, least=8).fit(database)
    found = search.neighbours([[0, 1, 2, 3, 4]], 2, LocalFeatures.of(["q"], [thing]))
    assert found.ids.tolist() == [[1, 4]]


def test_views_of_papertown(tmp_path: Path, one_thread: None) -> None:
    """HOW features of rendered pictures, their network untrained: a view of the query's building agrees with it."""
    save_how(how(HowConfig(dim=64)), tmp_path / "how.safetensors")
    config = LocalConfig(str(tmp_path / "how.safetensors"), size=384, scales=(1.0, 0.7), count=300)
    benchmark = town("test", "smoke")
    chosen = [q for q, query in enumerate(benchmark.queries) if len(query.easy)][:6:2]
    pictures, asked = database_pictures(benchmark), query_pictures(benchmark)
    shown = [int(benchmark.queries[q].easy[0]) for q in chosen]
    search = Verification().fit(embed_local([pictures[i] for i in shown], config))
    queries = embed_local([asked[q] for q in chosen], config)
    counts = np.array([[search.count(queries[i], j).inliers for j in range(3)] for i in range(3)])
    assert counts.argmax(axis=1).tolist() == [0, 1, 2]
    assert counts.diagonal().min() > 1.5 * (counts - np.diag(counts.diagonal())).max()
    right = []
    for i, q in enumerate(chosen):
        in_query, in_view = correspondences(
            benchmark.queries[q].image, benchmark.images[shown[i]], scale="smoke"
        )
        found = search.count(queries[i], i)
        assert found.transform is not None
        error = np.linalg.norm(project(found.transform, in_query) - in_view, axis=1)
        right.append((error < 16).mean())  # a feature is as exact as its cell of 16 pixels
    # a homography is of one wall: nearly all of a building seen from the front, half of one seen over a corner
    assert np.median(right) > 2 / 3
    assert min(right) > 1 / 3


def test_counter_reads_each_pair_once() -> None:
    seen: list[tuple[int, int]] = []

    def compare(a: int, b: int) -> int:
        seen.append((a, b))
        return 10 * a + b

    counter = Counter(None, list(range(30)), compare)
    pairs = np.array([(i, j) for i in range(30) for j in range(30)])
    counts = counter(pairs)
    assert counts.tolist() == [10 * min(i, j) + max(i, j) for i, j in pairs]
    assert len(seen) == len(set(seen)) == 30 * 31 // 2
    counter(pairs)
    assert len(seen) == 30 * 31 // 2
    directed = Counter([1, 2], [0, 1, 2], compare)
    assert directed(np.array([[1, 0], [0, 2]])).tolist() == [20, 12]
    assert directed(np.empty((0, 2), int)).tolist() == []


def test_strongest_features_only(things: tuple[PictureFeatures, LocalFeatures]) -> None:
    thing, database = things
    found = Verification(features=20).fit(database).count(thing, 1)
    assert found.inliers <= 20
    assert found.pairs.max() < 20


def test_saved_and_loaded(things: tuple[PictureFeatures, LocalFeatures], tmp_path: Path) -> None:
    thing, database = things
    search = Verification(model="affine", threshold=5, ratio=0.9, least=3, seed=7).fit(database)
    search.save(tmp_path / "v")
    again = Verification.load(tmp_path / "v")
    assert {name: getattr(again, name) for name in Verification._OPTIONS} == {
        name: getattr(search, name) for name in Verification._OPTIONS
    }
    for picture in range(6):
        one, other = search.count(thing, picture), again.count(thing, picture)
        assert one.inliers == other.inliers
        np.testing.assert_array_equal(one.pairs, other.pairs)


@pytest.mark.parametrize(
    "options", [{"features": 0}, {"least": -1}, {"ratio": 2.0}, {"model": "x"}, {"threshold": -1}]
)
def test_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(LowqError, match=next(iter(options))):
        Verification(**options)  # type: ignore[arg-type]


def test_bad_input(things: tuple[PictureFeatures, LocalFeatures], tmp_path: Path) -> None:
    thing, database = things
    queries = LocalFeatures.of(["q"], [thing])
    with pytest.raises(LowqError, match="fit first"):
        Verification().count(thing, 0)
    with pytest.raises(LowqError, match="fit first"):
        Verification().save(tmp_path / "x")
    with pytest.raises(LowqError, match="LocalFeatures"):
        Verification().fit(np.ones((5, 4)))  # type: ignore[arg-type]
    search = Verification().fit(database)
    with pytest.raises(LowqError, match="picture 6"):
        search.count(thing, 6)
    narrow = thing._replace(descriptors=thing.descriptors[:, :5])
    with pytest.raises(LowqError, match="dimension"):
        search.count(narrow, 0)
    with pytest.raises(LowqError, match="dimension 5"):
        search.rerank(flat(1, 6), LocalFeatures.of(["q"], [narrow]))
    with pytest.raises(LowqError, match="2 rows for 1 queries"):
        search.rerank(flat(2, 6), queries)
    with pytest.raises(LowqError, match="same database"):
        search.rerank(flat(1, 9), queries)
    with pytest.raises(LowqError, match="top=0"):
        search.rerank(flat(1, 6), queries, top=0)
    with pytest.raises(LowqError, match="skip: 2 lists for 1"):
        search.rerank(flat(1, 6), queries, skip=[[], []])
    broken = LocalFeatures.of(["good", "bad"], [thing, thing._replace(xy=thing.xy * np.nan)])
    with pytest.raises(LowqError, match=r"database: bad: .*NaN"):
        Verification().fit(broken).rerank(flat(1, 2), queries)


def test_bad_graphs(things: tuple[PictureFeatures, LocalFeatures]) -> None:
    _, database = things
    search = Verification().fit(database)

    def count(pairs: np.ndarray) -> np.ndarray:
        return np.zeros(len(pairs), np.int64)

    with pytest.raises(LowqError, match="1 rows for 6"):
        search.neighbours([[1, 2]], 1)
    with pytest.raises(LowqError, match="k=3"):
        verified_neighbours([[1, 2]], count, 3)
    with pytest.raises(LowqError, match="own candidates"):
        verified_neighbours([[1, 2], [0, 1]], count, 1, own=True)
    with pytest.raises(LowqError, match="row 1 names a candidate twice"):
        verified_neighbours([[1, 2], [0, 0]], count, 1)
    with pytest.raises(LowqError, match="float64"):
        verified_neighbours([[0.5]], count, 1)
