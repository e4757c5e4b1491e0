"""The photograph lab: one picture of many colours, changed step by step until a network takes it for something else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from .. import attacks
from ..attacks import Threat
from ..data import Task
from ..data.defaults import plain_defaults
from . import still
from .export import Packed, as_bytes, encode, few_classes, pack, rounded, to_script
from .page import Lab, make

RANGES: dict[str, list[float]] = {"l2": [0, 8, 0.1], "linf": [0, 0.2, 0.005], "steps": [1, 60, 1]}
NORMS = {"l2": "L2", "linf": "L∞"}
EPS = {"l2": 5.0, "linf": 0.1}


@plain_defaults()
def photo(
    nets: Mapping[str, nn.Module],
    task: Task,
    *,
    folder: str | None = None,
    frames: Mapping[str, Tensor] | None = None,
    start: int = 0,
    net: str | None = None,
    target: str | None = None,
    norm: str = "l2",
    eps: float | None = None,
    steps: int = 30,
    weights: str = "int8",
    name: str | None = None,
) -> Lab:
    """One photograph before up to four networks; a reader watches PGD change it, step by step.

    The attack starts at the photograph, and each of its steps is ``2.5 eps / steps`` long. It runs in a worker, off the page's main thread.

    Args:
        nets: name -> network for square images of three channels, one to four.
        task: all photographs of its test split are offered: a dozen, not thousands. Its bounds are (0, 1).
        folder: address of the folder, seen from the page, that holds for each network what :func:`pagkit.lab.to_script` writes. A click
            loads them, and its button says how much that is. None: the networks are part of the page, and the lab begins at once.
        frames: network -> picture (3, side, side) of an attack that was made before, to be seen until then and where no script runs.
            None: the attack is made now, and shown in sixteen steps of brightness.
        start: the photograph at first, an index of ``task.test``.
        net: the network at first; default: the last one.
        target: the class to reach at first, by its name; None for any wrong one.
        norm, eps, steps: of the attack at first. The other norm starts at its default, ``{"l2": 5, "linf": 0.1}``.
        weights: as in :func:`pagkit.lab.pack`.
        name: ends the HTML id; without one the id follows from the content.

    Raises:
        ValueError: no networks or more than four, images that are not square and of three channels, other bounds, more than 256 classes, an
            unknown network, class, norm or photograph, eps or steps beyond their sliders, frames of other networks or sizes or outside
            [0, 1], a network that cannot be run.
    """
    net = net or list(nets)[-1] if nets else None
    radii = {**EPS, **({norm: float(eps)} if eps is not None else {})}
    _check(nets, task, frames, start, net, target, norm, radii, steps)
    goal = None if target is None else task.classes.index(target)
    packed = {key: pack(one, task.shape, weights=weights) for key, one in nets.items()}
    spec = {
        "nets": packed if folder is None else {key: _fetched(value, folder) for key, value in packed.items()},
        "shape": list(task.shape),
        "classes": list(task.classes),
        "bounds": list(task.bounds),
        "photos": {"x": as_bytes(task.test.x, "photographs"), "y": encode(task.test.y, "uint8"), "levels": 255},
        "norms": list(EPS),
        "ranges": RANGES,
        "eps": radii,
        "settings": {"photo": start, "net": net, "norm": norm, "eps": radii[norm], "steps": steps, "target": goal},
    }
    x, y = task.test.x[start : start + 1], task.test.y[start : start + 1]
    own = {key: rounded(one, weights=weights) for key, one in nets.items()}
    if frames is None:
        towards, threat = None if goal is None else torch.tensor([goal]), Threat(norm, radii[norm], task.bounds)
        attack = partial(attacks.pgd, x=x, y=y, threat=threat, target=towards, steps=steps, random_start=False, keep="last")
        frames = {key: still.sixteen(attack(one)[0]) / 255 for key, one in own.items()}
    frames = {key: frames[key] for key in nets}
    with torch.no_grad():
        reads = {key: task.classes[int(own[key](frame[None]).argmax(1))] for key, frame in frames.items()}
    how = f"{f'towards {target}' if target else 'any other class'}, {NORMS[norm]} eps {radii[norm]:g}, {steps} steps"
    return make("photo", spec, still.photo(task.classes[int(y)], x[0], frames, reads, how), name, None if folder is None else packed)


def _fetched(packed: Packed, folder: str) -> Packed:
    """Where a page finds a network, and how many bytes it will load."""
    key, text = to_script(packed)
    return {"src": f"{folder.rstrip('/')}/{key}.js", "key": key, "bytes": len(text)}


def _check(
    nets: Mapping[str, nn.Module],
    task: Task,
    frames: Mapping[str, Tensor] | None,
    start: int,
    net: str | None,
    target: str | None,
    norm: str,
    radii: Mapping[str, float],
    steps: int,
) -> None:
    if not 1 <= len(nets) <= 4:
        raise ValueError(f"there are {len(nets)} networks; expected one to four")
    if len(task.shape) != 3 or task.shape[0] != 3 or task.shape[1] != task.shape[2] or task.bounds != (0.0, 1.0):
        found = f"inputs of shape {task.shape} in {task.bounds}"
        raise ValueError(f"{task.name} has {found}; expected square images (3, side, side) in (0.0, 1.0)")
    few_classes(task.classes)
    known: dict[str, tuple[object, Collection[object]]] = {"net": (net, tuple(nets)), "target": (target, (None, *task.classes))}
    known |= {"norm": (norm, tuple(EPS)), "start": (start, range(len(task.test)))}
    for key, (value, values) in known.items():
        if value not in values:
            raise ValueError(f"unknown {key} {value!r}; expected one of {', '.join(map(str, values))}")
    for key, number in (("eps", radii[norm]), ("steps", steps)):
        low, high, _ = RANGES[norm if key == "eps" else key]
        if not low <= number <= high:
            raise ValueError(f"{key} is {number}; expected {low} to {high}, where its slider ends")
    if frames is not None and set(frames) != set(nets):
        raise ValueError(f"frames are of {', '.join(frames) or 'no network'}; expected one of each network: {', '.join(nets)}")
    for key, frame in (frames or {}).items():
        if tuple(frame.shape) != task.shape:
            raise ValueError(f"the frame of {key!r} has shape {tuple(frame.shape)}; expected {task.shape}")
        if not (0 <= frame.min() and frame.max() <= 1):
            raise ValueError(f"the frame of {key!r} ranges over [{frame.min():g}, {frame.max():g}]; expected values in [0, 1]")
