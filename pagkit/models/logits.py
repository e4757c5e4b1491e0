"""What is read from a model: logits that can be trusted to be logits, their gradients in the input, and the log-odds of a class."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class NotFinite(ValueError):
    """A model gave logits that are nan or infinite."""


def logits_of(model: nn.Module, x: Tensor, *, finite: bool = True, classes: int | None = None) -> Tensor:
    """What ``model`` says of each row of x (N, *shape): logits (N, C) in float32, or in float64 where x or what it says is float64.

    The model is given a copy, so that it may change its input in place. Gradients reach x. Without ``finite`` any number passes; with
    ``classes`` C must be that.

    Raises:
        TypeError: the model gives something else than a tensor of floating-point numbers.
        ValueError: another shape, fewer than two classes, or not as many as ``classes``.
        NotFinite: a ValueError, which says in how many rows there is a nan or an infinite number.
    """
    logits = model(x.clone())
    if not isinstance(logits, Tensor):
        inside = " with .logits" if isinstance(getattr(logits, "logits", None), Tensor) else ""
        raise TypeError(
            f"the model gave a {type(logits).__name__}{inside}; expected logits alone, a tensor ({len(x)}, classes): "
            "wrap it in a module whose forward returns them"
        )
    if not logits.is_floating_point():
        raise TypeError(f"the model gave values of dtype {logits.dtype}; expected floating-point logits ({len(x)}, classes)")
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise ValueError(f"the model gave logits of shape {tuple(logits.shape)}; expected ({len(x)}, classes) with at least 2 classes")
    if classes is not None:
        refuse_other_classes(logits, classes)
    if finite:
        refuse_broken(logits)
    return logits.to(torch.promote_types(torch.promote_types(x.dtype, logits.dtype), torch.float32))


def refuse_other_classes(logits: Tensor, classes: int) -> None:
    """Refuse logits (N, C) of another number of classes than the data have."""
    if logits.shape[1] != classes:
        raise ValueError(f"the model gave logits of {logits.shape[1]} classes; expected {classes}, as the data have")


def refuse_broken(logits: Tensor) -> None:
    """Refuse logits (N, C) of which any is nan or infinite; says in how many rows."""
    if not logits.detach().isfinite().all():
        broken = int((~logits.isfinite()).any(1).sum())
        raise NotFinite(f"the model gave logits that are nan or infinite for {broken} of {len(logits)} inputs; expected finite numbers")


def gradient_in(x: Tensor, value: Tensor, **options: Any) -> Tensor:
    """The gradient of ``value``, a number that was computed from logits of x; like x. ``options`` are those of ``torch.autograd.grad``.

    Raises:
        ValueError: no path of differentiable operations leads from x to the value.
    """
    found = torch.autograd.grad(value, x, allow_unused=True, **options)[0] if value.requires_grad else None
    if found is None:
        raise ValueError(
            "the model cannot be differentiated: its logits have no gradient in its input, as after detach(), numpy() or no_grad(), "
            "or where they do not depend on it; expected torch operations all the way (Square, an attack without gradients, takes any)"
        )
    return found


def log_odds(logits: Tensor, label: Tensor) -> Tensor:
    """``log p_c - log(1 - p_c) = z_c - logsumexp_{j != c} z_j`` for logits (N, C), label c (N,); shape (N,)."""
    own = logits.gather(1, label[:, None]).squeeze(1)
    return own - logits.scatter(1, label[:, None], -math.inf).logsumexp(1)
