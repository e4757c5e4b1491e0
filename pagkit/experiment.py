"""Runs of recipes: train and evaluate at once, or train with checkpoints first and evaluate the folder later."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import nn

from . import attacks, autoattack, checkpoints, data, evaluation, models, processes, results, targets, training
from .data import Split, Task
from .recipe import Recipe

if TYPE_CHECKING:
    from .diffusion import DDPM  # imported where it is used, because diffusers takes seconds to import

WEIGHTS, RECIPE, RESULT = "model.safetensors", "recipe.yaml", "result.json"


def run(
    recipe: Recipe, *, out: str | Path, folder: str | Path | None = None, device: str = "auto", progress: bool = True
) -> results.Result:
    """Train and evaluate ``recipe``, then write ``out``/model.safetensors and ``out``/result.json.

    Args:
        recipe: with ``recipe.seed`` set.
        out: a folder; made if missing.
        folder: take the images of this folder (train/<class>/, test/<class>/) in place of the recipe's, as many a class as it says.
        device: see :func:`pagkit.processes.device`.
        progress: show bars.

    The weights are there before they are measured: :func:`evaluate` measures them again, or for the first time if that was stopped.
    Of several processes each comes to the same result, and process 0 writes it.

    Raises:
        ValueError, FileNotFoundError: bad recipe, data or device; found before any training.
        ImportError: the recipe measures with AutoAttack, which is an extra that is not installed; found before any training.
        pagkit.training.TrainingDiverged: a loss that is not finite.
    """
    where = processes.device(device)
    recipe, task = _load(recipe, folder)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    model, origin = _train(recipe, task, where, progress)
    if processes.rank() == 0:
        _save(out / WEIGHTS, model, recipe, origin)
    result = _evaluate(recipe, task, model, origin, progress)
    if processes.rank() == 0:
        results.save(out / RESULT, result)
    return result


def train(
    recipe: Recipe,
    *,
    run: str | Path,
    folder: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    log: bool = False,
    tell: Callable[[str], None] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train ``recipe`` with checkpoints in ``run``, where recipe.yaml is written first and model.safetensors last.

    Args:
        recipe: with ``recipe.seed`` set.
        run: a folder; made if missing.
        folder: as in :func:`run`; recipe.yaml then names it.
        resume: go on from the last checkpoint in ``run``, see :func:`pagkit.training.fit`.
        device: see :func:`pagkit.processes.device`.
        log, tell: as in :func:`pagkit.training.fit`.
        progress: show bars.

    Returns:
        The provenance of the model, as :func:`pagkit.results.provenance` makes it; model.safetensors holds it and the recipe too.

    Raises:
        ValueError, FileNotFoundError: bad recipe or data; without ``resume`` a folder in use; with it checkpoints that do not fit.
            All are found before any training.
        OSError: a file cannot be written.
        pagkit.training.TrainingDiverged: a loss that is not finite.
    """
    where = processes.device(device)
    recipe, task = _load(recipe, folder)
    run = Path(run)
    if not resume and (run / WEIGHTS).exists():
        raise ValueError(f"{run} holds a trained model, {WEIGHTS}; name another folder")
    checkpoints.claim(run, checkpoints.about(_network(_build(recipe, task)), task, recipe), resume=resume)
    if processes.rank() == 0:
        models.write_atomically(run / RECIPE, recipe.to_yaml().encode())
    model, origin = _train(recipe, task, where, progress, run_dir=run, resume=resume, log=log, tell=tell)
    if processes.rank() == 0:
        _save(run / WEIGHTS, model, recipe, origin)
    return origin


