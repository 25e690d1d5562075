"""Records, published numbers, claims and the scorecard."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lowq_core.errors import LowqError
from lowq_core.reproduce import ledger
from lowq_core.reproduce.ledger import (
    PUBLISHED,
    SOURCES,
    Published,
    Record,
    compare,
    published,
    read_published,
    read_records,
    write_records,
)
from lowq_core.reproduce.scorecard import CLAIMS, Claim, Side, judge, overall, read_claims, scorecard

METRIC = re.compile(
    r"(roxford5k|rparis6k|instre|sfm120k_val|r1m)(\+r1m)?/"
    r"(easy|medium|hard|map|k|kq|epochs|gigabytes)(/(mp@\d+|std|gain))?"
)


def test_published_csv_is_well_formed_and_types_each_number_once() -> None:
    with PUBLISHED.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["work", "table", "row", "metric", "value", "source"]
    assert all(len(row) == 6 and all(cell == cell.strip() != "" for cell in row) for row in rows)
    keys = Counter((row[0], row[1], row[2], row[3]) for row in rows[1:])
    assert [key for key, count in keys.items() if count > 1] == []
    for entry in read_published():
        assert np.isfinite(entry.value), entry
        assert METRIC.fullmatch(entry.metric), entry
        assert set(entry.source.split("+")) <= set(SOURCES), entry
        if entry.measure in ("easy", "medium", "hard", "map"):
            assert 0 < entry.value < 100, entry


def test_published_tables_agree_with_what_is_said_about_them() -> None:
    def value(table: str, row: str, metric: str) -> float:
        (found,) = (e.value for e in published(table=table) if e.row == row and e.metric == metric)
        return found

    # FIRe's stated gains over HOW
    gains = (3.5, 5.4, 2.9, 3.3, 5.2, 9.9, 9.2, 12.2)
    metrics = [e.metric for e in published(table="fire") if e.row == "fire" and "std" not in e.metric][:8]
    for metric, gain in zip(metrics, gains, strict=True):
        difference = value("fire", "fire", metric) - value("how", "how-r50-, n=1000", metric)
        assert difference == pytest.approx(gain, abs=0.051)
    # GSS starts from the GeM descriptors of the evaluation anchor
    for metric in ("roxford5k/medium", "roxford5k/hard", "rparis6k/medium", "rparis6k/hard"):
        assert value("gss", "gem", metric) == pytest.approx(value("global", "gem+lw", metric), abs=0.051)
    # its settings reach the table's numbers; 66 of 68 ROxford-Easy queries have a first hit
    assert value("gss-settings", "descriptor", "instre/map") == value("gss", "gem+gss", "instre/map")
    assert value("global", "gem+lw", "roxford5k/easy/mp@1") == pytest.approx(6600 / 68, abs=0.006)


def test_unknown_work_or_table_is_told() -> None:
    assert {e.work for e in published(work="gss")} == {"gss"}
    with pytest.raises(LowqError, match=r"table 'nothing'.*context"):
        published(table="nothing")
    with pytest.raises(LowqError, match=r"work 'nothing'.*adapnet"):
        published(work="nothing")


def test_records_survive_the_disk_and_a_damaged_file_is_named(build: Path) -> None:
    records = [
        Record("t", "gem", "papertown/hard", 41.5, 33.0, 50.0, (1.0, None), (0, 1), "01_a", "mini"),
        Record("t", "mac", "papertown/hard", None),
    ]
    write_records("01_a", "mini", records)
    write_records("02_b", "mini", [])
    assert read_records("mini") == records
    assert read_records("smoke") == []
    write_records("01_a", "mini", records[:1])
    assert read_records("mini") == records[:1]
    (ledger.results_folder("mini") / "02_b.json").write_text('[{"table": 1')
    with pytest.raises(LowqError, match=r"02_b\.json"):
        read_records("mini")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_records("01_a", "mini", [Record("t", "r", "m", float("nan"))])


def test_published_and_measured_never_share_a_column() -> None:
    records = [
        Record("t", "gem", "papertown/hard", 41.0, 33.0, 49.0),
        Record("t", "new", "papertown/hard", 50.0),
    ]
    typed = [
        Published("w", "t", "gem", "roxford5k/hard", 38.5, "seed"),
        Published("w", "t", "old", "roxford5k/hard", 9, "seed"),
    ]
    table = compare(records, typed)
    assert table.columns == ("", "roxford5k/hard", "papertown/hard")
    assert table.groups == (("", 1), ("published (their data)", 1), ("measured (this data)", 1))
    assert table.rows == (
        ("gem", "38.5", "41.0 (33.0-49.0)"),
        ("old", "9", "–"),
        ("new", "–", "50.0"),
    )
    # the same benchmark measured here still has a column of its own
    same = compare([Record("t", "gem", "roxford5k/hard", 30.0)], typed)
    assert same.columns == ("", "roxford5k/hard", "roxford5k/hard")
    assert same.rows[0] == ("gem", "38.5", "30.0")


CLAIM = Claim("id", "field", "A beats B", "here", "t", Side("a", "hard"), Side("b", "hard"))


def record(row: str, values, metric: str = "town/hard", **more) -> Record:
    return Record("t", row, metric, float(np.nanmean(values)), per_query=tuple(values), **more)


def test_a_claim_is_decided_by_the_paired_interval() -> None:
    rng = np.random.default_rng(0)
    hard_or_easy = rng.uniform(0, 90, 40)  # the spread between queries hides nothing from a paired test
    better = hard_or_easy + rng.normal(2, 1, 40)
    a, b = record("a", better), record("b", hard_or_easy)
    (verdict,) = judge(CLAIM, [a, b])
    assert verdict.status == "reproduced"
    assert verdict.queries == 40
    assert verdict.difference is not None
    assert verdict.difference.value == pytest.approx(np.mean(better - hard_or_easy))
    (verdict,) = judge(CLAIM, [record("a", hard_or_easy), record("b", better)])
    assert verdict.status == "contradicted"
    noise = hard_or_easy + np.tile([5.0, -5.0], 20)
    (verdict,) = judge(CLAIM, [record("a", noise), record("b", hard_or_easy)])
    assert verdict.status == "undecided"
    (verdict,) = judge(CLAIM, [record("a", noise)])
    assert verdict.status == "not yet run"
    # nor is a claim about Hard tested where nothing is hard to find
    nothing = [Record("t", row, "porto/hard", None, per_query=(None, None)) for row in "ab"]
    (verdict,) = judge(CLAIM, nothing)
    assert verdict.status == "not yet run"
    # other tables and benchmarks do not count
    (verdict,) = judge(CLAIM, [a, record("b", hard_or_easy, "city/hard")])
    assert verdict.status == "not yet run"


def test_drops_are_compared_query_by_query() -> None:
    claim = Claim(
        "id", "field", "", "", "t", Side("a", "hard", "hard@known"), Side("a", "medium", "medium@known")
    )
    records = [
        record("a", [50.0, 60.0, 70.0]),
        record("a", [20.0, 31.0, 39.0], "town/hard@known"),
        record("a", [80.0, 90.0, 95.0], "town/medium"),
        record("a", [70.0, 80.0, 85.0], "town/medium@known"),
    ]
    (verdict,) = judge(claim, records)
    assert verdict.status == "reproduced"
    assert verdict.difference is not None
    assert verdict.difference.value == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        (record("a", [1.0, 2.0], data="x"), record("b", [1.0, 2.0], data="y"), "different data"),
        (record("a", [1.0, 2.0]), record("b", [1.0, 2.0, 3.0]), "same queries"),
        (Record("t", "a", "town/hard", 1.0), Record("t", "b", "town/hard", 2.0), "same queries"),
        (
            Record("t", "a", "town/hard", 1.0, per_query=(1.0, None)),
            Record("t", "b", "town/hard", 2.0, per_query=(2.0, 2.0)),
            "fewer than two",
        ),
    ],
)
def test_what_cannot_be_paired_is_undecided_and_says_why(a: Record, b: Record, why: str) -> None:
    (verdict,) = judge(CLAIM, [a, b])
    assert verdict.status == "undecided"
    assert why in verdict.why


def test_benchmarks_that_disagree_leave_a_claim_undecided() -> None:
    up, down = [10.0, 11.0, 12.0], [1.0, 2.0, 3.0]
    town = [record("a", up), record("b", down)]
    city = [record("a", down, "city/hard"), record("b", up, "city/hard")]
    assert overall(judge(CLAIM, town)) == "reproduced"
    assert overall(judge(CLAIM, town + city)) == "undecided"
    assert overall(judge(CLAIM, [])) == "not yet run"
    table = scorecard(town + city, [CLAIM])
    assert [row[3:5] for row in table.rows] == [("town", "reproduced"), ("city", "contradicted")]
    assert "1 claims: 1 undecided" in table.caption
    smoke = scorecard([record("a", up, profile="smoke")], [CLAIM])
    assert "no evidence" in smoke.caption


IN_WORDS = {"gss-training", "context-selfattention", "context-gcn-over-solar"}
"""Claims that the works make without printing numbers."""


def test_claims_are_whole_and_name_rows_that_were_published_where_there_are_any() -> None:
    claims = read_claims()
    assert len({claim.id for claim in claims}) == len(claims)
    assert {claim.work for claim in claims} == {"adapnet", "context", "gss", "field"}
    assert all(claim.text.endswith(".") and claim.source for claim in claims)
    for claim in claims:
        typed = re.findall(r"\d+\.\d+", claim.text + claim.source)
        assert not typed, f"{claim.id}: {typed} belong to published.csv alone"
        assert claim.larger != claim.smaller
        if claim.work in ("context", "gss") and claim.id not in IN_WORDS:
            rows = {entry.row for entry in published(table=claim.table)}
            assert {claim.larger.row, claim.smaller.row} <= rows, claim.id


@pytest.mark.parametrize("work", ["context", "gss"])
def test_the_papers_own_numbers_point_in_the_direction_of_each_claim(work: str) -> None:
    for claim in read_claims():
        if claim.work != work or claim.id in IN_WORDS:
            continue
        means = {
            (e.row, e.metric): e.value
            for e in published(table=claim.table)
            if e.measure == claim.larger.metric
        }
        metrics = {metric for row, metric in means if row in (claim.larger.row, claim.smaller.row)}
        gaps = [means[claim.larger.row, m] - means[claim.smaller.row, m] for m in metrics]
        assert max(gaps) > 0, claim.id
        assert np.mean(gaps) > 0, claim.id


def test_a_claim_that_is_not_whole_is_named(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS.read_text().replace("  text: ", "  words: ", 1))
    with pytest.raises(LowqError, match="claim 'adapnet-noise-medium' is not whole"):
        read_claims(path)
