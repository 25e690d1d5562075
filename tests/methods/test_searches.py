"""Searches and geometry, from a method's name to a ranking, against the parts put together by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lowq_core.data.benchmark import Benchmark
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
from lowq_core.retrieval.base import Ranking
from lowq_core.retrieval.diffusion.dfs import Diffusion
from lowq_core.retrieval.exact import ExactSearch
from lowq_core.retrieval.expansion import AverageQE
from lowq_core.retrieval.gss.retriever import GSS
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


def test_a_single_picture_has_no_neighbours(pipeline: Pipeline, town: Benchmark) -> None:
    with pytest.raises(LowqError, match="needs a database of two pictures or more"):
        pipeline.search(parse_method("gem+gss_v"), database_pictures(town)[:1], query_pictures(town)[0])
