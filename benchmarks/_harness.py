"""Side-by-side timing: the peer's way and ours, in one process, in turns, with the settings that decide both.

A benchmark is a script that describes its cases and hands them to `main`:

    from _harness import Case, main

    def cases(quick: bool) -> list[Case]:
        n = 10_000 if quick else 1_000_000
        return [
            Case(
                what="sort",
                size=f"{n}",
                peer_name="numpy.sort",
                prepare=lambda: (np.random.default_rng(0).random(n),),  # arguments of both callables, untimed
                peer=np.sort,
                ours=our_sort,
                check=lambda a, b: same(a, b),  # raises where the two disagree; returns a note for the table
                promise=2.0,
            )
        ]

    if __name__ == "__main__":
        main(cases, __doc__)

Time: wall clock, the two callables in turns (A B A B ...), medians. The first turn warms up and feeds
`check`; it counts only where `repeats` is 1.
Memory: peak growth of the resident set above what `prepare` left, of one call in a fresh process (the script
started again with `--measure-memory`), read from Linux' `VmHWM`; None elsewhere. It includes pages that a
library touches on first use.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENVIRONMENT = (
    "OPENBLAS_CORETYPE",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_ARENA_MAX",
    "LD_PRELOAD",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)
PACKAGES = {  # module: distribution, stated where the module was loaded
    "numpy": "numpy",
    "scipy": "scipy",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "faiss": "faiss-cpu",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "openvino": "openvino",
    "asmk": "asmk",
    "imagecorruptions": "imagecorruptions",
}


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        what, size: what is done, on how much; for example "mAP from scores", "70 x 1,000,000".
        peer_name: whose way is the baseline, and which.
        peer: the baseline, called with what `prepare` returned; None where there is nothing to compare with.
        ours: our way, called with the same.
        prepare: makes the arguments of both, a tuple; neither timed nor counted as memory.
        repeats: turns that count; 1 for jobs too long to repeat.
        check: raises where the two results disagree; what it returns is shown ("AP within 2e-16").
        promise: the ratio peer / ours that the project promises, shown beside the measured one.
        limit_s, limit_mb: the time and the memory of ours that the project promises to stay below; the row says
            whether it does.
        memory: False where the work is done in other processes, whose memory is not seen.
        memory_slack: MB that ours may take beyond the peer; more of it ends the run with an error.
        skip: a reason not to run (a peer that is not installed); the row is kept and says so.
    """

    what: str
    size: str
    peer_name: str
    peer: Callable[..., Any] | None
    ours: Callable[..., Any]
    prepare: Callable[[], tuple[Any, ...]] = tuple
    repeats: int = 5
    check: Callable[[Any, Any], str] | None = None
    promise: float | None = None
    limit_s: float | None = None
    limit_mb: float | None = None
    memory: bool = True
    memory_slack: float | None = None
    skip: str = ""


