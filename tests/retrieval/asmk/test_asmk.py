"""ASMK as a whole: against the formula, against the package `asmk`, and what has to hold whatever the data.

What is compared with the package are made-up vectors, HOW's features of rendered scenes, and of photos where there
are some.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.data.catalogue import load_benchmark
from lowq_core.data.papertown import town, training_set
from lowq_core.data.pictures import database_pictures, query_pictures, set_pictures
from lowq_core.errors import LowqError
from lowq_core.extraction.local import LocalConfig, LocalFeatures, embed_local
from lowq_core.images import Picture
from lowq_core.models.how import how
from lowq_core.models.how_checkpoints import save_how
from lowq_core.models.how_config import HowConfig
from lowq_core.retrieval.asmk.codebook import Codebook
from lowq_core.retrieval.asmk.retriever import ASMK
from lowq_core.retrieval.base import LocalArrays, LocalDescriptors
from lowq_core.retrieval.saved import MANIFEST
from lowq_core.training.how_recipe import HowTraining, fit_whitening

OPTIONS = [
    {},
    {"alpha": 1.0},
    {"alpha": 2.5, "threshold": 0.25},
    {"threshold": 0.5},
    {"idf": True},
    {"query_assignment": 1},
    {"binary": False},
    {"binary": False, "idf": True, "threshold": 0.1, "query_assignment": 2},
]


def pictures(seed: int, count: int, dim: int, *, most: int = 40, least: int = 0) -> LocalArrays:
    """Pictures of `least` to `most` descriptors around a few common points, so that cells are shared."""
    generator = np.random.default_rng(seed)
    points = np.random.default_rng(99).standard_normal((12, dim))
    sizes = generator.integers(least, most + 1, count)
    rows = points[generator.integers(0, len(points), sizes.sum())]
    rows = (rows + 0.6 * generator.standard_normal(rows.shape)).astype(np.float32)
    return LocalArrays(rows, np.concatenate([[0], np.cumsum(sizes)]))


def words(seed: int, count: int, dim: int) -> Codebook:
    return Codebook(pictures(seed, 1, dim, most=count, least=count).descriptors)


def one(pictures: LocalArrays, i: int) -> np.ndarray:
    return pictures.descriptors[pictures.offsets[i] : pictures.offsets[i + 1]].astype(np.float64)


def cells_by_formula(x: np.ndarray, c: np.ndarray, assigned: int, binary: bool) -> dict[int, np.ndarray]:
    distances = ((x[:, None] - c) ** 2).sum(axis=2)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :assigned]
    sums = {k: sum(v - c[k] for v, q in zip(x, nearest, strict=True) if k in q) for k in np.unique(nearest)}
    return {k: v > 0 if binary else v / (np.linalg.norm(v) + 1e-6) for k, v in sums.items()}


def score_by_formula(queries: LocalArrays, database: LocalArrays, search: ASMK) -> np.ndarray:
    """Section by section as the method is written down, one picture and one word at a time."""
    c = search.codebook.centroids.astype(np.float64)
    divisor = 32 * np.ceil(c.shape[1] / 32)
    theirs = [
        cells_by_formula(one(database, i), c, 1, search.binary) for i in range(len(database.offsets) - 1)
    ]
    have = np.array([sum(k in cells for cells in theirs) for k in range(len(c))])
    idf = np.array([np.log(len(theirs) / n) ** 2 if n and search.idf else 1.0 for n in have])
    scores = np.zeros((len(queries.offsets) - 1, len(theirs)))
    for i in range(len(scores)):
        mine = cells_by_formula(one(queries, i), c, search.query_assignment, search.binary)
        for j, cells in enumerate(theirs):
            for k in mine.keys() & cells.keys():
                u = 1 - 2 * (mine[k] != cells[k]).sum() / divisor if search.binary else mine[k] @ cells[k]
                scores[i, j] += idf[k] * u**search.alpha if u >= search.threshold else 0
            norm = sum(idf[k] for k in mine) * sum(idf[k] for k in cells)
            scores[i, j] = scores[i, j] / np.sqrt(norm) if norm > 0 else 0
    return scores


def scores_of(search: ASMK, queries: LocalDescriptors) -> np.ndarray:
    """(Q, N) scores in the database's order."""
    ranking = search.rank(queries)
    scores = np.empty(ranking.scores.shape, np.float32)
    np.put_along_axis(scores, ranking.ids, ranking.scores, axis=1)
    return scores


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dim", [5, 32, 100, 128])
def test_equals_the_formula(options: dict, dim: int) -> None:
    database, queries = pictures(0, 14, dim), pictures(1, 4, dim, least=1)
    search = ASMK(codebook=words(2, 30, dim), **options).fit(database)
    np.testing.assert_allclose(
        scores_of(search, queries), score_by_formula(queries, database, search), atol=1e-6
    )


