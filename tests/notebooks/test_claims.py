"""Every claim speaks of rows that the notebooks record."""

from __future__ import annotations

import ast
import csv
import json
from functools import cache
from pathlib import Path

import pytest

from lowq_core.reproduce import places
from lowq_core.reproduce.anatomy import recorded_tables, text_of
from lowq_core.reproduce.scorecard import Claim, read_claims

NOT_REBUILT = {"fire"}
"""Tables that no notebook measures: their claims stay *not yet run*."""


@cache
def notebooks_of() -> dict[str, list[Path]]:
    """Table -> the notebooks that record it."""
    found: dict[str, list[Path]] = {}
    for path in sorted(places.notebooks().glob("*.ipynb")):
        for table in recorded_tables(json.loads(path.read_text())["cells"]):
            found.setdefault(table, []).append(path)
    return found


@cache
def rows_of(path: Path) -> set[str]:
    """The rows of the tables that the notebook drew when it last ran, and those that its source spells out."""
    rows = set()
    for table in places.figures().glob(f"{path.name[:2]}_*.csv"):
        with table.open(newline="") as file:
            rows |= {line["row"] for line in csv.DictReader(file) if "row" in line}
    for cell in json.loads(path.read_text())["cells"]:
        for node in ast.walk(ast.parse(text_of(cell) if cell["cell_type"] == "code" else "")):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("row", "rows"):
                rows |= {str(part.value) for part in _choices(node.value) if isinstance(part, ast.Constant)}
    return rows


def _choices(value: ast.expr) -> list[ast.expr | None]:
    """What `value` names: the keys of a dictionary, the members of a list, the two sides of a condition."""
    if isinstance(value, ast.Dict):
        return list(value.keys)
    if isinstance(value, ast.Tuple | ast.List):
        return list(value.elts)
    return [value.body, value.orelse] if isinstance(value, ast.IfExp) else []


@pytest.mark.parametrize("claim", read_claims(), ids=lambda claim: claim.id)
def test_both_rows_of_a_claim_are_recorded(claim: Claim) -> None:
    if claim.table in NOT_REBUILT:
        assert claim.table not in notebooks_of()
        return
    rows = set().union(*(rows_of(path) for path in notebooks_of()[claim.table]))
    assert {claim.larger.row, claim.smaller.row} <= rows