def main(cases: Callable[[bool], Sequence[Case]], description: str | None = None) -> None:
    """Run `cases(quick)` as the command line asks: `[--quick] [--only TEXT] [--json FILE]`."""
    parser = argparse.ArgumentParser(description=(description or "").strip().split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name and size contain it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--measure-memory", metavar="CASE:SIDE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    todo = cases(options.quick)
    if options.measure_memory:
        number, side = options.measure_memory.split(":")
        print(f"peak_mb={_grown_mb(todo[int(number)], side)}")
        return
    rows = []
    for number, case in enumerate(todo):
        if options.only not in f"{case.what}, {case.size}":
            continue
        print(f"[{number + 1}/{len(todo)}] {case.what}, {case.size} ...", file=sys.stderr, flush=True)
        rows.append(_row(case, number, repeats=min(case.repeats, 3) if options.quick else case.repeats))
    if not rows:
        parser.error(
            f"--only {options.only}: no case is called so; there are\n" + "\n".join(c.what for c in todo)
        )
    stated = settings()
    rows = [row | {"settings": stated} for row in rows]
    print("\n".join(f"{key}: {value}" for key, value in stated.items()))
    print(table(rows))
    if options.json:
        partial = options.json.with_name(options.json.name + ".part")
        partial.write_text(json.dumps(rows, indent=1) + "\n")
        os.replace(partial, options.json)


def time_in_turns(case: Case, repeats: int) -> tuple[list[float], list[float], str]:
    """Seconds of the peer's and of our runs, and what `check` said of the first turn's results."""
    arguments = case.prepare()
    seconds: tuple[list[float], list[float]] = ([], [])
    note = ""
    for turn in range(repeats + 1 if repeats > 1 else 1):
        results: list[Any] = []
        for way, taken in zip((case.peer, case.ours), seconds, strict=True):
            if way is None:
                results.append(None)
                continue
            gc.collect()
            start = time.perf_counter()
            result = way(*arguments)
            taken.append(time.perf_counter() - start)
            results.append(result if turn == 0 else None)
            del result
        if turn == 0 and case.check is not None:
            note = case.check(*results)
    if repeats > 1:
        seconds = (seconds[0][1:], seconds[1][1:])
    return *seconds, note


def settings() -> dict[str, Any]:
    """What decides the numbers: processor, threads, BLAS core type, malloc, versions of what was loaded."""
    stated: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    stated |= {name: os.environ.get(name, "unset") for name in ENVIRONMENT}
    stated["mallopt, in this process"] = _mallopt()
    stated["blas"] = _thread_pools()
    if "torch" in sys.modules:
        stated["torch threads"] = sys.modules["torch"].get_num_threads()
    stated["versions"] = {
        module: importlib.metadata.version(name) for module, name in PACKAGES.items() if module in sys.modules
    }
    return stated


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as plain text, columns aligned."""
    head = [
        "what",
        "size",
        "peer",
        "peer s",
        "ours s",
        "ratio",
        "promised",
        "peer MB",
        "ours MB",
        "agreement",
    ]
    lines = [head]
    for row in rows:
        last = f"skipped: {row['skipped']}" if row["skipped"] else row["agreement"]
        numbers = [
            _number(row[key]) for key in ("peer_s", "ours_s", "ratio", "promise", "peer_mb", "ours_mb")
        ]
        lines.append([row["what"], row["size"], row["peer"], *numbers, last])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    ]
    return "\n".join(line.rstrip() for line in [padded[0], "-" * len(padded[0]), *padded[1:]])


def _row(case: Case, number: int, repeats: int) -> dict[str, Any]:
    peer_runs: list[float] = []
    ours_runs: list[float] = []
    note = ""
    peer_mb = ours_mb = None
    if not case.skip:
        peer_runs, ours_runs, note = time_in_turns(case, repeats)
        if case.memory:
            peer_mb = _memory_in_child(number, "peer") if case.peer else None
            ours_mb = _memory_in_child(number, "ours")
        if case.memory_slack is not None and peer_mb is not None and ours_mb is not None:
            if ours_mb > peer_mb + case.memory_slack:
                raise SystemExit(
                    f"{case.what}: takes {ours_mb:.0f} MB, the peer {peer_mb:.0f} MB; "
                    f"{case.memory_slack:.0f} MB more are allowed"
                )
            note = f"at most {case.memory_slack:.0f} MB more than the peer"
    peer_s = statistics.median(peer_runs) if peer_runs else None
    ours_s = statistics.median(ours_runs) if ours_runs else None
    verdicts = (note, _verdict(ours_s, case.limit_s, "s"), _verdict(ours_mb, case.limit_mb, "MB"))
    return {
        "what": case.what,
        "size": case.size,
        "peer": case.peer_name,
        "peer_s": peer_s,
        "ours_s": ours_s,
        "ratio": peer_s / ours_s if peer_s and ours_s else None,
        "peer_mb": peer_mb,
        "ours_mb": ours_mb,
        "promise": case.promise,
        "limit_s": case.limit_s,
        "limit_mb": case.limit_mb,
        "agreement": "; ".join(told for told in verdicts if told),
        "skipped": case.skip,
        "peer_runs": peer_runs,
        "ours_runs": ours_runs,
    }


def _verdict(value: float | None, limit: float | None, unit: str) -> str:
    if value is None or limit is None:
        return ""
    return f"{'below' if value < limit else 'MISSED: not below'} {limit:g} {unit}"


def _memory_in_child(number: int, side: str) -> float | None:
    """Peak growth in MB of one side of one case, in a process that has run nothing else."""
    quick = ["--quick"] if "--quick" in sys.argv[1:] else []
    command = [sys.executable, sys.argv[0], *quick, "--measure-memory", f"{number}:{side}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    value = done.stdout.rsplit("peak_mb=", 1)[1].strip()
    return None if value == "None" else float(value)


def _grown_mb(case: Case, side: str) -> float | None:
    way = case.peer if side == "peer" else case.ours
    arguments = case.prepare()
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    except OSError:
        return None
    before = _status_mb("VmRSS")
    assert way is not None
    result = way(*arguments)
    grown = _status_mb("VmHWM") - before
    del result
    return round(max(grown, 0.0), 1)


def _status_mb(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _mallopt() -> str:
    """What our engine has set of malloc beside the environment."""
    memory = sys.modules.get("lowq_core.extraction.memory")
    options = memory.malloc_options() if memory else {}
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "unset"


def _thread_pools() -> list[str]:
    """Each BLAS / OpenMP that is loaded, with the core type it chose and its threads."""
    try:
        from threadpoolctl import threadpool_info  # type: ignore[import-untyped]
    except ImportError:
        return []
    keys = ("internal_api", "version", "architecture", "num_threads")
    return [" ".join(str(pool[key]) for key in keys if pool.get(key)) for pool in threadpool_info()]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