def package_scores(search: ASMK, database: LocalDescriptors, queries: LocalDescriptors) -> np.ndarray:
    """What the package `asmk` gives on the same codebook."""
    package = pytest.importorskip("asmk")
    params = {
        "index": {"gpu_id": None},
        "train_codebook": {"codebook": {"size": search.words}},
        "build_ivf": {
            "kernel": {"binary": search.binary},
            "ivf": {"use_idf": search.idf},
            "quantize": {"multiple_assignment": 1},
            "aggregate": {},
        },
        "query_ivf": {
            "quantize": {"multiple_assignment": search.query_assignment},
            "aggregate": {},
            "search": {"topk": None},
            "similarity": {"similarity_threshold": search.threshold, "alpha": search.alpha},
        },
    }
    from asmk import codebook, index

    factory = index.initialize_index(gpu_id=None)
    book = codebook.Codebook(factory, size=search.words)
    book.index(search.codebook.centroids)
    method = package.asmk_method.ASMKMethod(params, {}, codebook=book)
    numbers = [
        np.repeat(np.arange(len(some.offsets) - 1), np.diff(some.offsets)) for some in (database, queries)
    ]
    _, _, ranks, scores = method.build_ivf(database.descriptors, numbers[0]).query_ivf(
        queries.descriptors, numbers[1]
    )
    ordered = np.empty_like(scores)
    np.put_along_axis(ordered, ranks, scores, axis=1)
    return ordered


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dim", [20, 33, 96, 100, 128])
def test_equals_the_package(options: dict, dim: int) -> None:
    database, queries = pictures(0, 60, dim, least=1, most=90), pictures(1, 5, dim, least=1, most=90)
    search = ASMK(codebook=words(2, 50, dim), **options).fit(database)
    np.testing.assert_allclose(
        scores_of(search, queries), package_scores(search, database, queries), atol=1e-6
    )


def how_features(
    folder: Path, database: list[Picture], queries: list[Picture], others: list[Picture]
) -> list[LocalFeatures]:
    """HOW's features of three lists of pictures: trunk as ImageNet made it, whitening fitted on `others`."""
    told = HowTraining(HowConfig(dim=32), size=192, whitening_features=100)
    model = how(told.config)
    fit_whitening(model, told, others)
    save_how(model, folder / "how.safetensors")
    config = LocalConfig(folder / "how.safetensors", size=192, scales=(1.0, 0.5), count=100)
    return [embed_local(some, config) for some in (database, queries, others)]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[LocalFeatures]:
    """Features of the smallest PaperTown: all its database, queries and training pictures."""
    benchmark, others = town("test", "smoke"), set_pictures(training_set("smoke"))
    folder = tmp_path_factory.mktemp("rendered")
    return how_features(folder, database_pictures(benchmark), query_pictures(benchmark), others)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, lowq_data: Path) -> list[LocalFeatures]:
    """Features of photos: each query of rparis_mini, some of its database, others for whitening and words."""
    benchmark = load_benchmark(lowq_data / "rparis_mini" / "gnd_rparis_mini.json")
    pictures = database_pictures(benchmark)
    return how_features(
        tmp_path_factory.mktemp("photos"), pictures[::6], query_pictures(benchmark), pictures[1::12]
    )


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("source", ["rendered", "photos"])
def test_equals_the_package_on_features_of_pictures(
    source: str, options: dict, request: pytest.FixtureRequest
) -> None:
    database, queries, others = request.getfixturevalue(source)
    search = ASMK(words=256, **options).train(others.descriptors).fit(database)
    scores = scores_of(search, queries)
    np.testing.assert_allclose(scores, package_scores(search, database, queries), atol=1e-6)
    assert scores.max() > 0.01  # far above the tolerance


def test_same_codebook_as_the_package() -> None:
    index = pytest.importorskip("asmk.index")
    vectors = pictures(0, 1, 16, most=3_000, least=3_000).descriptors
    expected = index.initialize_index(gpu_id=None).cluster(vectors, 8)
    np.testing.assert_allclose(Codebook.train(vectors, 8).centroids, expected, atol=1e-5)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 12), dim=st.sampled_from([3, 32, 64, 128]))
