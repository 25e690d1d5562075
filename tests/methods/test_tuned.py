"""What a profile's settings make of the rows of trained trunks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lowq_core.errors import LowqError
from lowq_core.extraction.config import EmbedConfig
from lowq_core.methods.parts import Tuned
from lowq_core.methods.say import quiet
from lowq_core.methods.tuned import TunedNetworks
from lowq_core.models.adapnet import adapnet
from lowq_core.models.adapnet_checkpoints import load_adapnet
from lowq_core.reproduce.profiles import profile
from lowq_core.reproduce.store import Store
from lowq_core.training.adapnet import ROWS, untrained


@pytest.mark.parametrize("anchor", [0.0, 10.0])
def test_every_row_has_the_profiles_anchor_but_distillation_which_is_nothing_else(
    anchor: float, tmp_path: Path
) -> None:
    smoke = profile("smoke")
    settings = replace(smoke, tuned=replace(smoke.tuned, distil=anchor))
    networks = TunedNetworks(settings, EmbedConfig(), Store(tmp_path), quiet)
    for name in ROWS:
        training = networks.training(Tuned(name))
        assert training.distil == (1.0 if name == "distilled" else anchor)
    assert networks.training(Tuned("adapnet", changes=(("distil", 0.0),))).distil == 0.0


def test_changes_reach_the_training_and_the_block(tmp_path: Path) -> None:
    networks = TunedNetworks(profile("smoke"), EmbedConfig(), Store(tmp_path), quiet)
    plain = networks.training(Tuned("adapnet"))
    for changes in ({"gate": "sigmoid"}, {"branches": 4}, {"gate": "sigmoid", "branches": 1, "alpha": 0.5}):
        found = networks.training(Tuned("adapnet", changes=tuple(changes.items())))
        of_block = {name: changes[name] for name in ("gate", "branches") if name in changes}
        wanted = replace(plain, config=replace(plain.config, **of_block), alpha=changes.get("alpha", 1.0))
        assert found == wanted != plain
    assert networks.training(Tuned("qcb", changes=(("gate", "sigmoid"),))).config.branches == 8
    with pytest.raises(LowqError, match="gate 'hard' is unknown"):
        adapnet(networks.training(Tuned("adapnet", changes=(("gate", "hard"),))).config, "random")


def test_part_of_the_way_lies_between_the_start_and_the_trained_network(tmp_path: Path) -> None:
    networks = TunedNetworks(profile("smoke"), EmbedConfig(), Store(tmp_path), quiet)
    whole, some = Tuned("adapnet", seed=3), Tuned("adapnet", seed=3, share=0.25)
    start = untrained(networks.training(whole)).state_dict()
    trained, found = (load_adapnet(networks.network(tuned)).state_dict() for tuned in (whole, some))
    moved = 0
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.75 * start[name] + 0.25 * trained[name])
        moved += not torch.equal(start[name], trained[name])
    assert moved > 0


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_outside_the_way_is_refused_before_anything_is_trained(share: float) -> None:
    with pytest.raises(LowqError, match=r"adapnet, share=.*: choose a number from 0"):
        Tuned("adapnet", share=share)
