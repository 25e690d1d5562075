"""The compensation block against plain loops, its start and gradients, and what must not change its result."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowq_core.errors import LowqError
from lowq_core.models.qcb import KERNELS, QCB, Gate, QCBConfig
from lowq_core.training.loop import freeze_statistics

GATES: tuple[Gate, ...] = ("softmax", "sigmoid")

pytestmark = pytest.mark.usefixtures("one_thread")


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    """Non-negative, as of a trunk that ends in ReLU."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).relu()


def lively(config: QCBConfig, seed: int = 0) -> QCB:
    """A block in double precision with no parameter at 0 or 1."""
    block = QCB(config).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return block


def window_sums(x: np.ndarray, kernel: np.ndarray, dilation: int) -> np.ndarray:
    """One channel (H, W) through one kernel; what lies outside counts as 0."""
    height, width = x.shape
    r = len(kernel) // 2
    out = np.zeros_like(x)
    for y in range(height):
        for u in range(width):
            for i in range(-r, r + 1):
                for j in range(-r, r + 1):
                    v, w = y + i * dilation, u + j * dilation
                    if 0 <= v < height and 0 <= w < width:
                        out[y, u] += kernel[i + r, j + r] * x[v, w]
    return out


def naive_branch(block: QCB, k: int, picture: np.ndarray) -> np.ndarray:
    """N_k (C, H, W) of one picture, written out."""
    config, state = block.config, {name: value.numpy() for name, value in block.state_dict().items()}
    mine = slice(k * config.width, (k + 1) * config.width)
    reduced = np.einsum("wc,chv->whv", state["reduce.weight"][:, :, 0, 0], picture)
    kernels = state[f"branches.{k}.weight"][:, 0]
    found = np.stack(
        [window_sums(x, kernel, config.used[k][1]) for x, kernel in zip(reduced, kernels, strict=True)]
    )
    found = (found - found.mean()) / np.sqrt(found.var() + block.norm.eps)
    found = state["norm.weight"][mine, None, None] * found + state["norm.bias"][mine, None, None]
    return np.einsum("cw,whv->chv", state["expand.weight"][:, mine, 0, 0], np.maximum(found, 0))


