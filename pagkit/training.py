"""Training by recipe: standard, adversarial, PAG."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import attacks, losses, models, targets
from .data import Split, Task, augment, progress_bar
from .recipe import SCHEDULES
from .recipe import Recipe as Recipe  # callers reach these two as training.Recipe, .recipe_names
from .recipe import recipe_names as recipe_names

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {  # the names that recipe.OPTIMIZERS lists
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda params, **options: torch.optim.SGD(params, momentum=0.9, **options),
}


@dataclass
class History:
    """One entry an epoch: mean loss (total), its parts (alignment is nan where PAG was off), last lr and weight.

    ``seconds`` is the wall time of the whole training, ``cpu_seconds`` that of the processor cores, which other work on the machine
    disturbs less.
    """

    total: list[float] = field(default_factory=list)
    cross_entropy: list[float] = field(default_factory=list)
    alignment: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


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
        target: gradient directions for the methods with ``pag``; default: built from ``recipe.target``.
        progress: show a bar, once training has taken two seconds.

    Returns:
        :class:`History`. The same seed and thread count give the same weights, bit for bit.

    Raises:
        ValueError: an empty training split; crop or flip on inputs that are not images; a recipe of method ``"ddpm"``.
        TrainingDiverged: a loss that is not finite; says at which step, and restores the last good epoch's weights.
    """
    if len(task.train) == 0:
        raise ValueError(f"the training split of {task.name} is empty")
    if (recipe.crop or recipe.flip) and len(task.shape) != 3:
        raise ValueError(f"crop and flip need images (C, H, W); {task.name} has inputs of shape {task.shape}")
    if recipe.method == "ddpm":
        raise ValueError(f"recipe {recipe.name!r} trains a diffusion model, not a classifier; use pagkit.diffusion.DDPM.fit")
    if recipe.target is not None and target is None:
        target = targets.build(str(recipe.target), task, **recipe.target_options)
    started, cpu_started = time.perf_counter(), time.process_time()
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
    history.seconds, history.cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
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
    attacked = None
    if "adversarial" in recipe.method:
        threat = attacks.Threat(recipe.norm, recipe.eps, task.bounds)
        attacked = attacks.pgd(model, x, y, threat, steps=recipe.steps, keep="last", generator=generator)
    if directions is not None:
        return losses.pag_loss(model, x, y, directions, classes, weight=weight, of=recipe.of, attacked=attacked)
    cross_entropy = F.cross_entropy(model(x if attacked is None else attacked), y)
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
