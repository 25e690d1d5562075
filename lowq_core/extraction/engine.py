"""Engines: the same network run in different ways, and the loop that keeps every core busy.

Measured on two cores with pictures of 640 x 480: one picture a thread, one thread a core, beats both one
picture on all cores (threads wait for each other after every small layer; badly so where the machine is
shared) and batches (their maps are too large for malloc to keep, so each layer faults its pages in anew). It
also makes a descriptor independent of whatever else is being extracted, and decodes pictures in parallel.
"""

from __future__ import annotations

import copy
import os
import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lowq_core.errors import LowqError
from lowq_core.extraction.config import EmbedConfig
from lowq_core.extraction.fusion import fuse
from lowq_core.extraction.lowering import lower, pink_noise
from lowq_core.extraction.memory import keep_freed_memory, release_memory
from lowq_core.models.backbone import Backbone
from lowq_core.models.embedder import Embedder, rescale
from lowq_core.models.weights import weights_digest

Vectors = dict[str, NDArray[np.float32]]
T = TypeVar("T")
R = TypeVar("R")


class Engine:
    """Pixels to descriptors; safe to call from several threads at once.

    Args:
        embedder: the network; it is copied, never changed.
        config: `engine` and `precision` choose how it runs.

    Raises:
        LowqError: an engine that is not installed, or has no device here; weights that are not finite.

    >>> from lowq_core.models.backbone import backbone
    >>> engine = Engine(Embedder(backbone("resnet18", "random"), ("gem",)).eval(), EmbedConfig(heads=("gem",)))
    >>> engine(np.zeros((64, 96, 3), np.uint8))["gem"].shape
    (512,)
    """

    def __init__(self, embedder: Embedder, config: EmbedConfig) -> None:
        check_finite(embedder, config.weights or config.backbone)
        self.digest = weights_digest(embedder)
        self.dim = embedder.dim
        self._device = device_of(config.engine)
        self._embedder = copy.deepcopy(embedder).eval()
        if config.engine == "openvino":
            self._trunk: Callable[[Tensor], Tensor] = _OpenVino(self._embedder.trunk, config.precision)
        else:
            self._trunk = self._embedder.trunk
            speed_up(self._embedder.trunk, config.precision)
            self._embedder.to(self._device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8]) -> Vectors:
        """(H, W, 3) uint8 RGB -> {head: (D,) float32, L2-normalised}."""
        x = as_tensor(pixels, self._device)
        embedder = self._embedder
        scales = [embedder.pool(self._trunk(rescale(x, scale)).float()) for scale in embedder.scales]
        return {head: vector[0].cpu().numpy() for head, vector in embedder.combine(scales).items()}


def check_finite(module: nn.Module, source: str) -> None:
    """LowqError that names `source` where a weight is not finite.

    Fused layers clip with a comparison that NaN passes as 0, so it would not show in the result.
    """
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise LowqError(f"{source}: weight {name} holds NaN or infinity; get the file again")


def device_of(engine: str) -> str:
    """torch's name of the device that an engine runs on; LowqError where there is none."""
    if engine == "cuda" and not torch.cuda.is_available():
        raise LowqError("engine='cuda': torch finds no GPU here; use engine='torch'")
    return "cuda" if engine == "cuda" else "cpu"


def speed_up(trunk: Backbone, precision: str) -> None:
    """Fuse the layers of `trunk` in place and, with `bf16`, lower their precision."""
    trunk.body = fuse(trunk.body)
    if precision == "bf16":
        lower(trunk.body, trunk.normalise(pink_noise()))


def as_tensor(pixels: NDArray[np.uint8], device: str) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in 0..1 on `device`."""
    # Rows of RGB triplets are channels-last already: the permuted tensor keeps that layout.
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).to(device).float().div_(255)


def engine_for(config: EmbedConfig) -> Engine:
    """The engine of a config, kept for the next call; made anew when the weights' file has changed."""
    return _engine_for(config, stamp_of(config.weights))


