"""Runs of recipes: train and evaluate at once, or train with checkpoints first and evaluate the folder later."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from .. import diffusion, evaluation, models, results
from ..data import Task
from ..data.files import write_atomically
from ..diffusion import DDPM
from ..recipe import Recipe
from ..training import checkpoints, processes
from .asked import build, fitted, load, network
from .measured import measure
from .rehearsed import rehearse
from .trained import fit

WEIGHTS, RECIPE, RESULT = "model.safetensors", "recipe.yaml", "result.json"
MEASURED = ("metrics", "alignment", "checklist")  # keys of a recipe that do not touch the weights
EXAMPLE = "metrics.pgd-l2-0.5.steps=100"


def run(
    recipe: Recipe, *, out: str | Path, folder: str | Path | None = None, device: str = "auto", progress: bool = True
) -> results.Result:
    """Train and evaluate ``recipe``, then write ``out``/model.safetensors and ``out``/result.json.

    Args:
        recipe: with ``recipe.seed`` set.
        out: a folder; made if missing.
        folder: take the images of this folder (train/<class>/, test/<class>/) in place of the recipe's, as many a class as it says.
        device: see :func:`pagkit.training.processes.device`.
        progress: show bars.

    The weights are there before they are measured: :func:`evaluate` measures them again, or for the first time if that was stopped.
    A classifier's are rounded to float16 first, so that what is kept, in half the space, is what is measured.
    result.json is written anew after each measurement; until the last one its provenance says what is ``unfinished``. What the
    data do not allow is lowered with a warning and a note in the provenance, see :func:`pagkit.experiment.asked.fitted`.
    Of several processes each comes to the same result, and process 0 writes it.

    Raises:
        ValueError, FileNotFoundError: bad recipe, data or device, or something that cannot be trained or measured on these data; found
            before any training, and before anything is written.
        ImportError: the recipe measures with AutoAttack, which is an extra that is not installed; found before any training.
        pagkit.training.TrainingDiverged: a loss that is not finite.
    """
    where = processes.device(device)
    recipe, task, notes = _asked(recipe, folder, where)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    model, origin = _train(recipe, task, where, progress, notes)
    if processes.rank() == 0:
        _save(out / WEIGHTS, model, recipe, origin)
    return _measure(out, recipe, task, model, origin, progress)


def train(
    recipe: Recipe,
    *,
    run: str | Path,
    folder: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    log: bool = False,
    tell: Callable[[str], None] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train ``recipe`` with checkpoints in ``run``, where recipe.yaml is written first and model.safetensors last.

    Args:
        recipe: with ``recipe.seed`` set.
        run: a folder; made if missing.
        folder: as in :func:`run`; recipe.yaml then names it.
        resume: go on from the last checkpoint in ``run``, see :func:`pagkit.training.fit`.
        device: see :func:`pagkit.training.processes.device`.
        log, tell: as in :func:`pagkit.training.fit`.
        progress: show bars.

    Returns:
        The provenance of the model, as :func:`pagkit.results.provenance` makes it; model.safetensors holds it and the recipe too.

    Raises:
        ValueError, FileNotFoundError: bad recipe or data; without ``resume`` a folder in use; with it checkpoints that do not fit.
            All are found before any training.
        OSError: a file cannot be written.
        pagkit.training.TrainingDiverged: a loss that is not finite.
    """
    where = processes.device(device)
    recipe, task, notes = _asked(recipe, folder, where)
    run = Path(run)
    if not resume and (run / WEIGHTS).exists():
        raise ValueError(f"{run} holds a trained model, {WEIGHTS}; name another folder")
    checkpoints.claim(run, checkpoints.about(network(build(recipe, task)), task, recipe), resume=resume)
    if processes.rank() == 0:
        write_atomically(run / RECIPE, recipe.to_yaml().encode())
    model, origin = _train(recipe, task, where, progress, notes, run_dir=run, resume=resume, log=log, tell=tell)
    if processes.rank() == 0:
        _save(run / WEIGHTS, model, recipe, origin)
    return origin


