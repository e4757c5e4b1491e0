"""Which test examples results were measured on, and so which of them can stand together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from ..recipe import Recipe
from .schema import Result

CHOOSES = ("seed", "test_per_class", "test_skip_per_class", "size", "holdout")  # options of data that say which the test examples are
LATER = ("evaluate_seconds", "evaluated", "asked", "notes", "unfinished")  # keys of the provenance that are not the training's


def tested(result: Result) -> str | None:
    """The digest of the test examples; None in a file from before there were digests."""
    now = result.provenance.get("evaluated", {}).get("data_digest")
    return (now or result.provenance.get("data_digest", {})).get("test")


def same_run(one: Result, two: Result) -> bool:
    """Whether two results are of the same weights and test examples, as far as both of them tell."""
    first, second = ({key: value for key, value in r.provenance.items() if key not in LATER} for r in (one, two))
    return (
        (one.recipe, one.task, one.seed) == (two.recipe, two.task, two.seed)
        and all(first[key] == second[key] for key in first.keys() & second.keys())
        and len({tested(one), tested(two)} - {None}) < 2
    )


def shared(runs: Sequence[Result]) -> bool:
    """Whether the seeds of one recipe, each here once, meet the same test examples.

    They do where its data fix a seed, where it takes all images of a folder, and where the results' digests say so. Of a recipe that is
    not the library's only the digests tell.

    Raises:
        ValueError: the runs are of several tasks, or of seeds that share their test examples and yet met different ones.
    """
    recipe, tasks = runs[0].recipe, sorted({r.task for r in runs})
    if len(tasks) > 1:
        raise ValueError(f"the results of recipe {recipe!r} are of the tasks {tasks[0]!r} and {tasks[1]!r}; expected those of one")
    known = [found for r in runs if (found := tested(r))]
    by_recipe = _chosen(runs[0]) is not None
    if by_recipe or len(set(known)) < len(known):
        together(runs)
    return by_recipe or (len(known) > 1 and len(set(known)) == 1)


def together(runs: Sequence[Result]) -> None:
    """Refuse results of different test examples.

    Raises:
        ValueError: their known digests differ; names two of the runs.
    """
    known: dict[str, Result] = {}
    for r in runs:
        if found := tested(r):
            known.setdefault(found, r)
    if len(known) > 1:
        one, two, *_ = (f"{r.recipe!r}, seed {r.seed} ({found})" for found, r in known.items())
        raise ValueError(f"test examples of {runs[0].task!r} differ between {one} and {two}; expected the same: are these two folders?")


def alike(runs: Sequence[Result], metric: str) -> None:
    """Refuse figures of one name that were asked for with different options, as far as the results tell.

    A mean cosine is named ``alignment.`` and its target, as in the provenance.

    Raises:
        ValueError: names two of the runs, and the options of each.
    """
    held = [r for r in runs if metric in r.metrics or metric in {f"alignment.{target}" for target in r.alignment}]
    told = [(r, r.provenance["asked"][metric]) for r in held if metric in r.provenance.get("asked", {})]
    for r, how in told[1:]:
        if how != told[0][1]:
            one, two = (f"{r.recipe!r}, seed {r.seed} (with {how or 'no options'})" for r, how in (told[0], (r, how)))
            raise ValueError(f"{metric!r} was measured in two ways, of {one} and of {two}; expected the same options")


def comparable(runs: Sequence[Result]) -> None:
    """Refuse results of one task whose recipes ask for the same test examples, whatever the seed, and that met different ones.

    Raises:
        ValueError: as of :func:`together`.
    """
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for r in runs:
        if (chosen := _chosen(r)) is not None:
            groups.setdefault(chosen, []).append(r)
    for group in groups.values():
        together(group)


def _chosen(result: Result) -> tuple[Any, ...] | None:
    """What a recipe of the library says of its test examples; None where they depend on the seed, and of another recipe."""
    options = _options(result.recipe)
    if options is None:
        return None
    drawn = {"test_per_class", "test_skip_per_class", "holdout"} & set(options)
    if "seed" not in options and (drawn or not result.task.startswith("folder:")):
        return None
    whole = options.get("train_per_class") is None  # then no training example is drawn, and the generator is another when the test ones are
    return whole, *(options.get(key) for key in CHOOSES)


@cache
def _options(recipe: str) -> dict[str, Any] | None:
    try:
        return Recipe.load(recipe).data
    except (ValueError, OSError):  # the latter of a name too long for a file
        return None
