"""What a profile's settings make of the rows of trained trunks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lowq_core.extraction.config import EmbedConfig
from lowq_core.methods.parts import Tuned
from lowq_core.methods.say import quiet
from lowq_core.methods.tuned import TunedNetworks
from lowq_core.reproduce.profiles import profile
from lowq_core.reproduce.store import Store
from lowq_core.training.adapnet import ROWS


@pytest.mark.parametrize("anchor", [0.0, 10.0])
def test_every_row_has_the_profiles_anchor_but_distillation_which_is_nothing_else(
    anchor: float, tmp_path: Path
) -> None:
    smoke = profile("smoke")
    settings = replace(smoke, tuned=replace(smoke.tuned, distil=anchor))
    networks = TunedNetworks(settings, EmbedConfig(), Store(tmp_path), quiet)
    for row in ROWS:
        training = networks.training(Tuned(row))
        assert training.distil == (1.0 if row == "distilled" else anchor)
    assert networks.training(Tuned("adapnet", changes=(("distil", 0.0),))).distil == 0.0
