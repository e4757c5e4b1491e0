"""The tables of the page with every result: rates with their intervals, counts, alignment, published figures, provenance."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Collection, Sequence
from itertools import product
from typing import Any

from ..evaluation import Board, parse_metric, wilson
from ..recipe import SETTING
from .examples import alike, comparable, shared
from .origin import Figure
from .published import Published
from .schema import Result, summary

HEADINGS = {  # task: what stands above its table, in the order of the book
    "three-modes": "The toy: three modes a class",
    "digits": "Digits",
    "folder:CIFAR-10, JPEG q75 copy": "CIFAR-10 from a lossy copy: JPEG images of quality 75, not the original pixels",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "stl10": "STL-10",
}
CELL = (
    "A cell: median over the seeds in %; [95 % interval: which test examples, given the model]; lowest to highest seed; "
    "how many seeds, where not all were measured so."
)
STAR = "* a sum of two methods, which had more trials than its parts"
STRENGTH = ("exact", "autoattack", "apgd", "pgd", "square")  # the strongest first


def boards(results: Sequence[Result], published: Sequence[Published] = ()) -> list[Board]:
    """All of them: rates on each task, samples of diffusion models, and what was published beside ours. Errors as of :func:`rates`."""
    found = [rates(results, task) for task in tasks(results)]
    found += [samples(results, task) for task in tasks(results, "samples")]
    return found + [comparison(results, source) for source in published]


def heading(task: str) -> str:
    """What the page calls a task; one that the book does not know keeps its name."""
    return HEADINGS.get(task, f"{task.removeprefix('folder:')}, a folder of images" if task.startswith("folder:") else task)


def tasks(results: Sequence[Result], metric: str = "clean") -> list[str]:
    """The tasks on which ``metric`` was measured, in the order of the book, then by name."""
    known = list(HEADINGS)
    found = {r.task for r in results if metric in r.metrics}
    return sorted(found, key=lambda task: (known.index(task) if task in known else len(known), task))


def rates(results: Sequence[Result], task: str, sums: Collection[str] = ()) -> Board:
    """Per cent correct on one task: a row a classifier, a column a metric.

    A cell holds the median over the seeds; the 95 % Wilson interval (Wilson, 1927) of a model of that accuracy on one seed's test
    examples; with several seeds, the lowest and the highest; and how many seeds, where not all were measured so. Rows are ordered
    by the strongest attack at its largest radius, L2 before L-infinity; those without it come last. A recipe with settings stands
    under the one it changes. Recipes among ``sums`` bear a star, and the caption says what it means.

    Raises:
        ValueError: no classifier of the task; runs of one recipe that share a seed, or measure one thing on different numbers of
            examples; runs whose recipes ask for the same test examples and that met different ones, as of two folders of one name; a
            metric asked for with different options, unless the row's name says so, such as ``+metrics.pgd-l2-0.5.steps=100``.
    """
    runs = _chosen(results, task, "clean")
    return _board(runs, f"{heading(task)}: % correct", _metrics(runs), _rate, sums=sums)


def counts(results: Sequence[Result], task: str, sums: Collection[str] = ()) -> Board:
    """The counts behind :func:`rates`, ``median (lowest-highest)`` over the seeds. Order, stars and errors are the same."""
    runs = _chosen(results, task, "clean")

    def cell(same: list[Result], metric: str) -> str:
        found = [r.metrics[metric].correct for r in same]
        return summary(found) if len(found) > 1 else str(found[0])

    return _board(runs, f"{heading(task)}: examples correct", _metrics(runs), cell, sums=sums)


def alignments(results: Sequence[Result], task: str, sums: Collection[str] = ()) -> Board:
    """Mean cosine of the test gradients with each gradient target: the median over the seeds, then the lowest and the highest.

    Rows, stars and errors as in :func:`rates`, also of cosines asked for with different options; recipes without an alignment are left out.
    """
    runs = [r for r in _chosen(results, task, "clean") if r.alignment]

    def cell(same: list[Result], target: str) -> str:
        values = [r.alignment[target] for r in same]
        return f"{statistics.median(values):.2f}" + (f"\n{min(values):.2f} to {max(values):.2f}" if len(values) > 1 else "")

    targets = sorted({target for r in runs for target in r.alignment})
    for recipe, target in product(sorted({r.recipe for r in runs}), targets):
        alike([r for r in runs if r.recipe == recipe], f"alignment.{target}")
    return _board(runs, f"{heading(task)}: mean cosine", targets, cell, lambda r, target: target in r.alignment, sums)


def samples(results: Sequence[Result], task: str) -> Board:
    """Per cent of a diffusion model's samples that a classifier puts in the class asked for; cells and errors as in :func:`rates`."""
    runs = _chosen(results, task, "samples")
    return _board(runs, f"{heading(task)}: % of a diffusion model's samples put in their class", ["samples"], _rate)


