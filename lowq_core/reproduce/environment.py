"""What has to be installed: `pyproject.toml` is the truth, `requirements.lock` its exact resolution.

`make setup` and `environment.yml` (conda) both install the lock; `doctor` compares what is installed with what is
wanted.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[2]
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]+))?")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report: `ok`, what was looked at, what was found, and how to mend it."""

    ok: bool
    what: str
    found: str
    mend: str = ""


def direct_requirements(pyproject: Path = PROJECT / "pyproject.toml") -> list[Requirement]:
    """The project's own requirements, those of all extras included, by name.

    >>> any(requirement.name == "torch" for requirement in direct_requirements())
    True
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    lines = list(project["dependencies"])
    for extra, requirements in project["optional-dependencies"].items():
        if extra not in (
            "all",
            "asmk",
        ):  # `all` repeats the others; asmk needs a compiler, and only tests use it
            lines += requirements
    return sorted((Requirement(line) for line in lines), key=lambda requirement: requirement.name)


def locked_versions(python: str) -> dict[str, str]:
    """Name -> version of every pin that applies to Linux on x86-64 with the given Python (`"3.11"`)."""
    environment = {
        "python_full_version": f"{python}.9",
        "python_version": python,
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "posix",
    }
    versions = {}
    for line in (PROJECT / "requirements.lock").read_text().splitlines():
        match = _PIN.match(line)
        if match and (not match["marker"] or Marker(match["marker"].strip()).evaluate(environment)):
            versions[match["name"].lower()] = match["version"]
    return versions


def doctor() -> list[Finding]:
    """What is installed, what is missing or of another version, and how to mend it."""
    version = sys.version_info[:2]
    findings = [
        Finding(
            (3, 11) <= version <= (3, 13),
            "Python",
            platform.python_version(),
            "use Python 3.11, 3.12 or 3.13",
        )
    ]
    wanted = locked_versions(python=f"{version[0]}.{version[1]}")
    for requirement in direct_requirements():
        findings.append(_installed(requirement, wanted.get(requirement.name.lower(), "")))
    for tool, mend in (("git", "install git"), ("make", "install make")):
        findings.append(Finding(shutil.which(tool) is not None, tool, shutil.which(tool) or "missing", mend))
    findings.append(_real_photos())
    free = shutil.disk_usage(PROJECT).free / 2**30
    findings.append(Finding(free > 3, "free disk", f"{free:.0f} GiB", "free at least 3 GiB for the store"))
    return findings


def _installed(requirement: Requirement, locked: str) -> Finding:
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(False, requirement.name, "missing", "make setup")
    if found not in requirement.specifier:
        return Finding(False, requirement.name, found, f"wants {requirement.specifier}: make setup")
    note = "" if not locked or found.split("+")[0] == locked else f" (locked: {locked})"
    return Finding(True, requirement.name, found + note)


def _real_photos() -> Finding:
    root = os.environ.get("LOWQ_DATA")
    if not root:
        return Finding(True, "real photos", "LOWQ_DATA is not set: profiles smoke and mini only")
    return Finding(
        Path(root).is_dir(), "real photos", f"LOWQ_DATA={root}", "point LOWQ_DATA at a folder that exists"
    )