def naive_gate(block: QCB, picture: np.ndarray) -> np.ndarray:
    state = {name: value.numpy() for name, value in block.state_dict().items()}
    hidden = np.maximum(
        state["select.0.weight"] @ picture.mean((1, 2)) + state["select.0.bias"],
        0,
    )
    logits = state["select.2.weight"] @ hidden + state["select.2.bias"]
    if block.config.gate == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def naive(block: QCB, picture: np.ndarray) -> np.ndarray:
    """F + gamma sum_k a_k N_k, branch by branch."""
    weights = naive_gate(block, picture)
    total = sum(weights[k] * naive_branch(block, k, picture) for k in range(block.config.branches))
    return picture + block.gamma.detach().numpy()[:, None, None] * total


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 2),
    channels=st.integers(1, 4),
    height=st.integers(1, 4),
    width=st.integers(1, 5),
    branches=st.integers(1, 8),
    inner=st.integers(2, 3),
    gate=st.sampled_from(GATES),
    seed=st.integers(0, 99),
)
def test_against_loops(
    batch: int, channels: int, height: int, width: int, branches: int, inner: int, gate: Gate, seed: int
) -> None:
    block = lively(QCBConfig(channels, branches, inner, gate), seed)
    x = maps(batch, channels, height, width, seed=seed)
    with torch.no_grad():
        result, weights, outputs = block(x), block.gate(x), block.branch_outputs(x)
    assert result.shape == x.shape
    for i, picture in enumerate(x.numpy()):
        np.testing.assert_allclose(result[i], naive(block, picture), rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(weights[i], naive_gate(block, picture), rtol=1e-10)
        for k in range(branches):
            np.testing.assert_allclose(outputs[i, k], naive_branch(block, k, picture), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("branches", [1, 2, 4, 8])
def test_one_convolution_is_the_sum_of_the_branches(branches: int, gate: Gate) -> None:
    block, x = lively(QCBConfig(6, branches, 4, gate)), maps(3, 6, 5, 4)
    weights = block.gate(x)[:, :, None, None, None]
    summed = (weights * block.branch_outputs(x)).sum(1)
    torch.testing.assert_close(block(x), x + block.gamma[:, None, None] * summed)


def test_by_hand() -> None:
    """0, 3, 3 and 0, 0, 0 have mean 1 and variance 2; normalised and ReLU: 0, sqrt 2, sqrt 2; times 2, times 1/2."""
    x = torch.tensor([[[[0.0, 0.0, 3.0]]]], dtype=torch.float64)
    for gate, a in (("softmax", 1.0), ("sigmoid", 0.5)):
        block = QCB(QCBConfig(1, branches=1, width=2, gate=gate)).double()  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.zero_()
            block.reduce.weight[0] = 1.0
            block.get_parameter("branches.0.weight").fill_(1.0)
            block.norm.weight.fill_(1.0)
            block.expand.weight.fill_(2.0)
            block.gamma.fill_(0.5)
        added = a * math.sqrt(2)
        wanted = torch.tensor([[[[0.0, added, 3.0 + added]]]], dtype=torch.float64)
        torch.testing.assert_close(block(x), wanted, rtol=1e-5, atol=0)  # the norm adds 1e-5 to the variance


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("branches", [1, 2, 3, 4, 8])
def test_starts_as_the_identity(branches: int, gate: Gate) -> None:
    block = QCB(QCBConfig(7, branches, 4, gate))
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        x = (50 * maps(2, 7, 6, 5) - 20).to(dtype)
        y = block(x)
        assert y.dtype == dtype
        assert torch.equal(y, x)


@pytest.mark.parametrize("gate", GATES)
def test_gamma_learns_first_and_everything_next(gate: Gate) -> None:
    block, x = QCB(QCBConfig(6, 4, 8, gate)), maps(2, 6, 5, 4).float()
    target = maps(2, 6, 5, 4, seed=1).float()
    optimiser = torch.optim.SGD(block.parameters(), lr=0.1)

    def gradients() -> dict[str, bool]:
        optimiser.zero_grad()
        (block(x) - target).square().mean().backward()
        return {name: bool(p.grad.any()) for name, p in block.named_parameters() if p.grad is not None}

    first = gradients()
    assert {name for name, some in first.items() if some} == {"gamma"}
    assert len(first) == len(list(block.parameters()))
    optimiser.step()
    assert all(gradients().values())


def test_learns() -> None:
    """It fits a change of the map that depends on a cell's neighbours."""
    torch.manual_seed(0)
    block, x = QCB(QCBConfig(4, 2, 16)), maps(4, 4, 6, 6).float()
    target = x + torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    optimiser = torch.optim.Adam(block.parameters(), lr=0.02)
    losses = []
    for _ in range(100):
        optimiser.zero_grad()
        loss = (block(x) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("gate", GATES)
def test_gradients(gate: Gate) -> None:
    block, x = lively(QCBConfig(3, 3, 2, gate)), maps(2, 3, 3, 4).requires_grad_()
    names = [name for name, _ in block.named_parameters()]

    def result(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        found = torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (x,))
        assert isinstance(found, torch.Tensor)
        return found

    assert torch.autograd.gradcheck(result, (x, *block.parameters()))


def test_gradients_of_the_logits() -> None:
    block, x = lively(QCBConfig(3, 4, 2)), maps(2, 3, 3, 4).requires_grad_()
    torch.testing.assert_close(block.gate_logits(x).softmax(1), block.gate(x))
    torch.nn.functional.cross_entropy(block.gate_logits(x), torch.tensor([0, 3])).backward()
    assert x.grad is not None
    for parameter in block.select.parameters():
        assert parameter.grad is not None
        assert parameter.grad.any()


def test_gate() -> None:
    x = maps(3, 5, 4, 4)
    softmax = lively(QCBConfig(5, 8, 4)).gate(x)
    sigmoid = lively(QCBConfig(5, 8, 4, "sigmoid")).gate(x)
    torch.testing.assert_close(softmax.sum(1), torch.ones(3, dtype=torch.float64))
    for gate in (softmax, sigmoid):
        assert gate.shape == (3, 8)
        assert (gate >= 0).all()
        assert (gate <= 1).all()
    assert (lively(QCBConfig(5, 1, 4)).gate(x) == 1).all()


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(5)), gate=st.sampled_from(GATES))
def test_order_of_the_branches_does_not_matter(order: list[int], gate: Gate) -> None:
    width = 3
    block, x = lively(QCBConfig(4, 5, width, gate)), maps(2, 4, 4, 3)
    kernels = tuple(KERNELS[k] for k in order)
    other = QCB(QCBConfig(4, 5, width, gate, kernels)).double()
    rows = torch.tensor([k * width + w for k in order for w in range(width)])
    state = dict(block.state_dict())
    for i, k in enumerate(order):
        state[f"branches.{i}.weight"] = block.get_parameter(f"branches.{k}.weight").detach()
    for name in ("norm.weight", "norm.bias"):
        state[name] = state[name][rows]
    state["expand.weight"] = state["expand.weight"][:, rows]
    for name in ("select.2.weight", "select.2.bias"):
        state[name] = state[name][order]
    other.load_state_dict(state)
    torch.testing.assert_close(other(x), block(x))
    torch.testing.assert_close(other.gate(x), block.gate(x)[:, order])
    torch.testing.assert_close(other.branch_outputs(x), block.branch_outputs(x)[:, order])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), axes=st.sampled_from([(2,), (3,), (2, 3)]))
