"""What a source of directions gives, and for which classes it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..data.defaults import plain_defaults


@dataclass(frozen=True)
class GradientTarget:
    """A callable (index (B,), x (B, *shape), classes (B, k)) -> directions (B, k, *shape).

    ``index`` is each row's position in ``task.train``, or -1 for inputs that are not in it. ``x`` are the
    inputs themselves, before any augmentation: crop and flip are linear, so the direction is made on the
    clean input and moved together with it.

    Attributes:
        name: what it is called in results.
        directions: the function that is called.
        known: how many classes there are, C; None: that is not known.
        shape: of one input; None: that is not known.
        inputs: those that ``index`` counts, ``task.train.x``, where the directions depend on the index; None: they do not.

    Raises:
        TypeError: when called, x that is not floating point; directions that are no tensor.
        ValueError: when called, shapes that do not fit, of the directions too; classes below 0, or of C or more; an x that is not the
            one of ``inputs`` at its index, as of a training split that is a part of the one that the target was made from.
    """

    name: str
    directions: Callable[[Tensor, Tensor, Tensor], Tensor]  # same arguments, same result
    known: int | None = None
    shape: tuple[int, ...] | None = None
    inputs: Tensor | None = field(default=None, compare=False, repr=False)

    @plain_defaults()
    def __call__(self, index: Tensor, x: Tensor, classes: Tensor) -> Tensor:
        if not len(index) == len(x) == len(classes) or classes.ndim != 2:
            raise ValueError(
                f"index, x and classes have shapes {tuple(index.shape)}, {tuple(x.shape)}, {tuple(classes.shape)}; "
                "expected (B,), (B, *shape), (B, k)"
            )
        if not x.is_floating_point():
            raise TypeError(f"x has dtype {x.dtype}; expected a floating-point tensor")
        if self.shape is not None and x.shape[1:] != self.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, {', '.join(map(str, self.shape))})")
        if classes.numel() and (classes.min() < 0 or (self.known is not None and classes.max() >= self.known)):
            limit = "at least 0" if self.known is None else f"in [0, {self.known})"
            raise ValueError(f"classes range over [{classes.min()}, {classes.max()}]; expected values {limit}")
        if self.inputs is not None:
            self._refuse_others(index.cpu(), x)
        with torch.autocast(x.device.type, enabled=False):  # a direction is the same whatever precision a training asks for
            found = self.directions(index, x, classes)
        if not isinstance(found, Tensor):
            raise TypeError(f"target {self.name!r} gave {type(found).__name__}; expected a tensor of directions (B, k, *shape)")
        if found.shape != (expected := classes.shape + x.shape[1:]):
            raise ValueError(f"target {self.name!r} gave directions of shape {tuple(found.shape)}; expected {tuple(expected)}")
        return found

    def _refuse_others(self, index: Tensor, x: Tensor) -> None:
        assert self.inputs is not None
        known = index >= 0
        there, here = index[known], x[known.to(x.device)]
        fits = there < len(self.inputs)
        alike = (self.inputs[there[fits]].to(x) == here[fits.to(x.device)]).flatten(1).all(1)
        if not fits.all() or not alike.all():
            wrong = int(there[~fits][0]) if not fits.all() else int(there[~alike.cpu()][0])
            raise ValueError(
                f"target {self.name!r} was made from {len(self.inputs)} training inputs, and what is given as number {wrong} is not the "
                "one that it knows by this number; expected x to be task.train.x[index]: make the target from the task that it is used with"
            )


@plain_defaults()
def sample_classes(rows: int, classes: int, k: int | None, generator: torch.Generator | None = None) -> Tensor:
    """``k`` distinct classes for each row, uniformly (rows, k); all of them in order when ``k`` is None.

    Raises:
        ValueError: k outside [1, classes].
    """
    if k is None or k == classes:
        return torch.arange(classes).expand(rows, classes)
    if not 1 <= k <= classes:
        raise ValueError(f"k is {k}; expected 1 to {classes} classes")
    return torch.rand(rows, classes, generator=generator).argsort(1)[:, :k]
