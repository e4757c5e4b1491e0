"""What attacks and evaluations refuse: each error names what was found and what was expected."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..data import Task
from ..data.numbers import whole
from .threat import Threat, is_number


def rows(x: Tensor, y: Tensor) -> None:
    """Refuse inputs and labels that do not belong together row by row.

    Raises:
        TypeError: x is no floating-point tensor or y none of int64.
        ValueError: other shapes than (N, *shape) and (N,).
    """
    for name, found, kind in (("x", x, "a floating-point tensor"), ("y", y, "a tensor of int64")):
        if not isinstance(found, Tensor):
            raise TypeError(f"{name} is a {type(found).__name__}; expected {kind}")
    if not x.is_floating_point():
        raise TypeError(f"x has dtype {x.dtype}; expected a floating-point tensor")
    if y.dtype != torch.int64:
        raise TypeError(f"y has dtype {y.dtype}; expected torch.int64")
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise ValueError(f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; expected (N, *shape) and (N,)")


def training(task: Task) -> None:
    """Refuse a training split that is empty, what :func:`rows` refuses of it, and labels out of range."""
    if len(task.train) == 0:
        raise ValueError(f"the training split of {task.name} is empty")
    rows(task.train.x, task.train.y)
    in_range(task.train.y, len(task.classes), f"training labels of {task.name}")


def batch(x: Tensor, y: Tensor, bounds: tuple[float, float]) -> None:
    """Refuse a batch that no attack can mean: see :func:`pagkit.attacks.pgd` for the errors."""
    rows(x, y)
    if len(x) == 0:
        raise ValueError("the batch is empty; expected at least one row")
    low, high = x.min().item(), x.max().item()
    least, most = torch.tensor(bounds, dtype=torch.float64, device="cpu").to(x.dtype).tolist()  # as clamping x to the bounds rounds them
    if not (math.isfinite(low) and math.isfinite(high) and least <= low and high <= most):
        found = f"x ranges over [{low}, {high}]"
        raise ValueError(f"{found}; expected finite values inside {bounds}. Normalise inside the model, not before it")


def settings(steps: int, step_size: float | None, restarts: int, keep: str, threat: Threat) -> None:
    """Refuse settings of :func:`pagkit.attacks.pgd` that it cannot mean."""
    whole("steps", steps, 1)
    whole("restarts", restarts, 1)
    if step_size is not None and not is_number(step_size):
        raise TypeError(f"step_size is {step_size!r}; expected a number, or None for the default")
    if step_size is not None and not ((step_size > 0 or threat.eps == 0) and math.isfinite(step_size)):
        raise ValueError(f"step_size is {step_size}; expected a positive number, and a finite one")
    if step_size is not None and min(step_size, threat.bounds[1] - threat.bounds[0]) > 1e15:
        found = f"step_size is {step_size} inside bounds {threat.bounds}"
        raise ValueError(f"{found}; expected at most 1e15, as squares of longer vectors overflow")
    if keep not in ("worst", "last"):
        raise ValueError(f"keep is {keep!r}; expected 'worst' or 'last'")


def offsets(found: Tensor, x: Tensor) -> None:
    """Refuse offsets that are not one for each row of x (N, *shape)."""
    if not isinstance(found, Tensor):
        raise TypeError(f"offsets is a {type(found).__name__}; expected a tensor of shape {tuple(x.shape)}")
    if found.shape != x.shape:
        raise ValueError(f"offsets have shape {tuple(found.shape)}; expected {tuple(x.shape)}, that of x")


def labels(logits: Tensor, y: Tensor, what: str = "labels") -> int:
    """The number of classes C of logits (N, C); refuses labels, or targets, out of range."""
    in_range(y, logits.shape[1], what)
    return logits.shape[1]


def in_range(y: Tensor, classes: int, what: str = "labels") -> None:
    """Refuse labels, of which there is at least one, out of range."""
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(f"{what} range over [{y.min()}, {y.max()}]; expected values in [0, {classes})")


def targets(target: Tensor | int, y: Tensor) -> Tensor:
    """The class that all rows are to be taken for (), or each (N,), on the device of y (N,); refuses another dtype or shape."""
    goal = torch.as_tensor(target, device=y.device)
    if goal.dtype != torch.int64 or goal.shape not in (torch.Size([]), y.shape):
        raise ValueError(f"target has dtype {goal.dtype} and shape {tuple(goal.shape)}; expected int64, a class or ({len(y)},)")
    return goal


def goal(target: Tensor | int | None, y: Tensor) -> Tensor:
    """The class that each row is to be taken for (N,), or its own of an untargeted attack; refuses targets that cannot be meant."""
    if target is None:
        return y
    goal = targets(target, y).expand_as(y)
    if (goal == y).all():
        raise ValueError("target equals the true label on every row; a targeted attack needs another class")
    return goal
