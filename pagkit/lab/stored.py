"""Networks and photographs on disk for a lab: small files that say how they were made and what was measured of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor, nn

from .. import models
from ..data import Split, Task
from ..models.weights import save_weights
from ..recipe import Recipe
from .export import few_classes, restored, round_weight

SCALE = ".scale"  # ends the name under which the scales of an int8 weight are stored


def load(path: str | Path, task: Task) -> nn.Module:
    """The network of a file that :func:`save` wrote, in eval mode; its weights are those of the file, digit for digit.

    Args:
        path: a ``.safetensors`` file.
        task: the data that it was trained on; the file's recipe names them. Where training examples were set aside, also the task
            without that. Of a folder the last part of its path counts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole file, one without a recipe, or one of other data, or of inputs or classes that do not fit the task.
    """
    state, about = models.load_weights(path)
    if "recipe" not in about:
        raise ValueError(f"{path} does not say how it was trained; expected a file that pagkit.lab.save wrote")
    recipe = Recipe(**yaml.safe_load(about["recipe"]))
    if task.name not in (names := _names(recipe)):
        raise ValueError(f"{path} was trained on {names[-1]!r}; the task is {task.name!r}")
    model = models.build(recipe.model, task, **recipe.model_options)
    scales = {name: state.pop(name + SCALE) for name in list(state) if name + SCALE in state}
    try:
        model.load_state_dict({name: restored(value, scales.get(name)) for name, value in state.items()})
    except RuntimeError as error:
        wanted = f"a network for inputs of shape {task.shape} and {len(task.classes)} classes, as {task.name!r} has them"
        raise ValueError(f"{path} does not fit; expected {wanted}. {str(error).splitlines()[-1].strip()}") from error
    return model.eval().requires_grad_(False)


def halved(model: nn.Module) -> nn.Module:
    """``model`` in place, each parameter and buffer rounded to float16: what :func:`save` writes and :func:`load` gives back.

    Raises:
        ValueError: a number that is not finite or too large for float16; the model then stays as it is.
    """
    model.load_state_dict({name: _half(name, value).to(value.dtype) for name, value in model.state_dict().items()})
    return model.eval()


def save(path: str | Path, model: nn.Module, recipe: Recipe, provenance: dict[str, Any], *, weights: str = "float16", **about: Any) -> None:
    """Write the network, with ``recipe``, ``provenance`` and whatever else there is to say (JSON) in the header.

    ``weights`` is ``"float16"``, or ``"int8"`` for the weights of layers, with one scale an output channel; the rest is float16 then, too,
    but for the scales and for whole numbers, which stay.

    Raises:
        ValueError: other ``weights``, a number that is not finite or too large for float16.
    """
    if weights not in ("float16", "int8"):
        raise ValueError(f"unknown weights {weights!r}; expected 'float16' or 'int8'")
    state = {}
    for name, value in model.state_dict().items():
        small = weights == "int8" and name.endswith("weight") and value.ndim > 1  # not those of norm layers
        state[name], scale = round_weight(value, weights) if small else (_half(name, value), None)
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
    """Write photographs and frames, a byte a number.

    Raises:
        ValueError: photographs in other bounds than (0, 1), or of more than 256 classes.
    """
    if tuple(found.task.bounds) != (0.0, 1.0):
        raise ValueError(f"the photographs are in {found.task.bounds}; expected (0.0, 1.0)")
    few_classes(found.task.classes)
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


def _names(recipe: Recipe) -> list[str]:
    """The names of tasks that a network of this recipe knows the training split of: without held-out examples, and as it had them."""
    name = recipe.task
    if name.startswith("folder:"):
        path = Path(os.path.expanduser(recipe.data.get("root") or ".")) / os.path.expanduser(name.removeprefix("folder:"))
        name = f"folder:{Path(os.path.abspath(path)).name}"  # as pagkit.data.load names it
    held = recipe.data.get("holdout")
    return [name] if held is None else [name, f"{name}+holdout={held}"]


def _half(name: str, value: Tensor) -> Tensor:
    """A tensor in float16; one of whole numbers as it is."""
    if not value.is_floating_point():
        return value
    if not (half := value.half()).isfinite().all():
        raise ValueError(f"{name} has numbers up to {value.abs().max():g}; expected finite ones of at most 65504, which float16 can hold")
    return half


def _bytes(x: Tensor) -> Tensor:
    return (x * 255).round().clamp(0, 255).to(torch.uint8)
