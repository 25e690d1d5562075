"""The anatomy that every notebook has, and what is wrong with one that has not.

`python -m lowq_core.reproduce.anatomy notebooks/*.ipynb` prints the problems; a test expects none.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from lowq_core.reproduce import navigation
from lowq_core.reproduce.scorecard import read_claims

MAX_FUNCTION = 15
"""Lines of a function in a notebook; a longer one belongs to the library."""
MAX_CELL = 30
"""Lines of a code cell."""
HEADINGS = ("## Results", "## Takeaways", "## Exercises", "## Provenance")
"""The last four sections, in this order."""
LEADS = ("**Question.**", "**Makes.**", "**Cost.**")
"""The three parts of the abstract."""

_PATH = re.compile(r"^(\.{1,2}|~)?/[\w.]")
_MAGIC = re.compile(r"^\s*[!%]", re.MULTILINE)
Cell = dict[str, Any]


def problems(path: Path) -> list[str]:
    """Each departure of the notebook from the anatomy, a sentence; empty where there is none."""
    notebook = json.loads(path.read_text())
    cells: list[Cell] = notebook["cells"]
    if len(cells) < 10:
        return [f"has {len(cells)} cells; a whole notebook has at least 10"]
    found = [*_head(cells, path), *_sections(cells), *_exercises(cells), *_source(notebook)]
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            found += [f"cell {number}: {problem}" for problem in _code(text_of(cell))]
    return found


def text_of(cell: Cell) -> str:
    """The cell's source as one string."""
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def tags_of(cell: Cell) -> list[str]:
    """The cell's tags."""
    return list(cell.get("metadata", {}).get("tags", []))


def title_of(path: Path) -> str:
    """The notebook's one-line subtitle."""
    cells = json.loads(path.read_text())["cells"]
    return text_of(cells[0]).rpartition("> ")[2].strip()


