"""A number and where it comes from, for a page that shows both."""

from __future__ import annotations

import html
from dataclasses import dataclass

from .schema import Result


@dataclass(frozen=True, repr=False)
class Figure:
    """A number as it is written, and where it comes from.

    As text it is the number alone. Jupyter and the book show where it comes from, with links to the result files, where a reader points
    at it, tabs to it or taps it: as a cell of a :class:`Table`, or in a sentence after ``glue(key, figure, display=False)``.

    Attributes:
        text: the number as readers see it.
        told: what was measured, how often, and how sure it is, in words.
        files: of the results, below their folder.
    """

    text: str
    told: str = ""
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        links = " ".join(f'<a href="results/{html.escape(file)}">{html.escape(file)}</a>' for file in self.files)
        told = f'<span class="origin-told" role="tooltip">{html.escape(self.told)} {links}</span>'
        return f'<span class="origin" tabindex="0">{html.escape(self.text)}{told}</span>'


def count(run: Result, metric: str, spec: str = "") -> Figure:
    """What one run counted, with its 95 % Wilson interval over the examples.

    Args:
        run: a stored result.
        metric: one of its counts.
        spec: of the text: ``""`` for per cent and interval, ``"d"`` for the count itself, otherwise a format of the per cent, ``".1f"``.

    Raises:
        ValueError: the run has no such count.
    """
    if metric not in run.metrics:
        raise ValueError(f"the result of {run.recipe!r}, seed {run.seed}, has no {metric!r}; it has {', '.join(run.metrics)}")
    score = run.metrics[metric]
    percent, interval = f"{100 * score.rate:.1f}", f"[{100 * score.low:.1f}, {100 * score.high:.1f}]"
    text = f"{percent} {interval}" if not spec else f"{score.correct:d}" if spec == "d" else format(100 * score.rate, spec)
    return figure(text, f"{metric}: {score.correct} of {score.total}, {percent} {interval} %, Wilson's interval.", run)


def figure(text: str, told: str, *runs: Result) -> Figure:
    """A number that was read or made from stored runs; their recipes and seeds follow what is told.

    Raises:
        ValueError: no run is given.
    """
    if not runs:
        raise ValueError(f"the figure {text!r} comes from no run; expected at least one")
    seeds: dict[str, list[str]] = {}
    for run in runs:
        seeds.setdefault(run.recipe, []).append(str(run.seed))
    where = "; ".join(f"{recipe}, seed{'s' * (len(of) > 1)} {', '.join(of)}" for recipe, of in seeds.items())
    return Figure(text, f"{told} {where}.", tuple(f"{run.recipe}/seed-{run.seed}.json" for run in runs))