def evaluate(
    run: str | Path,
    *,
    metrics: Sequence[str] = (),
    checklist: str | None = None,
    settings: Sequence[str] = (),
    batch_size: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> results.Result:
    """Measure what :func:`train` or :func:`run` left in the folder ``run``, and write ``run``/result.json.

    Recipe and provenance are the training's, which model.safetensors holds. Where data, code or machine have changed since, the
    provenance's ``evaluated`` says what they are now. Relative paths in the recipe are taken from the working folder.
    After each measurement result.json is written as in :func:`run`. What an earlier evaluation of the same weights by the same recipe
    measured, and this one does not, stays in it.

    Args:
        run: a folder with a model.safetensors.
        metrics: what to measure beyond the recipe's metrics, each with its defaults: names such as ``autoattack-l2-0.5``.
        checklist: a norm and eps such as ``l2-0.5``, to go through the gradient-masking checklist at these in place of the recipe's;
            where the recipe has none, on the first 200 test examples and without a surrogate.
        settings: changes of the recipe's metrics, alignment or checklist, such as ``metrics.pgd-l2-0.5.steps=100``; the result's
            recipe carries them in its name.
        batch_size: examples at a time; None: each measurement's own.
        device: see :func:`pagkit.training.processes.device`.
        progress: show bars.

    Raises:
        FileNotFoundError: no folder, or no weights in it since the training has not finished.
        ValueError: weights without a recipe or that do not fit it, an unknown metric or norm, a setting of something else, a batch
            size below 1, and those of :func:`run`; found before anything is measured.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    run, where = Path(run), processes.device(device)
    if not (run / WEIGHTS).is_file():
        raise FileNotFoundError(f"no {WEIGHTS} in {run}; `pagkit run` and `pagkit train` write it when the training ends")
    state, about = models.load_weights(run / WEIGHTS)
    try:
        recipe, origin = Recipe(**yaml.safe_load(about["recipe"])), json.loads(about["provenance"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{run / WEIGHTS} does not say how it was trained ({error}); expected a file that `pagkit` wrote") from error
    recipe, task = load(_more(recipe, metrics, checklist, settings), None)
    recipe, notes = fitted(recipe, task)
    if notes := list(dict.fromkeys([*origin.get("notes", []), *notes])):
        origin["notes"] = notes
    model = build(recipe, task)
    try:
        network(model).load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{run / WEIGHTS} does not fit its recipe and data: {error}") from error
    rehearse(recipe, task, where, model.to(where))
    return _measure(run, recipe, task, model, origin, progress, batch_size)


def _asked(recipe: Recipe, folder: str | Path | None, device: torch.device) -> tuple[Recipe, Task, list[str]]:
    """The recipe as its data allow it, the data, and notes on the difference; what cannot be done is refused."""
    recipe, task = load(recipe, folder)
    recipe, notes = fitted(recipe, task)
    rehearse(recipe, task, device)
    return recipe, task, notes


def _more(recipe: Recipe, metrics: Sequence[str], checklist: str | None, settings: Sequence[str]) -> Recipe:
    """The recipe with what else is to be measured."""
    if checklist is not None:
        try:
            _, norm, eps = evaluation.parse_metric(f"pgd-{checklist}")
        except ValueError:
            raise ValueError(f"checklist is {checklist!r}; expected a norm and eps such as 'l2-0.5'") from None
        recipe = replace(recipe, checklist={"examples": 200, **recipe.checklist, "norm": norm, "eps": eps})
    for setting in settings:
        if re.split("[.=]", setting)[0] not in MEASURED:
            raise ValueError(f"setting {setting!r} changes what was trained; expected one of {', '.join(MEASURED)}, such as {EXAMPLE}")
    recipe = recipe.changed(*settings)
    return replace(recipe, metrics={**recipe.metrics, **{name: {} for name in metrics if name not in recipe.metrics}})


def _measure(
    folder: Path,
    recipe: Recipe,
    task: Task,
    model: nn.Module | DDPM,
    origin: dict[str, Any],
    progress: bool,
    batch_size: int | None = None,
) -> results.Result:
    """Measure, and write the result to ``folder`` after each measurement; a failure says what is kept there."""
    path, kept = folder / RESULT, f"{folder / WEIGHTS} is kept"
    before = _before(path, recipe, task)

    def save(result: results.Result) -> results.Result:
        result = result if before is None else results.joined(before, result)
        if processes.rank() == 0:
            results.save(path, result)
        return result

    def keep(result: results.Result) -> None:
        nonlocal kept
        save(result)
        kept = f"{path} holds what was measured until then, without {', '.join(result.provenance['unfinished'])}"

    try:
        result = measure(recipe, task, model, origin, progress, batch_size=batch_size, keep=keep)
    except BaseException as error:  # Ctrl-C, too
        error.add_note(f"{kept}; `{shlex.join(['pagkit', 'evaluate', str(folder)])}` measures all that the recipe asks for")
        raise
    return save(result)


def _before(path: Path, recipe: Recipe, task: Task) -> results.Result | None:
    """What an earlier evaluation of the same recipe has left."""
    try:
        found = results.load(path)
    except (FileNotFoundError, ValueError):
        return None
    return found if (found.recipe, found.task, found.seed) == (recipe.name, task.name, recipe.seed) else None


def _train(
    recipe: Recipe, task: Task, device: torch.device, progress: bool, notes: list[str], **where: Any
) -> tuple[nn.Module | DDPM, dict[str, Any]]:
    """A model and its provenance; ``where`` are options of :func:`pagkit.training.fit`."""
    model = build(recipe, task).to(device)
    train = fit if isinstance(model, nn.Module) else diffusion.train
    history = train(model, task, recipe, progress=progress, **where)
    if isinstance(model, nn.Module):
        models.round_weights(model)
    spent = {"train_seconds": history.seconds, "train_cpu_seconds": history.cpu_seconds}
    origin = results.provenance(task, **spent, evaluate_seconds=0.0)
    return model, {**origin, **({"notes": notes} if notes else {})}


def _save(path: Path, model: nn.Module | DDPM, recipe: Recipe, origin: dict[str, Any]) -> None:
    """The weights; the header of their file says where they come from, so that one file is all that :func:`evaluate` needs."""
    state, about = (models.halved(model.state_dict()), {}) if isinstance(model, nn.Module) else model.state()
    path.with_name(RESULT).unlink(missing_ok=True)  # of other weights
    models.save_weights(path, state, {**about, "recipe": recipe.to_yaml(), "provenance": json.dumps(origin)})
