"""Sources of directions by name, as recipes spell them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..data import Task
from ..recipes import keys
from .controls import control, teacher
from .heuristics import class_mean, nearest_neighbor, one_image
from .scores import score_based
from .target import GradientTarget

TARGETS: dict[str, Callable[..., GradientTarget]] = {
    "one_image": one_image,
    "class_mean": class_mean,
    "nearest_neighbor": nearest_neighbor,
    "score_based": score_based,
    "control": control,
    "teacher": teacher,
}
MODELS = {"score_based": "ddpm", "control": "ddpm", "teacher": "teacher"}  # the model of a source: the option that names it in a recipe
SCORES = ("t", "draws", "folder")  # what a control's options say of scores


def build(name: str, task: Task, *, progress: bool = True, **options: Any) -> GradientTarget:
    """A gradient target by name.

    Args:
        name: ``"one_image"``, ``"class_mean"``, ``"nearest_neighbor"``, ``"score_based"``, ``"control"`` or ``"teacher"``.
        task: the data.
        progress: show a bar where it takes long, which is with scores only.
        options: of the function of that name, with ``seed`` for its generator. The ``ddpm`` of ``"score_based"`` is a diffusion model,
            the ``teacher`` of ``"teacher"`` a classifier; :func:`pagkit.experiment.target` finds both by a recipe's name. A
            ``"control"`` changes nearest neighbours; with a ``ddpm``, and ``t``, ``draws`` and ``folder`` as of ``"score_based"``, scores,
            whose noise has the same ``seed``.

    Raises:
        ValueError: unknown name or option, a name in place of a model, and those of the function of that name.
    """
    known = keys.one_of("gradient target", name, keys.TARGETS)
    asks = MODELS.get(name, "")
    model: Any = options.pop(asks, None) if asks else None
    if isinstance(model, (str, Path)):
        raise ValueError(f"{asks} is {str(model)!r}; expected a model, such as pagkit.experiment.target({name!r}, task, ...) finds")
    keys.check(f"gradient target {name!r}", {**options, **({} if model is None else {asks: ""})}, known)
    given = [] if model is None else [model]
    if name == "score_based":
        options["progress"] = progress
    if name == "control":
        scored = scores_of(options, model)
        if scored and "seed" in options:  # of their noise, too
            scored["generator"] = torch.Generator().manual_seed(options["seed"])
        given = [score_based(task, model, progress=progress, **scored)] if scored else []
        options = {key: value for key, value in options.items() if key not in SCORES}
    if name != "teacher" and "seed" in options:
        options["generator"] = torch.Generator().manual_seed(options.pop("seed"))
    options.pop("seed", None)  # of the teacher's own training
    return TARGETS[name](task, *given, **options)


def scores_of(options: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """What the options of a control say of its scores; nothing, where there is no diffusion ``model``.

    Raises:
        ValueError: one without the other.
    """
    found = {key: options[key] for key in SCORES if options.get(key) is not None}
    if model is None and found:
        raise ValueError(f"gradient target 'control' has {next(iter(found))} and no ddpm; expected a ddpm and t, or nothing of scores")
    if model is not None and "t" not in found:
        raise ValueError("gradient target 'control' has a ddpm and no t; expected a ddpm and t, or nothing of scores")
    return found
