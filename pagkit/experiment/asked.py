"""What a recipe asks for: its data, its network, its directions, all found by name; and refused before any work."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import attacks, data, diffusion, evaluation, models
from ..attacks.autoattack import PARTS, package
from ..data import Task
from ..data.folders import fewest
from ..diffusion import DDPM
from ..recipe import Recipe
from ..recipes import keys
from ..training import processes
from ..training.fit import single


def load(recipe: Recipe, folder: str | Path | None) -> tuple[Recipe, Task]:
    """The data of a recipe, or of a folder in their place: the recipe then names it.

    Raises:
        ValueError, FileNotFoundError, ImportError: those of :func:`check` and :func:`pagkit.data.load`, and a split without examples.
    """
    check(recipe)
    if folder is not None:
        options = {name: value for name, value in recipe.data.items() if name != "root"}  # which is that of other data
        recipe = replace(recipe, task=f"folder:{folder}", data=options)
    with processes.main_first():  # which fetches what is missing
        task = data.load(recipe.task, **{"seed": recipe.seed, **recipe.data})
    for name, split in (("training", task.train), ("test", task.test)):
        if len(split) == 0:
            raise ValueError(f"recipe {recipe.name!r}: the {name} split of {task.name} is empty; expected at least one example")
    return recipe, task


def unskipped(recipe: Recipe, folder: str | Path | None) -> tuple[Recipe, list[str]]:
    """The recipe without its ``test_skip_per_class`` where that would leave a class of the folder empty; a note on it is a warning, too."""
    skip, options = recipe.data.get("test_skip_per_class"), {**recipe.data, "test_skip_per_class": None}
    if folder is None or skip is None or recipe.data.get("holdout") or not 0 < (found := fewest(Path(os.path.expanduser(folder)))) <= skip:
        return recipe, []
    why = f"folder:{Path(os.path.abspath(folder)).name} has {found} test image{'s' * (found > 1)} of a class"
    note = f"recipe {recipe.name!r}: data.test_skip_per_class is {skip}; {why}, so none are left out"
    warnings.warn(note, stacklevel=2)
    return replace(recipe, data=options), [note]


def check(recipe: Recipe) -> None:
    """Refuse now, not after training, what the recipe asks for and is not here: other recipes, files, norms, AutoAttack."""
    for metric in recipe.metrics:
        attack, *_ = evaluation.parse_metric(metric)
        if attack in PARTS:
            package()  # is it installed?
    if recipe.checklist:
        attacks.Threat(recipe.checklist["norm"], recipe.checklist["eps"])
    for _, name, seed in helpers(recipe):
        helper(name, seed)
    sources = [*recipe.alignment.values(), recipe.target_options]
    for source in [options["ddpm"] for options in sources if options.get("ddpm") is not None]:
        if str(source).endswith(".safetensors") and not Path(source).is_file():
            raise FileNotFoundError(f"no file {source}; expected one that DDPM.save wrote")
        if not diffusion.is_stored(source) and (method := Recipe.load(source).method) != "ddpm":
            raise ValueError(f"recipe {source!r} has method {method!r}; expected 'ddpm'")


def fitted(recipe: Recipe, task: Task) -> tuple[Recipe, list[str]]:
    """The recipe as far as these data allow it, and a note on each thing that is not as it says; each note is a warning too.

    ``likeliest`` and ``classes_per_image`` go no further than the classes, ``batch_size`` is lowered to where BatchNorm gets two rows or
    more of every batch, and the ``patch`` of a diffusion model to what divides the images. The name stays. The recipes of a judge and
    of a surrogate are fitted too, with notes of their own.
    """
    recipe, notes = lowered(recipe, task)
    for _, name, seed in helpers(recipe):
        notes += lowered(helper(name, seed), task)[1]
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return recipe, notes


def lowered(recipe: Recipe, task: Task) -> tuple[Recipe, list[str]]:
    """As :func:`fitted`, for this recipe alone and without a warning."""
    changes: dict[str, Any] = {}
    notes: list[str] = []
    count = len(task.classes)

    def lower(key: str, found: int, taken: int | str, why: str) -> None:
        notes.append(f"recipe {recipe.name!r}: {key} is {found}; {why}, so it is {taken}")

    why, sides = f"{task.name} has {count} classes", f"{task.name} has inputs {'x'.join(map(str, task.shape))}"
    for metric, options in recipe.metrics.items():
        if (found := options.get("likeliest", 0)) > count - 1:
            lower(f"metrics.{metric}.likeliest", found, count - 1, why)
            changes["metrics"] = {**changes.get("metrics", recipe.metrics), metric: {**options, "likeliest": count - 1}}
    if recipe.target is not None and (found := recipe.classes_per_image or 0) > count:
        lower("classes_per_image", found, "all of them", why)
        changes["classes_per_image"] = None
    if recipe.method == "ddpm" and (patch := _patch(recipe, task)):
        lower("model_options.patch", recipe.model_options["patch"], patch, sides)
        changes["model_options"] = {**recipe.model_options, "patch": patch}
    for key, mappings in (("target_options", {"": recipe.target_options}), ("alignment", dict(recipe.alignment))):
        for name, options in mappings.items():
            source = options.get("ddpm")
            if source is not None and not diffusion.is_stored(source) and (patch := _patch(Recipe.load(source), task)):
                mappings[name] = {**options, "ddpm": f"{source}+model_options.patch={patch}"}
                lower(f"{key}.{name}".rstrip(".") + ".ddpm", source, mappings[name]["ddpm"], sides)
                changes[key] = mappings if key == "alignment" else mappings[name]
    if recipe.method != "ddpm" and single(len(task.train), recipe):
        sizes = (size for size in range(recipe.batch_size - 1, 1, -1) if not single(len(task.train), replace(recipe, batch_size=size)))
        size = next(sizes, None)  # None: training refuses it
        if size is not None and any(isinstance(layer, _BatchNorm) for layer in network(build(recipe, task)).modules()):
            why = f"of {len(task.train)} training examples that leaves a single row, which BatchNorm cannot normalise"
            lower("batch_size", recipe.batch_size, size, why)
            changes["batch_size"] = size
    return replace(recipe, **changes), notes


def _patch(recipe: Recipe, task: Task) -> int | None:
    """The largest patch for a diffusion model of these images, where the recipe's own is too large and a smaller one will do."""
    own, levels = recipe.model_options.get("patch", 1), len(recipe.model_options.get("widths", keys.MODELS["ddpm"]["widths"].default))
    if len(task.shape) != 3 or recipe.method != "ddpm":
        return None
    fits = (patch for patch in range(own, 0, -1) if not any(side % (patch * 2 ** (levels - 1)) for side in task.shape[1:]))
    return found if (found := next(fits, own)) < own else None


