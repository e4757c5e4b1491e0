"""What a recipe measures of a trained model."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from .. import attacks, evaluation, results, training
from ..data import Split, Task
from ..diffusion import DDPM
from ..recipe import Recipe
from .asked import build, network, target


def measure(recipe: Recipe, task: Task, model: nn.Module | DDPM, origin: dict[str, Any], progress: bool) -> results.Result:
    """All that the recipe asks for. The one metric of a diffusion model counts the samples that a classifier reads as what was asked."""
    started, device = time.perf_counter(), next(network(model).parameters()).device
    alignment, checks = {}, None
    if recipe.method == "ddpm":
        scores = {metric: _samples(model, task, recipe.seed, progress, **how) for metric, how in recipe.metrics.items()}
    else:
        metrics = {"clean": {}, **recipe.metrics}
        scores = {m: evaluation.measure(model, task, m, progress=progress, **how) for m, how in metrics.items()}
        for name, how in recipe.alignment.items():
            alignment[name] = evaluation.alignment(model, task, target(name, task, device=device, progress=progress, **how))
        checks = _checklist(recipe, model, task, progress) if recipe.checklist else None
    now = results.provenance(task, train_seconds=0.0, train_cpu_seconds=0.0, evaluate_seconds=time.perf_counter() - started)
    changed = {key: now[key] for key in ("data", "hardware", "threads", "versions", "commit") if now[key] != origin[key]}
    origin = {**origin, "evaluate_seconds": now["evaluate_seconds"], **({"evaluated": changed} if changed else {})}
    return results.Result(recipe.name, task.name, recipe.seed, scores, origin, alignment, checks)


def _samples(model: DDPM, task: Task, seed: int, progress: bool, *, judge: str, per_class: int, guidance: float) -> evaluation.Score:
    labels = torch.arange(len(task.classes)).repeat(per_class)
    samples = model.sample(labels, guidance=guidance, generator=torch.Generator().manual_seed(seed))
    return evaluation.accuracy(trained(judge, task, seed, model.unet.device, progress), Split(samples, labels))


def _checklist(recipe: Recipe, model: nn.Module, task: Task, progress: bool) -> evaluation.Checklist:
    """As the recipe says, on its first ``examples``; the surrogate is the model of another recipe, trained from the next seed."""
    options = dict(recipe.checklist)
    split = task.test.first(options.pop("examples", len(task.test)))
    threat = attacks.Threat(options.pop("norm"), options.pop("eps"), task.bounds)
    device = next(model.parameters()).device
    surrogate = trained(options.pop("surrogate"), task, recipe.seed + 1, device, progress) if "surrogate" in options else None
    return evaluation.checklist(model, split, threat, surrogate=surrogate, progress=progress, **options)


def trained(name: str, task: Task, seed: int, device: torch.device, progress: bool) -> nn.Module:
    recipe = Recipe.load(name, seed=seed)
    model = build(recipe, task).to(device)
    training.fit(model, task, recipe, progress=progress)
    return model