@settings(max_examples=40, deadline=None)
def test_a_picture_is_itself(seed: int, count: int, dim: int) -> None:
    """With one word a descriptor in queries too, a picture's score with itself is 1, and no other's is more."""
    database = pictures(seed, count, dim, least=1)
    search = ASMK(codebook=words(seed, 20, dim), query_assignment=1).fit(database)
    scores = scores_of(search, database)
    if dim % 32 == 0:
        assert scores.max() <= 1
    np.testing.assert_allclose(np.diag(scores), 1, atol=1e-6)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 15), options=st.sampled_from(OPTIONS[:6]))
@settings(max_examples=40, deadline=None)
def test_order_of_the_database_and_company_do_not_matter(seed: int, count: int, options: dict) -> None:
    database, queries = pictures(seed, count, 32), pictures(seed + 1, 4, 32)
    book = words(2, 40, 32)
    scores = scores_of(ASMK(codebook=book, **options).fit(database), queries)
    order = np.random.default_rng(seed).permutation(count)
    parts = [one(database, i).astype(np.float32) for i in order]
    shuffled = ASMK(codebook=book, **options).fit(LocalArrays.of(parts))
    np.testing.assert_array_equal(scores_of(shuffled, queries), scores[:, order])
    for i in range(4):
        alone = LocalArrays.of([one(queries, i).astype(np.float32)])
        np.testing.assert_array_equal(scores_of(shuffled, alone), scores[i : i + 1, order])


