"""What a notebook gets of the engine: records, tables, figures, provenance, self-checks."""

from __future__ import annotations

import csv
import json
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lowq_core.errors import LowqError
from lowq_core.reproduce import places, provenance
from lowq_core.reproduce.ledger import read_records
from lowq_core.reproduce.session import self_check, start
from lowq_core.reproduce.tables import Table, from_dicts


@dataclass
class MadeUpReport:
    """The shape of a method's report."""

    benchmark: str = "papertown"
    configuration: dict[str, Any] = field(default_factory=lambda: {"head": "gem"})
    per_query: dict[str, dict[str, np.ndarray]] = field(
        default_factory=lambda: {
            "clean": {"medium": np.array([50.0, 60.0]), "hard": np.array([np.nan, np.nan])},
            "known": {"medium": np.array([20.0, np.nan])},
        }
    )

    def map(self, condition: str, level: str) -> float | None:
        values = self.per_query[condition][level]
        return None if np.isnan(values).all() else float(np.nanmean(values))

    def interval(self, condition: str, level: str) -> tuple[float, float] | None:
        return None if self.map(condition, level) is None else (1.0, 99.0)


def test_a_report_becomes_records_that_outlive_the_session(build: Path) -> None:
    session = start("03_made_up", "smoke")
    session.record_report("global", "gem", MadeUpReport(), data="d")
    session.record("global", "gem", "papertown/seconds", np.float32(1.5))
    assert read_records("smoke") == []
    session.write()
    records = {record.metric: record for record in read_records("smoke")}
    assert list(records) == [
        "papertown/medium",
        "papertown/hard",
        "papertown/medium@known",
        "papertown/seconds",
    ]
    medium, hard = records["papertown/medium"], records["papertown/hard"]
    assert (medium.value, medium.low, medium.high, medium.per_query) == (55.0, 1.0, 99.0, (50.0, 60.0))
    assert (hard.value, hard.low, hard.per_query) == (None, None, (None, None))
    assert records["papertown/medium@known"].per_query == (20.0, None)
    assert {record.notebook for record in records.values()} == {"03_made_up"}
    assert medium.profile == "smoke"
    assert medium.data == "d"
    assert re.fullmatch(r"[0-9a-f]{16}", medium.config)
    assert medium.config != records["papertown/seconds"].config
    shown = session.compare("global")
    assert shown.columns[-2:] == ("papertown/medium", "papertown/hard")
    assert "roxford5k/hard" in shown.columns
    assert "no evidence" in shown.caption
    assert {row[4] for row in session.verdicts("global").rows} <= {"not yet run", "reproduced", "undecided"}
    assert len(session.scorecard().rows) >= len(session.verdicts("global").rows)
    with pytest.raises(LowqError, match="recorded twice"):
        session.record("global", "gem", "papertown/seconds", 2.0)


def test_what_stands_beside_the_measured_numbers_is_told(build: Path) -> None:
    session = start("03_made_up", "mini")
    session.record_report("global", "gem", MadeUpReport(), data="d")
    session.record_report("of our own", "gem", MadeUpReport(), data="d")
    assert "different pictures: compare rows" in session.compare("global").caption
    assert (
        session.compare("of our own").caption
        == "Profile mini. No published numbers of these rows are at hand."
    )


def test_figures_lie_under_one_stem_and_equal_numbers_give_equal_files(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "figures", lambda: tmp_path / "figures")
    rows = [{"noise": "fog", "hard": 41.23456789}, {"noise": "jpeg", "hard": None}]

    def draw(profile: str) -> dict[str, bytes]:
        figure, axis = plt.subplots()
        axis.plot([1, 2, 3])
        start("03_made_up", profile).save_figure(figure, "03_lines", rows, "Lines.")
        plt.close(figure)
        return {path.name: path.read_bytes() for path in (build / profile / "figures").iterdir()}

    files = draw("smoke")
    assert sorted(files) == ["03_lines.csv", "03_lines.json", "03_lines.svg"]
    assert not (tmp_path / "figures").exists()
    assert draw("smoke") == files
    assert draw("mini")["03_lines.svg"] == files["03_lines.svg"]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(files)
    assert list(csv.DictReader(files["03_lines.csv"].decode().splitlines())) == [
        {"noise": "fog", "hard": "41.2346"},
        {"noise": "jpeg", "hard": ""},
    ]
    assert json.loads(files["03_lines.json"])["caption"] == "Lines."

    figure, axis = plt.subplots()
    axis.imshow(np.zeros((2, 2)))
    session = start("03_made_up", "smoke")
    session.save_figure(figure, "03_picture", [])
    assert (build / "smoke" / "figures" / "03_picture.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(LowqError, match=r"'04_picture'.*'03_'"):
        session.save_figure(figure, "04_picture", [])
    plt.close(figure)


def test_provenance_names_versions_and_machine_but_no_host_and_no_path(build: Path) -> None:
    told = str(start("03_made_up", "smoke").provenance())
    assert f"numpy {np.__version__}" in told
    assert provenance.commit() in told
    assert "cores" in told
    assert socket.gethostname() not in told or len(socket.gethostname()) < 4
    assert str(Path.home()) not in told.split()
    assert "/home" not in told


def test_self_checks_compare_numbers_lists_arrays_and_words(capsys: pytest.CaptureFixture[str]) -> None:
    right = [
        (1, 1.0),
        (0.1 + 0.2, 0.3),
        ([1, 2], (1.0, 2.0)),
        (np.ones(3), [1, 1, 1]),
        ("a", "a"),
        ({1}, {1}),
    ]
    wrong = [(1, 2), ([1], [1, 2]), ("a", "b"), (None, 3.0), (np.zeros(2), np.ones(2)), ([1, 2], 3), ("a", 1)]
    for yours, expected in right:
        self_check(yours, expected)
    assert capsys.readouterr().out.splitlines() == ["right"] * len(right)
    for yours, expected in wrong:
        self_check(yours, expected)
    assert all(line.startswith("not yet") for line in capsys.readouterr().out.splitlines())


def test_tables_show_themselves_as_text_html_and_markdown() -> None:
    table = Table(("", "a|b", "c"), (("<x>", "1", "22"),), "cap", (("", 1), ("both", 2)))
    assert str(table).splitlines() == ["     both", "     a|b   c", "<x>  1     22", "cap"]
    html = table._repr_html_()
    assert "&lt;x&gt;" in html
    assert '<th colspan="2">both</th>' in html
    assert "<script" not in html
    assert "<th>a+<wbr>b/<wbr>medium</th>" in Table(("a+b/medium",), ())._repr_html_()  # may break there
    for columns in ((), ("",)):
        assert Table(columns, (), "<none>")._repr_html_() == "<p>&lt;none&gt;</p><p>Nothing to show here.</p>"
    assert table.to_markdown().splitlines()[0] == "|  | both: a\\|b | both: c |"
    assert from_dicts([]).rows == ()
    assert from_dicts([{"a": 1.25, "b": True}, {"c": None}]).rows == (("1.2", "True", ""), ("", "", ""))
