"""A split in batches, on the device of a model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..data import Split

BATCH = 500


def batches(model: nn.Module, split: Split) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(positions, x, y) of consecutive batches, x and y on the model's device.

    Raises:
        ValueError: an empty split.
    """
    if len(split) == 0:
        raise ValueError("the split is empty; expected at least one example")
    device = next((p.device for p in model.parameters()), split.x.device)
    for rows in torch.arange(len(split)).split(BATCH):
        yield rows, split.x[rows].to(device), split.y[rows].to(device)
