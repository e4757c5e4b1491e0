"""Models that a recipe names, trained as by their own run, but not rounded to float16; and the directions that some of them give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import diffusion, targets, training
from ..data import Task
from ..recipe import Recipe
from ..recipes import keys
from .asked import classifier, helper, lowered


def trained(name: str, task: Task, seed: int, device: torch.device | str, progress: bool) -> nn.Module:
    """The classifier of a recipe that helps, fitted to the data as its own run would fit it."""
    recipe, _ = lowered(helper(name, seed), task)
    model = classifier(recipe, task).to(device)
    fit(model, task, recipe, progress)
    return model


def fit(model: nn.Module, task: Task, recipe: Recipe, progress: bool, **where: Any) -> training.History:
    """Train a classifier towards the directions that its recipe names; ``where`` are options of :func:`pagkit.training.fit`."""
    device = next(model.parameters()).device
    aim = target(recipe.target, task, device=device, progress=progress, **recipe.target_options) if recipe.target else None
    return training.fit(model, task, recipe, target=aim, progress=progress, **where)


def target(name: str, task: Task, *, device: torch.device | str = "cpu", progress: bool = True, **options: Any) -> targets.GradientTarget:
    """A gradient target as recipes spell it: :func:`pagkit.targets.build`, with a model that is found by name.

    Args:
        name, task, progress: as there.
        device: where such a model does its work.
        options: as there; the ``ddpm`` of ``"score_based"`` or ``"control"`` may be whatever :func:`pagkit.diffusion.find` takes.
            Directions are then kept where its model is kept, unless ``folder`` says otherwise (None: in memory only). The ``teacher`` of
            ``"teacher"`` may be the name of a recipe; its classifier is then trained, with ``seed``.

    Raises:
        ValueError, FileNotFoundError: as of these two functions.
    """
    source = options.get(targets.MODELS.get(name, ""))
    if isinstance(source, (str, Path)):
        keys.check(f"gradient target {name!r}", options, keys.TARGETS[name])
        if name == "teacher":
            options["teacher"] = trained(str(source), task, options.get("seed", 0), device, progress)
        else:
            model = diffusion.find(source, task, device=device, progress=progress)
            options = {"folder": diffusion.cache(), **options, "ddpm": model}
    return targets.build(name, task, progress=progress, **options)
