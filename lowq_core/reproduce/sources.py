"""Digest of the code that a step runs: the named modules and everything of their package that they import."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from lowq_core.errors import LowqError


def code_digest(modules: Iterable[ModuleType | str]) -> str:
    """SHA-256 of what the modules do, with all modules of the same top-level package that they import.

    Comments, docstrings and layout do not count, so that mending a sentence does not cost a training run.
    Imports are found by reading, anywhere in a file; nothing is run. Data files are not seen: give their
    digests as inputs of the step.

    Raises:
        LowqError: a module that does not exist.

    >>> code_digest(["lowq_core.errors"]) == code_digest(["lowq_core.errors"])
    True
    """
    digest = hashlib.sha256()
    for name, source in sorted(reached(modules).items()):
        digest.update(f"{name}\n{_essence(source, source.stat().st_mtime_ns)}\n".encode())
    return digest.hexdigest()


def reached(modules: Iterable[ModuleType | str]) -> dict[str, Path]:
    """Name -> source file of the modules and of all that they import, directly or not, of their own packages.

    >>> sorted(reached(["lowq_core.files"]))
    ['lowq_core.files']
    """
    todo = [module if isinstance(module, str) else module.__name__ for module in modules]
    for name in todo:
        if _source(name) is None:
            raise LowqError(f"module {name!r}: there is no source of that name; name modules that exist")
    found: dict[str, Path] = {}
    while todo:
        name = todo.pop()
        source = _source(name)
        if name in found or source is None:
            continue
        found[name] = source
        package = name if source.name == "__init__.py" else name.rpartition(".")[0]
        top = name.partition(".")[0]
        todo += [
            other for other in _imports(source, source.stat().st_mtime_ns, package) if _within(other, top)
        ]
    return found


def imported(tree: ast.AST, package: str = "") -> Iterator[str]:
    """Every module name that an import in `tree` may mean; of `from a import b` both `a` and `a.b`.

    >>> list(imported(ast.parse("from lowq_core import errors")))
    ['lowq_core', 'lowq_core.errors']
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _within(name: str, top: str) -> bool:
    return name == top or name.startswith(f"{top}.")


def _source(name: str) -> Path | None:
    """The file of module `name`, found without importing anything; None for what is not a module."""
    top, *below = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    if not below:
        return Path(spec.origin)
    stem = Path(spec.origin).parent.joinpath(*below)
    return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)


@cache
def _imports(source: Path, modified: int, package: str) -> tuple[str, ...]:
    """What a file imports, read once while it stays as it is: every step of the store asks for it."""
    return tuple(imported(ast.parse(source.read_text()), package))


@cache
def _essence(source: Path, modified: int) -> str:
    tree = ast.parse(source.read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return ast.dump(tree)
