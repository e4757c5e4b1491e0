"""Runs of recipes: train and evaluate at once, or train with checkpoints first and evaluate the folder later."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import diffusion, evaluation, models, results
from ..data import Task
from ..data.files import alone, writable, write_atomically
from ..diffusion import DDPM
from ..recipe import Recipe
from ..training import checkpoints, processes
from ..training.loop import summary_writer
from . import kept
from .asked import build, fitted, load, network, unskipped
from .kept import MEASURED, RECIPE, WEIGHTS, ResultFile
from .measured import measure
from .rehearsed import rehearse
from .trained import fit

EXAMPLE = "metrics.pgd-l2-0.5.steps=100"


def run(
    recipe: Recipe, *, out: str | Path, folder: str | Path | None = None, device: str = "auto", progress: bool = True
) -> results.Result:
    """Train and evaluate ``recipe``, then write ``out``/model.safetensors and ``out``/result.json.

    Args:
        recipe: with ``recipe.seed`` set.
        out: a folder; made if missing. If it holds weights, they must be of this recipe and seed.
        folder: take the images of this folder (train/<class>/, test/<class>/) in place of the recipe's, as many a class as it says.
        device: see :func:`pagkit.training.processes.device`.
        progress: show bars.

    The weights are there before they are measured: :func:`evaluate` measures them again, or for the first time if that was stopped.
    A classifier's are rounded to float16 first, so that what is kept, in half the space, is what is measured.
    result.json is written anew after each measurement; until the last one its provenance says what is ``unfinished``. What the
    data do not allow is lowered with a warning and a note in the provenance, see :func:`pagkit.experiment.asked.fitted`.
    If the folder has these very weights already, what was measured of them stays, see :func:`evaluate`. Any other result in it is set
    aside with a warning, as result.json.1 and so on.
    Of several processes each comes to the same result, and process 0 writes it.

    Raises:
        ValueError, FileNotFoundError: bad recipe, data or device, something that cannot be trained or measured on these data, or a
            folder with the weights of another recipe, seed or data set, or into which another process trains; found before any
            training, and before anything is written.
        ImportError: the recipe measures with AutoAttack, which is an extra that is not installed; found before any training.
        PermissionError: ``out``, or the folder where a diffusion model would be kept, cannot be written; found before any training.
        pagkit.training.TrainingDiverged: a loss that is not finite.
    """
    where = processes.device(device)
    recipe, task, notes = _asked(recipe, folder, where)
    out = Path(out)
    before = kept.claim(out, recipe, task, free=("description", *MEASURED))
    writable(out)
    with _reserved(out):
        model, origin = _train(recipe, task, where, progress, notes)
        origin = kept.save(out, model, recipe, origin, before)
    return _measure(out, kept.result_name(), recipe, task, model, origin, progress)


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
        resume: go on from the last checkpoint in ``run``, see :func:`pagkit.training.fit`. A training that comes to the very weights
            that the folder has leaves there what was measured of them.
        device: see :func:`pagkit.training.processes.device`.
        log, tell: as in :func:`pagkit.training.fit`.
        progress: show bars.

    Returns:
        The provenance of the model, as :func:`pagkit.results.provenance` makes it; model.safetensors holds it and the recipe too.

    Raises:
        ValueError, FileNotFoundError: bad recipe or data; without ``resume`` a folder in use, or with another recipe.yaml; with it
            checkpoints or weights of another training. All are found before any training.
        ImportError: ``log`` without TensorBoard.
        OSError: a file cannot be written; PermissionError before any training, as in :func:`run`.
        pagkit.training.TrainingDiverged: a loss that is not finite.
    """
    where = processes.device(device)
    if log:
        summary_writer()  # which refuses now and not after a diffusion model's training
    recipe, task, notes = _asked(recipe, folder, where)
    run = Path(run)
    if not resume and (run / WEIGHTS).exists():
        raise ValueError(f"{run} holds a trained model, {WEIGHTS}; name another folder")
    checkpoints.claim(run, checkpoints.about(network(build(recipe, task)), task, recipe), resume=resume)
    before = kept.claim(run, recipe, task, free=("name", "description", *MEASURED))
    written = recipe.to_yaml().encode()
    if not resume and (run / RECIPE).exists() and (run / RECIPE).read_bytes() != written:
        raise ValueError(f"{run / RECIPE} is there already, and this training would overwrite it; name another folder")
    writable(run)
    with _reserved(run):
        if processes.rank() == 0:
            write_atomically(run / RECIPE, written)
        model, origin = _train(recipe, task, where, progress, notes, run_dir=run, resume=resume, log=log, tell=tell)
        return kept.save(run, model, recipe, origin, before)