def test_mirrored_maps_and_kernels_give_the_mirrored_map(seed: int, axes: tuple[int, ...]) -> None:
    block, x = lively(QCBConfig(4, 8, 2), seed), maps(1, 4, 5, 3, seed=seed)
    wanted = block(x).flip(axes)
    with torch.no_grad():
        for kernel in block.branches.parameters():
            kernel.copy_(kernel.flip(axes))
    torch.testing.assert_close(block(x.flip(axes)), wanted)


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(0.5, 200.0))
def test_branches_do_not_see_the_scale(scale: float) -> None:
    block, x = lively(QCBConfig(4, 4, 3)), maps(1, 4, 4, 5)
    block.norm.eps = 0.0
    torch.testing.assert_close(block.branch_outputs(scale * x), block.branch_outputs(x))


def test_a_picture_does_not_depend_on_its_batch() -> None:
    block, x = lively(QCBConfig(5, 8, 4)), maps(4, 5, 4, 6)
    together = block(x)
    for i in range(4):
        torch.testing.assert_close(block(x[i : i + 1])[0], together[i])
    torch.testing.assert_close(block(x.flip(0)), together.flip(0))


def test_training_and_evaluation_compute_the_same() -> None:
    """Nothing has running statistics, which the training loop would freeze at their start."""
    block, x = lively(QCBConfig(5, 8, 4)), maps(2, 5, 4, 6)
    trained = block.train()(x)
    freeze_statistics(block)
    assert block.training
    assert all(module.training for module in block.modules())
    assert torch.equal(block(x), trained)
    assert torch.equal(block.eval()(x), trained)
    assert not list(block.buffers())


def test_branches_start_with_equal_variance() -> None:
    torch.manual_seed(0)
    x = maps(4, 256, 12, 12).float()
    for branches, width in ((1, 32), (8, 32), (4, 8)):
        outputs = QCB(QCBConfig(256, branches, width)).branch_outputs(x)
        mean_squares = outputs.square().mean((0, 2, 3, 4))
        assert (mean_squares > 0.5).all()
        assert (mean_squares < 1.7).all()


def test_seed_decides_the_weights() -> None:
    blocks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        blocks.append(QCB(QCBConfig(6, 4, 8)).state_dict())
    assert all(torch.equal(blocks[0][name], blocks[1][name]) for name in blocks[0])
    assert not torch.equal(blocks[0]["reduce.weight"], blocks[2]["reduce.weight"])


def test_state_and_round_trip() -> None:
    config = QCBConfig(10, 2, 4)
    block, x = lively(config), maps(1, 10, 3, 4)
    assert {name: tuple(value.shape) for name, value in block.state_dict().items()} == {
        "gamma": (10,),
        "reduce.weight": (4, 10, 1, 1),
        "branches.0.weight": (4, 1, 3, 3),
        "branches.1.weight": (4, 1, 7, 7),
        "norm.weight": (8,),
        "norm.bias": (8,),
        "expand.weight": (10, 8, 1, 1),
        "select.0.weight": (4, 10),
        "select.0.bias": (4,),
        "select.2.weight": (2, 4),
        "select.2.bias": (2,),
    }
    again = QCB(QCBConfig(**json.loads(json.dumps(dataclasses.asdict(config))))).double()
    assert again.config == config
    assert hash(again.config) == hash(config)
    again.load_state_dict(block.state_dict())
    assert torch.equal(again(x), block(x))


