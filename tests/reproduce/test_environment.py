"""pyproject.toml is the truth: the lock and environment.yml have to say the same."""

from __future__ import annotations

import re
import tomllib

import yaml
from packaging.specifiers import SpecifierSet

from lowq_core.reproduce import environment


def test_every_direct_requirement_is_locked_within_its_range() -> None:
    for python in ("3.11", "3.12", "3.13"):
        locked = environment.locked_versions(python=python)
        for requirement in environment.direct_requirements():
            assert requirement.specifier.contains(locked[requirement.name.lower()]), (python, requirement)


def test_environment_yml_installs_the_lock_by_its_hashes() -> None:
    project = tomllib.loads((environment.PROJECT / "pyproject.toml").read_text())["project"]
    *conda, last = yaml.safe_load((environment.PROJECT / "environment.yml").read_text())["dependencies"]
    python = conda[0].removeprefix("python=")
    assert SpecifierSet(project["requires-python"]).contains(python)
    assert conda[1:] == ["git", "make", "pip"]
    assert last == {"pip": ["--require-hashes", "-r requirements.lock"]}
    locked = environment.locked_versions(python=python)
    assert {r.name.lower() for r in environment.direct_requirements()} <= set(locked)
    assert len(locked) > 2 * len(environment.direct_requirements())  # and all that those need


def test_every_pin_of_the_lock_has_a_hash_and_none_names_an_index() -> None:
    lock = (environment.PROJECT / "requirements.lock").read_text()
    pins = re.findall(r"^[^\s#-].*(?:\n .*)*", lock, re.MULTILINE)
    assert len(pins) > 100
    for pin in pins:
        assert re.match(r"[A-Za-z0-9._-]+==\S+ (; .* )?\\\n    --hash=sha256:[0-9a-f]{64}", pin), pin
    assert "://" not in lock


def test_doctor_sees_what_is_missing(monkeypatch) -> None:
    monkeypatch.setenv("LOWQ_DATA", "no/such/folder")
    findings = {finding.what: finding for finding in environment.doctor()}
    assert findings["numpy"].ok
    assert not findings["real photos"].ok
    assert "LOWQ_DATA" in findings["real photos"].mend
