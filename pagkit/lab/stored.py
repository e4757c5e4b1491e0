"""Networks on disk for a lab: few kilobytes each, in a file that says how it was trained and what was measured of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from .. import models
from ..data import Task
from ..models.weights import save_weights
from ..recipe import Recipe


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
    model.load_state_dict({name: value.float() for name, value in state.items()})
    return model.eval().requires_grad_(False)


def halved(model: nn.Module) -> nn.Module:
    """``model`` in place, each parameter and buffer rounded to float16: what :func:`save` writes and :func:`load` gives back."""
    model.load_state_dict({name: value.half().to(value.dtype) for name, value in model.state_dict().items()})
    return model.eval()


def save(path: str | Path, model: nn.Module, recipe: Recipe, provenance: dict[str, Any], **about: Any) -> None:
    """Write the weights as float16, with ``recipe``, ``provenance`` and whatever else there is to say (JSON) in the header."""
    state = {name: value.to(torch.float16) for name, value in model.state_dict().items()}
    more = {key: json.dumps(value) for key, value in about.items()}
    save_weights(path, state, {"recipe": recipe.to_yaml(), "provenance": json.dumps(provenance), **more})
