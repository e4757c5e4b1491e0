"""All that a recipe trains and measures, tried in small on its data: what cannot be done is refused before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import attacks, diffusion, evaluation, targets
from ..attacks.autoattack import PARTS, plan
from ..data import Split, Task
from ..data.files import writable
from ..diffusion import DDPM
from ..evaluation.metrics import measure
from ..recipe import Recipe
from ..targets.named import scores_of
from ..targets.scores import kept_in
from ..training.fit import check
from .asked import build, denoiser, helper, helpers, lowered, named


def rehearse(recipe: Recipe, task: Task, device: torch.device, model: nn.Module | DDPM | None = None) -> None:
    """Try what the recipe asks for: its training unless there is a ``model``, then each measurement, in the least that shows a slip.

    PGD takes one step on two examples, an exact radius is found at one, a diffusion model says one score, and AutoAttack is only asked
    for its plan. Nothing is trained, and nothing that stays is written: where a diffusion model would be trained and kept, or directions
    found and kept, the folder is made, and tried.

    Raises:
        ValueError: says recipe and key, what was found and what was expected.
        FileNotFoundError: no such file of a diffusion model.
        PermissionError: a diffusion model, or the directions of the training split, could not be kept.
    """
    if model is None:
        _training(recipe, task)
        model = build(recipe, task).to(device)
    if isinstance(model, nn.Module):
        for metric, options in recipe.metrics.items():
            with named(recipe, f"metrics.{metric}"):
                _metric(model, task, metric, options)
        for name, options in recipe.alignment.items():
            with named(recipe, f"alignment.{name}"):
                _target(name, options, task)
                if options.get("change") in ("other_example", "random_image"):
                    raise ValueError(f"change is {options['change']!r}, drawn for training examples only; expected another")
        if recipe.checklist:
            with named(recipe, "checklist"):
                threat = attacks.Threat(recipe.checklist["norm"], recipe.checklist["eps"], task.bounds)
                evaluation.robust_accuracy(model, _few(task), threat, steps=1, progress=False)
    for key, name, seed in helpers(recipe):
        with named(recipe, key):
            _training(lowered(helper(name, seed), task)[0], task)


def _training(recipe: Recipe, task: Task) -> None:
    trained = build(recipe, task)
    if isinstance(trained, DDPM):
        with named(recipe, f"model {recipe.model}"):
            _score(trained, task)
        return
    with named(recipe, "training"):
        check(trained, task, recipe)
        if "adversarial" in recipe.method:
            attacks.Threat(recipe.norm, recipe.eps, task.bounds)
    if recipe.target is not None:
        with named(recipe, f"target {recipe.target}"):
            model = _target(recipe.target, recipe.target_options, task)
        if model is not None and recipe.target_options.get("change") not in ("random_image", "mean_image", "smooth_field"):
            _keepable(model, recipe.target_options, task)  # other changes look at scores


def _metric(model: nn.Module, task: Task, metric: str, options: dict[str, Any]) -> None:
    """Only the plan of AutoAttack and its parts, for which two examples are minutes."""
    attack, norm, eps = evaluation.parse_metric(metric)
    if attack in PARTS:
        attacks.Threat(norm, eps, task.bounds)
        plan(PARTS[attack] or options.get("attacks"), len(task.classes), task.shape)
        return
    small = {"steps": 1, "restarts": 1} if attack == "pgd" else {}
    measure(model, replace(task, test=_few(task)), metric, progress=False, **{**options, **small})


def _few(task: Task) -> Split:
    """A test example, and one of another class, since a targeted attack leaves those of its target as they are."""
    split = task.test
    other = (split.y != split.y[0]).nonzero().flatten()[:1]
    rows = torch.cat([torch.zeros(1, dtype=torch.int64), other.cpu()])
    return Split(split.x[rows], split.y[rows])


def _target(name: str, options: dict[str, Any], task: Task) -> DDPM | None:
    """Gives the diffusion model that the directions come from, if any; untrained where it has not been kept."""
    model = None
    if name == "control":
        scores_of(options, options.get("ddpm"))
    if options.get("ddpm") is not None:
        model = _diffusion(options["ddpm"], task)
        _score(model, task, {key: value for key, value in options.items() if key != "change"})
        model = diffusion.check_cache(options["ddpm"], task) or model
    if name == "score_based":
        return model
    if name == "control":
        targets.control(task, targets.GradientTarget("none", lambda index, x, classes: x[:, None]), change=options["change"])
    needed = 2 if name in ("nearest_neighbor", "control") else 1
    for label, found in zip(task.classes, task.train.y.bincount(minlength=len(task.classes)).tolist(), strict=True):
        found = min(found, options.get("per_class") or found)
        if found < needed:
            raise ValueError(f"class {label!r} of {task.name} has {found} training example(s) to look among; expected at least {needed}")
    return model


def _keepable(model: DDPM, options: dict[str, Any], task: Task) -> None:
    """Refuse a folder that does not have the directions of the training split, and cannot be written."""
    folder = options.get("folder", diffusion.cache())
    how = {key: options[key] for key in ("t", "draws", "seed") if key in options}
    if folder is not None and not kept_in(folder, task, model, **how).is_file():
        writable(Path(folder), "set target_options.folder to another, or to null to keep directions in memory")


def _diffusion(source: str | Path, task: Task) -> DDPM:
    """As :func:`pagkit.diffusion.find`; a recipe's model is not trained."""
    if str(source).endswith(".safetensors"):
        return DDPM.load(source)
    if diffusion.is_stored(source):
        return diffusion.load_folder(source, task)
    return denoiser(Recipe.load(source), task)


def _score(model: DDPM, task: Task, options: dict[str, Any] | None = None) -> None:
    """Shape, classes, bounds and noise level, on one example; what has been trained does not matter."""
    options = {name: value for name, value in (options or {"t": 0}).items() if name not in ("ddpm", "folder", "draws")}
    aim = targets.build("score_based", task, progress=False, ddpm=model, **options)
    aim(torch.tensor([-1]), task.train.x[:1], torch.zeros(1, 1, dtype=torch.int64))
