"""The HTML index of a profile: scorecard, tables and the executed notebooks; opens without a network."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from lowq_core.errors import LowqError
from lowq_core.files import sha256, write_text
from lowq_core.reproduce import places, uptodate
from lowq_core.reproduce.ledger import Record, compare, read_published, read_records
from lowq_core.reproduce.navigation import titles
from lowq_core.reproduce.profiles import profile as profile_called
from lowq_core.reproduce.scorecard import scorecard
from lowq_core.reproduce.tables import Table
from lowq_core.reproduce.worker import last_line

GALLERY = Path(str(resources.files("lowq_core.reproduce"))) / "gallery"
SHOWN = ("easy", "medium", "hard", "map")


def build_gallery(profile: str, notebooks: Path | None = None) -> Path | None:
    """Build `build/<profile>/index.html` from what was executed and recorded; nothing where it is current.

    Args:
        profile: name of a profile.
        notebooks: folder of the sources, for their order and titles.

    Returns:
        The page to open, or None where Sphinx is not installed.

    Raises:
        LowqError: Sphinx could not build it.
    """
    if importlib.util.find_spec("myst_nb") is None:
        print("no HTML index: Sphinx and myst-nb are not installed; pip install 'lowq[docs]'")
        return None
    base = places.build() / profile
    index, site, mark = base / "index.html", base / "site", base / "site" / ".made-from"
    made_from = _digest(base)
    if index.is_file() and mark.is_file() and mark.read_text() == made_from:
        return index
    source, out = base / f".pages-{os.getpid()}", base / f".site-{os.getpid()}"
    try:
        _write_pages(source, profile, titles(notebooks or places.notebooks()))
        _sphinx(source, out)
        write_text(out / ".made-from", made_from)
        shutil.rmtree(site, ignore_errors=True)
        os.replace(out, site)
    finally:
        shutil.rmtree(source, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
    return write_text(index, _REDIRECT)


def _write_pages(folder: Path, profile: str, known: dict[Path, str]) -> None:
    (folder / "_static").mkdir(parents=True)
    shutil.copy(GALLERY / "conf.py", folder)
    shutil.copy(GALLERY / "lowq.css", folder / "_static")
    executed = [path for path in known if uptodate.executed_path(path.stem, profile).is_file()]
    for path in executed:
        shutil.copy(uptodate.executed_path(path.stem, profile), folder / path.name)
    write_text(folder / "index.md", _index(profile, {path: known[path] for path in executed}))


def _index(profile: str, executed: dict[Path, str]) -> str:
    records = read_records(profile)
    what, samples = profile_called(profile).what, profile_called(profile).samples
    parts = [
        f"# Results of the profile {profile}",
        f"{what[0].upper()}{what[1:]}. Numbers in percent unless a column says otherwise.",
        "## Notebooks",
        _runs(profile, executed).to_markdown(),
        "## Scorecard",
        _raw(scorecard(records, samples=samples)),
        *_comparisons(records),
        "```{toctree}\n:hidden:\n\n" + "\n".join(path.stem for path in executed) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _runs(profile: str, executed: dict[Path, str]) -> Table:
    rows = []
    for path, title in executed.items():
        told = uptodate.last_run(path.stem, profile)
        rows.append(
            (
                f"[{title}]({path.name})",
                told.get("status", ""),
                f"{told.get('seconds', 0):.1f}",
                told.get("error", ""),
            )
        )
    return Table(("notebook", "last run", "seconds", "error"), tuple(rows))


def _comparisons(records: Sequence[Record]) -> list[str]:
    """Each table on clean queries: published beside measured."""
    parts = []
    for table in dict.fromkeys(record.table for record in records):
        measured = [r for r in records if r.table == table and r.measure in SHOWN]
        typed = [entry for entry in read_published() if entry.table == table and entry.measure in SHOWN]
        if measured:
            parts += [f"## Table: {table}", _raw(compare(measured, typed))]
    return parts


def _raw(table: Table) -> str:
    html = table._repr_html_()
    marked = re.sub(r"<td>(reproduced|contradicted|undecided|not yet run)</td>", _colour, html)
    return f'```{{raw}} html\n<div class="wide">{marked}</div>\n```'


def _colour(match: re.Match[str]) -> str:
    return f'<td class="{match[1].split()[0]}">{match[1]}</td>'


def _sphinx(source: Path, out: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", str(source / ".doctrees")]
    done = subprocess.run([*command, str(source), str(out)], capture_output=True, text=True)
    if done.returncode:
        raise LowqError(f"{source.parent}: Sphinx cannot build the index: {last_line(done.stderr)}")


def _digest(base: Path) -> str:
    files = [*base.glob("notebooks/*.ipynb"), *base.glob("results/*.json"), *base.glob("runs/*.json")]
    parts = {path.relative_to(base).as_posix(): sha256(path) for path in sorted(files)}
    parts |= {path.name: sha256(path) for path in sorted(GALLERY.glob("*.*")) if path.is_file()}
    parts["report"] = sha256(Path(__file__))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


_REDIRECT = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>lowq</title>
<meta http-equiv="refresh" content="0; url=site/index.html"></head>
<body><a href="site/index.html">Results</a></body></html>
"""
