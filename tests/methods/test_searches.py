"""Searches and geometry, from a method's name to a ranking, against the parts put together by hand."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowq_core.data.benchmark import Benchmark
from lowq_core.data.labels import leave_one_out, read_labels
from lowq_core.data.pictures import database_pictures, query_pictures
from lowq_core.errors import LowqError
from lowq_core.evaluation.protocols import evaluate
from lowq_core.extraction.activation_regions import ActivationRegions
from lowq_core.extraction.hessian_affine import HessianAffine
from lowq_core.extraction.local_job import embed_with
from lowq_core.methods.grammar import parse_method
from lowq_core.methods.parts import LocalMethod, Method
from lowq_core.methods.pipeline import Pipeline
from lowq_core.methods.report import MethodReport
from lowq_core.reproduce.profiles import profile
from lowq_core.reproduce.store import Store
from lowq_core.retrieval.augmentation import DatabaseAugmentation
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.catalogue import retriever
from lowq_core.retrieval.diffusion.dfs import Diffusion
from lowq_core.retrieval.exact import ExactSearch
from lowq_core.retrieval.expansion import AverageQE
from lowq_core.retrieval.gss.retriever import GSS
from lowq_core.retrieval.hamming_expansion import HammingExpansion
from lowq_core.retrieval.knn import nearest_neighbours
from lowq_core.retrieval.verification.dsm import DeepSpatialMatching
from lowq_core.retrieval.verification.rerank import Verification

pytestmark = pytest.mark.usefixtures("one_thread")

TOP = 4


@pytest.fixture
def pipeline(tmp_path: Path, tiny_porto: None, said: list[str]) -> Pipeline:
    """Of the smoke profile, trained on the tiny pictures."""
    smoke = profile("smoke", train=("porto",))
    local = replace(smoke.local, dim=16, size=96, words=8, count=20, queries_per_epoch=2)
    searches = {name: {"candidates": TOP} for name in ("sv", "hesaff", "dsm")}
    searches |= {"dfs": {"k": 3, "query_k": 2}, "aqe": {"n": 2}, "gss": {"k": 3, "query_k": 2, "epochs": 1}}
    searches["gss_v"] = searches["gss_v-sv"] = {"candidates": TOP, "k": 3, "query_k": 2, "epochs": 1}
    small = replace(smoke, local=local, searches=searches)
    chosen = Pipeline.for_profile("smoke", store=Store(tmp_path / "store"), say=said.append, size=96)
    return replace(chosen, profile=small)


def plain(pipeline: Pipeline, town: Benchmark) -> Ranking:
    return ExactSearch().fit(pipeline.database(Method(), town)).rank(pipeline.queries(Method(), town))


def check(report: MethodReport, ids: np.ndarray, town: Benchmark) -> None:
    for level, values in evaluate(ids, town).per_query.items():
        np.testing.assert_allclose(report.per_query["clean"][str(level)], values)


def test_hand_made_features_reorder_the_first(pipeline: Pipeline, town: Benchmark) -> None:
    extractor = HessianAffine(pipeline.embed.size)
    features, asked = (embed_with(extractor, some(town)) for some in (database_pictures, query_pictures))
    verifier = Verification(threshold=5.0, ratio=0.85).fit(features)
    ids = verifier.rerank(plain(pipeline, town), asked, TOP).ids
    report = pipeline.evaluate(parse_method("gem+hesaff"), town)
    check(report, ids, town)
    assert report.method == "gem+hesaff"
    assert report.configuration["verified"] == "hesaff"


@pytest.mark.parametrize(
    ("name", "search"),
    [("dfs", Diffusion(k=3, query_k=2)), ("aqe", AverageQE(n=2)), ("gss", GSS(k=3, query_k=2, epochs=1))],
)
def test_a_search_starts_from_what_regions_verify(
    pipeline: Pipeline, town: Benchmark, name: str, search: Diffusion | AverageQE | GSS
) -> None:
    embed = pipeline.embed
    features, asked = (
        embed_with(ActivationRegions(embed.backbone, embed.weights, embed.size, query=query), pictures)
        for query, pictures in ((False, database_pictures(town)), (True, query_pictures(town)))
    )
    verifier = DeepSpatialMatching().fit(features)
    first = verifier.rerank(plain(pipeline, town), asked, TOP).ids[:, :TOP]
    search.fit(pipeline.database(Method(), town))
    ids = search.rank(pipeline.queries(Method(), town), neighbours=first).ids
    check(pipeline.evaluate(parse_method(f"gem+dsm+{name}"), town), ids, town)


def test_graphs_are_verified_by_local_features(pipeline: Pipeline, town: Benchmark) -> None:
    features, asked = (
        pipeline.local.features(LocalMethod(), pictures)
        for pictures in (database_pictures(town), query_pictures(town))
    )
    verifier = Verification().fit(features)
    database, queries = pipeline.database(Method(), town), pipeline.queries(Method(), town)
    near = nearest_neighbours(database, min(TOP, len(database) - 1)).ids
    gss = GSS(k=3, query_k=2, epochs=1).fit(database, neighbours=verifier.neighbours(near, 3).ids)
    check(pipeline.evaluate(parse_method("gem+gss_v"), town), gss.rank(queries).ids, town)
    first = verifier.rerank(plain(pipeline, town), asked, TOP).ids[:, :2]
    ids = gss.rank(queries, neighbours=first).ids
    check(pipeline.evaluate(parse_method("gem+gss_v-sv"), town), ids, town)


def test_training_is_told_and_done_once(
    pipeline: Pipeline, town: Benchmark, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(town.images)
    pipeline.local.network(LocalMethod())  # whose training is told, too
    for name in ("gem+gss", "gem+gss_v"):
        said.clear()
        pipeline.evaluate(parse_method(name), town)
        told, took = said
        assert told == f"{name}: training on {size} descriptors"
        assert re.fullmatch(r"trained in \d+ s; it is kept in the store", took)
    said.clear()
    pipeline.evaluate(parse_method("gem+gss-untrained"), town)
    monkeypatch.setattr(GSS, "fit", None)  # whoever trains again fails
    for name in ("gem+gss", "gem+gss_v", "gem+gss_v-sv"):
        pipeline.evaluate(parse_method(name), town)
    assert said == []
    with pytest.raises(TypeError):  # of another graph
        pipeline.evaluate(replace(Method(search="gss_v"), options=(("k", 2),)), town)


def test_what_only_queries_mind_is_not_fitted_again(pipeline: Pipeline, town: Benchmark) -> None:
    for query_k in (2, 3):
        method = Method(search="gss", options=(("query_k", query_k),))
        gss = GSS(k=3, query_k=query_k, epochs=1).fit(pipeline.database(Method(), town))
        ids = gss.rank(pipeline.queries(Method(), town)).ids
        check(pipeline.evaluate(method, town), ids, town)
    assert len(list((pipeline.store.root / "search").glob("[!.]*"))) == 1
    with pytest.raises(LowqError, match="k=99"):
        pipeline.evaluate(Method(search="dfs", options=(("query_k", 99),)), town)


def test_pairs_are_counted_once_for_all_searches(
    pipeline: Pipeline, town: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pipeline.evaluate(parse_method("gem+sv"), town, {"fog": (5,)})
    kept = list((pipeline.store.root / "inliers").glob("[!.]*"))
    assert len(kept) == 2  # clean and fog
    monkeypatch.setattr(Verification, "verify", None)  # whoever counts again fails
    again = pipeline.evaluate(parse_method("gem+sv"), town, {"fog": (5,)})
    for level, values in found.per_query["fog"].items():
        np.testing.assert_array_equal(again.per_query["fog"][level], values)
    pipeline.evaluate(parse_method("gem+sv+aqe"), town)
    assert list((pipeline.store.root / "inliers").glob("[!.]*")) == kept
    with pytest.raises(TypeError):
        pipeline.evaluate(parse_method("gem+sv"), town, {"jpeg": (5,)})


def test_how_is_reordered_by_its_own_features(pipeline: Pipeline, town: Benchmark) -> None:
    method = LocalMethod(seed=None)
    features, asked = (
        pipeline.local.features(method, pictures)
        for pictures in (database_pictures(town), query_pictures(town))
    )
    ranking = pipeline.local.index(method, database_pictures(town)).rank(asked)
    ids = Verification().fit(features).rerank(ranking, asked, TOP).ids
    report = pipeline.evaluate(parse_method("how+untrained+sv"), town)
    check(report, ids, town)
    assert report.configuration["verified"] is True
    found = pipeline.search(
        parse_method("how+untrained+sv"), database_pictures(town), query_pictures(town)[0]
    )
    assert [index for index, _ in found] == ids[0].tolist()


def levels(benchmark: Benchmark) -> dict[str, list[np.ndarray]]:
    """What each level ignores, of each query."""
    ignored: dict[str, list[np.ndarray]] = {"easy": [], "medium": [], "hard": []}
    for query in benchmark.queries:
        ignored["easy"].append(np.concatenate([query.junk, query.hard]))
        ignored["medium"].append(query.junk)
        ignored["hard"].append(np.concatenate([query.junk, query.easy]))
    return ignored


def test_junk_is_skipped_for_each_protocol(pipeline: Pipeline, town: Benchmark) -> None:
    extractor = HessianAffine(pipeline.embed.size)
    features, asked = (embed_with(extractor, some(town)) for some in (database_pictures, query_pictures))
    verifier = Verification(threshold=5.0, ratio=0.85).fit(features)
    method = replace(parse_method("gem+hesaff"), skip_junk=True)
    report = pipeline.evaluate(method, town)
    own = LocalMethod(seed=None, verified=True, skip_junk=True)
    of_how = pipeline.evaluate(own, town)
    words = [pipeline.local.features(own, some(town)) for some in (database_pictures, query_pictures)]
    how = pipeline.local.index(own, database_pictures(town)).rank(words[1])
    lists = set()
    for level, skip in levels(town).items():
        ids = verifier.rerank(plain(pipeline, town), asked, TOP, skip).ids
        lists.add(ids.tobytes())
        expected = evaluate(ids, town).per_query
        np.testing.assert_allclose(report.per_query["clean"][level], expected[level])
        ids = Verification().fit(words[0]).rerank(how, words[1], TOP, skip).ids
        np.testing.assert_allclose(of_how.per_query["clean"][level], evaluate(ids, town).per_query[level])
    assert len(lists) > 1
    assert report.configuration["skip_junk"] is True


@pytest.mark.parametrize(
    "method",
    [
        Method(skip_junk=True),
        Method(verified="sv", search="dfs", skip_junk=True),
        LocalMethod(skip_junk=True),
    ],
)
def test_junk_is_skipped_where_something_is_reordered(
    pipeline: Pipeline, town: Benchmark, method: Method | LocalMethod
) -> None:
    with pytest.raises(LowqError, match=f"{re.escape(method.name)}: skip_junk=True, but no re-ordering"):
        pipeline.evaluate(method, town)


SIZE, DIM = 24, 8


def left_out() -> tuple[np.ndarray, np.ndarray]:
    """A database of six landmarks, and each of its pictures as a bad query."""
    generator = np.random.default_rng(3)
    database = np.repeat(generator.standard_normal((6, DIM)), SIZE // 6, axis=0)
    database += 0.6 * generator.standard_normal((SIZE, DIM))
    queries = database + 0.5 * generator.standard_normal((SIZE, DIM))
    unit = [
        (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        for rows in (database, queries)
    ]
    return unit[0], unit[1]


OF_QUERIES: dict[str, dict[str, Any]] = {
    "aqe": {"n": 1},
    "alphaqe": {"n": 3, "alpha": 2.0},
    "dqe": {"n": 2, "negatives": 6},
}
OF_GRAPHS: dict[str, dict[str, Any]] = {
    "dfs": {"k": 4, "query_k": 2},
    "dfst": {"k": 4, "query_k": 2, "truncation": 12},
    "fsr": {"k": 4, "query_k": 2, "rank": 10},
    "dfs-fsr": {"k": 4, "query_k": 2, "rank": 6},
    "gss": {"k": 4, "query_k": 2, "epochs": 2},
    "gss-untrained": {"k": 4, "query_k": 2},
}


@pytest.mark.parametrize("name", OF_QUERIES)
def test_a_query_left_out_is_expanded_as_if_its_picture_were_not_there(pipeline: Pipeline, name: str) -> None:
    database, queries = left_out()
    method = Method(search=name, options=tuple(OF_QUERIES[name].items()))
    rank = pipeline._searches.fitted(method, database, [])
    found = rank(queries, [], np.arange(SIZE)).ids
    assert (found != rank(queries, []).ids).any()
    for own in range(SIZE):
        others = np.delete(np.arange(SIZE), own)
        search = retriever(name, **OF_QUERIES[name]).fit(database[others])
        expected = others[search.rank(queries[own : own + 1]).ids[0]]
        np.testing.assert_array_equal(found[own][found[own] != own], expected)


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("name", OF_GRAPHS)
def test_a_query_left_out_starts_from_others(pipeline: Pipeline, name: str, augmented: bool) -> None:
    database, queries = left_out()
    method = Method(augmented=augmented, search=name, options=tuple(OF_GRAPHS[name].items()))
    rank = pipeline._searches.fitted(method, database, [])
    if augmented:
        database = DatabaseAugmentation().transform(database)
    cosines = queries @ database.T
    np.fill_diagonal(cosines, -2)
    start = np.argsort(-cosines, axis=1, kind="stable")[:, :2]
    options = OF_GRAPHS[name] | ({"epochs": 0} if name == "gss-untrained" else {})
    search: Any = retriever(name.removesuffix("-untrained"), **options).fit(database)
    found = rank(queries, [], np.arange(SIZE)).ids
    np.testing.assert_array_equal(found, search.rank(queries, neighbours=start).ids)
    assert (found != search.rank(queries).ids).any()
    np.testing.assert_array_equal(rank(queries, []).ids, search.rank(queries).ids)


def test_what_no_query_starts_is_as_before(pipeline: Pipeline) -> None:
    database, queries = left_out()
    for method in (Method(augmented=True, augmentation=(("n", 3),)), Method(search="ime")):
        rank = pipeline._searches.fitted(method, database, [])
        np.testing.assert_array_equal(rank(queries, [], np.arange(SIZE)).ids, rank(queries, []).ids)


def porto_left_out(pipeline: Pipeline) -> tuple[Benchmark, np.ndarray]:
    """Pictures of Porto, each of them a query; how the others are ranked plainly for it as a bad one."""
    porto = leave_one_out(read_labels(Path(os.environ["LOWQ_DATA"], "porto", "labels.csv"), "train"))
    scores = pipeline.queries(Method(), porto, ("fog", 5)) @ pipeline.database(Method(), porto).T
    np.fill_diagonal(scores, -2)
    return porto, np.argsort(-scores, axis=1, kind="stable")[:, :-1]


def check_fog(report: MethodReport, ids: np.ndarray, benchmark: Benchmark) -> None:
    for level, values in evaluate(ids, benchmark).per_query.items():
        np.testing.assert_allclose(report.per_query["fog"][str(level)], values)


def test_benchmarks_that_leave_one_out_are_known(pipeline: Pipeline) -> None:
    porto, others = porto_left_out(pipeline)
    search = AverageQE(n=2).fit(pipeline.database(Method(), porto))
    ids = search.rank(pipeline.queries(Method(), porto, ("fog", 5)), neighbours=others).ids
    check_fog(pipeline.evaluate(parse_method("gem+aqe"), porto, {"fog": (5,)}), ids, porto)


def test_a_query_left_out_is_not_verified_with_its_own_picture(pipeline: Pipeline) -> None:
    porto, others = porto_left_out(pipeline)
    asked = query_pictures(porto, ("fog", 5))
    features, of_queries = (
        pipeline.local.features(LocalMethod(), some) for some in (database_pictures(porto), asked)
    )
    verifier = Verification().fit(features)
    database, queries = pipeline.database(Method(), porto), pipeline.queries(Method(), porto, ("fog", 5))
    ranking = Ranking(others, np.zeros(others.shape, np.float32))
    first = verifier.rerank(ranking, of_queries, TOP).ids
    check_fog(pipeline.evaluate(parse_method("gem+sv"), porto, {"fog": (5,)}), first, porto)
    ids = Diffusion(k=3, query_k=2).fit(database).rank(queries, neighbours=first[:, :TOP]).ids
    check_fog(pipeline.evaluate(parse_method("gem+sv+dfs"), porto, {"fog": (5,)}), ids, porto)
    graph = verifier.neighbours(nearest_neighbours(database, TOP).ids, 3).ids
    gss = GSS(k=3, query_k=2, epochs=1).fit(database, neighbours=graph)
    for name, start in (("gem+gss_v", others), ("gem+gss_v-sv", first[:, :TOP])):
        ids = gss.rank(queries, neighbours=start).ids
        check_fog(pipeline.evaluate(parse_method(name), porto, {"fog": (5,)}), ids, porto)


def test_a_query_of_how_left_out_is_not_expanded_by_its_own_picture(pipeline: Pipeline) -> None:
    porto, _ = porto_left_out(pipeline)
    method = LocalMethod(seed=None, expanded=True, verified=True)
    rank = pipeline.local.rank(method, database_pictures(porto))
    own = np.arange(len(porto.images))
    ids = rank(query_pictures(porto), own, list(own[:, None])).ids
    check(pipeline.evaluate(method, porto), ids, porto)
    words = [pipeline.local.features(method, some(porto)) for some in (database_pictures, query_pictures)]
    expansion = HammingExpansion(index=pipeline.local.index(method, database_pictures(porto)))
    found = expansion.rank(words[1], own=own)
    expected = Verification().fit(words[0]).rerank(found, words[1], TOP, list(own[:, None])).ids
    np.testing.assert_array_equal(ids, expected)


def test_a_single_picture_has_no_neighbours(pipeline: Pipeline, town: Benchmark) -> None:
    with pytest.raises(LowqError, match="needs a database of two pictures or more"):
        pipeline.search(parse_method("gem+gss_v"), database_pictures(town)[:1], query_pictures(town)[0])
