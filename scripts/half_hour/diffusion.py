"""The jobs that need a diffusion model: its training, and the directions of its scores. Without diffusers they are left out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor

from pagkit import diffusion, evaluation, results, targets
from pagkit.data import Split
from pagkit.data.files import write_atomically
from pagkit.diffusion import DDPM
from pagkit.experiment import RESULT, WEIGHTS
from pagkit.recipe import Recipe
from pagkit.results import Result
from pagkit.targets.scores import difference

from . import plan, times
from .plan import Job

if TYPE_CHECKING:
    from .jobs import Work

SAMPLES = "samples.safetensors"  # the first ten of each class
TABLE = "scores.pt"  # int8 directions of the training split, and those of the photographs


def missing() -> str:
    """Why there can be no diffusion model; empty: there can."""
    try:
        import diffusers  # noqa: F401
    except ImportError as error:
        return f"needs the package diffusers, which --wheels takes from a folder ({error})"
    return ""


def look_seconds(work: Work) -> float:
    """Seconds in which an untrained model of this size says one score of ``work.scale.rows`` photographs."""
    model = diffusion.build(_recipe(work), work.task).to(work.device)
    x = work.task.train.x[: work.scale.rows].to(work.device)
    for _ in range(2):
        started = time.perf_counter()
        for _ in range(2):
            model.score(x, 150, 0).sum().item()
        spent = (time.perf_counter() - started) / 2
    return spent


def train(job: Job, work: Work, deadline: float) -> str:
    """Train for five minutes at most, then have the standard network read some samples."""
    from .jobs import LeftOut

    if why := missing():
        raise LeftOut(why)
    recipe, folder, until = _recipe(work), work.out / job.name, min(deadline, work.clock.now() + plan.DIFFUSION) - 15
    model = diffusion.build(recipe, work.task).to(work.device)
    with times.arithmetic("float32", tuned=True):
        history = diffusion.train(
            model, work.task, recipe,
            run_dir=folder / "checkpoints", resume=True, tell=work.say, stop=lambda: work.clock.now() > until, progress=False,
        )  # fmt: skip
    model.save(folder / WEIGHTS)
    told = f"stopped when its time was over, after {len(history.total)} of {recipe.epochs} epochs"
    origin = work.origin(history.seconds, history.cpu_seconds, [told] if len(history.total) < recipe.epochs else [])
    words = f"{len(history.total)} of {recipe.epochs} epochs in {history.seconds:.0f} s"
    if "standard" not in work.state.done:
        return words
    labels = torch.arange(len(work.task.classes)).repeat(work.scale.photographs // 50 or 1)
    samples = model.sample(labels, steps=min(50, 10 * work.scale.steps), generator=torch.Generator().manual_seed(0))
    few = torch.stack([(255 * samples[labels == label][:10]).round().byte().cpu() for label in labels.unique()])
    write_atomically(folder / SAMPLES, save({"samples": few}))
    score = evaluation.accuracy(work.network("standard"), Split(samples, labels))
    results.save(folder / RESULT, Result(recipe.name, work.task.name, recipe.seed, {"samples": score}, origin))
    return f"{words}; the standard network reads {score} of its samples as what was asked"


def directions(job: Job, work: Work, deadline: float) -> str:
    """Directions of the whole training split and of the photographs, as int8; given up where there is no time for all."""
    from .jobs import LeftOut

    model = DDPM.load(work.out / "ddpm" / WEIGHTS).to(work.device)
    t = Recipe.load(plan.SCORES).target_options["t"]
    tables = {}
    with times.arithmetic("float32"):
        for seed, (name, x) in enumerate({"train": work.card.train.x, "photographs": work.photographs.x}.items()):
            generator = torch.Generator().manual_seed(seed)
            classes = torch.arange(len(work.task.classes))
            made = torch.empty((len(x), len(classes), *work.task.shape), dtype=torch.int8)
            for rows in torch.arange(len(x)).split(work.scale.rows):
                if work.clock.now() > deadline:
                    raise LeftOut(f"time was over after {rows[0]} of {len(x)} photographs")
                some = x[rows.to(x.device)].to(work.device)
                made[rows] = _int8(difference(model, some, classes.expand(len(rows), -1), t, generator))
            tables[name] = made
    torch.save(tables, work.out / TABLE)
    return f"{len(work.task.train)} x {len(work.task.classes)} directions at t = {t}, of one noise each"


def on_card(work: Work) -> targets.GradientTarget:
    """The directions of the training split, by its rows."""
    return _table(work, "train")


def at_photographs(work: Work) -> targets.GradientTarget:
    """The directions of the photographs, by their number."""
    return _table(work, "photographs")


def _table(work: Work, name: str) -> targets.GradientTarget:
    made = torch.load(work.out / TABLE, weights_only=True, mmap=True)[name].to(work.device)
    return targets.GradientTarget("score_based", lambda index, x, classes: made[index.to(made.device)[:, None], classes].to(x))


def _int8(found: Tensor) -> Tensor:
    """Each direction scaled so that its largest entry is 127: the factor is free."""
    largest = found.abs().amax((2, 3, 4), keepdim=True)
    return (127 * found / torch.where(largest > 0, largest, 1)).round().to(torch.int8)


def _recipe(work: Work) -> Recipe:
    return work.scaled(Recipe.load(plan.DDPM))