def comparison(results: Sequence[Result], published: Published) -> Board:
    """One source's figures beside ours, in per cent: a row a figure; ours is a cell of :func:`rates`, empty where there is no run."""
    rows = []
    for figure in published.figures:
        runs = [r for r in results if (r.recipe, r.task) == (figure["recipe"], published.task)]
        _check(runs)
        ours = _pooled(runs, figure["metric"], _rate, _measured)
        if "percent" in figure:
            theirs = f"{figure['percent']:.2f}"
        else:
            theirs = f"{100 * figure['correct'] / figure['total']:.1f}\n{figure['correct']} of {figure['total']}"
        rows.append((f"{figure['name']}\n{figure['recipe']}", figure["metric"], ours, theirs))
    told = f"{published.source}, {published.where}. Model: {published.model}. Data: {published.data}. Attack: {published.attack}."
    return Board(told, ("setting\nour recipe", "our metric", "ours", "published"), tuple(rows), align="left")


def origins(results: Sequence[Result]) -> Board:
    """Where the numbers come from: a row a recipe and task; what differs between its seeds is listed, times are medians in seconds.

    The seeds show links to the files of their runs.
    """

    def versions(r: Result) -> str:
        return ", ".join(f"{name} {version}" for name, version in r.provenance["versions"].items())

    rows = []
    for recipe, task in sorted({(r.recipe, r.task) for r in results}, key=lambda pair: (_natural(pair[0]), pair[1])):
        runs = sorted((r for r in results if (r.recipe, r.task) == (recipe, task)), key=lambda r: r.seed)
        seconds = [statistics.median(r.provenance[f"{part}_seconds"] for r in runs) for part in ("train", "evaluate")]
        told = [[str(r.provenance[key]) for r in runs] for key in ("data", "commit", "hardware", "threads")]
        data, commit, *rest = ("; ".join(dict.fromkeys(texts)) for texts in (*told, [versions(r) for r in runs]))
        seeds = Figure(_spans([r.seed for r in runs]), f"{recipe}:", tuple(f"{recipe}/seed-{r.seed}.json" for r in runs))
        rows.append((recipe, seeds, data, *(f"{s:.1f}" for s in seconds), commit, *rest))
    header = ("recipe", "seeds", "data", "train (s)", "evaluate (s)", "commit", "hardware", "threads", "versions")
    return Board("Provenance", header, tuple(rows), align="left")


def _chosen(results: Sequence[Result], task: str, metric: str) -> list[Result]:
    runs = [r for r in results if r.task == task and metric in r.metrics]
    if not runs:
        raise ValueError(f"no result of task {task!r}; found {', '.join(tasks(results, metric)) or 'none'}")
    _check(runs)
    return runs


def _metrics(runs: Sequence[Result]) -> list[str]:
    """In the order of the columns: clean, then the strongest attack first."""

    def order(metric: str) -> tuple[int, str, float]:
        attack, norm, eps = parse_metric(metric)
        return STRENGTH.index(attack) if attack in STRENGTH else -1, norm, eps

    return sorted({m for r in runs for m in r.metrics}, key=order)


