"""A whole split, read and attacked batch by batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import attacks
from ..attacks import Threat, checks
from ..data import Split, progress_bar
from ..models import batches, logits_of, mode, seeded


def logits(model: nn.Module, split: Split, *, batch_size: int | None = None, seed: int = 0) -> Tensor:
    """What ``model`` says of each row in eval mode, (N, C) on the CPU. One that draws random numbers draws them from ``seed``.

    Raises:
        TypeError: x is not floating point or y not int64; what :func:`pagkit.models.logits_of` refuses.
        ValueError: an empty split, other shapes than (N, *shape) and (N,), a batch size below 1, labels out of range; what
            :func:`pagkit.models.logits_of` refuses.
    """
    checks.rows(split.x, split.y)
    found = []
    with torch.no_grad(), mode(model, training=False), seeded(seed):
        for _, x, y in batches(model, split, batch_size):
            found.append(logits_of(model, x).cpu().clone())  # a model may use one tensor for all that it says
            checks.labels(found[-1], y)
    return torch.cat(found)


def correct(model: nn.Module, split: Split, *, batch_size: int | None = None, seed: int = 0) -> Tensor:
    """Which rows are classified correctly in eval mode, bool (N,) on the CPU. Arguments and errors as of :func:`logits`."""
    return logits(model, split, batch_size=batch_size, seed=seed).argmax(1) == split.y.cpu()


def part_of(split: Split, rows: Tensor, options: dict[str, Any]) -> tuple[Split, dict[str, Any]]:
    """These rows of ``split``, and the options of an attack on them: offsets, of which there is one a row, are theirs alone."""
    if options.get("offsets") is not None:
        checks.offsets(options["offsets"], split.x)
        options = {**options, "offsets": options["offsets"][rows]}
    return Split(split.x[rows], split.y[rows]), options


def attacked(
    model: nn.Module,
    split: Split,
    threat: Threat,
    *,
    target: Tensor | int | None = None,
    progress: bool = True,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Split:
    """``split`` after :func:`pagkit.attacks.pgd`, batch by batch: x moved, y as it was.

    Arguments and errors as in :func:`pagkit.evaluation.robust_accuracy`.
    """
    checks.rows(split.x, split.y)
    goals = None if target is None else checks.targets(target, split.y)
    if goals is not None and (goals.to(split.y.device) == split.y).all():
        raise ValueError("target equals the true label on every row; a targeted attack needs another class")
    generator = generator or torch.Generator().manual_seed(0)
    moved = []
    for rows, x, y in progress_bar(list(batches(model, split, batch_size)), "attack", "batch", show=progress):
        goal = None if goals is None else (goals[rows] if goals.ndim else goals).to(y.device)
        if goal is None or not (goal == y).all():
            _, own = part_of(split, rows, options)
            x = attacks.pgd(model, x, y, threat, target=goal, generator=generator, **own)
        moved.append(x.detach().to(split.x.device))
    return Split(torch.cat(moved), split.y)
