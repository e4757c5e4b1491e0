"""Recipes compared over seeds: means and paired differences with their t intervals (Student, 1908).

A seed draws the initial weights, the order of the batches and, where the recipe's data do not fix a seed, the split into training and
test examples. Then the spread over seeds holds both kinds of chance, and so does the interval.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..evaluation import t_interval
from .origin import Figure
from .schema import Result


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds in per cent or points, its 95 % t interval, the seeds, and where it comes from.

    Jupyter and the book show what it comes from, with links to the result files, where a reader points at it, tabs to it or taps it.

    Attributes:
        mean, low, high: of the 95 % interval.
        seeds: over which it was taken.
        told: what was measured, in words.
        files: of the results, below their folder.
    """

    mean: float
    low: float
    high: float
    seeds: tuple[int, ...]
    told: str = ""
    files: tuple[str, ...] = ()

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes 0, else 0."""
        return (self.low > 0) - (self.high < 0)

    def __str__(self) -> str:
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"

    def __repr__(self) -> str:
        return str(self)

    def __format__(self, spec: str) -> str:
        """``"+"`` writes all three with their signs."""
        if spec not in ("", "+"):
            raise ValueError(f"format {spec!r} of an Estimate; expected '' or '+'")
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]" if spec else str(self)

    def signed(self) -> Signed:
        """The same, shown with its signs: for a difference."""
        return Signed(self.mean, self.low, self.high, self.seeds, self.told, self.files)

    def point(self, spec: str = ".1f") -> Figure:
        """The mean alone, in this format; its interval stands with where it comes from."""
        return Figure(format(self.mean, spec), f"{self.told} {self}: {self._seeds()}", self.files)

    def _seeds(self) -> str:
        return f"Mean of seeds {', '.join(map(str, self.seeds))}, 95 % interval over them."

    def _repr_html_(self) -> str:
        return Figure(str(self), f"{self.told} {self._seeds()}", self.files)._repr_html_()


@dataclass(frozen=True, repr=False)
class Signed(Estimate):
    """An :class:`Estimate` that is shown with its signs."""

    def __str__(self) -> str:
        return f"{self:+}"


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
    values = percents(runs, recipe, metric)
    return _estimate(values, f"{recipe}, {metric}: {_examples(runs, recipe, metric)} test examples a seed.", [recipe])


def difference(runs: Sequence[Result], base: str, other: str, metric: str) -> Signed:
    """Points that recipe ``other`` holds over ``base``, paired by seed: within one the data and the initial weights are the same.

    Raises:
        ValueError: fewer than two seeds in common, and those of :func:`percents`.
    """
    ours, theirs = percents(runs, other, metric), percents(runs, base, metric)
    told = f"{other} minus {base}, {metric}, in points: {_examples(runs, other, metric)} test examples a seed."
    return _estimate({seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}, told, [other, base]).signed()


def _examples(runs: Sequence[Result], recipe: str, metric: str) -> str:
    return "/".join(map(str, sorted({r.metrics[metric].total for r in runs if r.recipe == recipe and metric in r.metrics})))


def _estimate(values: dict[int, float], told: str, recipes: list[str]) -> Estimate:
    low, high = t_interval(list(values.values()))
    files = tuple(f"{recipe}/seed-{seed}.json" for recipe in recipes for seed in values)
    return Estimate(statistics.mean(values.values()), low, high, tuple(values), told, files)
