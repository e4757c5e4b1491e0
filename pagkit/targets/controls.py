"""Controls: directions with something missing, to see what a direction does for training; and those of another model.

What a robust model trained towards directions owes to them is what it loses when they are replaced by these, all else equal.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Task
from ..data.defaults import plain_defaults
from ..models import differentiable, gradient_in, log_odds, logits_of
from ..recipes.keys import CHANGES
from .heuristics import nearest_neighbor, rows_by_class
from .target import GradientTarget

Directions = Callable[[Tensor, Tensor, Tensor], Tensor]


@plain_defaults()
def control(task: Task, source: GradientTarget | None = None, *, change: str, generator: torch.Generator | None = None) -> GradientTarget:
    """The directions of ``source`` with one change.

    Args:
        task: the data; blurs need images (C, H, W).
        source: what is changed; default: :func:`pagkit.targets.nearest_neighbor`.
        change: what is changed. ``"wrong_class"``: the direction to the next class, c + 1. ``"other_example"``: the direction to c from
            another training example, always the same one. ``"random_image"``: the way to a random training image of class c, drawn
            once for each example and class. ``"mean_image"``: the way to the mean of all training images, the same for every class.
            ``"smooth_field"``: one random field a class, blurred, the same for all examples. ``"blurred"``: the direction, each
            pixel the mean of its 3 x 3 neighbours. ``"high_pass"``: what this blur takes away.
        generator: draws examples, images and fields; default: a fresh one with seed 0.

    Raises:
        ValueError: an unknown change, inputs without pixels where they are blurred, a class without training examples.
            When called, for ``"other_example"`` and ``"random_image"``: an index of -1, since they are drawn for training examples.
    """
    if change not in CHANGES:
        raise ValueError(f"change is {change!r}; expected one of {', '.join(CHANGES)}")
    if change in ("smooth_field", "blurred", "high_pass") and len(task.shape) != 3:
        raise ValueError(f"change {change!r} of inputs with shape {task.shape}; expected images (C, H, W)")
    generator, source = generator or torch.Generator().manual_seed(0), source or nearest_neighbor(task)
    made = {"other_example": _other_example, "random_image": _random_image, "mean_image": _mean_image, "smooth_field": _smooth_field}
    if change in made:
        inputs = task.train.x if change in ("other_example", "random_image") else None
        return GradientTarget("control", made[change](task, source, generator), len(task.classes), task.shape, inputs)
    changed: dict[str, Directions] = {
        "wrong_class": lambda index, x, classes: source(index, x, (classes + 1) % len(task.classes)),
        "blurred": lambda index, x, classes: _blur(source(index, x, classes)),
        "high_pass": lambda index, x, classes: (found := source(index, x, classes)) - _blur(found),
    }
    return GradientTarget("control", changed[change], len(task.classes))


def teacher(task: Task, model: nn.Module) -> GradientTarget:
    """The input gradients of another classifier: those of its log-odds of class c, in its eval mode.

    Chan, Tay and Ong (CVPR 2020) train a student towards the input gradients of a robust teacher.

    Args:
        task: the data that both are trained on.
        model: gives logits (N, C) for the classes of ``task``. It is not changed.

    Raises:
        ValueError: when called, logits of another shape or that are not finite.
    """

    def directions(index: Tensor, x: Tensor, classes: Tensor) -> Tensor:
        with differentiable(model), torch.enable_grad():
            at = x.detach().clone().requires_grad_()
            logits = logits_of(model, at, classes=len(task.classes))
            outputs = [log_odds(logits, own).sum() for own in classes.to(x.device).unbind(1)]
            return torch.stack([gradient_in(at, out, retain_graph=True) for out in outputs], dim=1)

    return GradientTarget("teacher", directions, len(task.classes))


def _known(index: Tensor, change: str) -> Tensor:
    if (index < 0).any():
        raise ValueError(f"change {change!r} at an input that is not in the training split (index -1); expected training examples only")
    return index.cpu()


def _other_example(task: Task, source: GradientTarget, generator: torch.Generator) -> Directions:
    order = torch.randperm(len(task.train), generator=generator)
    other = torch.empty_like(order)
    other[order] = order.roll(1)  # a cycle: nobody is their own other

    def directions(index: Tensor, x: Tensor, classes: Tensor) -> Tensor:
        rows = other[_known(index, "other_example")]
        return source(rows.to(index), task.train.x[rows].to(x), classes)

    return directions


def _random_image(task: Task, source: GradientTarget, generator: torch.Generator) -> Directions:
    drawn = [rows[torch.randint(len(rows), (len(task.train),), generator=generator)] for rows in rows_by_class(task)]
    picked = torch.stack(drawn, dim=1)

    def directions(index: Tensor, x: Tensor, classes: Tensor) -> Tensor:
        return task.train.x[picked[_known(index, "random_image")].gather(1, classes.cpu())].to(x) - x[:, None]

    return directions


def _mean_image(task: Task, source: GradientTarget, generator: torch.Generator) -> Directions:
    mean = task.train.x.mean(0)
    return lambda index, x, classes: (mean.to(x) - x)[:, None].expand(-1, classes.shape[1], *x.shape[1:])


def _smooth_field(task: Task, source: GradientTarget, generator: torch.Generator) -> Directions:
    fields = torch.randn(len(task.classes), *task.shape, generator=generator)
    for _ in range(3):
        fields = _blur(fields)
    return lambda index, x, classes: fields.to(x)[classes.to(x.device)]


def _blur(images: Tensor) -> Tensor:
    """The mean of 3 x 3 pixels (..., H, W); at an edge, of those that there are."""
    flat = images.reshape(-1, 1, *images.shape[-2:])
    return F.avg_pool2d(flat, 3, stride=1, padding=1, count_include_pad=False).reshape(images.shape)
