"""A whole split, read and attacked batch by batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import attacks
from ..attacks import Threat
from ..data import Split, progress_bar
from ..models import batches, mode


def correct(model: nn.Module, split: Split) -> Tensor:
    """Which rows are classified correctly in eval mode, bool (N,) on the CPU.

    Raises:
        ValueError: an empty split.
    """
    with torch.no_grad(), mode(model, training=False):
        return torch.cat([(model(x).argmax(1) == y).cpu() for _, x, y in batches(model, split)])


def attacked(
    model: nn.Module,
    split: Split,
    threat: Threat,
    *,
    target: Tensor | int | None = None,
    progress: bool = True,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Split:
    """``split`` after :func:`pagkit.attacks.pgd`, batch by batch: x moved, y as it was.

    Arguments and errors as in :func:`pagkit.evaluation.robust_accuracy`.
    """
    generator = generator or torch.Generator().manual_seed(0)
    moved = []
    for rows, x, y in progress_bar(list(batches(model, split)), "attack", "batch", show=progress):
        goal = target[rows].to(x.device) if isinstance(target, Tensor) and target.ndim else target
        if goal is None or not (torch.as_tensor(goal) == y).all():
            x = attacks.pgd(model, x, y, threat, target=goal, generator=generator, **options)
        elif len(y) == len(split):
            raise ValueError("target equals the true label on every row; a targeted attack needs another class")
        moved.append(x.to(split.x.device))
    return Split(torch.cat(moved), split.y)
