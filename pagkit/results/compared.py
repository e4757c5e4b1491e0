"""Recipes compared over seeds: means and paired differences with their t intervals (Student, 1908).

A seed draws the initial weights, the order of the batches and, where the recipe's data do not fix a seed, the split into training and
test examples. Then the spread over seeds holds both kinds of chance, and so does the interval.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..evaluation import t_interval
from .schema import Result


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds in per cent or points, its 95 % t interval, and the seeds."""

    mean: float
    low: float
    high: float
    seeds: tuple[int, ...]

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes 0, else 0."""
        return (self.low > 0) - (self.high < 0)

    def __str__(self) -> str:
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"

    def __format__(self, spec: str) -> str:
        """``"+"`` writes all three with their signs."""
        if spec not in ("", "+"):
            raise ValueError(f"format {spec!r} of an Estimate; expected '' or '+'")
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]" if spec else str(self)


def percents(runs: Sequence[Result], recipe: str, metric: str) -> dict[int, float]:
    """Per cent correct of each seed of a recipe that was measured so, in the order of the seeds.

    Raises:
        ValueError: no such run, or two of one seed.
    """
    found = [r for r in runs if r.recipe == recipe and metric in r.metrics]
    if not found:
        raise ValueError(f"no result of recipe {recipe!r} with {metric!r}; expected at least one")
    if len({r.seed for r in found}) < len(found):
        raise ValueError(f"recipe {recipe!r} has two runs of one seed with {metric!r}; expected one each")
    return {r.seed: 100 * r.metrics[metric].rate for r in sorted(found, key=lambda r: r.seed)}


def mean(runs: Sequence[Result], recipe: str, metric: str) -> Estimate:
    """Per cent correct of a recipe over its seeds.

    Raises:
        ValueError: fewer than two seeds, and those of :func:`percents`.
    """
    return _estimate(percents(runs, recipe, metric))


def difference(runs: Sequence[Result], base: str, other: str, metric: str) -> Estimate:
    """Points that recipe ``other`` holds over ``base``, paired by seed: within one the data and the initial weights are the same.

    Raises:
        ValueError: fewer than two seeds in common, and those of :func:`percents`.
    """
    ours, theirs = percents(runs, other, metric), percents(runs, base, metric)
    return _estimate({seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs})


def _estimate(values: dict[int, float]) -> Estimate:
    low, high = t_interval(list(values.values()))
    return Estimate(statistics.mean(values.values()), low, high, tuple(values))
