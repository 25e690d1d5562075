"""What importing costs and changes: little and nothing; and imports go one way."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lowq_core
from lowq_core.reproduce.sources import imported

PACKAGE = Path(lowq_core.__file__).parent
HEAVY = ("torch", "torchvision", "timm", "faiss", "cv2", "matplotlib", "sklearn", "scipy", "papermill", "PIL")
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)

RANKS = {
    "lowq_core": 0,
    "lowq_core.errors": 0,
    "lowq_core.files": 0,
    "lowq_core.viz.style": 0,  # colours and fonts, which saving a figure needs; it imports nothing of ours
    "lowq_core.degrade": 1,
    "lowq_core.restore": 1,
    "lowq_core.images": 2,
    "lowq_core.data": 3,
    "lowq_core.models": 3,
    "lowq_core.losses": 3,
    "lowq_core.extraction": 4,
    "lowq_core.training": 5,
    "lowq_core.retrieval": 5,
    "lowq_core.evaluation": 6,
    "lowq_core.reproduce": 7,
    "lowq_core.methods": 8,
    "lowq_core.viz": 9,
    "lowq_core.verbs": 10,
    "lowq_core.cli": 11,
}
"""A module imports from its own package and from lower ranks; the longest name that fits counts."""


def layer(module: str) -> str:
    return max((name for name in RANKS if f"{module}.".startswith(f"{name}.")), key=len)


def ours(module: str) -> list[str]:
    """The modules of the package that `module` imports, anywhere in its file."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    package = module if path.is_dir() else module.rpartition(".")[0]
    names = set(imported(ast.parse(source.read_text()), package))
    return sorted(names & set(MODULES) - {"lowq_core"})


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    assert module == "lowq_core" or layer(module) != "lowq_core", f"{module}: which layer is it of?"
    for other in ours(module):
        lower = RANKS[layer(other)] < RANKS[layer(module)]
        assert lower or layer(other) == layer(module), f"{module} imports {other}"


@pytest.mark.parametrize("top", ["models", "losses", "viz.style", "errors", "files"])
def test_what_stands_alone(top: str) -> None:
    name = f"lowq_core.{top}"
    for module in MODULES:
        if f"{module}.".startswith(f"{name}."):
            outside = [other for other in ours(module) if not f"{other}.".startswith(f"{name}.")]
            assert set(outside) <= {"lowq_core.errors"}, module


def test_nothing_imports_a_notebook_or_a_test() -> None:
    for module in MODULES:
        path = PACKAGE.parent.joinpath(*module.split("."))
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        tops = {name.partition(".")[0] for name in imported(ast.parse(source.read_text()))}
        assert not tops & {"notebooks", "tests", "benchmarks"}, module


def in_a_new_process(code: str, *, cwd: Path | None = None) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


LIGHT = (
    "import lowq_core, lowq_core.errors, lowq_core.files",
    "import lowq_core.cli",
    "from lowq_core.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
    "from lowq_core.cli import main\ntry: main(['evaluate', '--help'])\nexcept SystemExit: pass",
)


@pytest.mark.parametrize("code", LIGHT)
def test_light_imports(code: str) -> None:
    out = in_a_new_process(f"{code}\nimport sys, json; print(); print(json.dumps(sorted(sys.modules)))")
    loaded = {name.partition(".")[0] for name in json.loads(out.splitlines()[-1])}
    assert not loaded & set(HEAVY)
    assert "numpy" not in loaded or "cli" not in code


@pytest.mark.parametrize(
    "module",
    ["lowq_core.data.benchmark", "lowq_core.retrieval.base", "lowq_core.evaluation.protocols"],
)
def test_modules_that_want_numpy_alone(module: str) -> None:
    out = in_a_new_process(f"import {module}, sys, json; print(json.dumps(sorted(sys.modules)))")
    loaded = {name.partition(".")[0] for name in json.loads(out)}
    assert "numpy" in loaded
    assert not loaded & set(HEAVY)


SNAPSHOT = """
import importlib, json, logging, os, random, signal, sys, threading, warnings
import numpy, torch, PIL.Image, cv2
import matplotlib, faiss, sklearn, scipy, papermill, timm, tqdm, nbformat, nbclient, psutil, rich, tyro

def state():
    loggers = {name: logger for name, logger in logging.root.manager.loggerDict.items()
               if isinstance(logger, logging.Logger)}
    return {
        "random": hash(random.getstate()),
        "numpy": hash(str(numpy.random.get_state())),
        "torch": hash(torch.random.get_rng_state().numpy().tobytes()),
        "handlers": {name: [str(h) for h in logger.handlers] for name, logger in loggers.items() if logger.handlers},
        "root": [str(h) for h in logging.root.handlers] + [logging.root.level],
        "flags": [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.get_num_threads(),
                  torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled(),
                  str(torch.get_default_dtype()), torch.get_float32_matmul_precision(), cv2.getNumThreads()],
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "threads": threading.active_count(),
        "signals": [str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM)],
        "matplotlib": {key: str(value) for key, value in matplotlib.rcParams.items() if key != "backend"},
        "errors": numpy.geterr(),
        "PIL": [PIL.Image.MAX_IMAGE_PIXELS],
        "path": list(sys.path),
    }

before = state()
for module in json.loads(%r):
    importlib.import_module(module)
after = state()
print(json.dumps([key for key in before if before[key] != after[key]]))
"""


def test_importing_any_module_starts_nothing(tmp_path: Path) -> None:
    modules = [module for module in MODULES if module != "lowq_core.reproduce.gallery.conf"]  # Sphinx's own
    before = {path for path in PACKAGE.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"}
    out = in_a_new_process(SNAPSHOT % json.dumps(modules), cwd=tmp_path)
    assert out.splitlines() == ["[]"]  # and nothing was printed
    assert not list(tmp_path.iterdir())
    after = {path for path in PACKAGE.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"}
    assert after == before
