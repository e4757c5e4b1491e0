"""Networks and photographs on disk for a lab: small files that say how they were made and what was measured of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor, nn

from .. import models
from ..data import Split, Task
from ..models.weights import save_weights
from ..recipe import Recipe
from .export import restored, round_weight

SCALE = ".scale"  # ends the name under which the scales of an int8 weight are stored


def load(path: str | Path, task: Task) -> nn.Module:
    """The network of a file that :func:`save` wrote, in eval mode; its weights are those of the file, digit for digit.

    Args:
        path: a ``.safetensors`` file.
        task: the data that it was trained on; the file's recipe names them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole file, one without a recipe, or one of other data.
    """
    state, about = models.load_weights(path)
    if "recipe" not in about:
        raise ValueError(f"{path} does not say how it was trained; expected a file that pagkit.lab.save wrote")
    recipe = Recipe(**yaml.safe_load(about["recipe"]))
    if recipe.task != task.name:
        raise ValueError(f"{path} was trained on {recipe.task!r}; the task is {task.name!r}")
    model = models.build(recipe.model, task, **recipe.model_options)
    scales = {name: state.pop(name + SCALE) for name in list(state) if name + SCALE in state}
    model.load_state_dict({name: restored(value, scales.get(name)) for name, value in state.items()})
    return model.eval().requires_grad_(False)


def halved(model: nn.Module) -> nn.Module:
    """``model`` in place, each parameter and buffer rounded to float16: what :func:`save` writes and :func:`load` gives back."""
    model.load_state_dict({name: value.half().to(value.dtype) for name, value in model.state_dict().items()})
    return model.eval()


def save(path: str | Path, model: nn.Module, recipe: Recipe, provenance: dict[str, Any], *, weights: str = "float16", **about: Any) -> None:
    """Write the network, with ``recipe``, ``provenance`` and whatever else there is to say (JSON) in the header.

    ``weights`` is ``"float16"``, or ``"int8"`` for the weights of layers, with one scale an output channel; the rest is float16 then, too,
    but for the scales.

    Raises:
        ValueError: as :func:`pagkit.lab.pack`.
    """
    state = {}
    for name, value in model.state_dict().items():
        small = weights == "int8" and name.endswith("weight")
        state[name], scale = round_weight(value, weights) if small else (value.to(torch.float16), None)
        if scale is not None:
            state[name + SCALE] = scale
    more = {key: json.dumps(value) for key, value in about.items()}
    save_weights(path, state, {"recipe": recipe.to_yaml(), "provenance": json.dumps(provenance), **more})


class Photographs(NamedTuple):
    """What a file of photographs holds.

    Attributes:
        task: the photographs as its test split. Its training split, which tells nothing, is the same.
        frames: network -> the picture (C, H, W) after an attack that was made before, for readers whose page runs no script.
        attack: of those frames: ``start`` (the photograph), ``target``, ``norm``, ``eps``, ``steps``.
        about: what else the file says, in words.
    """

    task: Task
    frames: dict[str, Tensor]
    attack: dict[str, Any]
    about: dict[str, Any]


def save_photographs(path: str | Path, found: Photographs) -> None:
    """Write photographs and frames, a byte a number."""
    test = found.task.test
    state = {"x": _bytes(test.x), "y": test.y.to(torch.uint8)} | {f"frame.{name}": _bytes(x) for name, x in found.frames.items()}
    told = {"task": found.task.name, "classes": found.task.classes, "attack": found.attack, **found.about}
    save_weights(path, state, {key: json.dumps(value) for key, value in told.items()})


def photographs(path: str | Path) -> Photographs:
    """What :func:`save_photographs` wrote; pixels from 0 to 1.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole file, or one that holds no photographs.
    """
    state, header = models.load_weights(path)
    if not {"task", "classes", "attack"} <= set(header):
        raise ValueError(f"{path} holds no photographs; expected a file that scripts/lab_photographs.py wrote")
    about = {key: json.loads(value) for key, value in header.items()}
    split = Split(state["x"].float() / 255, state["y"].long())
    task = Task(about.pop("task"), tuple(about.pop("classes")), (0.0, 1.0), split, split)
    frames = {name.removeprefix("frame."): x.float() / 255 for name, x in sorted(state.items()) if name.startswith("frame.")}
    return Photographs(task, frames, about.pop("attack"), about)


def _bytes(x: Tensor) -> Tensor:
    return (x * 255).round().clamp(0, 255).to(torch.uint8)
