"""FGSM and PGD.

One loop serves every norm: a :class:`pagkit.attacks.Threat` supplies the random start, the step and the projection.
The loss that is climbed is cross-entropy in a form that cannot saturate. With
``o_c(x) = z_c - logsumexp_{j != c} z_j``, the log-odds of class c,

    grad log p_c = (1 - p_c) grad o_c,

so both have the same direction, and direction is all that a normalised or signed step uses. Where the
model is so sure that ``1 - p_c`` rounds to zero, the left side is lost and the right side is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..data.rows import per_row
from ..models import log_odds, mode
from . import checks
from .threat import Threat


def fgsm(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, target: Tensor | int | None = None) -> Tensor:
    """Fast gradient (sign) method: one step of length eps (Goodfellow, Shlens & Szegedy, 2015).

    For ``linf`` this is ``x + eps sign(grad CE)``; for ``l2`` the step is ``eps`` along the gradient.
    Arguments, result and errors as in :func:`pgd`.
    """
    return pgd(model, x, y, threat, target=target, steps=1, step_size=threat.eps, random_start=False, keep="last")


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    target: Tensor | int | None = None,
    steps: int = 40,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    keep: str = "worst",
    offsets: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient descent (Madry et al., 2018).

    Args:
        model: takes x, gives logits (N, C). Attacked in eval mode; left exactly as found.
        x: inputs (N, *shape), floating point, inside ``threat.bounds``.
        y: true labels (N,), int64 in [0, C).
        threat: norm, eps and bounds.
        target: passing it makes the attack targeted: a class, or one a row (N,). Rows whose target is
            their own label have nothing to gain and come back unchanged.
        steps: gradient steps, at least 1.
        step_size: length of a step in the threat's norm; default ``2.5 * eps / steps``.
        restarts: independent random starts, at least 1; the best result of each row is returned.
        random_start: start at a uniform point of the ball, otherwise at x.
        keep: ``"worst"`` returns, for each row, the first point that succeeds (x itself included), else
            the one that came nearest; a row that has succeeded leaves the batch, which saves its cost.
            ``"last"`` returns the point after the last step.
        offsets: start at x plus these (N, *shape), as :meth:`Threat.offsets` draws them, in place of a start of its own.
        generator: source of the random starts; default: a fresh one with seed 0.

    Returns:
        x_adv, of x's shape and dtype, inside the ball (to floating-point rounding) and the bounds.

    Raises:
        TypeError: x is not floating point or y not int64.
        ValueError: empty or mismatched shapes, x outside the bounds or not finite, labels or targets out
            of range, a target equal to the label everywhere, steps or restarts below 1, a step size that
            is not positive, unknown ``keep``.
    """
    checks.settings(steps, step_size, restarts, random_start and offsets is None, keep, threat.eps)
    checks.batch(x, y, threat.bounds)
    x = x.detach()
    if generator is None:
        generator = torch.Generator(x.device).manual_seed(0)
    step_size = 2.5 * threat.eps / steps if step_size is None else step_size
    best, best_score = x.clone(), torch.full((2, len(x)), -math.inf, dtype=x.dtype, device=x.device)
    with _undisturbed(model, generator), torch.enable_grad():
        with torch.no_grad():
            logits = model(x)
        goal = checks.goal(target, y, checks.count_classes(logits, y))
        if threat.eps == 0:
            return best
        if keep == "worst":
            best_score = _score(logits, y, goal)
        for _ in range(restarts):
            if offsets is not None:
                x_adv = threat.project(x + offsets.to(x), x)
            else:
                x_adv = threat.random_start(x, generator) if random_start else x.clone()
            if keep == "last" and restarts == 1:
                best = _climb(model, x, y, goal, threat, x_adv, steps, step_size)
            else:
                _climb(model, x, y, goal, threat, x_adv, steps, step_size, best, best_score, stop=keep == "worst")
    return best if goal is None else torch.where(per_row(goal == y, x), x, best)


def _climb(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    goal: Tensor | None,
    threat: Threat,
    x_adv: Tensor,
    steps: int,
    step_size: float,
    best: Tensor | None = None,
    best_score: Tensor | None = None,
    stop: bool = False,
) -> Tensor:
    """The steps of one start x_adv, which are taken in place; gives the point after the last one.

    Better points go to ``best`` with their ``best_score``: all on the way with ``stop``, where rows that have succeeded leave the batch;
    otherwise the last one only.
    """
    rows = torch.arange(len(x), device=x.device)
    for step in range(steps + 1):
        if stop:
            rows = rows[best_score[0, rows] < (1 if goal is None else 2)]
        if len(rows) == 0 or (step == steps and best is None):
            break
        z = x_adv[rows].requires_grad_(step < steps)
        logits = model(z).to(x.dtype)  # also where the model computes in bfloat16
        if stop or step == steps:
            score = _score(logits.detach(), y[rows], None if goal is None else goal[rows])
            better = _beats(score, best_score[:, rows])
            best[rows[better]], best_score[:, rows[better]] = z.detach()[better], score[:, better]
        if step < steps:
            ascend = -log_odds(logits, y[rows]) if goal is None else log_odds(logits, goal[rows])
            (gradient,) = torch.autograd.grad(ascend.sum(), z)
            x_adv[rows] = threat.project(threat.step(z.detach(), gradient, step_size), x[rows])
    return x_adv


def _score(logits: Tensor, y: Tensor, goal: Tensor | None) -> Tensor:
    """How far the attack has come, (2, N): first the verdict, then the log-odds that it climbs.

    Verdict: 1 if misclassified; targeted, 2 if classified as the target.
    """
    guess = logits.argmax(1)
    verdict, climbed = (guess != y).to(logits.dtype), -log_odds(logits, y)
    if goal is not None:
        verdict, climbed = verdict + ((guess == goal) & (goal != y)), log_odds(logits, goal)
    return torch.stack([verdict, climbed])


def _beats(score: Tensor, other: Tensor) -> Tensor:
    return (score[0] > other[0]) | ((score[0] == other[0]) & (score[1] > other[1]))


@contextmanager
def _undisturbed(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Eval mode inside; modes and global random state as before on leaving.

    A model with randomness of its own draws from a state that ``generator`` seeds.
    """
    devices = range(torch.cuda.device_count())  # manual_seed reseeds them all
    with mode(model, training=False), torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        yield
