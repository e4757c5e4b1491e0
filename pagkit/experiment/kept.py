"""What a folder keeps of a run: the weights, whose file says how they were trained, and what was measured of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
import yaml
from torch import Tensor, nn

from .. import models, results
from ..data import Task
from ..data.files import alone
from ..diffusion import DDPM
from ..recipe import Recipe
from ..training import processes

WEIGHTS, RECIPE, RESULT = "model.safetensors", "recipe.yaml", "result.json"
MEASURED = ("metrics", "alignment", "checklist")  # keys of a recipe that do not touch the weights
LONGEST = 200  # characters of a file's name


@dataclass(frozen=True)
class Kept:
    """Weights as their file holds them, the recipe that they were trained by, and the provenance of that training."""

    state: dict[str, Tensor]
    recipe: Recipe
    origin: dict[str, Any]


def read(folder: Path) -> Kept:
    """The weights in a folder.

    Raises:
        FileNotFoundError: there are none.
        ValueError: the file is not whole, or does not say how it was trained.
    """
    if not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"no {WEIGHTS} in {folder}; `pagkit run` and `pagkit train` write it when the training ends")
    state, about = models.load_weights(folder / WEIGHTS)
    try:
        return Kept(state, Recipe(**yaml.safe_load(about["recipe"])), json.loads(about["provenance"]))
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{folder / WEIGHTS} does not say how it was trained ({error}); expected a file that `pagkit` wrote") from error


def claim(folder: Path, recipe: Recipe, task: Task, *, free: Collection[str]) -> Kept | None:
    """The weights that a training into ``folder`` would replace; None where there are none.

    The data are compared by content where the file tells their digest.

    Args:
        folder: may be missing.
        recipe, task: of the training.
        free: keys of the recipe that may differ.

    Raises:
        ValueError: the weights are of another recipe, seed or data set, or do not say of which; says what differs.
    """
    if not (folder / WEIGHTS).is_file():
        return None
    kept = read(folder)
    digest = kept.origin.get("data_digest", {}).get("train")
    keys = [key.name for key in fields(recipe) if key.name not in (*free, *(("task", "data") if digest else ()))]
    pairs = {key: (getattr(kept.recipe, key), getattr(recipe, key)) for key in keys}
    if digest:
        pairs["the digest of the training data"] = (digest, results.data_digest(task)["train"])
    for key, (there, here) in pairs.items():
        if there != here:
            raise ValueError(
                f"{folder} holds a model of another training, of {kept.recipe.name!r} and seed {kept.recipe.seed}: "
                f"{key} is {there!r} there and {here!r} here; name another folder"
            )
    return kept


def save(folder: Path, model: nn.Module | DDPM, recipe: Recipe, origin: dict[str, Any], before: Kept | None) -> dict[str, Any]:
    """Write the weights; the header of their file says where they come from, so that one file is all that an evaluation needs.

    Results of other weights, or of none, are set aside once these are on disk, each with a warning, see :class:`ResultFile`. Where the
    weights are those that the folder had ``before``, to the last bit, they stay.

    Returns:
        The provenance of the weights: ``origin``, or that of ``before`` where they are its.
    """
    state, about = (models.halved(model.state_dict()), {}) if isinstance(model, nn.Module) else model.state()
    same = before is not None and _equal(before.state, state)
    origin = before.origin if before is not None and same else origin
    if processes.rank() == 0:
        models.save_weights(folder / WEIGHTS, state, {**about, "recipe": recipe.to_yaml(), "provenance": json.dumps(origin)})
        for path in [] if same else [*folder.glob(RESULT), *folder.glob(f"{Path(RESULT).stem}+*.json")]:
            _set_aside(path, "what was measured of other weights, or of weights that are gone", stacklevel=4)
    return origin


def _equal(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(one[key].dtype == two[key].dtype and torch.equal(one[key], two[key].cpu()) for key in one)


def result_name(settings: Sequence[str] = ()) -> str:
    """The file of what was measured with some settings: ``result.json``, or such as ``result+metrics.pgd-l2-0.5.steps=100.json``.

    What a file's name may not hold everywhere is written as in a web address, and a long name ends in a digest in place of the rest.
    """
    stem, ending = Path(RESULT).stem, Path(RESULT).suffix
    name = "+".join([stem, *(quote(setting, safe="=,") for setting in settings)])
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 13]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return name + ending


class ResultFile:
    """A result file that grows: what it held of the same weights, measured on the same test examples, stays in it.

    Anything else that it held is set aside at the first writing, with a warning, as ``result.json.1`` or the next number that is free,
    which no table reads. It is read anew at each writing, as another evaluation may write to it meanwhile; the two take turns. Of several
    processes process 0 writes.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.fresh = path, True

    def write(self, result: results.Result) -> results.Result:
        """Write a result, whole or not at all; it, with what stays."""
        with alone(self.path) if processes.rank() == 0 else nullcontext():
            return self._write(result)

    def _write(self, result: results.Result) -> results.Result:
        try:
            before: results.Result | None = results.load(self.path)
        except (FileNotFoundError, ValueError):
            before = None
        stays = before is not None and results.same_run(before, result)
        if before is not None and stays:
            result = results.joined(before, result)
        if processes.rank() == 0:
            if self.fresh and not stays and self.path.exists():
                why = "what was measured of other weights, by another recipe or on other test examples" if before else "no result"
                _set_aside(self.path, why, stacklevel=6)
            results.save(self.path, result)
        self.fresh = False
        return result


def _set_aside(path: Path, held: str, *, stacklevel: int) -> None:
    names = (path.with_name(f"{path.name}.{n}") for n in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    warnings.warn(f"{path} held {held}; it is kept as {aside.name}", stacklevel=stacklevel)
