"""The training loop against one written out; interrupted, shared out, and fed with nonsense."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from lowq_core.errors import LowqError
from lowq_core.training.folder import RunFolder
from lowq_core.training.loop import run
from lowq_core.training.recipe import Schedule


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def curve(out: Path) -> list[dict[str, object]]:
    """The log without its times."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in RunFolder(out).read_log()]


def by_hand(toy: ModuleType, epochs: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    recipe, losses = toy.Toy(), []
    model = recipe.model.eval()  # no dropout here, so only the statistics of batch normalisation matter
    optimiser = recipe.optimiser()
    rates = [group["lr"] for group in optimiser.param_groups]
    for epoch in range(epochs):
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * 0.9**epoch
        items = recipe.epoch(epoch)
        for start in range(0, 23, 5):
            optimiser.zero_grad()
            total = sum(recipe.loss([recipe.load(item)]) for item in items[start : start + 5])
            total.backward()
            optimiser.step()
            losses.append(total.item())
    return model.state_dict(), losses


@pytest.mark.parametrize("group", [1, 2, 5])
def test_against_a_loop_written_out(toy: ModuleType, tmp_path: Path, group: int) -> None:
    weights, losses = by_hand(toy, 3)
    recipe = toy.Toy()
    best = run(recipe, toy.schedule(3, group), tmp_path)
    assert (best.epoch, best.score) == (2, None)
    assert not recipe.model.training
    for name, value in recipe.model.state_dict().items():
        torch.testing.assert_close(value, weights[name], msg=name)
    steps = [line for line in curve(tmp_path) if "step" in line]
    assert [(line["epoch"], line["step"]) for line in steps] == [(e, s) for e in range(3) for s in range(5)]
    np.testing.assert_allclose([line["loss"] for line in steps], losses, rtol=1e-5)
    np.testing.assert_allclose([line["lr"] for line in steps], [0.01 * 0.9 ** (i // 5) for i in range(15)])
    of_epochs = [line for line in curve(tmp_path) if "step" not in line]
    np.testing.assert_allclose(
        [line["loss"] for line in of_epochs], [sum(losses[i : i + 5]) / 23 for i in (0, 5, 10)], rtol=1e-5
    )
    assert all(line["best"] and line["validation"] is None for line in of_epochs)


def test_statistics_are_frozen_and_the_rest_is_trained(toy: ModuleType, tmp_path: Path) -> None:
    recipe = toy.Toy(dropout=0.5)
    before = {name: value.clone() for name, value in recipe.model.state_dict().items()}
    modes = []
    loss = recipe.loss
    recipe.loss = lambda group: (modes.append([m.training for m in recipe.model.body]), loss(group))[1]
    run(recipe, toy.schedule(1), tmp_path)
    assert modes == [[True, False, True, True]] * 23
    after = recipe.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        name for name in before if not any(word in name for word in ("running", "tracked", "unused"))
    }


def test_seeds(toy: ModuleType, tmp_path: Path) -> None:
    recipe, drawn = toy.Toy(), []
    epoch = recipe.epoch
    recipe.epoch = lambda e: (drawn.append(torch.rand(1).item()), epoch(e))[1]
    torch.manual_seed(99)
    run(recipe, toy.schedule(2), tmp_path, start=lambda: drawn.append(torch.rand(1).item()))
    found = torch.rand(1).item()
    wanted = [
        torch.manual_seed(seed) and torch.rand(1).item() for seed in (3, 3, 4)
    ]  # start, epoch 0, epoch 1
    assert drawn == wanted
    torch.manual_seed(99)
    assert torch.rand(1).item() == found  # the caller's generator was left alone


@pytest.mark.parametrize("threads", [1, 3])
def test_groups_side_by_side_are_those_after_each_other(
    toy: ModuleType, tmp_path: Path, threads: int
) -> None:
    before, seen = torch.get_num_threads(), set()
    first, second = toy.Toy(pause=0.002), toy.Toy(pause=0.002)
    loss = second.loss

    def watched(group):  # type: ignore[no-untyped-def]
        seen.add(threading.get_ident())
        return loss(group)

    second.loss = watched
    try:
        torch.set_num_threads(1)
        run(first, toy.schedule(2), tmp_path / "one")
        torch.set_num_threads(threads)
        run(second, dataclasses.replace(toy.schedule(2), side_by_side=True), tmp_path / "other")
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert threading.get_ident() not in seen
    assert same(first.model.state_dict(), second.model.state_dict())
    assert curve(tmp_path / "one") == curve(tmp_path / "other")


@pytest.mark.parametrize("where", [0, 3, 23, 30, 46, 68])
def test_interrupted_and_resumed(toy: ModuleType, tmp_path: Path, where: int) -> None:
    whole = toy.Toy(dropout=0.3)
    run(whole, toy.schedule(3), tmp_path / "whole", validate=lambda model: model.last.bias[0].item())
    stopped = toy.Toy(dropout=0.3)
    loss, calls = stopped.loss, []

    def stop(group):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) > where:
            raise KeyboardInterrupt
        return loss(group)

    stopped.loss = stop
    with pytest.raises(KeyboardInterrupt):
        run(stopped, toy.schedule(3), tmp_path / "out", validate=lambda model: model.last.bias[0].item())
    resumed = toy.Toy(dropout=0.3)
    started = []
    run(
        resumed,
        toy.schedule(3),
        tmp_path / "out",
        start=lambda: started.append(1),
        validate=lambda model: model.last.bias[0].item(),
    )
    assert not started
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert curve(tmp_path / "out") == curve(tmp_path / "whole")


@pytest.fixture
def processes() -> Any:
    """Forked from a process that has imported the heavy modules and computed nothing."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["lowq_core.training.loop", "torch._dynamo"])
    return found


def wait(until: Callable[[], bool], alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not until() and alive() and time.monotonic() < deadline:
        time.sleep(0.005)


def test_killed_at_random_moments(toy: ModuleType, processes: Any, tmp_path: Path) -> None:
    out, chance, killed = tmp_path / "out", random.Random(4), 0
    for epoch in (0, 1, 3):
        job = processes.Process(target=toy.train, args=(out, 6, 0.3, 0.01, {}))
        job.start()
        wait(lambda epoch=epoch: (out / "log.jsonl").exists() and len(finished(out)) >= epoch, job.is_alive)
        time.sleep(chance.uniform(0, 0.2))
        killed += job.is_alive()
        job.kill()
        job.join()
    assert killed == 3
    assert len(finished(out)) >= 3
    resumed, whole = toy.Toy(dropout=0.3), toy.Toy(dropout=0.3)
    run(resumed, toy.schedule(6), out)
    run(whole, toy.schedule(6), tmp_path / "whole")
    assert same(resumed.model.state_dict(), whole.model.state_dict())
    assert curve(out) == curve(tmp_path / "whole")
    assert {path.name for path in out.iterdir() if path.suffix != ".tmp"} == {"checkpoint.pt", "log.jsonl"}


def finished(out: Path) -> list[dict[str, object]]:
    return [line for line in curve(out) if "step" not in line]


def test_a_finished_run_changes_nothing(toy: ModuleType, tmp_path: Path) -> None:
    first, again = toy.Toy(), toy.Toy()
    best = run(first, toy.schedule(2), tmp_path)
    log = (tmp_path / "log.jsonl").read_bytes()
    again.loss = None
    repeated = run(again, toy.schedule(2), tmp_path)
    assert (repeated.epoch, repeated.score) == (best.epoch, best.score)
    assert same(first.model.state_dict(), again.model.state_dict())
    assert (tmp_path / "log.jsonl").read_bytes() == log


@pytest.mark.parametrize(
    ("every", "scores", "best"),
    [(1, [0.1, 0.9, 0.9, 0.3], 1), (2, [0.2, 0.1], 1), (3, [0.2, 0.3], 3), (9, [-1.0], 3)],
)
def test_the_best_epoch_is_kept(
    toy: ModuleType, tmp_path: Path, every: int, scores: list[float], best: int
) -> None:
    def schedule(epochs: int) -> Schedule:
        return Schedule(epochs, batch=5, seed=3, validate_every=every)

    told, seen = iter(scores), []

    def validate(model: torch.nn.Module) -> float:
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(told)

    recipe = toy.Toy()
    found = run(recipe, schedule(4), tmp_path / "out", validate=validate)
    assert next(told, None) is None
    assert (found.epoch, found.score) == (best, max(scores))
    assert same(recipe.model.state_dict(), seen[scores.index(max(scores))])
    until_then = toy.Toy()
    run(until_then, schedule(best + 1), tmp_path / "short")
    assert same(until_then.model.state_dict(), recipe.model.state_dict())
    lines = finished(tmp_path / "out")
    assert [line["validation"] for line in lines if line["validation"] is not None] == scores


def test_two_processes_equal_one(toy: ModuleType, processes: Any, tmp_path: Path) -> None:
    """23 items in batches of 5: the last batch has 3, the processes never have the same share."""
    alone = toy.Toy()
    run(alone, toy.schedule(2), tmp_path / "alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    jobs = [
        processes.Process(
            target=toy.train, args=(tmp_path / "two", 2, 0.0, 0.0, meeting | {"RANK": str(rank)})
        )
        for rank in range(2)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)
    assert [job.exitcode for job in jobs] == [0, 0]
    weights = torch.load(tmp_path / "two" / "model.pt")
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(weights[name], value, msg=name, rtol=1e-4, atol=1e-5)
    assert torch.equal(weights["unused"], torch.ones(2))  # without a gradient, no weight decay either
    one, two = curve(tmp_path / "alone"), curve(tmp_path / "two")
    assert [line.get("step") for line in one] == [line.get("step") for line in two]
    np.testing.assert_allclose([line["loss"] for line in two], [line["loss"] for line in one], rtol=1e-4)
    assert len({line["loss"] for line in one}) > 5


def test_a_loss_that_is_not_finite_stops(toy: ModuleType, tmp_path: Path) -> None:
    good, bad = toy.Toy(), toy.Toy()
    loss, calls = bad.loss, []

    def poisoned(group):  # type: ignore[no-untyped-def]
        calls.append(1)
        return loss(group) * (math.nan if len(calls) == 23 + 7 else 1.0)

    bad.loss = poisoned
    with pytest.raises(LowqError, match=r"epoch 1, step 1: the loss is nan"):
        run(bad, toy.schedule(3), tmp_path)
    run(good, toy.schedule(3), tmp_path)  # the checkpoint before it is sound
    whole = toy.Toy()
    run(whole, toy.schedule(3), tmp_path / "whole")
    assert same(good.model.state_dict(), whole.model.state_dict())


def test_a_gradient_that_is_not_finite_stops(toy: ModuleType, tmp_path: Path) -> None:
    recipe = toy.Toy()
    recipe.loss = lambda group: (recipe.model.last.bias * 0).sum().sqrt()  # 0, with an infinite slope
    with pytest.raises(LowqError, match=r"epoch 0, step 0: the gradient's norm is nan"):
        run(recipe, toy.schedule(1), tmp_path)


def test_bad_input(toy: ModuleType, tmp_path: Path) -> None:
    recipe = toy.Toy()
    with pytest.raises(LowqError, match=r"epoch 0: the validation's score is nan"):
        run(recipe, toy.schedule(1), tmp_path / "score", validate=lambda model: math.nan)
    recipe.epoch = lambda epoch: []
    with pytest.raises(LowqError, match=r"epoch 0: there is nothing to train on"):
        run(recipe, toy.schedule(1), tmp_path / "empty")
    broken = toy.Toy()

    def unreadable(item: int) -> None:
        raise LowqError(f"{item}.jpg: no such picture")

    broken.load = unreadable
    broken.epoch = lambda e: [1, 2, 3]
    with pytest.raises(LowqError, match=r"1\.jpg: no such picture"):
        run(broken, toy.schedule(1), tmp_path / "unreadable")
    for field, value in (
        ("epochs", 0),
        ("batch", 0),
        ("group", 0),
        ("validate_every", 0),
        ("decay", 0.0),
        ("decay", math.nan),
        ("precision", "float16"),
    ):
        with pytest.raises(LowqError, match=field):
            Schedule(**({"epochs": 1} | {field: value}))


def test_checkpoints_that_do_not_fit(toy: ModuleType, tmp_path: Path) -> None:
    run(toy.Toy(), toy.schedule(1), tmp_path)
    checkpoint = tmp_path / "checkpoint.pt"
    whole = checkpoint.read_bytes()
    other = toy.Toy()
    other.model.last = torch.nn.Linear(4, 7)
    with pytest.raises(LowqError, match="of another model"):
        run(other, toy.schedule(1), tmp_path)
    for part in (b"", whole[: len(whole) // 2], b"no checkpoint"):
        checkpoint.write_bytes(part)
        with pytest.raises(LowqError, match=r"checkpoint\.pt: is damaged; delete it"):
            run(toy.Toy(), toy.schedule(1), tmp_path)


def test_bf16_is_autocast(toy: ModuleType, tmp_path: Path) -> None:
    recipe, kinds = toy.Toy(), set()
    loss = recipe.loss
    recipe.loss = lambda group: (kinds.add(recipe.model(group[0][0]).dtype), loss(group).float())[1]
    run(recipe, Schedule(1, batch=5, precision="bf16"), tmp_path)
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in recipe.model.parameters()} == {torch.float32}
