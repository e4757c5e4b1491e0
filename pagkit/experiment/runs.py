"""Runs of recipes: train and evaluate at once, or train with checkpoints first and evaluate the folder later."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from .. import diffusion, evaluation, models, results, training
from ..data import Task
from ..data.files import write_atomically
from ..diffusion import DDPM
from ..recipe import Recipe
from ..training import checkpoints, processes
from .asked import build, load, network, target
from .measured import measure

WEIGHTS, RECIPE, RESULT = "model.safetensors", "recipe.yaml", "result.json"


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
    Of several processes each comes to the same result, and process 0 writes it.

    Raises:
        ValueError, FileNotFoundError: bad recipe, data or device; found before any training.
        ImportError: the recipe measures with AutoAttack, which is an extra that is not installed; found before any training.
        pagkit.training.TrainingDiverged: a loss that is not finite.
    """
    where = processes.device(device)
    recipe, task = load(recipe, folder)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    model, origin = _train(recipe, task, where, progress)
    if processes.rank() == 0:
        _save(out / WEIGHTS, model, recipe, origin)
    result = measure(recipe, task, model, origin, progress)
    if processes.rank() == 0:
        results.save(out / RESULT, result)
    return result


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
    recipe, task = load(recipe, folder)
    run = Path(run)
    if not resume and (run / WEIGHTS).exists():
        raise ValueError(f"{run} holds a trained model, {WEIGHTS}; name another folder")
    checkpoints.claim(run, checkpoints.about(network(build(recipe, task)), task, recipe), resume=resume)
    if processes.rank() == 0:
        write_atomically(run / RECIPE, recipe.to_yaml().encode())
    model, origin = _train(recipe, task, where, progress, run_dir=run, resume=resume, log=log, tell=tell)
    if processes.rank() == 0:
        _save(run / WEIGHTS, model, recipe, origin)
    return origin


def evaluate(
    run: str | Path, *, metrics: Sequence[str] = (), checklist: str | None = None, device: str = "auto", progress: bool = True
) -> results.Result:
    """Measure what :func:`train` or :func:`run` left in the folder ``run``, and write ``run``/result.json.

    Recipe and provenance are the training's, which model.safetensors holds. Where data, code or machine have changed since, the
    provenance's ``evaluated`` says what they are now. Relative paths in the recipe are taken from the working folder.

    Args:
        run: a folder with a model.safetensors.
        metrics: what to measure beyond the recipe's metrics, each with its defaults: names such as ``autoattack-l2-0.5``.
        checklist: a norm and eps such as ``l2-0.5``, to go through the gradient-masking checklist on the first 200 test examples in
            place of what the recipe says.
        device: see :func:`pagkit.training.processes.device`.
        progress: show bars.

    Raises:
        FileNotFoundError: no folder, or no weights in it since the training has not finished.
        ValueError: weights without a recipe or that do not fit it, an unknown metric or norm, and those of :func:`run`.
    """
    run, where = Path(run), processes.device(device)
    if not (run / WEIGHTS).is_file():
        raise FileNotFoundError(f"no {WEIGHTS} in {run}; `pagkit run` and `pagkit train` write it when the training ends")
    state, about = models.load_weights(run / WEIGHTS)
    try:
        recipe, origin = Recipe(**yaml.safe_load(about["recipe"])), json.loads(about["provenance"])
        recipe = replace(recipe, metrics={**recipe.metrics, **{name: {} for name in metrics if name not in recipe.metrics}})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{run / WEIGHTS} does not say how it was trained ({error}); expected a file that `pagkit` wrote") from error
    if checklist is not None:
        try:
            _, norm, eps = evaluation.parse_metric(f"pgd-{checklist}")
        except ValueError:
            raise ValueError(f"checklist is {checklist!r}; expected a norm and eps such as 'l2-0.5'") from None
        recipe = replace(recipe, checklist={"norm": norm, "eps": eps, "examples": 200})
    recipe, task = load(recipe, None)
    model = build(recipe, task)
    try:
        network(model).load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{run / WEIGHTS} does not fit its recipe and data: {error}") from error
    result = measure(recipe, task, model.to(where), origin, progress)
    if processes.rank() == 0:
        results.save(run / RESULT, result)
    return result


def _train(recipe: Recipe, task: Task, device: torch.device, progress: bool, **where: Any) -> tuple[nn.Module | DDPM, dict[str, Any]]:
    """A model and its provenance; ``where`` are options of :func:`pagkit.training.fit`."""
    model = build(recipe, task).to(device)
    if recipe.method == "ddpm":
        history = diffusion.train(model, task, recipe, progress=progress, **where)
    else:
        aim = target(recipe.target, task, device=device, progress=progress, **recipe.target_options) if recipe.target else None
        history = training.fit(model, task, recipe, target=aim, progress=progress, **where)
    spent = {"train_seconds": history.seconds, "train_cpu_seconds": history.cpu_seconds}
    return model, results.provenance(task, **spent, evaluate_seconds=0.0)


def _save(path: Path, model: nn.Module | DDPM, recipe: Recipe, origin: dict[str, Any]) -> None:
    """The weights; the header of their file says where they come from, so that one file is all that :func:`evaluate` needs."""
    state, about = (model.state_dict(), {}) if isinstance(model, nn.Module) else model.state()
    models.save_weights(path, state, {**about, "recipe": recipe.to_yaml(), "provenance": json.dumps(origin)})
