"""The trainings as `torchrun` starts them, on two processes: the losses of one."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from lowq_core.training.tuples import TrainingTuples

SCRIPT = Path(__file__).with_name("launched.py")


def losses(out: Path) -> list[float]:
    """Of the steps."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "step" in line]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", ["how", "arcface", "noiretrieval"])
def test_two_processes_have_the_losses_of_one(
    data: TrainingTuples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    photos, alone, shared = data.pictures[0].path.parent, tmp_path / "alone", tmp_path / "shared"
    importlib.import_module(SCRIPT.stem).train(kind, photos, alone)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, str(SCRIPT), kind, str(photos), str(shared)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len({*losses(alone)}) == len(losses(alone)) >= 4
    np.testing.assert_allclose(losses(shared), losses(alone), rtol=1e-4)
    of_two = load_file(shared / "model.safetensors")
    for name, value in load_file(alone / "model.safetensors").items():
        np.testing.assert_allclose(of_two[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
