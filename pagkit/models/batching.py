"""A split in batches, on the device of a model, of a size that memory allows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..data import Split
from .logits import logits_of
from .mode import made_in_inference, mode, refuse_function

LARGEST = 500  # rows
MEMORY = 2**31  # bytes that a forward pass may keep for its gradient
MEMORY_CPU = 2**26  # on a CPU, where larger batches leave the caches: 500 rows of a small network for CIFAR take three times as long each


def batches(model: nn.Module, split: Split, size: int | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(positions, x, y) of consecutive batches, x and y on the model's device.

    Args:
        model: the device is its parameters', or else the split's.
        split: what is read.
        size: rows of a batch. Default: :func:`batch_size` finds it.

    Raises:
        TypeError: the model is no module.
        ValueError: an empty split, a size below 1.
    """
    refuse_function(model)
    if len(split) == 0:
        raise ValueError("the split is empty; expected at least one example")
    size = batch_size(model, split) if size is None else size
    if size < 1:
        raise ValueError(f"batch_size is {size}; expected at least 1")
    device = _device(model, split)
    for rows in torch.arange(len(split), device="cpu").split(size):
        yield rows, split.x[rows].to(device), split.y[rows].to(device)


def batch_size(model: nn.Module, split: Split) -> int:
    """How many rows at a time: 500, or fewer where what a forward pass keeps for its gradient would exceed 2 GiB (on a CPU 64 MiB).

    Measured on two rows of the split, unless all of it is so small that nothing can go wrong.
    """
    if split.x[0].numel() * min(len(split), LARGEST) <= 2**18 or made_in_inference(model):  # the latter keeps nothing
        return LARGEST
    kept: dict[int, int] = {}
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}  # a layer may keep a view of them

    def note(tensor: Tensor) -> Tensor:
        if (storage := tensor.untyped_storage()).data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    probe = split.x[:2].to(_device(model, split))
    memory = MEMORY_CPU if probe.device.type == "cpu" else MEMORY
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with mode(model, training=False), torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=devices):
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            logits_of(model, probe.clone().requires_grad_())
    return max(1, min(LARGEST, memory * len(probe) // max(1, sum(kept.values()))))


def _device(model: nn.Module, split: Split) -> torch.device:
    return next((p.device for p in model.parameters()), split.x.device)
