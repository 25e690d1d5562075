"""The linter and the navigation: a valid notebook passes, and every departure is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lowq_core.reproduce import anatomy, navigation

Notebook = dict[str, Any]


def markdown(name: str, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text.splitlines(keepends=True)}


def code(name: str, text: str, *tags: str) -> dict[str, Any]:
    metadata = {"tags": list(tags)} if tags else {}
    return markdown(name, text) | {
        "cell_type": "code",
        "metadata": metadata,
        "execution_count": None,
        "outputs": [],
    }


PARAMETERS = 'profile: str = "smoke"  # how much is computed'
SETUP = 'from lowq_core.reproduce.session import self_check, start\n\nsession = start("07_tiny", profile)'
VALID: Notebook = {
    "cells": [
        markdown("title", "# 07 Tiny\n\n> Two numbers and their mean"),
        markdown("abstract", "**Question.** What is a mean?\n\n**Makes.** A table.\n\n**Cost.** 1 s."),
        code("parameters", PARAMETERS, "parameters"),
        code("setup", SETUP),
        markdown("mean", "## The mean\n\nAdd, then divide."),
        code("mean-code", "mean = (1 + 3) / 2\nmean"),
        markdown("results", "## Results"),
        code("results-code", 'session.record("tiny", "mean", "papertown/hard", mean)\nsession.write()'),
        markdown("takeaways", "## Takeaways\n\n* One.\n* Two.\n* Three."),
        markdown("exercises", "## Exercises\n\n**Exercise 1.** The mean of 2 and 6?"),
        code("exercise-1", "answer = 0  # your turn", "exercise"),
        code("check-1", "self_check(answer, (2 + 6) / 2)", "self-check"),
        markdown("provenance", "## Provenance"),
        code("provenance-code", "session.provenance()"),
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """The valid notebook, its navigation made."""
    path = tmp_path / "07_tiny.ipynb"
    path.write_text(json.dumps(VALID))
    assert navigation.write(tmp_path) == [path]
    return path


def test_a_valid_notebook_has_no_problems(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert anatomy.problems(notebook) == []
    assert anatomy.main([str(notebook)]) == 0
    assert "no problems" in capsys.readouterr().out


def cell(name: str, text: str) -> Callable[[Notebook], None]:
    def change(notebook: Notebook) -> None:
        next(cell for cell in notebook["cells"] if cell["id"] == name)["source"] = text

    return change


def remove(name: str) -> Callable[[Notebook], None]:
    def change(notebook: Notebook) -> None:
        notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"] != name]

    return change


def update(name: str, **more: Any) -> Callable[[Notebook], None]:
    def change(notebook: Notebook) -> None:
        next(cell for cell in notebook["cells"] if cell["id"] == name).update(more)

    return change


def insert_code(notebook: Notebook) -> None:
    notebook["cells"].insert(7, code("one-more", "1"))


OF_CLAIMS = 'session.record("global", "gem", "papertown/hard", 1.0)\nsession.write()'
LONG = "def f():\n" + "    x = 1\n" * 15


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (cell("title", "# 08 Tiny\n\n> Other number"), "# 07 Title"),
        (cell("title", "# 07 Tiny"), "subtitle"),
        (cell("navigation", "by hand"), "navigation is not current"),
        (cell("abstract", "**Question.** Why?\n\n**Makes.** This."), "lacks **Cost.**"),
        (update("parameters", metadata={}), "tagged 'parameters'"),
        (cell("parameters", 'profile: str = "mini"  # other default'), '"smoke"'),
        (cell("parameters", f"{PARAMETERS}\nk: int = 3"), "line 2 lacks the trailing comment"),
        (cell("parameters", f"{PARAMETERS}\nk = 3  # three"), "line 2 has to be an annotated"),
        (cell("setup", SETUP.replace("07_tiny", "08_tiny")), 'start("07_tiny", profile)'),
        (cell("mean", "The mean"), "no section of its own"),
        (cell("results-code", "1"), "session.write()"),
        (cell("results-code", OF_CLAIMS), "show session.verdicts('global')"),
        (cell("takeaways", "## Takeaways\n\n* One.\n* Two."), "2 bullets"),
        (cell("takeaways", "## What we saw\n\n* One.\n* Two.\n* Three."), "the last sections"),
        (update("exercise-1", metadata={}), "no code cell tagged 'exercise'"),
        (cell("exercises", "## Exercises\n\nThe mean?"), "**Exercise 1.**"),
        (cell("exercise-1", "answer = 0"), "# your turn"),
        (remove("check-1"), "self-check"),
        (cell("provenance-code", "print(1)"), "session.provenance()"),
        (cell("mean-code", "!pip install lowq"), "shell command"),
        (cell("mean-code", "%matplotlib inline"), "magic"),
        (cell("mean-code", LONG), "f has 16 lines"),
        (cell("mean-code", "x = 1\n" * 31), "31 lines"),
        (cell("mean-code", "mean;"), "ends with ';'"),
        (cell("mean-code", 'open("a.txt")'), "relative to the working directory"),
        (cell("mean-code", 'from pathlib import Path\nPath("a")'), "relative to the working directory"),
        (cell("mean-code", 'x = "/home/somebody"'), "path of one machine"),
        (cell("mean-code", 'x = "../data"'), "path of one machine"),
        (cell("mean-code", "import os\nos.chdir(x)"), "chdir"),
        (update("mean-code", outputs=[{"output_type": "stream"}]), "holds outputs"),
        (update("mean-code", execution_count=1), "holds outputs"),
        (update("mean-code", id="title"), "id of its own"),
        (insert_code, "code follows code"),
        (lambda notebook: notebook.update(metadata={}), "kernelspec"),
        (lambda notebook: notebook.update(cells=notebook["cells"][:5]), "at least 10"),
    ],
)
def test_every_departure_is_named(notebook: Path, change: Callable[[Notebook], None], problem: str) -> None:
    changed = copy.deepcopy(json.loads(notebook.read_text()))
    change(changed)
    notebook.write_text(json.dumps(changed))
    assert any(problem in found for found in anatomy.problems(notebook)), anatomy.problems(notebook)
    assert anatomy.main([str(notebook)]) == 1


def test_a_table_that_claims_name_is_held_against_them(notebook: Path) -> None:
    changed = json.loads(notebook.read_text())
    cell("results-code", f'{OF_CLAIMS}\nsession.verdicts("global")')(changed)
    notebook.write_text(json.dumps(changed))
    assert anatomy.problems(notebook) == []


def test_navigation_links_neighbours_and_is_idempotent(notebook: Path) -> None:
    other = notebook.with_name("09_more.ipynb")
    other.write_text(notebook.read_text().replace("07 Tiny", "09 More"))
    assert navigation.stale(notebook.parent) == [notebook, other]
    assert navigation.write(notebook.parent) == [notebook, other]
    assert navigation.write(notebook.parent) == []
    assert navigation.stale(notebook.parent) == []
    assert "[09 More →](09_more.ipynb)" in navigation.cell_text(notebook)
    assert "[← 07 Tiny](07_tiny.ipynb)" in navigation.cell_text(other)
    assert len(json.loads(other.read_text())["cells"]) == len(VALID["cells"]) + 1
    other.unlink()
    assert navigation.stale(notebook.parent) == [notebook]


@pytest.mark.parametrize(
    ("urls", "repository"),
    [
        ("", None),
        ('[project.urls]\nDocumentation = "https://github.com/some-one/low.q"', None),
        ('[project.urls]\nRepository = "https://example.org/some-one/low.q"', None),
        ('[project.urls]\nRepository = "https://github.com/some-one/low.q"', "some-one/low.q"),
        ('[project.urls]\nRepository = "https://github.com/some-one/low.q.git"', "some-one/low.q"),
    ],
)
def test_badges_appear_once_the_address_is_set(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, urls: str, repository: str | None
) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "lowq"\n{urls}\n')
    monkeypatch.setattr(navigation, "PROJECT", tmp_path)
    text = navigation.cell_text(notebook)
    colab = f"(https://colab.research.google.com/github/{repository}/blob/main/notebooks/07_tiny.ipynb)"
    binder = f"(https://mybinder.org/v2/gh/{repository}/main?labpath=notebooks%2F07_tiny.ipynb)"
    assert [badge in text for badge in (colab, binder)] == [repository is not None] * 2
    assert ("https://" in text) is (repository is not None)


def test_parameters_are_read_without_running_anything() -> None:
    cells = [code("p", "a: int = 1  # one\nb = 'x'\nc: float\nprint(a)", "parameters"), code("q", "d = 1")]
    assert anatomy.parameters_of({"cells": cells}) == {"a": "1", "b": "'x'", "c": ""}
    assert anatomy.parameters_of({"cells": cells[1:]}) == {}
