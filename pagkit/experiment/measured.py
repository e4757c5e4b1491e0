"""What a recipe measures of a trained model."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from .. import attacks, evaluation, results
from ..data import Split, Task
from ..diffusion import DDPM
from ..recipe import Recipe
from .asked import network
from .trained import target, trained


def measure(
    recipe: Recipe,
    task: Task,
    model: nn.Module | DDPM,
    origin: dict[str, Any],
    progress: bool,
    *,
    batch_size: int | None = None,
    keep: Callable[[results.Result], None] | None = None,
) -> results.Result:
    """All that the recipe asks for. The one metric of a diffusion model counts the samples that a classifier reads as what was asked.

    Args:
        origin: provenance of the model.
        batch_size: examples at a time; None: each measurement's own.
        keep: is given the result so far after each measurement but the last, with the names of what is still to come as the
            provenance's ``unfinished``.
    """
    started, device = time.perf_counter(), next(network(model).parameters()).device
    now = results.provenance(task, device=device, train_seconds=0.0, train_cpu_seconds=0.0, evaluate_seconds=0.0)
    keys = ("data", "data_digest", "hardware", "device", "threads", "versions", "commit")
    changed = {key: now[key] for key in keys if now[key] != origin.get(key)}
    if (before := origin.get("data_digest", {}).get("train")) not in (None, now["data_digest"]["train"]):
        what = f"the training data have the digest {now['data_digest']['train']}, and had {before} when the weights were trained"
        warnings.warn(f"{what}; if their classes stand in another order, the labels do not mean what they meant", stacklevel=3)
    scores: dict[str, evaluation.Score] = {}
    alignment: dict[str, float] = {}
    checks: dict[str, evaluation.Checklist] = {}
    sized: dict[str, Any] = {"batch_size": batch_size} if batch_size else {}

    def aligned(net: nn.Module, name: str, options: dict[str, Any]) -> float:
        return evaluation.alignment(net, task, target(name, task, device=device, progress=progress, **options), **sized)

    def so_far(left: list[str]) -> results.Result:
        more: dict[str, Any] = {"asked": asked} | ({"evaluated": changed} if changed else {})
        more |= {"unfinished": left} if left else {}
        found = {**origin, "evaluate_seconds": round(time.perf_counter() - started, 2), **more}
        return results.Result(recipe.name, task.name, recipe.seed, dict(scores), found, dict(alignment), tuple(checks.values()))

    work: list[tuple[str, dict[str, Any], str, Callable[[], Any]]] = []
    if isinstance(model, DDPM):
        for metric, how in recipe.metrics.items():
            work.append((metric, scores, metric, partial(_samples, model, task, recipe.seed, progress, sized, **how)))
    else:
        for metric, how in {"clean": {}, **recipe.metrics}.items():
            work.append((metric, scores, metric, partial(evaluation.measure, model, task, metric, progress=progress, **how, **sized)))
        for name, how in recipe.alignment.items():
            work.append((f"alignment.{name}", alignment, name, partial(aligned, model, name, how)))
        if recipe.checklist:
            work.append(("checklist", checks, "checklist", partial(_checklist, recipe, model, task, progress, sized)))
    asked = dict(recipe.metrics) if isinstance(model, DDPM) else {"clean": {}, **recipe.metrics}
    asked |= {f"alignment.{name}": how for name, how in recipe.alignment.items()}
    with _channels_last(network(model)) if recipe.channels_last else nullcontext():
        for done, (_, into, key, do) in enumerate(work, 1):
            into[key] = do()
            if keep is not None and done < len(work):
                keep(so_far([name for name, *_ in work[done:]]))
    return so_far([])


@contextmanager
def _channels_last(net: nn.Module) -> Iterator[None]:
    """Weights in the order that training had them in: attacks on convolutions then take half the time on a CPU."""
    net.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        net.to(memory_format=torch.contiguous_format)


def _samples(
    model: DDPM, task: Task, seed: int, progress: bool, sized: dict[str, Any], *, judge: str, per_class: int, guidance: float
) -> evaluation.Score:
    labels = torch.arange(len(task.classes)).repeat(per_class)
    samples = model.sample(labels, guidance=guidance, generator=torch.Generator().manual_seed(seed), **sized)
    return evaluation.accuracy(trained(judge, task, seed, model.unet.device, progress), Split(samples, labels), **sized)


def _checklist(recipe: Recipe, model: nn.Module, task: Task, progress: bool, sized: dict[str, Any]) -> evaluation.Checklist:
    """As the recipe says, on that many ``examples``, evenly spread since a split may be sorted by class.

    The surrogate is the model of another recipe, trained from the next seed.
    """
    options = dict(recipe.checklist)
    split = task.test.spread(options.pop("examples", len(task.test)))
    threat = attacks.Threat(options.pop("norm"), options.pop("eps"), task.bounds)
    device = next(model.parameters()).device
    surrogate = trained(options.pop("surrogate"), task, recipe.seed + 1, device, progress) if "surrogate" in options else None
    return evaluation.checklist(model, split, threat, surrogate=surrogate, progress=progress, **options, **sized)
