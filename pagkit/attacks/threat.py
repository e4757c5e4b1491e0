"""What an attacker may do: the ball of a norm, with its random starts, its steepest steps and its projection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.rows import finite, per_row, unit

NORMS = ("l2", "linf")


def is_number(value: Any) -> bool:
    """A number, or a tensor or array of one."""
    return hasattr(value, "__float__") and math.prod(getattr(value, "shape", ())) == 1


@dataclass(frozen=True)
class Threat:
    """What an attacker may do: move x by at most ``eps`` in ``norm``, and stay inside ``bounds``.

    Attributes:
        norm: ``"l2"`` or ``"linf"``.
        eps: radius of the ball, in the units of x (for images, where pixels lie in [0, 1]); 0 allows nothing, and what is beyond
            the diagonal of the bounds allows no more than the diagonal does.
        bounds: lowest and highest value of an input; ``(-inf, inf)`` for none.

    Raises:
        TypeError: an eps that is no number, bounds that are no pair of numbers.
        ValueError: unknown norm, negative or not finite eps, bounds out of order; eps above 1e15 where the bounds leave room for it.
    """

    norm: str
    eps: float
    bounds: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"unknown norm {self.norm!r}; expected one of {', '.join(NORMS)}")
        if not is_number(self.eps):
            raise TypeError(f"eps is {self.eps!r}; expected a number")
        if not isinstance(self.bounds, tuple | list) or len(self.bounds) != 2 or not all(map(is_number, self.bounds)):
            raise TypeError(f"bounds are {self.bounds!r}; expected a pair of numbers (low, high)")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ValueError(f"eps is {self.eps}; expected a finite number >= 0")
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"bounds are {self.bounds}; expected (low, high) with low < high")
        if min(self.eps, self.bounds[1] - self.bounds[0]) > 1e15:
            raise ValueError(f"eps is {self.eps} inside bounds {self.bounds}; expected at most 1e15, as squares of longer vectors overflow")

    def random_start(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A uniform point of the ball around each row of x (N, *shape), clipped to the bounds.

        Drawn from ``generator``, or from the global random state without one.
        """
        return self.project(x + self.offsets(x, generator).to(x.device), x)

    def offsets(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Uniform points of the ball around zero, one for each row of x (N, *shape), of which only shape and dtype matter."""
        device = x.device if generator is None else generator.device
        if self.norm == "linf":
            noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=device) * 2 - 1
        else:
            noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device)
            noise = unit(noise.flatten(1)).view_as(noise)
            u = torch.rand(len(x), generator=generator, dtype=x.dtype, device=device)
            noise = noise * per_row(u ** (1 / x[0].numel()), x)
        return self._at_most_across(self.eps, x) * noise

    def step(self, x: Tensor, gradient: Tensor, size: float) -> Tensor:
        """Move ``size`` along the steepest ascent direction of this norm.

        A zero gradient takes no step, and an entry that is nan or infinite moves nothing.
        """
        gradient, size = finite(gradient)[0], self._at_most_across(size, x)
        return x + size * (gradient.sign() if self.norm == "linf" else unit(gradient.flatten(1)).view_as(x))

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The nearest point to x_adv in the ball around x, then in the bounds (which keeps it in the ball)."""
        delta, eps = x_adv - x, self._at_most_across(self.eps, x)
        if self.norm == "linf":
            delta = delta.clamp(-eps, eps)
        else:
            norm = torch.linalg.vector_norm(delta.flatten(1), dim=1)
            delta = delta * per_row((eps / norm.clamp_min(1e-30)).clamp_max(1.0), x)
        return (x + delta).clamp(*self.bounds)

    def _at_most_across(self, size: float, x: Tensor) -> float:
        """``size``, or the diagonal of the bounds in this norm where that is shorter."""
        side = self.bounds[1] - self.bounds[0]
        return min(size, side * math.sqrt(x.shape[1:].numel()) if self.norm == "l2" else side)
