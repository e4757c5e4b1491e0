"""The PAG objective (Ganz, Kawar & Elad, ICML 2023, equation 4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data.rows import unit
from .models import log_odds, logits_of

GRADIENTS = ("log_prob", "logit")


class PAGLoss(NamedTuple):
    """Scalars: ``total = cross_entropy + weight * C * (1 - alignment)``; alignment is a mean cosine in [-1, 1]."""

    total: Tensor
    cross_entropy: Tensor
    alignment: Tensor


def pag_loss(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    directions: Tensor,
    classes: Tensor,
    *,
    weight: float,
    of: str = "log_prob",
    attacked: Tensor | None = None,
    compiled: bool = False,
) -> PAGLoss:
    """Cross-entropy plus ``weight * C * mean over the k classes of (1 - cos(input gradient, direction))``.

    With all C classes that is the paper's sum over target classes; with k classes drawn uniformly
    without replacement it is an unbiased estimate of that sum.

    Args:
        model: takes x, gives logits (B, C); used in the mode it is in.
        x: inputs (B, *shape).
        y: labels (B,) int64.
        directions: (B, k, *shape), the way each class of ``classes`` lies from x.
        classes: (B, k) int64, distinct within a row.
        weight: lambda >= 0; at 0 the result is plain cross-entropy and no input gradient is taken.
        of: whose input gradient: ``"log_prob"`` (log p_c) or ``"logit"`` (z_c). The first is computed as
            the gradient of the log-odds, which has the same direction and does not vanish when p_c is 1.
        attacked: x after an attack, of its shape: cross-entropy is taken there, and alignment at x. Default: both at x.
        compiled: let torch.compile make one program of forward, input gradients and loss, in the form of
            :func:`functional_gradients`: slow in the first step, faster from then on, most of all on a GPU.

    Under autocast the input gradients, and the forward pass that they go through, stay in the precision of x.

    Returns:
        :class:`PAGLoss`, differentiable in the model's parameters (a double backward).
        A zero gradient or a zero direction counts as cosine 0.

    Raises:
        ValueError: negative weight, unknown ``of``, shapes that do not fit, classes out of range.
    """
    if weight < 0:
        raise ValueError(f"weight is {weight}; expected a number >= 0")
    if of not in GRADIENTS:
        raise ValueError(f"of is {of!r}; expected one of {', '.join(GRADIENTS)}")
    if weight == 0:
        cross_entropy = F.cross_entropy(logits_of(model, x if attacked is None else attacked, finite=False), y)
        return PAGLoss(cross_entropy, cross_entropy, torch.full_like(cross_entropy, torch.nan))
    if directions.shape != (expected := x.shape[:1] + classes.shape[1:] + x.shape[1:]):
        raise ValueError(f"directions have shape {tuple(directions.shape)}; expected {tuple(expected)}")
    terms = _compiled() if compiled else _terms
    gradients = functional_gradients if compiled else partial(input_gradients, create_graph=True)
    cross_entropy, alignment, count = terms(gradients, model, x, y, directions, classes, of, attacked)
    return PAGLoss(cross_entropy + weight * count * (1 - alignment), cross_entropy, alignment)


def _terms(
    gradients_of: Callable[..., tuple[Tensor, Tensor]],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    directions: Tensor,
    classes: Tensor,
    of: str,
    attacked: Tensor | None,
) -> tuple[Tensor, Tensor, int]:
    """Cross-entropy, alignment, and the number of classes."""
    with torch.autocast(x.device.type, enabled=False):
        gradients, logits = gradients_of(model, x, classes, of=of)
    cross_entropy = F.cross_entropy(logits if attacked is None else model(attacked), y)
    return cross_entropy, cosine(gradients, directions).mean(), logits.shape[1]


@cache
def _compiled() -> Callable[..., tuple[Tensor, Tensor, int]]:
    return torch.compile(_terms, dynamic=False)


def input_gradients(
    model: nn.Module, x: Tensor, classes: Tensor, *, of: str = "log_prob", create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Gradients in x of the chosen classes' outputs, up to a positive factor, and the logits.

    One forward pass is shared; each of the k columns of ``classes`` (B, k) costs one backward pass.

    Returns:
        gradients (B, k, *shape) and logits (B, C).

    Raises:
        ValueError: ``classes`` of a wrong shape or out of range.
    """
    if classes.ndim != 2 or len(classes) != len(x):
        raise ValueError(f"classes have shape {tuple(classes.shape)}; expected ({len(x)}, k)")
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = logits_of(model, x, finite=False)
        if classes.min() < 0 or classes.max() >= logits.shape[1]:
            raise ValueError(f"classes range over [{classes.min()}, {classes.max()}]; expected values in [0, {logits.shape[1]})")
        outputs = []
        for chosen in classes.unbind(1):
            out = log_odds(logits, chosen) if of == "log_prob" else logits.gather(1, chosen[:, None])
            outputs.append(out.sum())
        gradients = [
            torch.autograd.grad(out, x, create_graph=create_graph, retain_graph=create_graph or i + 1 < len(outputs))[0]
            for i, out in enumerate(outputs)
        ]
    return torch.stack(gradients, dim=1), logits


def functional_gradients(model: nn.Module, x: Tensor, classes: Tensor, *, of: str = "log_prob") -> tuple[Tensor, Tensor]:
    """:func:`input_gradients` with ``create_graph``, written with ``torch.func.vjp``, in which torch.compile follows a double backward.

    The model must not change its buffers in the forward pass, as BatchNorm in training mode does.
    """

    def outputs(x: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(x)
        columns = [
            log_odds(logits, chosen) if of == "log_prob" else logits.gather(1, chosen[:, None])[:, 0] for chosen in classes.unbind(1)
        ]
        return torch.stack(columns, dim=1), logits

    values, pull, logits = torch.func.vjp(outputs, x, has_aux=True)
    each = torch.eye(classes.shape[1], dtype=values.dtype, device=values.device)
    return torch.stack([pull(one.expand_as(values))[0] for one in each], dim=1), logits


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of a and b (B, k, *shape) over all but the first two axes, (B, k); 0 where either is zero."""
    return (unit(a.flatten(2)) * unit(b.flatten(2))).sum(-1)