def parameters_of(notebook: dict[str, Any]) -> dict[str, str]:
    """Name -> default, as written, of every assignment in the cell tagged `parameters`."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and "parameters" in tags_of(cell):
            return dict(_assigned(ast.parse(text_of(cell))))
    return {}


def recorded_tables(cells: list[Cell]) -> list[str]:
    """The tables that the notebook records, where their names are written out, in order.

    >>> call = "session.record('global', row, metric, 1.0)"
    >>> recorded_tables([{"cell_type": "code", "source": call}])
    ['global']
    """
    return list(dict.fromkeys(_named(cells, ("record", "record_report"))))


def _assigned(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(node, (ast.Assign, ast.AnnAssign)):
                yield target.id, ast.unparse(node.value) if node.value else ""


def _head(cells: list[Cell], path: Path) -> Iterator[str]:
    number = path.name[:2]
    if not re.fullmatch(rf"# {number} \S.*\n\n> [^\n]+\n?", text_of(cells[0])):
        yield f"cell 0: has to be '# {number} Title', an empty line, and a one-line subtitle '> ...'"
    if text_of(cells[1]) != navigation.cell_text(path):
        yield "cell 1: the navigation is not current; run python -m lowq_core.reproduce.navigation"
    for lead in LEADS:
        if lead not in text_of(cells[2]) or cells[2]["cell_type"] != "markdown":
            yield f"cell 2: the abstract lacks {lead}"
    if cells[3]["cell_type"] != "code" or tags_of(cells[3]) != ["parameters"]:
        yield "cell 3: has to be the code cell tagged 'parameters'"
    else:
        yield from _parameters(text_of(cells[3]))
    if cells[4]["cell_type"] != "code" or f'start("{path.stem}", profile' not in text_of(cells[4]):
        yield f'cell 4: the setup has to call start("{path.stem}", profile)'


def _parameters(text: str) -> Iterator[str]:
    lines = text.splitlines()
    names = dict(_assigned(ast.parse(text)))
    if names.get("profile") != "'smoke'":
        yield 'cell 3: has to hold profile: str = "smoke"'
    for node in ast.parse(text).body:
        if not isinstance(node, ast.AnnAssign):
            yield f"cell 3: line {node.lineno} has to be an annotated assignment, name: type = default"
        elif "  # " not in lines[node.lineno - 1]:
            yield f"cell 3: line {node.lineno} lacks the trailing comment that explains it"


def _sections(cells: list[Cell]) -> Iterator[str]:
    headings = [(n, h) for n, cell in enumerate(cells) for h in _headings(cell)]
    if [heading for _, heading in headings][-4:] != list(HEADINGS):
        yield f"the last sections have to be {', '.join(HEADINGS)}"
        return
    if len(headings) < 5:
        yield "there is no section of its own between the setup and ## Results"
    results, takeaways, _, provenance = (number for number, _ in headings[-4:])
    if not any("session.write(" in text_of(cell) for cell in cells[results:takeaways]):
        yield "## Results: has to write to the ledger with session.write()"
    claimed = {claim.table for claim in read_claims()}
    shown = set(_named(cells[results:takeaways], ("verdicts",)))
    for table in sorted(claimed & set(recorded_tables(cells)) - shown):
        yield f"## Results: records table {table!r}, of which claims speak; show session.verdicts({table!r})"
    bullets = re.findall(r"^[*-] ", text_of(cells[takeaways]), re.MULTILINE)
    if len(bullets) != 3:
        yield f"## Takeaways: has {len(bullets)} bullets; give three"
    if provenance != len(cells) - 2 or text_of(cells[-1]).strip() != "session.provenance()":
        yield "## Provenance: has to be followed by one last cell, session.provenance()"
    for (number, cell), (_, after) in pairwise(enumerate(cells)):
        if number > 4 and cell["cell_type"] == after["cell_type"] == "code" and not _check_follows(after):
            yield f"cell {number + 1}: code follows code; say in between what comes"


def _named(cells: list[Cell], methods: tuple[str, ...]) -> Iterator[str]:
    """The first argument of each call of one of the session's `methods`, where it is written out."""
    calls = {f"session.{method}" for method in methods}
    for cell in cells:
        text = text_of(cell) if cell["cell_type"] == "code" else ""
        for node in ast.walk(ast.parse("" if _MAGIC.search(text) else text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in calls and _literal(node):
                yield str(ast.literal_eval(node.args[0]))


def _check_follows(cell: Cell) -> bool:
    return "self-check" in tags_of(cell)


def _headings(cell: Cell) -> list[str]:
    return re.findall(r"^## .*$", text_of(cell), re.MULTILINE) if cell["cell_type"] == "markdown" else []


def _exercises(cells: list[Cell]) -> Iterator[str]:
    tasks = [n for n, cell in enumerate(cells[:-2]) if "exercise" in tags_of(cell)]
    if not tasks:
        yield "## Exercises: there is no code cell tagged 'exercise'"
    for order, number in enumerate(tasks, 1):
        if f"**Exercise {order}.**" not in text_of(cells[number - 1]):
            yield f"cell {number}: the exercise lacks its '**Exercise {order}.**' above"
        if "# your turn" not in text_of(cells[number]):
            yield f"cell {number}: the exercise lacks a placeholder line that runs, marked '# your turn'"
        if not _check_follows(cells[number + 1]) or "self_check(" not in text_of(cells[number + 1]):
            yield f"cell {number}: no cell tagged 'self-check' that calls self_check(...) follows"


def _source(notebook: dict[str, Any]) -> Iterator[str]:
    ids = [cell.get("id") for cell in notebook["cells"]]
    if None in ids or len(set(ids)) != len(ids) or notebook["nbformat"] != 4:
        yield "every cell needs an id of its own (nbformat 4.5)"
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        yield "the kernelspec has to be python3"
    for number, cell in enumerate(notebook["cells"]):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield f"cell {number}: holds outputs; run nbstripout on the file"


def _code(text: str) -> Iterator[str]:
    if _MAGIC.search(text):
        yield "holds a shell command or a magic; the library and make do such things"
        return
    if len(text.splitlines()) > MAX_CELL:
        yield f"has {len(text.splitlines())} lines; split it, {MAX_CELL} are allowed"
    if text.rstrip().endswith(";"):
        yield "ends with ';', which nbval does not honour; assign the value or close the figure"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION:
                yield f"{node.name} has {lines} lines; more than {MAX_FUNCTION} belong to the library"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _PATH.match(node.value):
            yield f"{node.value!r} is a path of one machine or of the working directory; ask the session"
        elif isinstance(node, ast.Attribute) and node.attr in ("cwd", "getcwd", "chdir"):
            yield f"uses {node.attr}; nothing may depend on the working directory"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "Path") and _literal(node):
            yield f"{ast.unparse(node)} is relative to the working directory; ask the session"


def _literal(call: ast.Call) -> bool:
    return bool(call.args) and isinstance(call.args[0], ast.Constant)


def main(paths: list[str]) -> int:
    """Print the problems of each notebook; 1 where there are any."""
    found = [f"{path}: {problem}" for path in paths for problem in problems(Path(path))]
    print("\n".join(found) or f"{len(paths)} notebooks, no problems")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
