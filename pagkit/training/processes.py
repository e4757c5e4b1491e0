"""Processes that train together, as ``accelerate launch`` or ``torchrun`` starts them, and the device each of them works on.

A process on its own needs none of this: every function is then a plain answer, and accelerate is not even imported.
Together they take the steps that one process would take: each draws the random numbers of the whole batch from the same
generator, works on its own part of the rows, and adds its part of the gradient to the others'.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import PartialState


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, 0 to count - 1; number 0 writes files and speaks."""
    return _together().process_index if count() > 1 else 0


def device(name: str = "auto") -> torch.device:
    """A device by name; ``"auto"`` is this process's own GPU where CUDA finds one, else the CPU.

    Raises:
        ValueError: no such device; of several processes, another one than accelerate gives this one.
    """
    own = _together().device if count() > 1 else torch.device("cpu" if _on_cpu() else "cuda")
    if name == "auto":
        return own
    if count() > 1 and torch.device(name).type != own.type:
        raise ValueError(f"device is {name!r} and the processes are connected on {own.type}; expected auto")
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device is {name!r}; expected auto, cpu, cuda or another that torch has here ({_line(error)})") from error
    return found


def _line(error: Exception) -> str:
    """The first line: torch may add a table of all that it knows."""
    return str(error).partition("\n")[0]


def wait() -> None:
    """Go on once every process is here."""
    if count() > 1:
        _together().wait_for_everyone()


@contextmanager
def main_first() -> Iterator[None]:
    """Process 0 runs the block before the others do: what it keeps on disk is there for them."""
    if count() > 1:
        with _together().main_process_first():
            yield
    else:
        yield


def add(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over the processes, in one message."""
    if count() > 1 and tensors:
        _together()
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        _spread(flat, tensors)


def copy(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by process 0's, in one message."""
    if count() > 1 and tensors:
        _together()
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        torch.distributed.broadcast(flat, 0)
        _spread(flat, tensors)


def _spread(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def _together() -> PartialState:
    """accelerate's account of the processes, which connects them when it is first asked for."""
    from accelerate import PartialState

    return PartialState(cpu=_on_cpu())


def _on_cpu() -> bool:
    return not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
