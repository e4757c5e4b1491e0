"""Sources of directions by name, as recipes spell them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..data import Task
from ..recipes import keys
from .heuristics import class_mean, nearest_neighbor, one_image
from .scores import score_based
from .target import GradientTarget

TARGETS: dict[str, Callable[..., GradientTarget]] = {
    "one_image": one_image,
    "class_mean": class_mean,
    "nearest_neighbor": nearest_neighbor,
    "score_based": score_based,
}


def build(name: str, task: Task, *, progress: bool = True, **options: Any) -> GradientTarget:
    """A gradient target by name.

    Args:
        name: ``"one_image"``, ``"class_mean"``, ``"nearest_neighbor"`` or ``"score_based"``.
        task: the data.
        progress: show a bar where it takes long, which is with ``"score_based"`` only.
        options: of the function of that name, with ``seed`` for its generator. The ``ddpm`` of ``"score_based"`` is a model;
            :func:`pagkit.diffusion.find` gets one by a recipe's name, and :func:`pagkit.experiment.target` does all that a recipe asks for.

    Raises:
        ValueError: unknown name or option, a ``ddpm`` that is a name, and those of the function of that name.
    """
    known = keys.one_of("gradient target", name, keys.TARGETS)
    model = options.pop("ddpm", None) if name == "score_based" else None
    if isinstance(model, (str, Path)):
        raise ValueError(f"ddpm is {str(model)!r}; expected a diffusion model, such as pagkit.diffusion.find({str(model)!r}, task)")
    keys.check(f"gradient target {name!r}", {**options, **({} if model is None else {"ddpm": ""})}, known)
    if name == "score_based":
        options |= {"ddpm": model, "progress": progress}
    if "seed" in options:
        options["generator"] = torch.Generator().manual_seed(options.pop("seed"))
    return TARGETS[name](task, **options)