def evaluate(
    run: str | Path,
    *,
    metrics: Sequence[str] = (),
    checklist: str | None = None,
    settings: Sequence[str] = (),
    batch_size: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> results.Result:
    """Measure what :func:`train` or :func:`run` left in the folder ``run``, and write ``run``/result.json; with ``settings`` a file of
    their own beside it, such as ``result+metrics.pgd-l2-0.5.steps=100.json``, see :func:`pagkit.experiment.result_name`.

    Recipe and provenance are the training's, which model.safetensors holds. Where data, code or machine have changed since, the
    provenance's ``evaluated`` says what they are now. Relative paths in the recipe are taken from the working folder.
    After each measurement the file is written as in :func:`run`. What an earlier evaluation by the same recipe of the same weights
    measured on the same test examples, and this one does not, stays in it. Anything else that it held is set aside with a warning, as
    result.json.1 and so on. An earlier figure that the recipe now asks for with other options does not stay.

    Args:
        run: a folder with a model.safetensors.
        metrics: what to measure beyond the recipe's metrics, each with its defaults: names such as ``autoattack-l2-0.5``.
        checklist: a norm and eps such as ``l2-0.5``, to go through the gradient-masking checklist at these in place of the recipe's;
            where the recipe has none, on the first 200 test examples and without a surrogate.
        settings: changes of the recipe's metrics, alignment or checklist, such as ``metrics.pgd-l2-0.5.steps=100``; the result's
            recipe carries them in its name, and so does the file.
        batch_size: examples at a time; None: each measurement's own.
        device: see :func:`pagkit.training.processes.device`.
        progress: show bars.

    Raises:
        FileNotFoundError: no folder, or no weights in it since the training has not finished.
        ValueError: weights without a recipe or that do not fit it, an unknown metric or norm, a setting of something else, a batch
            size below 1, and those of :func:`run`; found before anything is measured.
        PermissionError: the folder cannot be written; found before anything is measured.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    run, where = Path(run), processes.device(device)
    found = kept.read(run)
    origin = found.origin
    recipe, task = load(_more(found.recipe, metrics, checklist, settings), None)
    recipe, notes = fitted(recipe, task)
    if notes := list(dict.fromkeys([*origin.get("notes", []), *notes])):
        origin["notes"] = notes
    model = build(recipe, task)
    try:
        network(model).load_state_dict(found.state)
    except RuntimeError as error:
        raise ValueError(f"{run / WEIGHTS} does not fit its recipe and data: {error}") from error
    rehearse(recipe, task, where, model.to(where))
    writable(run)
    return _measure(run, kept.result_name(settings), recipe, task, model, origin, progress, batch_size)


def _asked(recipe: Recipe, folder: str | Path | None, device: torch.device) -> tuple[Recipe, Task, list[str]]:
    """The recipe as its data allow it, the data, and notes on the difference; what cannot be done is refused."""
    recipe, kept_all = unskipped(recipe, folder)
    recipe, task = load(recipe, folder)
    recipe, notes = fitted(recipe, task)
    rehearse(recipe, task, device)
    return recipe, task, [*kept_all, *notes]


def _more(recipe: Recipe, metrics: Sequence[str], checklist: str | None, settings: Sequence[str]) -> Recipe:
    """The recipe with what else is to be measured."""
    if checklist is not None:
        try:
            _, norm, eps = evaluation.parse_metric(f"pgd-{checklist}")
        except ValueError:
            raise ValueError(f"checklist is {checklist!r}; expected a norm and eps such as 'l2-0.5'") from None
        recipe = replace(recipe, checklist={"examples": 200, **recipe.checklist, "norm": norm, "eps": eps})
    for setting in settings:
        if re.split("[.=]", setting)[0] not in MEASURED:
            raise ValueError(f"setting {setting!r} changes what was trained; expected one of {', '.join(MEASURED)}, such as {EXAMPLE}")
    recipe = recipe.changed(*settings)
    return replace(recipe, metrics={**recipe.metrics, **{name: {} for name in metrics if name not in recipe.metrics}})


def _reserved(folder: Path) -> AbstractContextManager[None]:
    """Of several trainings into one folder the first goes on; the others are refused."""
    return alone(folder / WEIGHTS, wait=False) if processes.rank() == 0 else nullcontext()


def _measure(
    folder: Path,
    name: str,
    recipe: Recipe,
    task: Task,
    model: nn.Module | DDPM,
    origin: dict[str, Any],
    progress: bool,
    batch_size: int | None = None,
) -> results.Result:
    """Measure, and write the file ``name`` in ``folder`` after each measurement; a failure says what is kept there."""
    file, told = ResultFile(folder / name), f"{folder / WEIGHTS} is kept"

    def keep(result: results.Result) -> None:
        nonlocal told
        file.write(result)
        told = f"{file.path} holds what was measured until then, without {', '.join(result.provenance['unfinished'])}"

    try:
        result = measure(recipe, task, model, origin, progress, batch_size=batch_size, keep=keep)
    except BaseException as error:  # Ctrl-C, too
        error.add_note(f"{told}; `{shlex.join(['pagkit', 'evaluate', str(folder)])}` measures all that the recipe asks for")
        raise
    return file.write(result)


def _train(
    recipe: Recipe, task: Task, device: torch.device, progress: bool, notes: list[str], **where: Any
) -> tuple[nn.Module | DDPM, dict[str, Any]]:
    """A model and its provenance; ``where`` are options of :func:`pagkit.training.fit`."""
    model = build(recipe, task).to(device)
    if isinstance(model, DDPM):
        history = diffusion.train(model, task, recipe, progress=progress, **where)
    else:
        history = fit(model, task, recipe, progress=progress, **where)
        models.round_weights(model)
    spent = {"train_seconds": history.seconds, "train_cpu_seconds": history.cpu_seconds}
    origin = results.provenance(task, device=device, **spent, evaluate_seconds=0.0)
    return model, {**origin, **({"notes": notes} if notes else {})}
