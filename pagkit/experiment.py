"""One run of one recipe, from the data to result.json."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import attacks, data, evaluation, models, results, targets, training
from .data import Split, Task
from .recipe import Recipe


def run(recipe: Recipe, *, out: str | Path, folder: str | Path | None = None, progress: bool = True) -> results.Result:
    """Train and evaluate ``recipe``, then write ``out``/model.safetensors and ``out``/result.json.

    Args:
        recipe: with ``recipe.seed`` set.
        out: a folder; made if missing.
        folder: take the images of this folder (train/<class>/, test/<class>/) in place of the recipe's data.
        progress: show bars.

    Raises:
        ValueError, FileNotFoundError: bad recipe or data; found before any training.
        pagkit.training.TrainingDiverged: a loss that is not finite.
    """
    for metric in recipe.metrics:
        evaluation.parse_metric(metric)
    task = data.load(recipe.task, **{"seed": recipe.seed, **recipe.data}) if folder is None else data.load(f"folder:{folder}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    state, result = (_ddpm if recipe.method == "ddpm" else _classifier)(recipe, task, progress)
    results.save_weights(out / "model.safetensors", *state)
    results.save(out / "result.json", result)
    return result


def _classifier(recipe: Recipe, task: Task, progress: bool) -> tuple[tuple[dict[str, torch.Tensor]], results.Result]:
    model = models.build(recipe.model, task, seed=recipe.seed, **recipe.model_options)
    target = _target(recipe.target, task, recipe.target_options, progress) if recipe.target else None
    history = training.fit(model, task, recipe, target=target, progress=progress)
    started = time.perf_counter()
    metrics = {"clean": {}, **recipe.metrics}
    scores = {m: evaluation.measure(model, task, m, progress=progress, **how) for m, how in metrics.items()}
    alignment = {name: evaluation.alignment(model, task, _target(name, task, how, progress)) for name, how in recipe.alignment.items()}
    checks = _checklist(recipe, model, task, progress) if recipe.checklist else None
    trained = {"train_seconds": history.seconds, "train_cpu_seconds": history.cpu_seconds}
    where = results.provenance(task, **trained, evaluate_seconds=time.perf_counter() - started)
    return (model.state_dict(),), results.Result(recipe.name, task.name, recipe.seed, scores, where, alignment, checks)


def _ddpm(recipe: Recipe, task: Task, progress: bool) -> tuple[tuple[dict[str, torch.Tensor], dict[str, str]], results.Result]:
    """A diffusion model; its one metric counts the samples that a classifier reads as what they were asked to be."""
    from .diffusion import DDPM  # here, because diffusers takes seconds to import

    started, cpu_started = time.perf_counter(), time.process_time()
    model = DDPM.from_recipe(recipe, task, progress=progress)
    trained = {"train_seconds": time.perf_counter() - started, "train_cpu_seconds": time.process_time() - cpu_started}
    started = time.perf_counter()
    scores = {}
    for metric, how in recipe.metrics.items():
        judge = _trained(how["judge"], task, recipe.seed, progress)
        labels = torch.arange(len(task.classes)).repeat(how["per_class"])
        samples = model.sample(labels, guidance=how["guidance"], generator=torch.Generator().manual_seed(recipe.seed))
        scores[metric] = evaluation.accuracy(judge, Split(samples, labels))
    where = results.provenance(task, **trained, evaluate_seconds=time.perf_counter() - started)
    return model.state(), results.Result(recipe.name, task.name, recipe.seed, scores, where)


def _target(name: str, task: Task, options: dict[str, Any], progress: bool) -> targets.GradientTarget:
    return targets.build(name, task, **options, **({"progress": progress} if name == "score_based" else {}))


def _checklist(recipe: Recipe, model: nn.Module, task: Task, progress: bool) -> evaluation.Checklist:
    """As the recipe says, on its first ``examples``; the surrogate is the model of another recipe, trained from the next seed."""
    options = dict(recipe.checklist)
    split = task.test.first(options.pop("examples", len(task.test)))
    threat = attacks.Threat(options.pop("norm"), options.pop("eps"), task.bounds)
    surrogate = _trained(options.pop("surrogate"), task, recipe.seed + 1, progress) if "surrogate" in options else None
    return evaluation.checklist(model, split, threat, surrogate=surrogate, progress=progress, **options)


def _trained(name: str, task: Task, seed: int, progress: bool) -> nn.Module:
    recipe = Recipe.load(name, seed=seed)
    model = models.build(recipe.model, task, seed=seed, **recipe.model_options)
    training.fit(model, task, recipe, progress=progress)
    return model
