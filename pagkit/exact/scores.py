"""Scores of the three-modes toy under the noise of a DDPM (Ho, Jain & Abbeel, 2020).

There are 1000 steps t = 0, ..., 999 with ``beta`` rising in equal steps from 0.0001 to 0.02, and ``abar_t = prod_{s <= t} (1 - beta_s)``.
The toy's inputs are divided by 40, noised, and multiplied by 40 again, which in their own units reads

    x_t = sqrt(abar_t) x + 40 sqrt(1 - abar_t) noise.

Each mode of x is a Gaussian on a line, so each mode of x_t is one of the plane, and the score of their mixture is written down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..data import MODES, Task
from ..data.defaults import plain_defaults
from ..data.numbers import whole

STEPS = 1000  # noise levels of the DDPM
BETAS = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
ALPHA_BAR = (1 - BETAS).cumprod(0)  # share of x_t's variance that is signal
SCALE = 40.0  # of the toy's inputs: noise is this many times a standard normal


def alpha_bar(t: int) -> float:
    """``abar_t`` of noise level t: near 1 at t = 0 (hardly any noise), near 0 at t = 999 (hardly any signal).

    Raises:
        TypeError: t is no whole number.
        ValueError: t outside [0, 1000).
    """
    if not 0 <= whole("t", t) < STEPS:
        raise ValueError(f"t is {t}; expected a noise level in [0, {STEPS})")
    return ALPHA_BAR[t].item()


@plain_defaults()
def score(task: Task, x: Tensor, t: int, y: Tensor | int | None = None) -> Tensor:
    """Gradient of ``log p_t(x | y)``, or of ``log p_t(x)`` without a y, for the three-modes toy at noise level t.

    With a = abar_t, mode m of x_t is N(sqrt(a) 10 m (1, 2), a [[1, 2], [2, 4]] + 40^2 (1 - a) I). The covariance K
    is the same for all, so the score is the mean of K^-1 (centre - x) over the modes, weighted by how likely
    each is given x. Classes and modes are equally frequent.

    Args:
        task: the toy, in any size.
        x: noised points x_t (N, 2), in the toy's own units (see the top of this module).
        t: noise level, 0 to 999, as in :class:`pagkit.diffusion.DDPM`.
        y: a class, or one a row (N,); None for the density of both classes together.

    Returns:
        Scores (N, 2) float64, in one over the units of x.

    Raises:
        TypeError: t is no whole number.
        ValueError: another task, x not (N, 2) or with a coordinate that is nan or infinite, t or y out of range.
    """
    if task.name.partition("+")[0] != "three-modes":
        raise ValueError(f"the task is {task.name!r}; exact scores are known for 'three-modes' only")
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected points (N, 2)")
    if broken := int((~x.isfinite()).any(1).sum()):
        raise ValueError(f"x has {broken} of {len(x)} points with a coordinate that is nan or infinite; expected finite ones")
    a, x = alpha_bar(t), x.detach().double()
    line = torch.tensor([1.0, 2.0], dtype=torch.float64, device=x.device)
    centres = math.sqrt(a) * 10 * torch.tensor(MODES, dtype=torch.float64, device=x.device).flatten()[:, None] * line  # (6, 2)
    covariance = a * line.outer(line) + SCALE**2 * (1 - a) * torch.eye(2, dtype=torch.float64, device=x.device)
    away = centres - x[:, None]  # (N, 6, 2)
    pull = away @ covariance.inverse()  # each mode's own score
    log_weight = -0.5 * (away * pull).sum(-1)
    if y is not None:
        y = torch.as_tensor(y, device=x.device)
        if y.shape not in (torch.Size([]), x.shape[:1]) or not ((y == 0) | (y == 1)).all():
            raise ValueError(f"y is {y.tolist()}; expected a class 0 or 1, or one for each of the {len(x)} rows")
        label = torch.arange(2, device=x.device).repeat_interleave(len(MODES[0]))
        log_weight = log_weight.masked_fill(label != y.reshape(-1, 1), -math.inf)
    return (log_weight.softmax(1)[..., None] * pull).sum(1)


@dataclass(frozen=True)
class ToyDiffusion:
    """Exact noise and scores of the toy behind the names of :class:`pagkit.diffusion.DDPM`, for ``targets.score_based``."""

    task: Task
    shape: ClassVar[tuple[int, ...]] = (2,)
    classes: ClassVar[int] = 2

    def noised(self, x: Tensor, t: int, *, generator: torch.Generator) -> Tensor:
        """``sqrt(abar_t) x + 40 sqrt(1 - abar_t) noise`` (N, 2), float64."""
        a = alpha_bar(t)
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64, device=generator.device).to(x.device)
        return math.sqrt(a) * x.double() + SCALE * math.sqrt(1 - a) * noise

    def score(self, x_t: Tensor, t: int, y: Tensor | int | None = None) -> Tensor:
        """:func:`score` of the task."""
        return score(self.task, x_t, t, y)