def evaluate(
    run: str | Path, *, metrics: Sequence[str] = (), checklist: str | None = None, device: str = "auto", progress: bool = True
) -> results.Result:
    """Measure what :func:`train` or :func:`run` left in the folder ``run``, and write ``run``/result.json.

    Recipe and provenance are the training's, which model.safetensors holds. Where data, code or machine have changed since, the
    provenance's ``evaluated`` says what they are now. Relative paths in the recipe are taken from the working folder.

    Args:
        run: a folder with a model.safetensors.
        metrics: what to measure beyond the recipe's metrics, each with its defaults: names such as ``autoattack-l2-0.5``.
        checklist: a norm and eps such as ``l2-0.5``, to go through the gradient-masking checklist on the first 200 test examples in
            place of what the recipe says.
        device: see :func:`pagkit.processes.device`.
        progress: show bars.

    Raises:
        FileNotFoundError: no folder, or no weights in it since the training has not finished.
        ValueError: weights without a recipe or that do not fit it, an unknown metric or norm, and those of :func:`run`.
    """
    run, where = Path(run), processes.device(device)
    if not (run / WEIGHTS).is_file():
        raise FileNotFoundError(f"no {WEIGHTS} in {run}; `pagkit run` and `pagkit train` write it when the training ends")
    state, about = models.load_weights(run / WEIGHTS)
    try:
        recipe, origin = Recipe(**yaml.safe_load(about["recipe"])), json.loads(about["provenance"])
        recipe = replace(recipe, metrics={**recipe.metrics, **{name: {} for name in metrics if name not in recipe.metrics}})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{run / WEIGHTS} does not say how it was trained ({error}); expected a file that `pagkit` wrote") from error
    if checklist is not None:
        try:
            _, norm, eps = evaluation.parse_metric(f"pgd-{checklist}")
        except ValueError:
            raise ValueError(f"checklist is {checklist!r}; expected a norm and eps such as 'l2-0.5'") from None
        recipe = replace(recipe, checklist={"norm": norm, "eps": eps, "examples": 200})
    recipe, task = _load(recipe, None)
    model = _build(recipe, task)
    try:
        _network(model).load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{run / WEIGHTS} does not fit its recipe and data: {error}") from error
    result = _evaluate(recipe, task, model.to(where), origin, progress)
    if processes.rank() == 0:
        results.save(run / RESULT, result)
    return result


def _load(recipe: Recipe, folder: str | Path | None) -> tuple[Recipe, Task]:
    """The data of a recipe, or of a folder in their place: the recipe then names it."""
    _check(recipe)
    if folder is not None:
        recipe = replace(recipe, task=f"folder:{folder}")
    with processes.main_first():  # which fetches what is missing
        return recipe, data.load(recipe.task, **{"seed": recipe.seed, **recipe.data})


def _check(recipe: Recipe) -> None:
    """Refuse now, not after training, what cannot be measured."""
    known = {
        "clean": set(),
        "samples": {"judge", "per_class", "guidance"},
        "exact": set(),
        "square": _options(autoattack.perturb) - {"attacks"},
        "autoattack": _options(autoattack.perturb),
        "pgd": _options(attacks.pgd) | _options(evaluation.robust_accuracy),
    }
    for metric, how in recipe.metrics.items():
        attack, *_ = evaluation.parse_metric(metric)
        if (attack == "samples") != (recipe.method == "ddpm"):
            raise ValueError(
                f"recipe {recipe.name!r}: method {recipe.method!r} with metric {metric!r}; a diffusion model has 'samples' only"
            )
        _refuse_unknown(recipe, f"metric {metric!r}", set(how), known[attack])
        if attack == "samples":
            if missing := sorted(known[attack] - set(how)):
                raise ValueError(f"recipe {recipe.name!r}: metric {metric!r} has no {missing[0]}")
            Recipe.load(how["judge"])
        if attack in ("autoattack", "square"):
            autoattack.package()  # is it installed?
    for name, how in [*recipe.alignment.items(), *([(recipe.target, recipe.target_options)] if recipe.target else [])]:
        targets.check(name, **how)
    if recipe.checklist:
        _refuse_unknown(recipe, "checklist", set(recipe.checklist), {"norm", "eps", "examples"} | _options(evaluation.checklist))
        attacks.Threat(recipe.checklist["norm"], recipe.checklist["eps"])
        if "surrogate" in recipe.checklist:
            Recipe.load(recipe.checklist["surrogate"])


def _options(function: Callable[..., Any]) -> set[str]:
    """The keyword-only arguments of a function that a recipe can set."""
    return set(getattr(function, "__kwdefaults__", None) or {}) - {"progress", "generator"}


def _refuse_unknown(recipe: Recipe, what: str, found: set[str], known: set[str]) -> None:
    if unknown := sorted(found - known):
        expected = f"some of {', '.join(sorted(known))}" if known else "none"
        raise ValueError(f"recipe {recipe.name!r}: unknown option {unknown[0]!r} of {what}; expected {expected}")