def test_kernels() -> None:
    grid = [(side, dilation) for dilation in (1, 2) for side in (1, 3, 5, 7)]
    assert sorted(QCBConfig(1).used) == sorted(grid)
    assert sorted(QCBConfig(1, 4).used) == sorted(grid[:4])
    assert QCBConfig(1, 2).used == ((3, 1), (7, 1))
    assert QCBConfig(1, 1).used == ((3, 1),)
    own = QCBConfig(4, 10, 2, kernels=((3, 1), (9, 3)) * 5)
    assert QCB(own)(torch.rand(1, 4, 2, 2)).shape == (1, 4, 2, 2)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (2, 4, 1, 7), (2, 4, 9, 1)])
def test_degenerate_maps(shape: tuple[int, ...]) -> None:
    for x in (maps(*shape), torch.zeros(shape, dtype=torch.float64), torch.ones(shape, dtype=torch.float64)):
        for width in (2, 3):
            block = lively(QCBConfig(4, 8, width))
            x = x.detach().clone().requires_grad_()
            y = block(x)
            y.square().sum().backward()
            assert y.isfinite().all()
            for tensor in (x, *block.parameters()):
                assert tensor.grad is not None
                assert tensor.grad.isfinite().all()


def test_memory_layout() -> None:
    block, x = lively(QCBConfig(8, 8, 4)), maps(2, 8, 4, 5)
    in_rows = x.contiguous(memory_format=torch.channels_last)
    y = block.to(memory_format=torch.channels_last)(in_rows)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not y.is_contiguous()
    torch.testing.assert_close(y, block.to(memory_format=torch.contiguous_format)(x))
    with torch.inference_mode():
        torch.testing.assert_close(block(x), y.detach())


def test_autocast() -> None:
    block, x = lively(QCBConfig(16, 8, 8)).float(), maps(2, 16, 6, 5).float()
    wanted = block(x)
    with torch.autocast("cpu", torch.bfloat16):
        for given_, dtype in ((x, torch.float32), (x.bfloat16(), torch.bfloat16)):
            y = block(given_)
            assert y.dtype == dtype
            assert block.gate(given_).dtype == torch.float32
            error = (y.float() - wanted).norm() / (wanted - x).norm()
            assert error < 0.05
        assert torch.equal(block.gate(x), block.gate(x))
    torch.testing.assert_close(block.gate(x), lively(QCBConfig(16, 8, 8)).gate(x.double()).float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    block = QCB(QCBConfig(64, 8, 8))
    torch.nn.init.ones_(block.gamma)
    for scale in (1e-3, 1.0, 100.0):
        x = (scale * maps(1, 64, 6, 5)).to(dtype)
        wanted = block(x.float())
        y = QCB(block.config).to(dtype)
        y.load_state_dict(block.state_dict())
        found = y(x)
        assert found.dtype == dtype
        assert found.isfinite().all()
        assert (found.float() - wanted).norm() < 0.05 * wanted.norm()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"channels": 0}, "channels=0"),
        ({"branches": 0}, "branches=0"),
        ({"branches": 9}, "branches=9: there are 8 kernels"),
        ({"branches": 2, "kernels": ((3, 1),)}, "branches=2: there are 1 kernels"),
        ({"width": 1}, "width=1"),
        ({"gate": "hard"}, "'hard'"),
        ({"kernels": ((4, 1),) * 8}, r"\(4, 1\)"),
        ({"kernels": ((-1, 1),) * 8}, r"\(-1, 1\)"),
        ({"kernels": ((3, 0),) * 8}, r"\(3, 0\)"),
        ({"kernels": ((3,),) * 8}, r"\(3,\)"),
        ({"kernels": ()}, "branches=8"),
    ],
)
def test_wrong_config(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(LowqError, match=says):
        QCBConfig(**({"channels": 4} | wrong))  # type: ignore[arg-type]


def test_wrong_map() -> None:
    block = QCB(QCBConfig(4, 2, 2))
    for shape in ((1, 3, 2, 2), (4, 2, 2), (1, 4, 0, 2), (0, 4, 2, 2)):
        for call in (block, block.gate, block.gate_logits, block.branch_outputs):
            with pytest.raises(LowqError, match=r"quality compensation.*\(B, 4, H, W\)"):
                call(torch.zeros(shape))
