"""The processes that `torchrun` starts: who does what, and sums over all of them. Alone, nothing of it happens."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lowq_core.errors import LowqError

T = TypeVar("T")


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes of this `torchrun`, and leave them at the end of the block.

    Alone, or where the processes have been joined already, nothing happens. The processes are waited for as
    long as a validation may take: a day.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=timedelta(days=1))
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0; 0 where it is alone.

    >>> rank()
    0
    """
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """How many processes there are; 1 where this one is alone.

    >>> count()
    1
    """
    return dist.get_world_size() if dist.is_initialized() else 1


def available_device(device: str) -> torch.device:
    """`device`, and under `torchrun` the GPU of this process where `device` is "cuda".

    Raises:
        LowqError: another name than "cpu" or "cuda"; no GPU for "cuda".

    >>> available_device("cpu")
    device(type='cpu')
    """
    if device not in ("cpu", "cuda"):
        raise LowqError(f"device {device!r} is unknown; choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise LowqError("device='cuda': torch finds no GPU here; use device='cpu'")
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return torch.device(device)


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's share of `items`: every `count()`-th one, from `rank()` on.

    >>> share([1, 2, 3])
    [1, 2, 3]
    """
    return items[rank() :: count()]


def wait() -> None:
    """Go on when every process has come here."""
    if count() > 1:
        dist.barrier()


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Overwrite `tensors` with those of the first process."""
    if count() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def broadcast_number(value: float) -> float:
    """What `value` is in the first process."""
    held = torch.tensor(value, dtype=torch.float64)
    broadcast([held])
    return held.item()


def sum_rows(rows: Tensor) -> Tensor:
    """The sum of every process's `rows`, which are zero where another process fills them in; in place."""
    if count() > 1:
        dist.all_reduce(rows)
    return rows


def sum_gradients(parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
    """Sum the gradients of every process in place, and return the sum of `loss`, a scalar.

    One exchange for all. A parameter without a gradient in one process takes that of the others; one that has
    none anywhere stays without, because an optimiser skips it, but decays the weights of one with zeros.
    """
    if count() == 1:
        return loss
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    has = [float(parameter.grad is not None) for parameter in parameters]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    head = torch.cat([loss.reshape(1), loss.new_tensor(has)])
    buffer = torch.cat([head, *(gradient.reshape(-1) for gradient in gradients)])
    dist.all_reduce(buffer)
    start = len(head)
    for parameter, gradient, anywhere in zip(parameters, gradients, buffer[1:start].tolist(), strict=True):
        stop = start + gradient.numel()
        parameter.grad = gradient.copy_(buffer[start:stop].view_as(gradient)) if anywhere else None
        start = stop
    return buffer[0]