def _build(recipe: Recipe, task: Task) -> nn.Module | DDPM:
    if recipe.method == "ddpm":
        from . import diffusion

        return diffusion.build(recipe, task)
    return models.build(recipe.model, task, seed=recipe.seed, **recipe.model_options)


def _network(model: nn.Module | DDPM) -> nn.Module:
    return model if isinstance(model, nn.Module) else model.unet


def _train(recipe: Recipe, task: Task, device: torch.device, progress: bool, **where: Any) -> tuple[nn.Module | DDPM, dict[str, Any]]:
    """A model and its provenance; ``where`` are options of :func:`pagkit.training.fit`."""
    model = _build(recipe, task).to(device)
    if recipe.method == "ddpm":
        from . import diffusion

        history = diffusion.train(model, task, recipe, progress=progress, **where)
    else:
        history = training.fit(model, task, recipe, progress=progress, **where)
    spent = {"train_seconds": history.seconds, "train_cpu_seconds": history.cpu_seconds}
    return model, results.provenance(task, **spent, evaluate_seconds=0.0)


def _evaluate(recipe: Recipe, task: Task, model: nn.Module | DDPM, origin: dict[str, Any], progress: bool) -> results.Result:
    """All that the recipe asks for. The one metric of a diffusion model counts the samples that a classifier reads as what was asked."""
    started, device = time.perf_counter(), next(_network(model).parameters()).device
    alignment, checks = {}, None
    if recipe.method == "ddpm":
        scores = {metric: _samples(model, task, recipe.seed, progress, **how) for metric, how in recipe.metrics.items()}
    else:
        metrics = {"clean": {}, **recipe.metrics}
        scores = {m: evaluation.measure(model, task, m, progress=progress, **how) for m, how in metrics.items()}
        for name, how in recipe.alignment.items():
            alignment[name] = evaluation.alignment(model, task, targets.build(name, task, device=device, progress=progress, **how))
        checks = _checklist(recipe, model, task, progress) if recipe.checklist else None
    now = results.provenance(task, train_seconds=0.0, train_cpu_seconds=0.0, evaluate_seconds=time.perf_counter() - started)
    changed = {key: now[key] for key in ("data", "hardware", "threads", "versions", "commit") if now[key] != origin[key]}
    origin = {**origin, "evaluate_seconds": now["evaluate_seconds"], **({"evaluated": changed} if changed else {})}
    return results.Result(recipe.name, task.name, recipe.seed, scores, origin, alignment, checks)


def _samples(model: DDPM, task: Task, seed: int, progress: bool, *, judge: str, per_class: int, guidance: float) -> evaluation.Score:
    labels = torch.arange(len(task.classes)).repeat(per_class)
    samples = model.sample(labels, guidance=guidance, generator=torch.Generator().manual_seed(seed))
    return evaluation.accuracy(_trained(judge, task, seed, model.unet.device, progress), Split(samples, labels))


def _save(path: Path, model: nn.Module | DDPM, recipe: Recipe, origin: dict[str, Any]) -> None:
    """The weights; the header of their file says where they come from, so that one file is all that :func:`evaluate` needs."""
    state, about = (model.state_dict(), {}) if isinstance(model, nn.Module) else model.state()
    results.save_weights(path, state, {**about, "recipe": recipe.to_yaml(), "provenance": json.dumps(origin)})


def _checklist(recipe: Recipe, model: nn.Module, task: Task, progress: bool) -> evaluation.Checklist:
    """As the recipe says, on its first ``examples``; the surrogate is the model of another recipe, trained from the next seed."""
    options = dict(recipe.checklist)
    split = task.test.first(options.pop("examples", len(task.test)))
    threat = attacks.Threat(options.pop("norm"), options.pop("eps"), task.bounds)
    device = next(model.parameters()).device
    surrogate = _trained(options.pop("surrogate"), task, recipe.seed + 1, device, progress) if "surrogate" in options else None
    return evaluation.checklist(model, split, threat, surrogate=surrogate, progress=progress, **options)


def _trained(name: str, task: Task, seed: int, device: torch.device, progress: bool) -> nn.Module:
    recipe = Recipe.load(name, seed=seed)
    model = _build(recipe, task).to(device)
    training.fit(model, task, recipe, progress=progress)
    return model
