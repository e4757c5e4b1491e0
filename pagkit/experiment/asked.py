"""What a recipe asks for: its data, its network, its directions, all found by name; and refused before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import attacks, data, diffusion, evaluation, models, targets
from ..attacks.autoattack import package
from ..data import Task
from ..diffusion import DDPM
from ..recipe import Recipe
from ..recipes import keys
from ..training import processes


def load(recipe: Recipe, folder: str | Path | None) -> tuple[Recipe, Task]:
    """The data of a recipe, or of a folder in their place: the recipe then names it."""
    check(recipe)
    if folder is not None:
        recipe = replace(recipe, task=f"folder:{folder}")
    with processes.main_first():  # which fetches what is missing
        return recipe, data.load(recipe.task, **{"seed": recipe.seed, **recipe.data})


def check(recipe: Recipe) -> None:
    """Refuse now, not after training, what the recipe asks for and is not here: other recipes, files, norms, AutoAttack."""
    for metric, options in recipe.metrics.items():
        attack, norm, eps = evaluation.parse_metric(metric)
        if attack == "samples":
            Recipe.load(options["judge"])
        elif attack in ("autoattack", "square"):
            package()  # is it installed?
    if recipe.checklist:
        attacks.Threat(recipe.checklist["norm"], recipe.checklist["eps"])
        if "surrogate" in recipe.checklist:
            Recipe.load(recipe.checklist["surrogate"])
    sources = [*recipe.alignment.values(), recipe.target_options]
    for source in [options["ddpm"] for options in sources if "ddpm" in options]:
        if str(source).endswith(".safetensors"):
            if not Path(source).is_file():
                raise FileNotFoundError(f"no file {source}; expected one that DDPM.save wrote")
        elif not Path(source).is_dir() and (method := Recipe.load(source).method) != "ddpm":
            raise ValueError(f"recipe {source!r} has method {method!r}; expected 'ddpm'")


def build(recipe: Recipe, task: Task) -> nn.Module | DDPM:
    if recipe.method == "ddpm":
        return diffusion.build(recipe, task)
    return models.build(recipe.model, task, seed=recipe.seed, **recipe.model_options)


def network(model: nn.Module | DDPM) -> nn.Module:
    return model if isinstance(model, nn.Module) else model.unet


def target(name: str, task: Task, *, device: torch.device | str = "cpu", progress: bool = True, **options: Any) -> targets.GradientTarget:
    """A gradient target as recipes spell it: :func:`pagkit.targets.build`, with a diffusion model that is found by name.

    Args:
        name, task, progress: as there.
        device: where a diffusion model does its work.
        options: as there; the ``ddpm`` of ``"score_based"`` may be whatever :func:`pagkit.diffusion.find` takes. Directions are then
            kept where its model is kept, unless ``folder`` says otherwise (None: in memory only).

    Raises:
        ValueError, FileNotFoundError: as of these two functions.
    """
    if name == "score_based" and isinstance(options.get("ddpm"), (str, Path)):
        keys.check(f"gradient target {name!r}", options, keys.TARGETS[name])
        model = diffusion.find(options["ddpm"], task, device=device, progress=progress)
        options = {"folder": diffusion.cache(), **options, "ddpm": model}
    return targets.build(name, task, progress=progress, **options)
