"""The labs: what each is given, checked and turned into what its script reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import exact
from ..data import Split, Task
from ..data.defaults import plain_defaults
from . import still
from .export import Packed, as_bytes, encode, few_classes, pack, rounded
from .page import Lab, make

LOSSES = ("log-odds", "cross-entropy", "cross-entropy x1000")
PLANE_SETTINGS = {
    "net": "net", "norm": "norm", "eps": "eps", "steps": "steps", "step_size": "stepSize", "loss": "loss",
    "wrong_way": "wrongWay", "random_start": "random", "point": "point", "target": "target",
}  # fmt: skip
PLANE_RANGES: dict[str, tuple[float, float, float]] = {"eps": (0, 40, 0.5), "stepSize": (0.1, 10, 0.1), "steps": (1, 100, 1)}
DIGIT_RANGES = {"l2": [0, 2.5, 0.05], "linf": [0, 0.4, 0.01]}
Settings = Mapping[str, Any]


@plain_defaults()
def plane(
    nets: Mapping[str, nn.Module],
    points: Split | None = None,
    *,
    box: tuple[float, float, float, float] = (-75.0, 75.0, -130.0, 130.0),
    classes: Sequence[str] = ("class 0", "class 1"),
    focus: int = 0,
    axes: tuple[str, str] = ("x₁", "x₂"),
    norms: Sequence[str] = ("l2", "linf"),
    ranges: Mapping[str, tuple[float, float, float]] | None = None,
    settings: Settings | None = None,
    presets: Mapping[str, Settings] | None = None,
    small: bool = False,
    weights: str = "float32",
    name: str | None = None,
) -> Lab:
    """A map of the plane on which a reader attacks small networks, beside the exact radius.

    Args:
        nets: name -> network of two inputs. Those that :func:`pagkit.exact.radius` takes come with their exact boundary.
        points: data to show, x (N, 2); a start has the class of the nearest one, and a curve counts the survivors among them (60 or
            fewer, evenly spaced). None: every start has the class ``focus``.
        box: what the map shows, (x1 low, x1 high, x2 low, x2 high).
        classes: their names; ``focus`` is the one painted blue. ``axes``: names of the two inputs.
        norms: ``"l2"``, ``"linf"`` or both.
        ranges: of the sliders, (lowest, highest, step) for ``eps``, ``step_size`` and ``steps``.
        settings: what the lab starts with: ``net``, ``norm``, ``eps``, ``steps``, ``step_size``, ``loss`` (``"log-odds"``,
            ``"cross-entropy"`` or ``"cross-entropy x1000"``), ``target`` (the index of a class, or None for any other one),
            ``wrong_way``, ``random_start``, ``point``.
        presets: name of a button -> what it changes of these settings.
        small: show the map, the networks and eps alone, without the other settings and without the curve.
        weights: as in :func:`pagkit.lab.pack`; float32 rounds nothing, and the page runs what was trained.
        name: ends the HTML id; without one the id follows from the content.

    Raises:
        ValueError: no networks or norms, an unknown setting, slider, network, norm, loss or target, an empty box, too few names of
            classes, a ``focus`` or labels that are no class, a network that cannot be run.
    """
    if not nets:
        raise ValueError("nets is empty; expected at least one network")
    _check_plane(box, norms, ranges or {})
    shown = _spaced(points, 60) if points is not None else Split(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    start = shown.x[0].tolist() if len(shown) else [(box[0] + box[1]) / 2, (box[2] + box[3]) / 2]
    first: dict[str, Any] = {"net": next(iter(nets)), "norm": norms[0], "eps": 15.0, "steps": 10, "step_size": 2.0, "loss": LOSSES[0]}
    first |= {"wrong_way": False, "random_start": False, "target": None, "point": start, **(settings or {})}
    packed: dict[str, Packed] = {}
    for key, net in nets.items():
        packed[key] = {"net": pack(net, (2,), weights=weights), "pieces": _pieces(net, weights)}
    if short := [key for key, value in packed.items() if value["net"]["classes"] > len(classes)]:
        raise ValueError(f"classes has {len(classes)} names; {short[0]!r} tells {packed[short[0]]['net']['classes']} classes apart")
    told = min(value["net"]["classes"] for value in packed.values())
    if odd := [label for label in (focus, *shown.y.tolist()) if not 0 <= label < told]:
        what = "focus is" if odd[0] == focus else "points have the label"
        raise ValueError(f"{what} {odd[0]}; expected one of the {told} classes that every network tells apart, 0 to {told - 1}")
    sliders = PLANE_RANGES | {PLANE_SETTINGS[key]: value for key, value in (ranges or {}).items()}
    spec = {
        "nets": packed,
        "box": list(box),
        "axes": list(axes),
        "classes": list(classes),
        "focus": focus,
        "points": {"x": _short(shown.x, max(box[1] - box[0], box[3] - box[2])), "y": shown.y.tolist()},
        "norms": list(norms),
        "ranges": {key: list(value) for key, value in sliders.items()},
        "settings": _plane_settings(first, nets, norms, told) | {"seed": 0},
        "presets": {key: _plane_settings(value, nets, norms, told) for key, value in (presets or {}).items()},
        "small": small,
    }
    model = rounded(nets[first["net"]], weights=weights)
    return make("plane", spec, still.plane(model, shown, box, tuple(first["point"]), focus), name)


@plain_defaults()
def digits(
    nets: Mapping[str, nn.Module],
    task: Task,
    *,
    indices: Sequence[int] | None = None,
    reader: bool = True,
    norm: str = "l2",
    eps: Mapping[str, float] | None = None,
    steps: int = 20,
    target: int | None = None,
    weights: str = "int8",
    name: str | None = None,
) -> Lab:
    """One digit, chosen or drawn, before up to four networks side by side.

    Args:
        nets: name -> network for one-channel square images, one to four.
        task: its test split is chosen from, its training split is what the nearest-neighbour reader knows. Its bounds are (0, 1).
        indices: which test images to offer; default: the first two of each class.
        reader: bring the training images (a byte a pixel), so that a nearest-neighbour reader judges beside the networks.
        norm, eps: what the lab starts with; ``eps`` a value a norm, default ``{"l2": 0.5, "linf": 0.1}``.
        steps: of every attack, each ``2.5 eps / steps`` long.
        target: the class to reach at first; None for any wrong one.
        weights: as in :func:`pagkit.lab.pack`.
        name: ends the HTML id; without one the id follows from the content.

    Raises:
        ValueError: no networks or more than four, images that are not square and grey, other bounds, more than 256 classes, an unknown
            norm or target, eps beyond its slider, images that are not there, a network that cannot be run.
    """
    if indices is None:
        first = [(task.test.y == c).nonzero().flatten()[:2] for c in range(len(task.classes))]
        indices = torch.cat(first).tolist()
    radii = {"l2": 0.5, "linf": 0.1, **(eps or {})}
    _check_digits(nets, task, indices, norm, radii, target)
    chosen = Split(task.test.x[list(indices)], task.test.y[list(indices)])
    spec = {
        "nets": {key: pack(net, task.shape, weights=weights) for key, net in nets.items()},
        "shape": list(task.shape),
        "classes": list(task.classes),
        "bounds": list(task.bounds),
        "digits": _bytes(chosen),
        "reader": _bytes(task.train) if reader else None,
        "norms": list(DIGIT_RANGES),
        "ranges": DIGIT_RANGES,
        "eps": radii,
        "settings": {"norm": norm, "eps": radii[norm], "steps": steps, "target": target, "view": "attack"},
    }
    models = {key: rounded(net, weights=weights) for key, net in nets.items()}
    return make("digits", spec, still.digits(models, task, chosen.first(1), norm, radii[norm], steps), name)


def _check_plane(box: tuple[float, float, float, float], norms: Sequence[str], ranges: Mapping[str, object]) -> None:
    if not (box[0] < box[1] and box[2] < box[3]):
        raise ValueError(f"box is {box}; expected (x1 low, x1 high, x2 low, x2 high) with low < high")
    if not norms:
        raise ValueError("norms is empty; expected 'l2', 'linf' or both")
    if unknown := [n for n in norms if n not in DIGIT_RANGES]:
        raise ValueError(f"unknown norm {unknown[0]!r}; expected 'l2' or 'linf'")
    sliders = [key for key, name in PLANE_SETTINGS.items() if name in PLANE_RANGES]
    if unknown := [key for key in ranges if key not in sliders]:
        raise ValueError(f"unknown slider {unknown[0]!r} in ranges; expected some of {', '.join(sliders)}")


def _check_digits(
    nets: Mapping[str, nn.Module], task: Task, indices: Sequence[int], norm: str, radii: Mapping[str, float], target: int | None
) -> None:
    if not 1 <= len(nets) <= 4:
        raise ValueError(f"there are {len(nets)} networks; expected one to four")
    if len(task.shape) != 3 or task.shape[0] != 1 or task.shape[1] != task.shape[2] or tuple(task.bounds) != (0.0, 1.0):
        found = f"inputs of shape {task.shape} in {task.bounds}"
        raise ValueError(f"{task.name} has {found}; expected grey square images (1, side, side) in (0.0, 1.0)")
    few_classes(task.classes)
    if norm not in DIGIT_RANGES:
        raise ValueError(f"unknown norm {norm!r}; expected 'l2' or 'linf'")
    if unknown := [key for key in radii if key not in DIGIT_RANGES]:
        raise ValueError(f"unknown norm {unknown[0]!r} in eps; expected 'l2' or 'linf'")
    for key, radius in radii.items():
        low, high, _ = DIGIT_RANGES[key]
        if not low <= radius <= high:
            raise ValueError(f"eps of {key!r} is {radius}; expected {low} to {high}, where its slider ends")
    if target not in (None, *range(len(task.classes))):
        raise ValueError(f"unknown target {target!r}; expected None or the index of a class, 0 to {len(task.classes) - 1}")
    if len(indices) == 0:
        raise ValueError("indices is empty; expected at least one test image")
    if odd := [i for i in indices if not -len(task.test) <= i < len(task.test)]:
        raise ValueError(f"indices has {odd[0]}; expected rows of the {len(task.test)} test images")


def _plane_settings(values: Settings, nets: Mapping[str, nn.Module], norms: Sequence[str], classes: int) -> dict[str, Any]:
    """Settings under the script's names, checked."""
    if unknown := sorted(set(values) - set(PLANE_SETTINGS)):
        raise ValueError(f"unknown setting {unknown[0]!r}; expected some of {', '.join(PLANE_SETTINGS)}")
    targets = (None, *range(classes))
    for key, known in (("net", tuple(nets)), ("norm", tuple(norms)), ("loss", LOSSES), ("target", targets)):
        if key in values and values[key] not in known:
            raise ValueError(f"unknown {key} {values[key]!r}; expected one of {', '.join(map(str, known))}")
    return {PLANE_SETTINGS[key]: [float(v) for v in value] if key == "point" else value for key, value in values.items()}


