"""Recipes compared over seeds: means and paired differences with their 95 % intervals.

A seed draws the initial weights, the order of the batches and, where the recipe's data do not fix a seed, the split into training and
test examples. Then the spread over seeds holds both kinds of chance, and so does the t interval over them (Student, 1908). Few seeds may
lie close together by luck. So no interval is narrower than that of the examples alone, taken as if each seed had drawn its own: Wilson's
(1927) for a mean, and for a difference that of two independent shares (Agresti and Caffo, 2000), which leaves out what the two recipes have
in common. Where both files tell which of the same examples were held, these are compared one by one, and the interval is that of a
difference of paired shares (Agresti and Min, 2005). Both add their pseudo-examples to the width alone; the middle is what was counted.

Where the recipe's data fix a seed, or the results' digests say so, all seeds meet the same test examples, and the spread over seeds knows
nothing of these. Both kinds of chance are independent then: the half-widths of the t interval and of the interval of the examples, which
count once, are added as squares. Of one seed, where a caller asks for so little, the interval of the examples is all that there is, and it
says nothing of other seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..evaluation import Score, t_interval, wilson
from .examples import alike, shared, tested, together
from .origin import Figure
from .schema import Result


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds in per cent or points, its 95 % interval, the seeds, and where it comes from.

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

    def point(self, spec: str = ".1f") -> Figure:
        """The mean alone, in this format; its interval stands with where it comes from."""
        return Figure(format(self.mean, spec), f"{self.told} {self}: {self._seeds()}", self.files)

    def _seeds(self) -> str:
        if len(self.seeds) == 1:
            return f"Seed {self.seeds[0]} alone, 95 % interval of the examples."
        return f"Mean of seeds {', '.join(map(str, self.seeds))}, 95 % interval over them, no narrower than that of the examples."

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
        ValueError: no such run, two of one seed, runs on several tasks or measured with different options, or different test examples,
            or numbers of them, where the seeds share them.
    """
    return {seed: 100 * score.rate for seed, score in _scores(runs, recipe, metric)[0].items()}


def column(runs: Iterable[Result], recipe: str, metric: str) -> list[int]:
    """Correct counts of one metric over the seeds of one recipe, in the order of the results.

    Raises:
        ValueError: no such run, two of one seed, runs on several tasks or measured with different options, or different test examples
            where the seeds share them.
    """
    found = [r for r in runs if r.recipe == recipe and metric in r.metrics]
    if not found:
        raise ValueError(f"no result of recipe {recipe!r} with metric {metric!r}")
    _pooled(found, recipe, metric)
    return [r.metrics[metric].correct for r in found]