def helpers(recipe: Recipe) -> Iterator[tuple[str, str, int]]:
    """Of the recipes whose models help, the key that names them, their name and their seed: the judge of samples, the surrogate of the
    checklist, teachers."""
    for options in recipe.metrics.values():
        if "judge" in options:
            yield "judge", options["judge"], recipe.seed
    if "surrogate" in recipe.checklist:
        yield "checklist.surrogate", recipe.checklist["surrogate"], recipe.seed + 1
    sources = {"target_options": recipe.target_options, **{f"alignment.{name}": how for name, how in recipe.alignment.items()}}
    for key, options in sources.items():
        if "teacher" in options:
            yield f"{key}.teacher", options["teacher"], options.get("seed", 0)


def helper(name: str, seed: int) -> Recipe:
    """The recipe of a model that helps, and is not measured itself."""
    recipe = Recipe.load(name, seed=seed, metrics={}, alignment={}, checklist={})
    if recipe.method == "ddpm":
        raise ValueError(f"recipe {name!r} has method 'ddpm'; expected the recipe of a classifier")
    return recipe


@contextmanager
def named(recipe: Recipe, what: str) -> Iterator[None]:
    """What is refused inside says whose recipe it is, and which of its keys."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError) as error:
        text = str(error).removeprefix(f"recipe {recipe.name!r}: ")
        hint = "; --set data.size=32 resizes the images" if "sides" in text and recipe.task.startswith("folder:") else ""
        raise ValueError(f"recipe {recipe.name!r}: {what}: {text.removesuffix(hint)}{hint}") from error


def build(recipe: Recipe, task: Task) -> nn.Module | DDPM:
    """The untrained model of a recipe."""
    return denoiser(recipe, task) if recipe.method == "ddpm" else classifier(recipe, task)


def classifier(recipe: Recipe, task: Task) -> nn.Module:
    with named(recipe, f"model {recipe.model}"):
        return models.build(recipe.model, task, seed=recipe.seed, **recipe.model_options)


def denoiser(recipe: Recipe, task: Task) -> DDPM:
    with named(recipe, f"model {recipe.model}"):
        return diffusion.build(recipe, task)


def network(model: nn.Module | DDPM) -> nn.Module:
    return model if isinstance(model, nn.Module) else model.unet