def _check(runs: Sequence[Result]) -> None:
    for recipe in {r.recipe for r in runs}:
        same = [r for r in runs if r.recipe == recipe]
        for metric in sorted({m for r in same for m in r.metrics}):
            alike(same, metric)
            if len(totals := sorted({r.metrics[metric].total for r in same if metric in r.metrics})) > 1:
                raise ValueError(f"the runs of recipe {recipe!r} have {metric!r} on {totals} examples; expected one number")
        if len({r.seed for r in same}) < len(same):
            raise ValueError(f"recipe {recipe!r} has two runs of one seed; expected one each")
        shared(same)  # or else refused
    comparable(runs)
    for metric in _metrics(runs):
        if metric != "samples":  # each diffusion model has a judge of its own
            alike([r for r in runs if "+metrics" not in r.recipe], metric)


def _measured(run: Result, metric: str) -> bool:
    return metric in run.metrics


def _pooled(runs: list[Result], column: str, cell: Callable[[list[Result], str], str], has: Callable[[Result, str], bool]) -> str:
    """The cell of those runs of a recipe that have the column, and how many they are unless all do."""
    found = [r for r in runs if has(r, column)]
    if not found:
        return ""
    return cell(found, column) + (f"\n{len(found)} of {len(runs)} seeds" if len(found) < len(runs) else "")


def _board(
    runs: Sequence[Result],
    caption: str,
    columns: Sequence[str],
    cell: Callable[[list[Result], str], str],
    has: Callable[[Result, str], bool] = _measured,
    sums: Collection[str] = (),
) -> Board:
    """A row a recipe, settings under the recipe that they change, a column for each of ``columns``."""
    judge = max((m for r in runs for m in r.metrics if parse_metric(m)[0] in STRENGTH), key=_attacked, default="")
    groups: dict[str, list[str]] = {}
    for recipe in sorted({r.recipe for r in runs}, key=_natural):
        groups.setdefault(SETTING.split(recipe)[0], []).append(recipe)

    def rank(base: str) -> tuple[float, str]:
        found = [r.metrics[judge].rate for r in runs if r.recipe == base and judge in r.metrics]
        return -statistics.median(found) if found else 1.0, base

    rows = []
    for base in sorted(groups, key=rank):
        if base not in groups[base]:
            rows.append((base, *[""] * (len(columns) + 2)))
        for recipe in groups[base]:
            same = [r for r in runs if r.recipe == recipe]
            cells = [_pooled(same, column, cell, has) for column in columns]
            totals = sorted({s.total for r in same for s in r.metrics.values()})
            name = recipe if recipe == base else f"  {recipe.removeprefix(base)}"
            rows.append((name + " *" * (recipe in sums), *cells, str(len(same)), "/".join(map(str, totals))))
    ordered = f", ordered by {judge}" if judge and len(groups) > 1 else ""
    caption += f"; {STAR}" * any(r.recipe in sums for r in runs)
    heads = [column.replace("-", "\n", 1).replace("_", "\n") for column in columns]
    return Board(caption + ordered, ("recipe", *heads, "seeds", "examples"), tuple(rows))


def _attacked(metric: str) -> tuple[int, bool, float]:
    """Larger for a stronger attack; of the same one, for L2 and for a larger radius."""
    attack, norm, eps = parse_metric(metric)
    return -STRENGTH.index(attack), norm == "l2", eps


def _rate(runs: Sequence[Result], metric: str) -> str:
    """Median, interval and range over the seeds of one recipe, in per cent, a line each."""
    shares, total = [r.metrics[metric].rate for r in runs], runs[0].metrics[metric].total
    middle = statistics.median(shares)
    low, high = wilson(middle, total)
    text = f"{100 * middle:.1f}\n[{100 * low:.1f}, {100 * high:.1f}]"
    return text + (f"\n{100 * min(shares):.1f} to {100 * max(shares):.1f}" if len(runs) > 1 else "")


def _natural(name: str) -> list[Any]:
    """Sorts ``weight=8`` before ``weight=32``, and ``name`` before ``name+weight=8``."""
    return [float(part) if i % 2 else part for i, part in enumerate(re.split(r"(?<==)(\d+(?:\.\d+)?)", name))]


def _spans(seeds: Sequence[int]) -> str:
    """``0-9, 20`` for 0, 1, ..., 9 and 20, which come in rising order."""
    starts, ends = ([n for n in seeds if n + step not in seeds] for step in (-1, 1))
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
