"""The runner: every notebook of a profile, each in its own killable process, by papermill."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil  # type: ignore[import-untyped]

from lowq_core.data.datasets import data_root
from lowq_core.data.named import RENDERED, missing
from lowq_core.errors import LowqError
from lowq_core.files import write_text
from lowq_core.reproduce import places, uptodate
from lowq_core.reproduce.anatomy import parameters_of
from lowq_core.reproduce.profiles import Profile
from lowq_core.reproduce.profiles import profile as profile_called
from lowq_core.reproduce.report import build_gallery
from lowq_core.reproduce.store import USED
from lowq_core.reproduce.worker import Job, kill_tree, last_line

Status = Literal["passed", "failed", "timed out", "up to date"]


@dataclass(frozen=True)
class Run:
    """How one notebook fared; `seconds` is the time it took when it last ran."""

    notebook: str
    status: Status
    seconds: float
    error: str = ""

    def __str__(self) -> str:
        told = f"{self.notebook:28s} {self.status:10s} {self.seconds:7.1f} s"
        return f"{told}  {self.error}" if self.error else told


@dataclass(frozen=True)
class Report:
    """How all notebooks fared, and where to look at them."""

    profile: str
    runs: tuple[Run, ...]
    seconds: float
    index: Path | None = None

    @property
    def passed(self) -> bool:
        """Whether every notebook ran to its end, now or before."""
        return all(run.status in ("passed", "up to date") for run in self.runs)


@dataclass
class _Started:
    """A notebook that is running."""

    path: Path
    key: str
    work: Path
    process: subprocess.Popen[bytes]
    since: float = field(default_factory=time.monotonic)


def reproduce(
    notebooks: Sequence[str] = (),
    profile: str = "mini",
    *,
    jobs: int = 2,
    force: bool = False,
    timeout: float | None = None,
    parameters: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    gallery: bool = True,
) -> Report:
    """Execute notebooks under a profile, then build the HTML index of all that were executed.

    A notebook is skipped where its source, parameters, library code and the results it reads are those of
    its last run, that run passed, and what it left and found in the store is still there. A failure stops no
    other notebook. Executed copies, records and figures lie in `build/<profile>`.

    Args:
        notebooks: numbers, names or paths; none means all.
        profile: name of a profile.
        jobs: how many run at a time.
        force: run also what is up to date.
        timeout: wall-clock seconds for one notebook, instead of the profile's.
        parameters: further values for the cells tagged `parameters`.
        folder: where the notebooks lie, instead of the project's.
        gallery: whether to build the index.

    Raises:
        LowqError: an unknown notebook, profile or parameter, photos that are not there, or jobs below 1.
    """
    chosen = profile_called(profile)
    paths = find_notebooks(notebooks, folder)
    given = {"profile": profile} | dict(parameters or {})
    _check(paths, given, jobs)
    _check_photos(chosen, everything=not notebooks)
    start = time.monotonic()
    limit = timeout if timeout is not None else chosen.time_limit
    runs = []
    for run in _run_all(paths, profile, given, jobs, limit, force):
        runs.append(run)
        print(run, flush=True)
    runs.sort(key=lambda run: run.notebook)
    index = build_gallery(profile, folder or places.notebooks()) if gallery else None
    report = Report(profile, tuple(runs), time.monotonic() - start, index)
    failed = sum(run.status in ("failed", "timed out") for run in runs)
    print(
        f"{len(runs)} notebooks, {failed} failed, {report.seconds:.1f} s"
        + (f"; open {index}" if index else "")
    )
    return report


def find_notebooks(names: Sequence[str] = (), folder: Path | None = None) -> list[Path]:
    """The notebooks called by number (`03`), name, or path, in reading order; all where none is named.

    Raises:
        LowqError: there is none of that name, or none at all.
    """
    where = folder or places.notebooks()
    known = sorted(where.glob("[0-9][0-9]_*.ipynb"))
    if not known:
        raise LowqError(f"{where}: holds no notebooks called NN_name.ipynb; give the folder that does")
    found = set()
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        match = [path for path in known if stem in (path.stem, path.stem[:2])]
        if not match:
            raise LowqError(
                f"notebook {name!r}: there is none of that name; choose among {', '.join(p.stem for p in known)}"
            )
        found |= set(match)
    return sorted(found) if names else known


def _check(paths: Sequence[Path], given: Mapping[str, Any], jobs: int) -> None:
    if jobs < 1:
        raise LowqError(f"--jobs {jobs}: give at least 1")
    for path in paths:
        try:
            known = parameters_of(json.loads(path.read_text()))
        except (KeyError, TypeError, ValueError, SyntaxError) as error:
            raise LowqError(f"{path}: is not a notebook that can be read ({error}); restore it") from None
        for name in given:
            if name not in known:
                raise LowqError(
                    f"{path.name}: has no parameter {name!r}; its cell tagged parameters holds "
                    f"{', '.join(known) or 'none'}"
                )


def _check_photos(profile: Profile, *, everything: bool) -> None:
    """Refuse to start without the photos: all of the profile's, or those of its first benchmark.

    A single notebook reads the first benchmark; what else it reads differs, and it says itself what it lacks.
    """
    real = [name for name in profile.benchmarks if name not in RENDERED]
    root = data_root()
    if real and (root is None or not root.is_dir()):
        raise LowqError(
            f"profile {profile.name}: needs the photos of {', '.join(real)}; set LOWQ_DATA to the folder that "
            f"holds them, see lowq data list"
        )
    if everything:
        searched = (*profile.benchmarks, *profile.distractors, *profile.validation)
        lacking = missing(searched, (*profile.train, *profile.choice_train, *profile.tuned.train))
    else:
        lacking = missing(profile.benchmarks[:1])
    if lacking:
        raise LowqError(f"profile {profile.name}: {'; '.join(lacking)}")


def _run_all(
    paths: Sequence[Path], profile: str, given: dict[str, Any], jobs: int, limit: float, force: bool
) -> Iterator[Run]:
    """Yield each notebook's outcome as it comes; those that read the others' results start last."""
    base = places.build() / profile / "runs" / f".work-{os.getpid()}"
    _sweep(base.parent)
    waiting = sorted(paths, key=lambda path: (_reads_results(path), path.name))
    side_by_side = min(jobs, len(waiting)) > 1
    running: list[_Started] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs and not (running and _reads_results(waiting[0])):
                path = waiting.pop(0)
                key = uptodate.run_key(path, given, profile)
                if not force and uptodate.is_current(path, key, profile):
                    seconds = float(uptodate.last_run(path.stem, profile)["seconds"])
                    yield Run(path.stem, "up to date", seconds)
                else:
                    running.append(_start(path, key, given, base / path.stem, side_by_side))
            for started in list(running):
                run = _finished(started, profile, limit)
                if run is not None:
                    running.remove(started)
                    yield run
            time.sleep(0.05 if running else 0)
    finally:
        for started in running:
            kill_tree(started.process.pid)
            started.process.wait()
        shutil.rmtree(base, ignore_errors=True)


def _start(path: Path, key: str, given: dict[str, Any], work: Path, side_by_side: bool) -> _Started:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    job = Job(
        str(path.absolute()), str(work / "executed.ipynb"), str(work / "outcome.json"), given, os.getpid()
    )
    environment = os.environ | {
        USED: str(work / "used"),
        "LOWQ_BUILD": str(places.build()),
        "IPYTHONDIR": str(_quiet_ipython()),
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one of the user's
        "TQDM_DISABLE": "1",  # a bar's timings make equal runs differ
    }
    if side_by_side:  # threads that spin while they wait take the cores from the other notebook: 5x slower
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with (work / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lowq_core.reproduce.worker", job.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the runner, which ends the notebooks in order
        )
    return _Started(path, key, work, process)


def _finished(started: _Started, profile: str, limit: float) -> Run | None:
    """The outcome, or None while the notebook is running and has time left."""
    seconds = time.monotonic() - started.since
    name, work = started.path.stem, started.work
    if started.process.poll() is not None:
        error = _outcome(work)
        status: Status = "failed" if error else "passed"
    elif seconds > limit:
        kill_tree(started.process.pid)
        started.process.wait()
        status, error = "timed out", f"took longer than {limit:g} s; give it more with --timeout"
    else:
        return None
    executed = uptodate.executed_path(name, profile)
    executed.parent.mkdir(parents=True, exist_ok=True)
    if (work / "executed.ipynb").exists():
        os.replace(work / "executed.ipynb", executed)
    used = (work / "used").read_text().split("\n")[:-1] if (work / "used").exists() else []
    told = {"key": started.key, "status": status, "seconds": round(seconds, 1), "error": error}
    told |= {"steps": sorted(set(used)), "left": uptodate.left_by(name, profile)}
    uptodate.write_stamp(started.path, profile, told)
    return Run(name, status, round(seconds, 1), error)


def _outcome(work: Path) -> str:
    """The error that the worker told of, or the last line it printed where it died before it could tell."""
    try:
        return str(json.loads((work / "outcome.json").read_text())["error"])
    except OSError:
        return last_line((work / "log").read_text(errors="replace")) or "its process was killed"


def _reads_results(path: Path) -> bool:
    return uptodate.reads_results(json.loads(path.read_text()))


def _quiet_ipython() -> Path:
    """An IPython folder in which kernels do not warn about every start (TCP without encryption)."""
    folder = places.build() / "ipython"
    config = folder / "profile_default" / "ipython_kernel_config.py"
    if not config.exists():
        write_text(config, "c.IPKernelApp.log_level = 40\n")
    return folder


def _sweep(folder: Path) -> None:
    """Remove what killed runners left."""
    for work in folder.glob(".work-*"):
        if not psutil.pid_exists(int(work.name.removeprefix(".work-"))):
            shutil.rmtree(work, ignore_errors=True)