def stamp_of(file: str | None) -> tuple[int, int] | None:
    """Time of change and size, which outdate what was read from a file; None where there is none."""
    if file is None or not Path(file).is_file():
        return None
    stat = os.stat(file)
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=2)
def _engine_for(config: EmbedConfig, stamp: tuple[int, int] | None) -> Engine:
    return Engine(config.embedder(), config)


@contextmanager
def in_parallel(function: Callable[[T], R], items: Sequence[T]) -> Iterator[Iterator[R]]:
    """`function` of each item, in order, on all threads of `workers`.

    At most twice as many items as threads are under way, so memory does not grow with `items`.

    >>> with in_parallel(abs, [-1, 2, -3]) as results:
    ...     list(results)
    [1, 2, 3]
    """
    with workers() as mapped:
        yield mapped(function, items)


@contextmanager
def workers() -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
    """`map` in order on as many threads as torch has for itself, each running serially; it may be called again.

    torch's setting (`torch.set_num_threads`, `OMP_NUM_THREADS`) is left as found. The threads have ended when the
    block ends, also by an error: were that left to the garbage collector, it could come while a thread is being
    started, and wait for ever on the lock that it interrupted. Freed memory stays at hand until then: what is done
    again and again, as a training's steps are, would fault it in anew every time.

    >>> with workers() as mapped:
    ...     list(mapped(abs, [-1, 2])), list(mapped(abs, [-3]))
    ([1, 2], [3])
    """
    keep_freed_memory()
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "lowq-extract", initializer=partial(torch.set_num_threads, 1))
    try:
        yield partial(in_order, pool, ahead=2 * threads)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)
        release_memory()


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[R]:
    """`function` of each item on the threads of `pool`, in order; at most `ahead` items are under way."""
    todo = iter(items)
    under_way: deque[Future[R]] = deque(pool.submit(function, item) for item in islice(todo, ahead))
    while under_way:
        result = under_way.popleft().result()
        under_way.extend(pool.submit(function, item) for item in islice(todo, 1))
        yield result


class _OpenVino:
    """A trunk compiled for each size that comes along; the latest sizes are kept."""

    KEPT = 48

    def __init__(self, trunk: nn.Module, precision: str) -> None:
        try:
            import openvino
        except ImportError:
            raise LowqError(
                "engine='openvino' needs the package openvino; install it with: pip install 'lowq[openvino]'"
            ) from None
        self._core = openvino.Core()
        with warnings.catch_warnings():  # OpenVINO reads torch's traces, which torch calls deprecated
            warnings.simplefilter("ignore", FutureWarning)
            self._model = openvino.convert_model(trunk, example_input=torch.zeros(1, 3, 96, 128))
        threads = torch.get_num_threads()
        self._options: dict[str, Any] = {
            # Without the hint OpenVINO takes bfloat16 wherever the processor has it.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
        }
        self._lock = threading.Lock()
        self._compiled: OrderedDict[tuple[int, int], tuple[Any, SimpleQueue[Any]]] = OrderedDict()

    def __call__(self, x: Tensor) -> Tensor:
        compiled, idle = self._for_size((x.shape[2], x.shape[3]))
        try:
            request = idle.get_nowait()
        except Empty:
            request = compiled.create_infer_request()
        result = request.infer([x.contiguous().numpy()])[0]
        # A copy: the request's memory is written again by the next picture.
        out = torch.from_numpy(np.array(result))
        idle.put(request)
        return out

    def _for_size(self, size: tuple[int, int]) -> tuple[Any, SimpleQueue[Any]]:
        with self._lock:
            if size not in self._compiled:
                self._model.reshape([1, 3, *size])
                self._compiled[size] = (
                    self._core.compile_model(self._model, "CPU", self._options),
                    SimpleQueue(),
                )
            self._compiled.move_to_end(size)
            while len(self._compiled) > self.KEPT:
                self._compiled.popitem(last=False)
            return self._compiled[size]