@given(seed=st.integers(0, 10_000), cut=st.integers(1, 11), options=st.sampled_from(OPTIONS))
@settings(max_examples=40, deadline=None)
def test_append_and_merge_equal_one_fit(seed: int, cut: int, options: dict) -> None:
    database, book = pictures(seed, 12, 32, least=0), words(2, 40, 32)
    whole = ASMK(codebook=book, **options).fit(database)
    at = database.offsets[cut]
    first = LocalArrays(database.descriptors[:at], database.offsets[: cut + 1])
    second = LocalArrays(database.descriptors[at:], database.offsets[cut:] - at)
    appended = ASMK(codebook=book, **options).fit(first).append(second)
    merged = ASMK(codebook=book, **options).fit(first).merge(ASMK(codebook=book, **options).fit(second))
    queries = pictures(seed + 1, 3, 32)
    for search in (appended, merged):
        for name in ("offsets", "pictures", "codes", "cells"):
            np.testing.assert_array_equal(
                getattr(search._file, name), getattr(whole._file, name), err_msg=name
            )
        np.testing.assert_array_equal(search.rank(queries).ids, whole.rank(queries).ids)
        np.testing.assert_array_equal(search.rank(queries).scores, whole.rank(queries).scores)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_blocks_do_not_matter(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    database, queries, book = pictures(0, 30, 64), pictures(1, 6, 64), words(2, 50, 64)
    scores = scores_of(ASMK(codebook=book, **options).fit(database), queries)
    for name, value in (
        ("encoding._VECTORS", 50),
        ("encoding._CELLS", 60),
        ("scoring._AT_A_TIME", 30),
        ("scoring._WORTH_A_CALL", 10**9 if options.get("binary", True) else 0),
        ("retriever._SUMS", 70),
        ("index._AT_A_TIME", 10),
        ("words._VECTORS", 7),
    ):
        monkeypatch.setattr(f"lowq_core.retrieval.asmk.{name}", value)
        again = scores_of(ASMK(codebook=book, **options).fit(database), queries)
        if options.get("binary", True):
            np.testing.assert_array_equal(again, scores, err_msg=name)
        else:  # its products are BLAS's, which round differently in other company
            np.testing.assert_allclose(again, scores, atol=1e-6, err_msg=name)


def test_k_best_are_the_first_of_all() -> None:
    search = ASMK(codebook=words(2, 40, 32)).fit(pictures(0, 30, 32))
    queries = pictures(1, 3, 32)
    whole, some = search.rank(queries), search.rank(queries, 7)
    np.testing.assert_array_equal(some.ids, whole.ids[:, :7])
    assert (np.sort(whole.ids, axis=1) == np.arange(30)).all()
    assert some.ids.dtype == np.int64
    assert some.scores.dtype == np.float32


def test_pictures_without_descriptors_score_nothing() -> None:
    none = np.empty((0, 32), np.float32)
    full = pictures(0, 3, 32, least=5).descriptors
    database = LocalArrays.of([none, full, none, full])
    search = ASMK(codebook=words(2, 40, 32)).fit(database)
    ranking = search.rank(LocalArrays.of([full, none]))
    assert ranking.ids.tolist() == [[1, 3, 0, 2], [0, 1, 2, 3]]
    assert ranking.scores[0, 2:].tolist() == [0, 0]
    assert ranking.scores[1].tolist() == [0, 0, 0, 0]


def test_nothing_at_all_in_the_database() -> None:
    empty = LocalArrays(np.empty((0, 32), np.float32), np.zeros(4, np.int64))
    for idf in (False, True):
        search = ASMK(codebook=words(2, 40, 32), idf=idf).fit(empty)
        assert scores_of(search, pictures(0, 2, 32)).tolist() == [[0, 0, 0]] * 2


def test_a_word_in_every_picture_has_no_weight_with_idf() -> None:
    same = LocalArrays.of([np.ones((3, 32), np.float32)] * 4)
    search = ASMK(codebook=words(2, 5, 32), idf=True, query_assignment=1).fit(same)
    assert (scores_of(search, same) == 0).all()


def test_at_most_21_bytes_a_cell_in_memory_and_on_disk(tmp_path: Path) -> None:
    database = pictures(0, 40, 128, most=400, least=300)
    search = ASMK(codebook=words(2, 200, 128)).fit(database)
    file, names = search._file, ("offsets", "pictures", "codes", "cells")
    assert sum(getattr(file, name).nbytes for name in names) <= 21 * len(file.pictures)
    search.save(tmp_path)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.pop("centroids.npy") > 4 * 200 * 128  # of the codebook, however large the index is
    assert {f"{name}.npy" for name in names} < sizes.keys()
    assert sum(sizes.values()) <= 21 * len(file.pictures)


def test_saved_and_loaded(tmp_path: Path) -> None:
    queries, more = pictures(1, 3, 100), pictures(5, 4, 100)
    for options in OPTIONS:
        search = ASMK(codebook=words(2, 40, 100), **options).fit(
            pictures(0, 20, 100), [f"{i}.jpg" for i in range(20)]
        )
        search.save(tmp_path / "index")
        loaded = ASMK.load(tmp_path / "index")
        assert isinstance(loaded._file.codes.base, np.memmap)
        np.testing.assert_array_equal(scores_of(loaded, queries), scores_of(search, queries))
        names = [f"{i}.png" for i in range(4)]
        loaded.append(more, names).save(tmp_path / "index")  # over what it is mapped from
        np.testing.assert_array_equal(
            scores_of(ASMK.load(tmp_path / "index"), queries), scores_of(search.append(more, names), queries)
        )
    assert not list(tmp_path.rglob("*.pkl"))


@pytest.mark.parametrize("name", ["codes", "pictures", "offsets", "centroids", "cells", "names"])
def test_truncated_file_is_named(tmp_path: Path, name: str) -> None:
    ASMK(codebook=words(2, 40, 32)).fit(pictures(0, 20, 32)).save(tmp_path / "index")
    file = tmp_path / "index" / f"{name}.npy"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(LowqError, match=rf"{name}\.npy: does not match the digest"):
        ASMK.load(tmp_path / "index")


def test_arrays_that_do_not_fit_each_other(tmp_path: Path) -> None:
    search = ASMK(codebook=words(2, 40, 32)).fit(pictures(0, 20, 32))
    search._file.pictures[3] = 20
    search.save(tmp_path / "index")
    with pytest.raises(LowqError, match="do not fit each other"):
        ASMK.load(tmp_path / "index")


def test_nothing_saved(tmp_path: Path) -> None:
    with pytest.raises(LowqError, match=MANIFEST):
        ASMK.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "alpha=0: has to be"),
        ({"alpha": -1.0}, "alpha=-1.0: has to be"),
        ({"alpha": float("nan")}, "alpha=nan: has to be"),
        ({"threshold": -0.1}, "threshold=-0.1: has to be between 0 and 1"),
        ({"threshold": 1.1}, "threshold=1.1: has to be between 0 and 1"),
        ({"words": 0}, "words=0: has to be at least 1"),
        ({"query_assignment": 0}, "query_assignment=0: there are"),
        ({"words": 4}, "query_assignment=5: there are 4 words"),
        ({"search": "fast"}, "search='fast': unknown; choose one of auto, exact, bf16"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(LowqError, match=message):
        ASMK(**options)


def local(rows: object, offsets: object) -> LocalArrays:
    return LocalArrays(np.asarray(rows, np.float32), np.asarray(offsets))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (local(np.zeros((3, 8)), [0, 3]), "dimension 8, but the codebook has 32"),
        (local(np.full((3, 32), np.nan), [0, 3]), "pictures 0 to 0: row 0 holds NaN"),
        (local(np.zeros((3, 32)), [0, 2]), "offsets go from 0 to 2 over 3 descriptors"),
        (local(np.zeros((3, 32)), [0, 3, 2, 3]), "offsets go from 0 to 3 over 3 descriptors"),
        (local(np.zeros((3, 32)), [1, 3]), "offsets go from 1 to 3"),
        (local(np.zeros((0, 32)), [0]), "has no pictures"),
        (local(np.zeros((3, 32)), [0.0, 3.0]), "give N \\+ 1 whole numbers"),
        (local(np.zeros(3), [0, 3]), r"shape \(3,\)"),
        (local(np.zeros((0, 8)), [0, 0]), "dimension 8"),
    ],
)
def test_bad_descriptors(bad: LocalArrays, message: str) -> None:
    search = ASMK(codebook=words(2, 40, 32))
    with pytest.raises(LowqError, match=message):
        search.fit(bad)
    search.fit(pictures(0, 3, 32))
    with pytest.raises(LowqError, match=message):
        search.append(bad)
    with pytest.raises(LowqError, match=message):
        search.rank(bad)


