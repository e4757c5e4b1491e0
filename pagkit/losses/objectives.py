"""Objectives: cross-entropy plus a sum of terms, and the one of the book's title."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models import logits_of
from .gradients import functional, gradients
from .terms import Alignment, Term


class Objective(NamedTuple):
    """Scalars: ``total`` is cross-entropy plus the penalties of all terms; what no term measures is nan."""

    total: Tensor
    cross_entropy: Tensor
    alignment: Tensor
    slope: Tensor


class PAGLoss(NamedTuple):
    """Scalars: ``total = cross_entropy + weight * C * (1 - alignment)``; alignment is a mean cosine in [-1, 1]."""

    total: Tensor
    cross_entropy: Tensor
    alignment: Tensor


def objective(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    terms: Sequence[tuple[float, Term]] = (),
    *,
    seen: Tensor | None = None,
    compiled: bool = False,
    autocast: bool = False,
) -> Objective:
    """Cross-entropy plus a sum of terms, each with its weight: ``[(0.5, Alignment(directions, classes)), (1.0, Slope())]``.

    Args:
        model: takes x, gives logits (B, C); used in the mode it is in.
        x: inputs (B, *shape), where the terms are taken.
        y: labels (B,) int64.
        terms: at most one of a kind. One of weight 0 is left out, and without any no input gradient is taken.
        seen: x after an attack or with noise, of its shape: where cross-entropy is taken. Default: x.
        compiled: let torch.compile make one program of forward, input gradients and loss, in the form of
            :func:`pagkit.losses.functional_gradients`: slow in the first step, faster from then on, most of all on a GPU.
        autocast: under torch.autocast, take the input gradients, and the forward pass that they go through, in its precision too;
            what a term measures of them is computed in that of x. Default: they stay in the precision of x throughout.

    Returns:
        :class:`Objective`, differentiable in the model's parameters (a double backward).

    Raises:
        ValueError: an empty batch; labels of another dtype or shape, or out of range; a negative weight, two terms of a kind, a term that
            does not fit x.
    """
    if len(x) == 0:
        raise ValueError("the batch is empty; expected at least one row")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise ValueError(f"y has dtype {y.dtype} and shape {tuple(y.shape)}; expected int64 labels ({len(x)},)")
    for weight, term in terms:
        if not weight >= 0:
            raise ValueError(f"weight is {weight}; expected a number >= 0")
        if weight != 0:
            term.check(x)
    weights, parts = [weight for weight, _ in terms if weight != 0], [term for weight, term in terms if weight != 0]
    if len({term.name for term in parts}) < len(parts):
        raise ValueError(f"terms are {', '.join(term.name for term in parts)}; expected at most one of a kind")
    if parts:
        measure = _compiled() if compiled else _measure
        gradients_of = functional if compiled else partial(gradients, create_graph=True)
        cross_entropy, measured, classes = measure(gradients_of, model, x, y, parts, seen, autocast)
    else:
        logits = logits_of(model, x if seen is None else seen, finite=False)
        _check_labels(y, logits)
        cross_entropy, measured, classes = F.cross_entropy(logits, y), [], 0
    total, nan = cross_entropy, torch.full_like(cross_entropy, torch.nan)
    for weight, term, value in zip(weights, parts, measured, strict=True):
        total = total + term.penalty(weight, value, classes)
    found = {term.name: value for term, value in zip(parts, measured, strict=True)}
    return Objective(total, cross_entropy, found.get("alignment", nan), found.get("slope", nan))


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
    """The PAG objective: :func:`objective` with :class:`Alignment` as its one term.

    With all C classes it is the paper's sum over target classes; with k classes drawn uniformly
    without replacement it is an unbiased estimate of that sum.

    Args:
        model, x, y, compiled: as there.
        directions: (B, k, *shape), the way each class of ``classes`` lies from x.
        classes: (B, k) int64, distinct within a row.
        weight: lambda >= 0; at 0 the result is plain cross-entropy and no input gradient is taken.
        of: whose input gradient: ``"log_prob"`` (log p_c) or ``"logit"`` (z_c). The first is computed as
            the gradient of the log-odds, which has the same direction and does not vanish when p_c is 1.
        attacked: x after an attack, of its shape: cross-entropy is taken there, and alignment at x. Default: both at x.

    Returns:
        :class:`PAGLoss`, differentiable in the model's parameters (a double backward).
        A zero gradient or a zero direction counts as cosine 0.

    Raises:
        ValueError: an empty batch, negative weight, unknown ``of``, shapes that do not fit, no class or classes out of range.
    """
    return PAGLoss(*objective(model, x, y, [(weight, Alignment(directions, classes, of))], seen=attacked, compiled=compiled)[:3])


def _check_labels(y: Tensor, logits: Tensor) -> None:
    if not torch.compiler.is_compiling() and ((y < 0) | (y >= logits.shape[1])).any():
        raise ValueError(f"labels range over [{y.min()}, {y.max()}]; expected values in [0, {logits.shape[1]})")


def _measure(
    gradients_of: Callable[..., tuple[Tensor, Tensor]],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    terms: list[Term],
    seen: Tensor | None,
    autocast: bool,
) -> tuple[Tensor, list[Tensor], int]:
    """Cross-entropy, what each term measures, and the number of classes. Weights change from step to step and would be compiled in."""

    def outputs(logits: Tensor) -> list[Tensor]:
        _check_labels(y, logits)
        return [output for term in terms for output in term.outputs(logits, y)]

    with nullcontext() if autocast else torch.autocast(x.device.type, enabled=False):
        found, logits = gradients_of(model, x, outputs)
    cross_entropy = F.cross_entropy(logits if seen is None else model(seen.clone()), y)
    parts = found.split([term.size for term in terms], dim=1)
    return cross_entropy, [term.measure(part) for term, part in zip(terms, parts, strict=True)], logits.shape[1]


@cache
def _compiled() -> Callable[..., tuple[Tensor, list[Tensor], int]]:
    return torch.compile(_measure, dynamic=False)
