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
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..data.rows import finite, per_row
from ..models import differentiable, gradient_in, log_odds, logits_of, ordinary, seeded
from . import checks
from .threat import Threat


def fgsm(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, target: Tensor | int | None = None) -> Tensor:
    """Fast gradient (sign) method: one step of length eps (Goodfellow, Shlens & Szegedy, 2015).

    For ``linf`` this is ``x + eps sign(grad CE)``; for ``l2`` the step is ``eps`` along the gradient.
    Arguments, result and errors as in :func:`pgd`.
    """
    return pgd(model, x, y, threat, target=target, steps=1, step_size=threat.eps, keep="last")


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
    random_start: bool = False,
    keep: str = "worst",
    offsets: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient descent (Madry et al., 2018).

    Args:
        model: takes x, gives logits (N, C). Attacked in eval mode; left exactly as found. Threads need a copy each, see
            :func:`pagkit.models.mode`.
        x: inputs (N, *shape), floating point, inside ``threat.bounds``.
        y: true labels (N,), int64 in [0, C).
        threat: norm, eps and bounds.
        target: passing it makes the attack targeted: a class, or one a row (N,). Rows whose target is
            their own label have nothing to gain and come back unchanged.
        steps: gradient steps, at least 1.
        step_size: length of each step in the threat's norm. By default it is ``2.5 * eps / steps``, and with ``keep="worst"`` only
            for the first half of the steps, which walks to the edge of the ball. The second half searches it, with steps that begin
            at ``eps`` and shrink to nothing: no point passed on the way is lost.
        restarts: runs, at least 1; the best result of each row is returned. All after the first start at uniform points of the ball.
        random_start: let the first run start at a uniform point of the ball too, instead of at x, where a single run is stronger.
        keep: ``"worst"`` returns, for each row, the first point that succeeds (x itself included), else
            the one that came nearest; a row that has succeeded leaves the batch, which saves its cost.
            ``"last"`` returns the point after the last step.
        offsets: let the first run start at x plus these (N, *shape), as :meth:`Threat.offsets` draws them.
        generator: source of the random starts; default: a fresh one with seed 0.

    Returns:
        x_adv, of x's shape and dtype, inside the ball (to floating-point rounding) and the bounds.

    A gradient's entries that are nan or infinite move nothing; a RuntimeWarning says how many inputs had any.

    Raises:
        TypeError: x is not floating point or y not int64; steps or restarts that are no whole numbers, a step size that is no number,
            offsets that are no tensor; the model gives something else than floating-point logits.
        ValueError: empty or mismatched shapes, also of the offsets, x outside the bounds or not finite, labels or targets out of range,
            a target equal to the label everywhere, steps or restarts below 1, a step size that is not positive or not finite, or above
            1e15 where the bounds leave room for it, unknown ``keep``; logits of another shape, or any that is nan or infinite.
    """
    checks.settings(steps, step_size, restarts, keep, threat)
    checks.batch(x, y, threat.bounds)
    if offsets is not None:
        checks.offsets(offsets, x)
    generator = torch.Generator(x.device).manual_seed(0) if generator is None else generator
    own = seeded(int(torch.randint(2**62, (), generator=generator, device=generator.device)))  # for a model that draws random numbers
    with differentiable(model), own:
        x, y = ordinary(x.detach(), y)
        goal = checks.goal(target, y)
        best = _Best(x, y, goal, targeted=target is not None, all_points=keep == "worst")
        sizes = _step_sizes(threat.eps, steps, keep) if step_size is None else [step_size] * steps
        for start, moves in _runs(x, threat, sizes, restarts, random_start, offsets, keep, generator):
            end = _climb(model, best, threat, start, moves, look=keep == "worst" or restarts > 1 or not moves)
        if best.broken.any():
            what = f"{int(best.broken.sum())} of {len(x)} inputs had gradients with entries that are nan or infinite"
            warnings.warn(f"{what}; these moved nothing", RuntimeWarning, stacklevel=2)
        found = end if keep == "last" and restarts == 1 else best.point
        return found if target is None else torch.where(per_row(goal == y, x), x, found)


def _step_sizes(eps: float, steps: int, keep: str) -> list[float]:
    """The default: see ``step_size`` of :func:`pgd`."""
    walk = [2.5 * eps / steps] * steps
    if keep == "last":
        return walk
    half = (steps + 1) // 2
    return walk[:half] + [2 * eps * (1 - step / steps) for step in range(half, steps)]


def _runs(
    x: Tensor,
    threat: Threat,
    sizes: list[float],
    restarts: int,
    random_start: bool,
    offsets: Tensor | None,
    keep: str,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, list[float]]]:
    """Where each run begins, and the lengths of its steps."""
    if threat.eps == 0 or (keep == "worst" and (random_start or offsets is not None)):
        yield x.clone(), []  # x itself counts too
    if threat.eps == 0:
        return
    if offsets is not None:
        yield threat.project(x + offsets.to(x), x), sizes
    elif not random_start:
        yield x.clone(), sizes
    for _ in range(restarts - (offsets is not None or not random_start)):
        yield threat.random_start(x, generator), sizes


class _Best:
    """The best point of each row so far, and how far it has come.

    Attributes:
        x, y, goal: the batch; the goal is the class to be taken for, or the label that is to be left.
        point: (N, *shape), x at first.
        score: (2, N), the verdict (0: found as y; 1: as another class; 2: as the goal) and the log-odds that the attack climbs.
        broken: rows whose gradient had an entry that is nan or infinite.
    """

    def __init__(self, x: Tensor, y: Tensor, goal: Tensor, *, targeted: bool, all_points: bool) -> None:
        self.x, self.y, self.goal, self.targeted, self.all_points = x, y, goal, targeted, all_points
        self.point, self.broken = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        self.score = torch.full((2, len(x)), -math.inf, dtype=dtype, device=x.device)

    def unbroken(self, rows: Tensor) -> Tensor:
        """Those of the rows for which the attack has not succeeded."""
        return rows[self.score[0, rows] < (2 if self.targeted else 1)]

    def climbed(self, logits: Tensor, rows: Tensor) -> Tensor:
        """What the attack climbs: the log-odds of the goal, or those against the label."""
        odds = log_odds(logits, self.goal[rows])
        return odds if self.targeted else -odds

    def offer(self, points: Tensor, logits: Tensor, climbed: Tensor, rows: Tensor) -> None:
        """Keep the points that are better: first by verdict, then by what is climbed."""
        guess, climbed = logits.argmax(1), climbed.to(self.score.dtype)
        verdict = ((guess != self.y[rows]) * (1 + (guess == self.goal[rows]))).to(climbed.dtype)
        old = self.score[:, rows]
        better = (verdict > old[0]) | ((verdict == old[0]) & (climbed > old[1]))
        self.point[rows[better]] = points[better]
        self.score[:, rows[better]] = torch.stack([verdict[better], climbed[better]])


def _climb(model: nn.Module, best: _Best, threat: Threat, x_adv: Tensor, sizes: Sequence[float], *, look: bool) -> Tensor:
    """One run from x_adv, which is moved in place and returned; ``look`` at the last point too."""
    rows = torch.arange(len(best.x), device=best.x.device)
    for step, size in enumerate([*sizes, None]):
        if best.all_points:
            rows = best.unbroken(rows)
        if len(rows) == 0 or (size is None and not look):
            break
        z = x_adv[rows].requires_grad_(size is not None)
        logits = logits_of(model, z)
        if step == 0:
            checks.labels(logits, best.y[rows])
            checks.labels(logits, best.goal[rows], "targets")
        climbed = best.climbed(logits, rows)
        if best.all_points or size is None:
            best.offer(z.detach(), logits.detach(), climbed.detach(), rows)
        if size is not None:
            gradient = gradient_in(z, climbed.sum())
            gradient, broken = finite(gradient)
            if broken is not None:
                best.broken[rows[broken]] = True
            x_adv[rows] = threat.project(threat.step(z.detach(), gradient, size), best.x[rows])
    return x_adv