def test_steps_out_of_order() -> None:
    some = pictures(0, 3, 32)
    with pytest.raises(LowqError, match="has no codebook"):
        ASMK().fit(some)
    for step in (
        lambda s: s.rank(some),
        lambda s: s.append(some),
        lambda s: s.save(Path("x")),
        lambda s: s.merge(s),
    ):
        with pytest.raises(LowqError, match="has no database; call fit"):
            step(ASMK(codebook=words(2, 40, 32)))
    search = ASMK(codebook=words(2, 40, 32)).fit(some)
    with pytest.raises(LowqError, match="k=4: the database has 3"):
        search.rank(some, 4)


def test_a_name_twice() -> None:
    some, book = pictures(0, 3, 32), words(2, 40, 32)
    with pytest.raises(LowqError, match=r"names: a\.jpg occurs twice"):
        ASMK(codebook=book).fit(some, ["a.jpg", "b.jpg", "a.jpg"])
    with pytest.raises(LowqError, match="names: 2 for 3 pictures"):
        ASMK(codebook=book).fit(some, ["a.jpg", "b.jpg"])
    named = LocalArrays(some.descriptors, some.offsets, ("a.jpg", "b.jpg", "c.jpg"))
    search = ASMK(codebook=book).fit(named)
    before = scores_of(search, some)
    with pytest.raises(LowqError, match=r"names: b\.jpg occurs twice"):
        search.append(some, ["d.jpg", "b.jpg", "e.jpg"])
    with pytest.raises(LowqError, match=r"names: a\.jpg occurs twice"):
        search.merge(ASMK(codebook=book).fit(named))
    with pytest.raises(LowqError, match="only some pictures have them"):
        search.append(some)
    np.testing.assert_array_equal(scores_of(search, some), before)  # a refused append leaves no trace


def test_merging_what_does_not_fit() -> None:
    some = pictures(0, 3, 32)
    search = ASMK(codebook=words(2, 40, 32)).fit(some)
    for other in (ASMK(codebook=words(3, 40, 32)), ASMK(codebook=words(2, 40, 32), binary=False)):
        with pytest.raises(LowqError, match="another codebook or kernel"):
            search.merge(other.fit(some))


def test_training() -> None:
    vectors = pictures(0, 20, 32, least=20).descriptors
    search = ASMK(words=16).train(vectors)
    assert search.codebook.centroids.shape == (16, 32)
    np.testing.assert_array_equal(ASMK(words=16).train(vectors).codebook.centroids, search.codebook.centroids)
    with pytest.raises(LowqError, match=r"words=5000: there are \d+ training vectors; choose"):
        ASMK(words=5_000).train(vectors)
    with pytest.raises(LowqError, match="training vectors: row 0 holds NaN"):
        ASMK(words=16).train(np.full((20, 32), np.nan))