def mean(runs: Sequence[Result], recipe: str, metric: str, *, at_least: int = 2) -> Estimate:
    """Per cent correct of a recipe over its seeds.

    Raises:
        ValueError: fewer than ``at_least`` seeds, and those of :func:`percents`.
    """
    found, same = _scores(runs, recipe, metric)
    spread = _spread(values := [100 * score.rate for score in found.values()], at_least)
    correct, total = (sum(getattr(score, key) for score in found.values()) for key in ("correct", "total"))
    examples = [100 * end for end in wilson(correct / total, total // len(found) if same else total)]
    middle = statistics.mean(values)
    low, high = _both(middle, spread, examples, same)
    told = f"{recipe}, {metric}: {_examples(found, same)}."
    return Estimate(middle, max(0.0, low), min(100.0, high), tuple(found), told, _files([recipe], found))


def difference(runs: Sequence[Result], base: str, other: str, metric: str, *, at_least: int = 2) -> Signed:
    """Points that recipe ``other`` holds over ``base``, paired by seed: within one the data and the initial weights are the same.

    Raises:
        ValueError: fewer than ``at_least`` seeds in common, recipes that were measured on different tasks, with different options or,
            within a seed or where the seeds share them, on different test examples, and those of :func:`percents`.
    """
    (ours, our_same), (theirs, their_same) = _scores(runs, other, metric), _scores(runs, base, metric)
    one, two = (next(r for r in runs if r.recipe == recipe and metric in r.metrics) for recipe in (base, other))
    if one.task != two.task:
        raise ValueError(f"{base!r} was measured on {one.task!r} and {other!r} on {two.task!r}; expected one task")
    seeds, same = tuple(seed for seed in ours if seed in theirs), our_same or their_same
    both = [r for r in runs if r.recipe in (base, other) and metric in r.metrics]
    alike(both, metric)
    for met in [both] if same else [[r for r in both if r.seed == seed] for seed in seeds]:
        together(met)
    spread = _spread(values := [100 * (ours[seed].rate - theirs[seed].rate) for seed in seeds], at_least)
    by_run = {(r.recipe, r.seed): r for r in runs if metric in r.metrics}
    chance, one_by_one = zip(*(_chance(by_run[other, seed], by_run[base, seed], metric) for seed in seeds), strict=True)
    half = 196 * math.sqrt(sum(chance) / len(seeds) / (1 if same else len(seeds)))
    middle = statistics.mean(values)
    low, high = _both(middle, spread, (middle - half, middle + half), same)
    how = ", compared one by one" if all(one_by_one) else ""
    told = f"{other} minus {base}, {metric}, in points: {_examples(ours, same)}{how}."
    return Signed(middle, low, high, seeds, told, _files([other, base], seeds))


def _chance(ours: Result, theirs: Result, metric: str) -> tuple[float, bool]:
    """Variance of the difference of two shares over the draw of examples, and whether it was taken example by example."""
    pair = [r.metrics[metric] for r in (ours, theirs)]
    one, two = (score.each() for score in pair)
    if one is None or two is None or tested(ours) is None or tested(ours) != tested(theirs):
        shares = [((score.correct + 1) / (score.total + 2), score.total + 2) for score in pair]
        return sum(share * (1 - share) / total for share, total in shares), False
    total = len(one) + 2
    more, fewer = (((held & ~lost).sum().item() + 0.5) / total for held, lost in ((one, two), (two, one)))
    return (more + fewer - (more - fewer) ** 2) / total, True


def _both(middle: float, seeds: Sequence[float], examples: Sequence[float], same: bool) -> tuple[float, float]:
    """The ends of an interval that covers seeds and examples."""
    low, high = zip(seeds, examples, strict=True)
    if not same:
        return min(low), max(high)
    return middle - math.hypot(*(middle - end for end in low)), middle + math.hypot(*(end - middle for end in high))


def _spread(values: Sequence[float], at_least: int) -> tuple[float, float]:
    """The t interval over seeds; of one seed the value itself, twice."""
    if len(values) < at_least or not values:
        raise ValueError(f"{len(values)} seed(s); expected at least {max(at_least, 1)}")
    return t_interval(values) if len(values) > 1 else (values[0], values[0])


def _scores(runs: Sequence[Result], recipe: str, metric: str) -> tuple[dict[int, Score], bool]:
    """By seed, in their order; and whether all of them count the same test examples."""
    found = [r for r in runs if r.recipe == recipe and metric in r.metrics]
    if not found:
        raise ValueError(f"no result of recipe {recipe!r} with {metric!r}; expected at least one")
    same = _pooled(found, recipe, metric)
    return {r.seed: r.metrics[metric] for r in sorted(found, key=lambda r: r.seed)}, same


def _pooled(found: Sequence[Result], recipe: str, metric: str) -> bool:
    """Whether all of a recipe's runs count the same test examples; refuses runs that cannot stand together."""
    same = shared(found)
    alike(found, metric)
    if len({r.seed for r in found}) < len(found):
        raise ValueError(f"recipe {recipe!r} has two runs of one seed with {metric!r}; expected one each")
    if same and len(totals := sorted({r.metrics[metric].total for r in found})) > 1:
        what = f"the runs of recipe {recipe!r} share their test examples and have {metric!r} on {totals} of them"
        raise ValueError(f"{what}; expected one number")
    return same


def _examples(found: dict[int, Score], same: bool) -> str:
    totals = "/".join(map(str, sorted({score.total for score in found.values()})))
    return f"{totals} test examples{', the same for all seeds' if same else ' a seed'}"


def _files(recipes: Sequence[str], seeds: Iterable[int]) -> tuple[str, ...]:
    return tuple(f"{recipe}/seed-{seed}.json" for recipe in recipes for seed in seeds)
