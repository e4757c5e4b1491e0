"""Result files: their schema, atomic writing and loading.

``result.json`` holds::

    {"recipe": str, "task": str, "seed": int,
     "metrics": {"clean": {"correct": int, "total": int, "held": str}, ...},  # held, see Score, not in files from before there was such
     "alignment": {"nearest_neighbor": float, ...},                          # where the recipe asks for it, as for the next:
     "checklists": [{"caption": str, "rows": [[name, verdict, figure], ...]}, ...],
     "provenance": {"data": str, "hardware": str, "threads": int,
                    "data_digest": {"train": str, "test": str}, "device": str,  # not in files from before there were these
                    "train_seconds": float, "train_cpu_seconds": float, "evaluate_seconds": float,
                    "versions": {"python": str, "torch": str, ...}, "commit": str,
                    "evaluated": {"commit": str, ...},                      # what is not as at the training, where something is not
                    "asked": {"pgd-l2-0.5": {"steps": 40}, ...},            # how each figure was to be measured: its options; as before
                    "notes": [str, ...],                                    # what is not as the recipe says, since the data forbid it
                    "unfinished": [str, ...]}}                              # what was still to be measured when this was written
"""

from __future__ import annotations

import json
import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data.files import write_atomically
from ..evaluation import Check, Checklist, Score, parse_metric

PROVENANCE = {
    "data": str,
    "hardware": str,
    "threads": int,
    "train_seconds": float,
    "evaluate_seconds": float,
    "versions": dict,
    "commit": str,
}
SOMETIMES = {"notes": list, "unfinished": list, "data_digest": dict, "evaluated": dict, "asked": dict}  # the lists are of words


@dataclass(frozen=True)
class Result:
    """One run of one recipe.

    Attributes:
        recipe, task, seed: which run; a changed setting is part of the recipe's name, see :meth:`pagkit.recipe.Recipe.load`.
        metrics: names such as ``pgd-l2-15`` to scores.
        provenance: as :func:`provenance` makes it; with ``unfinished`` where the measuring has stopped before its end.
        alignment: mean cosine of the test gradients with the directions of each gradient target.
        checklists: of gradient masking, one a threat, which its caption names.

    Raises:
        ValueError: a part of another type, an unknown metric, an alignment that is not finite.
    """

    recipe: str
    task: str
    seed: int
    metrics: dict[str, Score]
    provenance: dict[str, Any]
    alignment: dict[str, float] = field(default_factory=dict)
    checklists: tuple[Checklist, ...] = ()

    def __post_init__(self) -> None:
        for name in ("recipe", "task"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected str")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise ValueError(f"seed is {self.seed!r}; expected a whole number")
        for metric in self.metrics:
            parse_metric(metric)
        for name, cosine in self.alignment.items():
            if not isinstance(cosine, int | float) or isinstance(cosine, bool) or not math.isfinite(cosine):
                raise ValueError(f"alignment {name!r} is {cosine!r}; expected a finite number")
        for key, kind in PROVENANCE.items():
            if not isinstance(self.provenance.get(key), kind):
                raise ValueError(f"provenance {key!r} is {self.provenance.get(key)!r}; expected {kind.__name__}")
        for key, kind in SOMETIMES.items():
            found = self.provenance.get(key, kind())
            if not isinstance(found, kind) or (kind is list and not all(isinstance(word, str) for word in found)):
                raise ValueError(f"provenance {key!r} is {found!r}; expected {'a list of words' if kind is list else 'a mapping'}")


def joined(before: Result, result: Result) -> Result:
    """``result`` and what ``before``, of the same weights, holds besides; but not what ``result`` asks for with other options."""
    then, now = (r.provenance.get("asked", {}) for r in (before, result))

    def stands(name: str) -> bool:
        return name not in now or then.get(name, now[name]) == now[name]

    metrics = {name: score for name, score in before.metrics.items() if stands(name)} | result.metrics
    alignment = {name: cosine for name, cosine in before.alignment.items() if stands(f"alignment.{name}")} | result.alignment
    checklists = {made.caption: made for made in (*before.checklists, *result.checklists)}  # the caption names the threat
    asked = {"asked": {name: how for name, how in then.items() if stands(name)} | now} if then or now else {}
    return replace(
        result, metrics=metrics, alignment=alignment, checklists=tuple(checklists.values()), provenance={**result.provenance, **asked}
    )


def save(path: str | Path, result: Result) -> None:
    """Write ``result`` as JSON, whole or not at all."""
    content = {
        "recipe": result.recipe,
        "task": result.task,
        "seed": result.seed,
        "metrics": {name: _counted(score) for name, score in result.metrics.items()},
    }
    if result.alignment:
        content["alignment"] = {name: round(value, 4) for name, value in result.alignment.items()}
    if result.checklists:
        content["checklists"] = [
            {"caption": made.caption, "rows": [[check.name, check.verdict, check.figure] for check in made.checks]}
            for made in result.checklists
        ]
    content["provenance"] = result.provenance
    write_atomically(Path(path), (json.dumps(content, indent=1) + "\n").encode())


def load(path: str | Path) -> Result:
    """Read a result file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, a key that stands twice, or not of the schema; names the file and what is wrong.
    """
    try:
        content = json.loads(Path(path).read_text(), object_pairs_hook=_once)
        metrics = {name: Score(**score) for name, score in content["metrics"].items()}
        checks = tuple(Checklist(tuple(Check(*row) for row in made["rows"]), made["caption"]) for made in content.get("checklists", []))
        named = (content["recipe"], content["task"], content["seed"])
        return Result(*named, metrics, content["provenance"], content.get("alignment", {}), checks)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not a result file: {type(error).__name__} {error}") from error


def load_all(folder: str | Path) -> list[Result]:
    """Every result below ``folder``, by recipe and seed. Another ``*.json``, without a recipe, is left out with a warning.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: a result that :func:`load` refuses, or two files of one recipe, task and seed; names the files.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    found: dict[tuple[str, str, int], tuple[Path, Result]] = {}
    for path in sorted(Path(folder).rglob("*.json")):
        try:
            r = load(path)
        except ValueError:
            if b'"recipe"' in path.read_bytes():
                raise
            warnings.warn(f"{path} is left out: it names no recipe, so it is no result", stacklevel=2)
            continue
        other, _ = found.setdefault((r.recipe, r.task, r.seed), (path, r))
        if other != path:
            raise ValueError(f"{other} and {path} both hold recipe {r.recipe!r} on {r.task!r}, seed {r.seed}; expected one of them")
    return sorted((r for _, r in found.values()), key=lambda r: (r.recipe, r.seed))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping of JSON in which no key stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice; expected it once")
    return found


def _counted(score: Score) -> dict[str, Any]:
    return {"correct": score.correct, "total": score.total} | ({"held": score.held} if score.held else {})


def summary(counts: Sequence[int]) -> str:
    """``median (lowest-highest)`` of some counts."""
    return f"{statistics.median(counts):g} ({min(counts)}-{max(counts)})"
