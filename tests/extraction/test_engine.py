"""All engines give the embedder's own descriptors; the pool keeps order and gives threads back."""

from __future__ import annotations

import gc
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lowq_core.errors import LowqError
from lowq_core.extraction.config import EmbedConfig
from lowq_core.extraction.engine import Engine, engine_for, in_parallel, workers
from lowq_core.extraction.extract import embed, extract
from lowq_core.images import Picture
from lowq_core.models.backbone import backbone
from lowq_core.models.embedder import Embedder

OPTIONS = {"heads": ("mac", "spoc", "gem", "rmac"), "scales": (1.0, 0.7)}


def pixels(seed: int, height: int = 70, width: int = 98) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def usual(embedder: Embedder, picture: np.ndarray) -> dict[str, np.ndarray]:
    """The plain way: eager float32, default layout, batch of one."""
    with torch.inference_mode():
        x = torch.from_numpy(picture.transpose(2, 0, 1).copy())[None].float() / 255
        return {head: value[0].numpy() for head, value in embedder(x).items()}


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("name", ["lite0", "resnet18"])
def test_float32_equals_the_plain_way(engine: str, name: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    torch.manual_seed(0)
    embedder = Embedder(backbone(name, None if name == "lite0" else "random"), **OPTIONS).eval()
    run = Engine(embedder, EmbedConfig(engine=engine, **OPTIONS))
    for picture in (pixels(0), pixels(1, 64, 64), pixels(2)):
        want = usual(embedder, picture)
        for head, vector in run(picture).items():
            assert vector.dtype == np.float32
            np.testing.assert_allclose(vector, want[head], atol=1e-6)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bf16_is_near(engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    embedder = Embedder(backbone("lite0"), ("gem",)).eval()
    run = Engine(embedder, EmbedConfig(engine=engine, precision="bf16", heads=("gem",)))
    picture = np.full((128, 128, 3), 90, np.uint8)
    picture[30:90, 40:100] = (200, 120, 30)
    assert run(picture)["gem"] @ usual(embedder, picture)["gem"] > 0.99


def test_threads_do_not_disturb_each_other() -> None:
    embedder = Embedder(backbone("resnet18", "random"), ("gem",)).eval()
    run = Engine(embedder, EmbedConfig(heads=("gem",)))
    pictures = [pixels(seed, 40 + 3 * seed, 50) for seed in range(6)]
    with in_parallel(run, pictures) as results:
        vectors = list(results)
    for vector, picture in zip(vectors, pictures, strict=True):
        np.testing.assert_allclose(vector["gem"], usual(embedder, picture)["gem"], atol=1e-6)


def test_pool_keeps_order_and_threads_and_looks_little_ahead() -> None:
    before = torch.get_num_threads()
    started: list[int] = []
    serial: set[int] = set()

    def work(i: int) -> int:
        started.append(i)
        serial.add(torch.get_num_threads())
        time.sleep(0.002 * (i % 3))
        return i

    with in_parallel(work, range(40)) as results:
        for i in range(5):
            assert next(results) == i
            assert max(started) <= i + 2 * before
    assert len(started) <= 5 + 2 * before
    assert serial == {1}
    threads: list[int] = []
    later = threading.Thread(target=lambda: threads.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert [torch.get_num_threads(), *threads] == [before, before]


def test_pool_hands_errors_on() -> None:
    with pytest.raises(ZeroDivisionError), in_parallel(lambda i: 1 // i, [1, 0, 2]) as results:
        list(results)


def test_a_bad_picture_leaves_no_thread_to_the_garbage_collector(tmp_path: Path) -> None:
    """The error's traceback holds the frame that holds the error: a cycle, so nothing in it ends by itself."""
    none = [Picture(tmp_path / "none.png", "none")]
    config = EmbedConfig("resnet18", weights="random", size=32)
    gc.disable()
    try:
        for strict in (lambda: embed(none, config), lambda: extract(none, config, tmp_path, strict=True)):
            with pytest.raises(LowqError):
                strict()
            assert not [thread for thread in threading.enumerate() if thread.name.startswith("lowq-extract")]
    finally:
        gc.enable()


def test_missing_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder(backbone("resnet18", "random"), ("gem",))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(LowqError, match=r"pip install 'lowq\[openvino\]'"):
        Engine(embedder, EmbedConfig(engine="openvino"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LowqError, match="no GPU"):
        Engine(embedder, EmbedConfig(engine="cuda"))


def test_config() -> None:
    for options, message in (
        ({"backbone": "vgg"}, "backbone 'vgg' is unknown"),
        ({"precision": "int8"}, "choose one of float32, bf16"),
        ({"engine": "tensorrt"}, "choose one of torch"),
        ({"heads": ()}, "at least one"),
        ({"scales": ()}, "factors above 0"),
        ({"size": 0}, "1 pixel or more"),
        ({"p": 0.0}, "p above 0"),
    ):
        with pytest.raises(LowqError, match=message):
            EmbedConfig(**options)


def test_weights_by_path(tmp_path) -> None:  # type: ignore[no-untyped-def]
    trunk = backbone("resnet18", "random")
    file = tmp_path / "plain.pth"
    torch.save(trunk.body.state_dict(), file)
    config = EmbedConfig(backbone="resnet18", heads=("gem",), weights=file)
    first = engine_for(config)
    assert engine_for(config) is first
    torch.save(backbone("resnet18", "random").body.state_dict(), file)
    assert engine_for(config).digest != first.digest

    state = {}
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    for key, value in trunk.body.state_dict().items():
        layer, rest = key.split(".", 1)
        state[f"features.{numbers[layer]}.{rest}"] = value
    state["pool.p"] = torch.tensor([2.0])
    meta = {"architecture": "resnet18", "pooling": "gem"}
    torch.save({"meta": meta, "state_dict": state}, file)
    picture = pixels(0)
    want = usual(Embedder(trunk, ("gem",), p=2.0).eval(), picture)["gem"]
    np.testing.assert_allclose(engine_for(config)(picture)["gem"], want, atol=1e-6)
    with pytest.raises(LowqError, match="is a resnet18, but backbone is resnet50"):
        engine_for(EmbedConfig(backbone="resnet50", heads=("gem",), weights=file))


def test_weights_that_are_not_finite_are_refused() -> None:
    embedder = Embedder(backbone("resnet18", "random"), ("gem",)).eval()
    with torch.no_grad():
        embedder.trunk.body.layer1[0].conv1.weight[0, 0, 0, 0] = float("nan")  # type: ignore[union-attr, index]
    with pytest.raises(LowqError, match=r"layer1\.0\.conv1\.weight holds NaN"):
        Engine(embedder, EmbedConfig(backbone="resnet18", heads=("gem",), weights="random"))


def test_workers_serve_many_calls_with_the_same_threads() -> None:
    before = torch.get_num_threads()

    def who(i: int) -> tuple[int, str, int]:
        time.sleep(0.01)
        return i, threading.current_thread().name, torch.get_num_threads()

    with workers() as mapped:
        first, second = list(mapped(who, range(8))), list(mapped(who, range(8, 16)))
    assert [i for i, _, _ in first + second] == list(range(16))
    assert len({name for _, name, _ in first + second}) <= before
    assert {threads for _, _, threads in first + second} == {1}, "each runs serially"
    assert torch.get_num_threads() == before
    names = {name for _, name, _ in first}
    assert not any(thread.name in names for thread in threading.enumerate())