def _pieces(net: nn.Module, weights: str) -> str | None:
    """The exact boundary of the rounded network: origin (2), direction (2), low and high of each piece, float32; None if unknown."""
    try:
        found = exact.pieces(rounded(net, weights=weights))
    except ValueError:
        return None
    rows = torch.cat([found.origin, found.direction, found.low[:, None], found.high[:, None]], dim=1)
    return encode(rows, "float32")  # float64 would hold digits that differ from processor to processor


def _spaced(split: Split, most: int) -> Split:
    """At most so many rows, evenly spaced, along the line from the lowest x1 to the highest."""
    rows = split.x[:, 0].argsort()
    rows = rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).round().long()]
    return Split(split.x[rows], split.y[rows])


def _short(x: Tensor, side: float) -> list[list[float]]:
    """Coordinates with three decimals, and more on a map whose longer side is below ten: a ten thousandth of it, or finer."""
    places = max(3, 4 - math.floor(math.log10(side)))
    return [[round(value, places) for value in row] for row in x.tolist()]


def _bytes(split: Split) -> dict[str, object]:
    """Images as bytes: sixteenths where that loses nothing, as for scikit-learn's digits, else 255ths."""
    levels = 16 if torch.equal((split.x * 16).round() / 16, split.x) else 255
    return {"x": as_bytes(split.x, "images", levels), "y": encode(split.y, "uint8"), "levels": levels}
