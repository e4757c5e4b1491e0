"""Training of classifiers by recipe: cross-entropy plus terms, on inputs as they are, attacked, or with noise.

It can be stopped at any moment and resumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import attacks, data, losses, targets
from ..data import Split, Task
from ..models import NotFinite, logits_of, mode, ordinary, seeded
from ..recipe import Recipe
from . import checkpoints, processes
from .loop import Draw, Loop, Loss
from .schedules import SCHEDULES, ramp
from .state import History, average


@torch.inference_mode(False)
def fit(
    model: nn.Module,
    task: Task,
    recipe: Recipe,
    *,
    target: targets.GradientTarget | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 120.0,
    log: bool = False,
    tell: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
    progress: bool = True,
) -> History:
    """Train ``model`` in place on ``task.train``, on the device its parameters are on.

    Args:
        model: as from :func:`pagkit.models.build`. Its mode is left as found.
        task: the data; no gradient reaches them.
        recipe: method, optimizer, schedules; ``recipe.seed`` decides the order of the batches and all other draws.
        target: gradient directions for the methods with ``pag``; default: built from ``recipe.target``;
            :func:`pagkit.experiment.target` finds the diffusion model that ``score_based`` names.
        run_dir: a folder for :mod:`pagkit.training.checkpoints`, made if missing. One is written before the first step and one at the
            end of each epoch; the last three stay.
        resume: go on from the last checkpoint in ``run_dir`` that can be read, or from the beginning where there is none. On a
            CPU the weights are those of an uninterrupted training, bit for bit.
        checkpoint_seconds: within an epoch a checkpoint is written once the last one is this old; 0: after each step.
        log: write the parts of the loss, learning rate and weight to ``run_dir``/tensorboard, for TensorBoard.
        tell: called with a line about each epoch, such as ``print``.
        stop: asked after each step; once it says True the training ends there, with the weights that it has and a checkpoint to go on
            from. The history then has whole epochs only. Of several processes all must be told the same.
        progress: show a bar, once training has taken two seconds.

    Returns:
        :class:`History`. The same seed and thread count give the same weights, bit for bit; a model that draws random numbers, as Dropout
        does, draws them in each step from the recipe's seed and the step. The global random state is left as found.

    Raises:
        TypeError: training inputs that are not floating point, or of a dtype that the model does not take; labels that are not int64; a
            model that is no module.
        ValueError: an empty training split; training labels that are not (N,) or out of range; a model with logits of other than the
            data's classes; crop or flip on inputs that are not images, or a crop as large as these; BatchNorm and a batch of a single
            row, see :func:`single`; a learning rate, or a weight of the PAG objective, that its schedule or ramp leaves at 0 in every
            step; a recipe of method ``"ddpm"``; a target with a method without ``pag``; parameters that were made inside
            ``torch.inference_mode``; ``resume`` or ``log`` without ``run_dir``, checkpoints without ``resume``, or checkpoints that do
            not fit, see :func:`pagkit.training.checkpoints.claim`.
        ImportError: ``log`` without TensorBoard.
        OSError: a checkpoint cannot be written; an unwritable folder is found before the first step. Earlier ones are intact.
        TrainingDiverged: a loss that is not finite; says at which step, and restores the last good epoch's weights.
    """
    if target is not None and recipe.target is None:
        raise ValueError(f"target is {target.name!r} with method {recipe.method!r}; expected a method with pag")
    check(model, task, recipe)
    task = replace(task, train=Split(*ordinary(task.train.x.detach(), task.train.y)))
    forward: Any = torch.compile(model, dynamic=False) if recipe.compile else model  # a module, which torch's types call a function
    if recipe.target is not None and target is None:
        target = targets.build(str(recipe.target), task, progress=progress, **recipe.target_options)
    draw, loss = _step(model, forward, task, recipe, target)
    loop = Loop(  # last: it writes a checkpoint, which a training that is refused does not leave
        model,
        recipe,
        averaged=average(model, recipe.ema) if recipe.ema else None,
        about=lambda: checkpoints.about(model, task, recipe, target.name if target else recipe.target),
        run_dir=run_dir,
        resume=resume,
        checkpoint_seconds=checkpoint_seconds,
        log=log,
    )
    return loop.run(len(task.train), draw, loss, tell=tell, stop=stop, progress=progress)


def check(model: nn.Module, task: Task, recipe: Recipe) -> None:
    """Refuse what :func:`fit` refuses of a model, its data and its recipe, before anything is trained."""
    if recipe.method == "ddpm":
        raise ValueError(f"recipe {recipe.name!r} trains a diffusion model, not a classifier; use pagkit.diffusion.DDPM.fit")
    attacks.checks.training(task)
    if (recipe.crop or recipe.flip) and len(task.shape) != 3:
        raise ValueError(f"crop and flip need images (C, H, W); {task.name} has inputs of shape {task.shape}")
    if recipe.crop and recipe.crop >= min(task.shape[1:]):
        raise ValueError(f"crop is {recipe.crop} with images of {task.shape[1]} x {task.shape[2]} pixels; expected fewer than a side has")
    with torch.no_grad(), mode(model, training=False), seeded(0):
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError(f"the model ({type(model).__name__}) has no parameter that takes a gradient; expected one that can be trained")
        weight, x = next(model.parameters()), task.train.x[:1]
        try:
            logits_of(model, x.to(weight.device), finite=False, classes=len(task.classes))
        except RuntimeError as error:
            if x.dtype == weight.dtype:
                raise
            found = f"the training inputs of {task.name} have dtype {x.dtype} and the model {weight.dtype}"
            raise TypeError(f"{found}; expected the same of both, such as x.to({weight.dtype}): {error}") from error
    _check_schedules(len(task.train), recipe)
    if not any(isinstance(layer, _BatchNorm) for layer in model.modules()):
        return
    if recipe.compile and (recipe.target or recipe.slope):
        what = "a target" if recipe.target else "a slope"
        raise ValueError(f"recipe {recipe.name!r}: compile with {what} needs a model without BatchNorm, such as one with norm: group")
    if size := single(len(task.train), recipe):
        parts = processes.count() * recipe.accumulate
        found = "the last batch has a single row" if parts == 1 else f"{parts} parts of a batch of {size} make parts of a single row"
        smaller = ", a smaller accumulate" if recipe.accumulate > 1 else ""
        raise ValueError(
            f"batch_size is {recipe.batch_size} with {len(task.train)} training examples: {found}, which BatchNorm cannot normalise; "
            f"expected two rows or more: take another batch_size{smaller} or a model without BatchNorm, such as one with norm: group"
        )


def _check_schedules(examples: int, recipe: Recipe) -> None:
    """Refuse a training that is so short that its learning rate, or the weight of its PAG objective, is 0 in every step."""
    steps = math.ceil(examples / recipe.batch_size) * recipe.epochs
    if not any(SCHEDULES[recipe.schedule](step / steps) > 0 for step in range(steps)):  # the first that is above 0 ends it
        found = f"schedule is {recipe.schedule!r} with {steps} step{'s' * (steps > 1)} in all, and the learning rate 0 in each"
        raise ValueError(f"{found}; expected more epochs, a smaller batch_size or schedule 'constant'")
    if recipe.target is not None and recipe.weight > 0 and ramp((steps - 1) / steps, *recipe.ramp) == 0:
        found = f"ramp is {recipe.ramp} with {steps} step{'s' * (steps > 1)} in all, and the weight of the PAG objective 0 in each"
        raise ValueError(f"{found}; expected a ramp that starts earlier, or more epochs")


def single(examples: int, recipe: Recipe) -> int:
    """The size of a batch of an epoch that ``accumulate`` and the processes divide into parts of which one has a single row; 0: none.

    The last batch holds what the others leave. BatchNorm normalises a part by its own mean and spread.
    """
    parts, last = processes.count() * recipe.accumulate, examples % recipe.batch_size
    sizes = [last, *([recipe.batch_size] if examples >= recipe.batch_size else [])]
    return next((size for size in sizes if 0 < size < 2 * parts), 0)


def _step(model: nn.Module, forward: nn.Module, task: Task, recipe: Recipe, target: targets.GradientTarget | None) -> tuple[Draw, Loss]:
    """What is random in a step, and its loss. ``forward`` is the model or a compiled form of it."""
    train = task.train.to(next(model.parameters()).device)
    threat = attacks.Threat(recipe.norm, recipe.eps, task.bounds) if "adversarial" in recipe.method else None

    def draw(rows: Tensor, weight: float, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = {"rows": rows}
        if target is not None and weight > 0:
            drawn["classes"] = targets.sample_classes(len(rows), len(task.classes), recipe.classes_per_image, generator)
        drawn |= data.moves(len(rows), crop=recipe.crop, flip=recipe.flip, generator=generator)
        if threat is not None:
            drawn["seeds"] = torch.randint(2**62, (), generator=generator).expand(len(rows))  # for a model that draws random numbers
            drawn["offsets"] = threat.offsets(task.train.x[: len(rows)], generator)
        if recipe.noise:
            drawn["noise"] = recipe.noise * torch.randn((len(rows), *task.shape), generator=generator)
        return drawn

    def loss(rows: Tensor, weight: float, **drawn: Tensor) -> losses.PAGLoss | losses.Objective:
        where, directions, seen = rows.to(train.x.device), None, None
        x, y = train.x[where], train.y[where]
        if target is not None and "classes" in drawn:
            classes = drawn["classes"].to(x.device)
            directions = target(rows, x, classes).detach()
        x, directions = data.move(x, directions, crop=recipe.crop, flipped=drawn.get("flipped"), corner=drawn.get("corner"))
        terms: list[tuple[float, losses.Term]] = []
        if directions is not None:
            terms.append((weight, losses.Alignment(directions, classes, recipe.of)))
        if recipe.slope:
            terms.append((recipe.slope, losses.Slope(recipe.slope_of)))
        if threat is not None:
            seen = _attacked(forward, x, y, threat, recipe.steps, drawn["offsets"], int(drawn["seeds"][0]))
        if "noise" in drawn:
            seen = (x if seen is None else seen) + drawn["noise"].to(x.device)  # beyond the bounds too: clipped, it would have a mean
        how = {"compiled": recipe.compile, "autocast": recipe.precision == "bf16-gradients"}
        found = losses.objective(model if terms else forward, x, y, terms, seen=seen, **how)
        return found if recipe.slope else losses.PAGLoss(*found[:3])  # without the term its column of the history stays empty

    return draw, loss


def _attacked(model: nn.Module, x: Tensor, y: Tensor, threat: attacks.Threat, steps: int, offsets: Tensor, seed: int) -> Tensor:
    """The end of PGD from given offsets, whether it succeeds or not; ``seed`` is for a model that draws random numbers."""
    generator = torch.Generator().manual_seed(seed)
    try:
        return attacks.pgd(model, x, y, threat, steps=steps, keep="last", offsets=offsets, generator=generator)
    except NotFinite:  # then the loss is not finite either, and the loop stops there, in all processes at once
        return x
