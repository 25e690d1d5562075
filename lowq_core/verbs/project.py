"""Verbs about the project itself: `reproduce`, `list`, `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional


@dataclass(frozen=True)
class Reproduce:
    """Execute the notebooks of a profile: figures, result records, scorecard and an HTML index."""

    notebooks: Positional[tuple[str, ...]] = ()
    """Numbers or names (03, 03_global_baselines); none means all."""
    profile: str = "mini"
    """smoke, mini, real (photos under LOWQ_DATA) or paper (the papers' data sets)."""
    jobs: int = 2
    """How many notebooks run at a time."""
    force: bool = False
    """Run also what is up to date."""
    timeout: float | None = None
    """Wall-clock seconds that one notebook may take (default: the profile's)."""

    def run(self) -> int:
        from lowq_core.reproduce.runner import reproduce

        report = reproduce(
            self.notebooks, self.profile, jobs=self.jobs, force=self.force, timeout=self.timeout
        )
        return 0 if report.passed else 1


@dataclass(frozen=True)
class List:
    """What there is to choose from."""

    what: Positional[Literal["methods", "benchmarks", "degradations", "notebooks", "profiles"]]
    """The kind of thing."""

    def run(self) -> int:
        from lowq_core.methods.listing import listing

        rows = listing(self.what)
        width = max(len(name) for name, _ in rows)
        for name, what in rows:
            print(f"{name:{width}s}  {what}")
        return 0


@dataclass(frozen=True)
class Doctor:
    """What is installed, what is missing, and how to mend it."""

    def run(self) -> int:
        from lowq_core.reproduce.environment import doctor

        findings = doctor()
        for finding in findings:
            print(f"{'ok' if finding.ok else 'WRONG':6s} {finding.what:32s} {finding.found}")
            if not finding.ok:
                print(f"{'':6s} -> {finding.mend}")
        return 0 if all(finding.ok for finding in findings) else 1
