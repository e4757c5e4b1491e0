"""Training by recipe: standard, adversarial, PAG."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from . import attacks, losses, models, targets
from .data import Split, Task, augment, progress_bar

KINDS = {"int": int, "float": float, "str": str, "bool": bool, "None": type(None), "dict[str, Any]": dict}
METHODS = ("standard", "adversarial", "pag")
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda params, **options: torch.optim.SGD(params, momentum=0.9, **options),
}
SCHEDULES: dict[str, Callable[[float], float]] = {  # share of training done -> share of the learning rate
    "constant": lambda p: 1.0,
    "linear": lambda p: 1.0 - p,
    "cosine": lambda p: 0.5 * (1 + math.cos(math.pi * p)),
    "one-cycle": lambda p: min(p / 0.2, (1 - p) / 0.8),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that defines an experiment, one YAML file each in ``pagkit/recipes``.

    Attributes:
        name: the file's, unless given.
        task, data: name and options of :func:`pagkit.data.load`. Without a ``seed`` in ``data`` the run's
            seed is taken: the toy is then drawn anew for each run.
        model, model_options: name and options of :func:`pagkit.models.build`.
        method: ``"standard"``, ``"adversarial"`` (Madry et al., 2018) or ``"pag"`` (Ganz et al., 2023).
        epochs, batch_size: passes over the training split; examples a step.
        optimizer: ``"adam"``, ``"adamw"`` or ``"sgd"`` (momentum 0.9), with ``lr`` and ``weight_decay``.
        schedule: of the learning rate, a step at a time: ``"constant"``, ``"linear"`` or ``"cosine"`` to zero,
            or ``"one-cycle"`` (up for a fifth of training, then down).
        description: one line, for ``pagkit recipes``.
        seed: of the weights, the order of the batches and all other draws.
        crop, flip: random shift in pixels, random horizontal flip; images only.
        target, target_options: name and options of :func:`pagkit.targets.build`; for method ``"pag"``.
        weight: lambda of the PAG objective.
        of: whose input gradient is aligned, ``"log_prob"`` or ``"logit"``.
        classes_per_image: how many classes a step are aligned for each image; None: all.
        ramp: lambda is 0 before the first share of training, full after the second, linear between.
        norm, eps, steps: threat and steps of the attack trained against; for method ``"adversarial"``.
        metrics: what :func:`pagkit.evaluation.measure` measures: names such as ``pgd-l2-0.5`` to options.

    Raises:
        ValueError: a value of the wrong type or out of range; names the recipe, the key and what was expected.
    """

    name: str
    task: str
    model: str
    method: str
    epochs: int
    lr: float
    description: str = ""
    seed: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    model_options: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 128
    optimizer: str = "adam"
    schedule: str = "constant"
    weight_decay: float = 0.0
    crop: int = 0
    flip: bool = False
    target: str | None = None
    target_options: dict[str, Any] = field(default_factory=dict)
    weight: float = 0.0
    of: str = "log_prob"
    classes_per_image: int | None = None
    ramp: tuple[float, float] = (0.0, 0.0)
    norm: str = "l2"
    eps: float = 0.0
    steps: int = 7
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value, kinds = getattr(self, f.name), [KINDS[kind] for kind in str(f.type).split(" | ") if kind in KINDS]
            if float in kinds and type(value) is int:
                object.__setattr__(self, f.name, value := float(value))
            if kinds and (not isinstance(value, tuple(kinds)) or isinstance(value, bool) != (bool in kinds)):
                hint = "; YAML reads 1.0e-3 as a number, and 1e-3 as text" if float in kinds else ""
                raise ValueError(f"recipe {self.name!r}: {f.name} is {value!r}; expected {f.type}{hint}")
        for key, value, known in (
            ("method", self.method, METHODS),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if value not in known:
                raise ValueError(f"recipe {self.name!r}: unknown {key} {value!r}; expected one of {', '.join(known)}")
        for key, low in (("epochs", 1), ("batch_size", 1), ("steps", 1), ("crop", 0), ("weight", 0), ("eps", 0), ("weight_decay", 0)):
            if not getattr(self, key) >= low:
                raise ValueError(f"recipe {self.name!r}: {key} is {getattr(self, key)}; expected at least {low}")
        if not self.lr > 0:
            raise ValueError(f"recipe {self.name!r}: lr is {self.lr}; expected a positive number")
        object.__setattr__(self, "ramp", tuple(self.ramp))
        if len(self.ramp) != 2 or not 0 <= self.ramp[0] <= self.ramp[1] <= 1:
            raise ValueError(f"recipe {self.name!r}: ramp is {self.ramp}; expected two shares 0 <= start <= end <= 1")
        if (self.method == "pag") != (self.target is not None):
            found = f"method {self.method!r} with target {self.target!r}"
            raise ValueError(f"recipe {self.name!r}: {found}; method 'pag' and a target go together")

    @classmethod
    def load(cls, name: str | Path, **changes: Any) -> Recipe:
        """A recipe by name, or from a YAML file when ``name`` ends in .yaml; ``changes`` replace single keys.

        Raises:
            ValueError: unknown name, key or value; a required key missing; not a YAML mapping.
        """
        path = Path(name) if str(name).endswith(".yaml") else Path(str(resources.files("pagkit"))) / "recipes" / f"{name}.yaml"
        if not path.is_file():
            raise ValueError(f"unknown recipe {str(name)!r}; expected a .yaml file or one of {', '.join(recipe_names())}")
        try:
            entries = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise ValueError(f"{path.name} is not valid YAML: {error}") from error
        if not isinstance(entries, dict):
            raise ValueError(f"{path.name} holds {type(entries).__name__}; expected a mapping of recipe keys")
        entries = {"name": path.stem, **entries, **changes}
        known = {f.name: f for f in dataclasses.fields(cls)}
        if unknown := sorted(set(entries) - set(known)):
            raise ValueError(f"{path.name}: unknown key {unknown[0]!r}; expected some of {', '.join(known)}")
        required = [key for key, f in known.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
        if missing := [key for key in required if key not in entries]:
            raise ValueError(f"{path.name}: key {missing[0]!r} is missing")
        return cls(**entries)


def recipe_names() -> list[str]:
    """Names of the recipes that come with the library."""
    return sorted(p.stem for p in (Path(str(resources.files("pagkit"))) / "recipes").glob("*.yaml"))


@dataclass
class History:
    """One entry an epoch: mean loss (total), its parts (alignment is nan where PAG was off), last lr and weight.

    ``seconds`` is the wall time of the whole training.
    """

    total: list[float] = field(default_factory=list)
    cross_entropy: list[float] = field(default_factory=list)
    alignment: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    seconds: float = 0.0


class TrainingDiverged(RuntimeError):
    """The loss became nan or infinite. The model holds the weights of the end of the last good epoch."""


def fit(
    model: nn.Module,
    task: Task,
    recipe: Recipe,
    *,
    target: targets.GradientTarget | None = None,
    progress: bool = True,
) -> History:
    """Train ``model`` in place on ``task.train``, on the device its parameters are on.

    Args:
        model: as from :func:`pagkit.models.build`. Its mode is left as found.
        task: the data.
        recipe: method, optimizer, schedules; ``recipe.seed`` decides the order of the batches and all other draws.
        target: gradient directions for method ``"pag"``; default: built from ``recipe.target``.
        progress: show a bar, once training has taken two seconds.

    Returns:
        :class:`History`. The same seed and thread count give the same weights, bit for bit.

    Raises:
        ValueError: an empty training split; crop or flip on inputs that are not images.
        TrainingDiverged: a loss that is not finite; says at which step, and restores the last good epoch's weights.
    """
    if len(task.train) == 0:
        raise ValueError(f"the training split of {task.name} is empty")
    if (recipe.crop or recipe.flip) and len(task.shape) != 3:
        raise ValueError(f"crop and flip need images (C, H, W); {task.name} has inputs of shape {task.shape}")
    if recipe.method == "pag" and target is None:
        target = targets.build(str(recipe.target), task, **recipe.target_options)
    started = time.perf_counter()
    device = next(model.parameters()).device
    train = task.train.to(device)
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = OPTIMIZERS[recipe.optimizer](model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    batches = math.ceil(len(train) / recipe.batch_size)
    history, done, good = History(), 0, _snapshot(model)
    with models.mode(model, training=True):
        bar = progress_bar(range(recipe.epochs), recipe.name, "epoch", show=progress)
        for epoch in bar:
            sums = torch.zeros(3)
            for rows in torch.randperm(len(train), generator=generator).split(recipe.batch_size):
                share = done / (batches * recipe.epochs)
                optimizer.param_groups[0]["lr"] = recipe.lr * SCHEDULES[recipe.schedule](share)
                weight = recipe.weight * _ramp(share, recipe.ramp)
                loss = _loss(model, task, recipe, target, train, rows, weight, generator)
                done += 1
                if not torch.isfinite(loss.total):
                    _give_up(model, good, f"the loss became {loss.total.item()}", done, epoch)
                optimizer.zero_grad(set_to_none=True)
                loss.total.backward()
                optimizer.step()
                sums += len(rows) * torch.stack([part.detach().cpu() for part in loss])
            if not all(p.isfinite().all() for p in model.parameters()):
                _give_up(model, good, "a weight became nan or infinite", done, epoch)
            good = _snapshot(model)
            means = (sums / len(train)).tolist()
            for name, value in zip(losses.PAGLoss._fields, means, strict=True):
                getattr(history, name).append(value)
            history.lr.append(optimizer.param_groups[0]["lr"])
            history.weight.append(weight)
            bar.set_postfix(loss=f"{means[0]:.3f}")
    optimizer.zero_grad(set_to_none=True)
    history.seconds = time.perf_counter() - started
    return history


def _loss(
    model: nn.Module,
    task: Task,
    recipe: Recipe,
    target: targets.GradientTarget | None,
    train: Split,
    rows: Tensor,
    weight: float,
    generator: torch.Generator,
) -> losses.PAGLoss:
    """The recipe's loss on some rows of the training split."""
    where = rows.to(train.x.device)
    x, y, directions = train.x[where], train.y[where], None
    if target is not None and weight > 0:
        classes = targets.sample_classes(len(rows), len(task.classes), recipe.classes_per_image, generator).to(x.device)
        directions = target(rows, x, classes)
    x, directions = augment(x, directions, crop=recipe.crop, flip=recipe.flip, generator=generator)
    if directions is not None:
        return losses.pag_loss(model, x, y, directions, classes, weight=weight, of=recipe.of)
    if recipe.method == "adversarial":
        threat = attacks.Threat(recipe.norm, recipe.eps, task.bounds)
        x = attacks.pgd(model, x, y, threat, steps=recipe.steps, keep="last", generator=generator)
    cross_entropy = F.cross_entropy(model(x), y)
    return losses.PAGLoss(cross_entropy, cross_entropy, torch.full_like(cross_entropy, torch.nan))


def _ramp(share: float, ramp: tuple[float, float]) -> float:
    start, end = ramp
    if share >= end:
        return 1.0
    return 0.0 if share <= start else (share - start) / (end - start)


def _give_up(model: nn.Module, good: dict[str, Tensor], what: str, step: int, epoch: int) -> NoReturn:
    model.load_state_dict(good)
    held = f"those of the end of epoch {epoch}" if epoch else "the initial ones"
    raise TrainingDiverged(f"{what} at step {step} (epoch {epoch + 1}); the model's weights are {held}")


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
