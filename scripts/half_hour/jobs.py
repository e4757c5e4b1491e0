"""What the jobs of the plan have in common, and how a network is trained and looked at."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from pagkit import evaluation, losses, models, results, targets, training
from pagkit.data import Split, Task
from pagkit.experiment import RESULT, WEIGHTS
from pagkit.recipe import Recipe
from pagkit.results import Result

from . import diffusion, plan, times
from .plan import Clock, Job, Scale
from .state import State

COSINES = ("one_image", "class_mean", "nearest_neighbor")
SLOWER = "lr=0.025"  # where the loss of a training is no longer finite


class LeftOut(Exception):
    """Why a job was not done, or not to its end."""


@dataclass
class Work:
    """All that a job may need.

    Attributes:
        out: the folder that holds everything.
        task: the photographs on the CPU, ``card`` with the training split on the device, ``photographs`` those that are attacked.
        commit: what results name where there is no checkout.
        rehearsal: all is of toy size.
    """

    out: Path
    task: Task
    card: Task
    photographs: Split
    device: torch.device
    scale: Scale
    clock: Clock
    state: State
    commit: str = ""
    rehearsal: bool = False

    def say(self, line: str) -> None:
        line = f"[{max(0.0, self.clock.seconds - self.clock.left() - plan.END):5.0f} s] {line}"
        print(line, flush=True)
        with open(self.out / "log.txt", "a") as log:
            log.write(line + "\n")

    def scaled(self, recipe: Recipe) -> Recipe:
        """A recipe at the scale of this run, without what it would measure itself."""
        changes: dict[str, Any] = self.scale.ddpm if recipe.method == "ddpm" else self.scale.changes
        return replace(recipe, metrics={}, alignment={}, checklist={}, **changes)

    def recipe(self, job: Job) -> Recipe:
        """The recipe of a training, with the epochs and the way that were decided."""
        way = times.WAYS[self.state.ways[plan.kind(job)]]
        said = [f"{key}={str(value).lower()}" for key, value in {"epochs": self.state.epochs, **way}.items()]
        return self.scaled(Recipe.load("+".join([job.recipe, *said])))

    def laid_out(self, model: nn.Module) -> nn.Module:
        """The model in the order of memory that was found good for a plain step."""
        last = "channels last" in self.state.ways.get("standard", "")
        return model.to(memory_format=torch.channels_last) if last else model

    def network(self, name: str) -> nn.Module:
        """A trained network, in eval mode."""
        state, about = models.load_weights(self.out / name / WEIGHTS)
        made = json.loads(about["build"])
        model = models.build(made["model"], self.task, **made["model_options"])
        model.load_state_dict(state)
        return self.laid_out(model.to(self.device)).eval()

    def trained(self) -> list[str]:
        """The networks that there are, what matters most first."""
        return [name for name in plan.ORDER if name in self.state.done]

    def result(self, name: str, **changes: Any) -> Result:
        """The result of a network, with changes that are kept."""
        path = self.out / name / RESULT
        result = results.load(path)
        if changes:
            result = replace(result, **changes)
            self.keep(name, result)
        return result

    def keep(self, name: str, result: Result) -> None:
        """Write the result of a network; ``unfinished`` is what its recipe asks for beyond that."""
        left = [metric for metric in Recipe.load(result.recipe).metrics if metric not in result.metrics]
        results.save(self.out / name / RESULT, replace(result, provenance={**result.provenance, "unfinished": left}))

    def origin(self, seconds: float, cpu_seconds: float, notes: list[str]) -> dict[str, Any]:
        spent = {"train_seconds": seconds, "train_cpu_seconds": cpu_seconds, "evaluate_seconds": 0.0}
        made = results.provenance(self.task, device=self.device, **spent)
        if made["commit"] == "unknown" and self.commit:
            made["commit"] = self.commit
        return {**made, "notes": [*notes, *(["a rehearsal at toy size: its numbers mean nothing"] if self.rehearsal else [])]}

    def target(self, recipe: Recipe) -> targets.GradientTarget | None:
        """Where the directions of a training come from, on the card."""
        if recipe.target == "score_based":
            return diffusion.on_card(self)
        return targets.build(recipe.target, self.card, **recipe.target_options) if recipe.target else None


def measure_times(job: Job, work: Work, deadline: float) -> str:
    """Step times, then the number of epochs that all trainings get."""
    times.measure(work)
    state = work.state
    try:
        state.others["unet"] = 0.0 if diffusion.missing() else diffusion.look_seconds(work)
    except Exception as error:  # any: the networks need no diffusion model
        work.say(f"no diffusion model can be built: {type(error).__name__}: {error}")
    state.epochs, out = plan.decide(state, work.scale, len(work.task.train), deadline - work.clock.now(), work.clock.seconds)
    for name in out:
        state.left_out[name] = f"{work.scale.least} epochs of it do not fit beside the others"
    return f"{state.epochs} epochs for each network" + (f"; left out: {', '.join(out)}" if out else "")


def train(job: Job, work: Work, deadline: float) -> str:
    """Train, keep the weights in float16 precision, and measure what takes a second."""
    first = work.recipe(job)
    try:
        return _train(job, work, deadline, first)
    except training.TrainingDiverged as error:
        work.say(f"{job.name}: {error}; again with {SLOWER}")
        needed, left = plan.cost(job, work.state, work.scale, len(work.task.train)), deadline - work.clock.now()
        if needed > left:
            raise LeftOut(f"its loss became infinite, and {left:.0f} s are too few to train again, which takes {needed:.0f}") from error
        return _train(job, work, deadline, first.changed(SLOWER))


def _train(job: Job, work: Work, deadline: float, recipe: Recipe) -> str:
    way, folder = work.state.ways[plan.kind(job)], work.out / job.name
    model = models.build(recipe.model, work.task, seed=recipe.seed, **recipe.model_options).to(work.device)
    with times.arithmetic(way, tuned=True):
        history = training.fit(
            model, work.card, recipe,
            target=work.target(recipe), run_dir=folder / f"checkpoints-{recipe.lr:g}", resume=True, checkpoint_seconds=60.0,
            tell=work.say, stop=lambda: work.clock.now() > deadline - plan.EACH / 2, progress=False,
        )  # fmt: skip
    models.round_weights(model)
    notes = [f"a step in {way}", f"attacks and cosines on {len(work.photographs)} of the test photographs"]
    if len(history.total) < recipe.epochs:
        notes.append(f"stopped when its time was over, after {len(history.total)} of {recipe.epochs} epochs")
    origin = work.origin(history.seconds, history.cpu_seconds, notes)
    about = {"build": json.dumps({"model": recipe.model, "model_options": recipe.model_options})}
    about |= {"recipe": recipe.to_yaml(), "provenance": json.dumps(origin)}
    models.save_weights(folder / WEIGHTS, models.halved(model.state_dict()), about)
    for later in ("looks", "picture"):  # of which this network is a part
        work.state.done.pop(later, None)
    work.state.home.pop(job.name, None)
    clean = evaluation.accuracy(work.laid_out(model), work.task.test)
    work.keep(job.name, Result(recipe.name, work.task.name, recipe.seed, {"clean": clean}, origin))
    return f"{len(history.total)} of {recipe.epochs} epochs in {history.seconds:.0f} s, clean {clean}"


def looks(job: Job, work: Work, deadline: float) -> str:
    """Of every network the cosines of its gradients with each source of directions, and how steep its loss is."""
    sources = {name: targets.build(name, work.card) for name in COSINES}
    if "scores" in work.state.done:
        sources["score_based"] = diffusion.at_photographs(work)
    for name in work.trained():
        model, sums, lengths = work.network(name), dict.fromkeys(sources, 0.0), []
        with models.differentiable(model), times.arithmetic("float32"):
            for rows in torch.arange(len(work.photographs)).split(100):
                part = Split(work.photographs.x[rows], work.photographs.y[rows]).to(work.device)
                classes = torch.arange(len(work.task.classes), device=work.device).expand(len(rows), -1)
                gradients, logits = losses.input_gradients(model, part.x, classes)
                for source, target in sources.items():
                    index = rows if source == "score_based" else torch.full_like(rows, -1)
                    sums[source] += losses.cosine(gradients, target(index, part.x, classes)).sum().item()
                own = gradients[torch.arange(len(rows)), part.y].flatten(1).norm(dim=1)
                miss = 1 - logits.detach().softmax(1).gather(1, part.y[:, None])[:, 0]  # grad CE = -(1 - p_y) grad log-odds
                lengths += (miss * own).cpu().tolist()
        count = len(work.photographs) * len(work.task.classes)
        work.result(name, alignment={source: total / count for source, total in sums.items()})
        work.state.slopes[name] = round(median(lengths), 5)
    return ", ".join(f"{name} {slope:.3g}" for name, slope in work.state.slopes.items()) + " (median length of the loss's gradient)"


def run(stage: str, work: Work, doing: Mapping[str, Callable[[Job, Work, float], str]], packed: Callable[[], object]) -> bool:
    """Do the jobs of a stage that are not done, as far as time allows; whether none of them failed."""
    state, whole = work.state, True
    for job in plan.STAGES[stage]:
        if job.name in state.done:
            continue
        room = plan.room(job, stage, work.clock.left(), _settled(stage, state), lambda other: _cost(other, work))
        if why := why_not(job, work, room):
            state.left_out[job.name] = why
            work.say(f"{job.name}: left out: {why}")
            state.save(work.out)
            continue
        started = time.monotonic()
        try:
            words = doing[job.does](job, work, work.clock.now() + room)
        except LeftOut as reason:
            state.left_out[job.name] = str(reason)
            work.say(f"{job.name}: left out: {reason}")
        except Exception as error:  # any: the other jobs are worth their time
            whole, state.left_out[job.name] = False, f"failed: {type(error).__name__}: {error}"
            work.say(f"{job.name}: {state.left_out[job.name]}\n{traceback.format_exc()}")
        else:
            state.left_out.pop(job.name, None)
            state.done[job.name] = words
            work.say(f"{job.name}: {words} ({time.monotonic() - started:.0f} s)")
        state.save(work.out)
        packed()
    return whole


def _cost(job: Job, work: Work) -> float:
    return plan.cost(job, work.state, work.scale, len(work.task.train)) if "times" in work.state.done or job.does == "times" else 0.0


def _settled(stage: str, state: State) -> list[str]:
    """Jobs that are done, and those that cannot be, since something that they need is left out."""
    names = {*state.done}
    gone = {name for name in state.left_out if name not in state.done}
    for job in plan.STAGES[stage]:
        if gone & {*job.needs, job.of}:
            gone.add(job.name)
    return sorted(names | gone)


def why_not(job: Job, work: Work, room: float) -> str:
    """Why a job is not begun; empty: it is."""
    needs = [*job.needs, *([job.of] if job.of else []), *(["times"] if job.does != "times" else [])]
    if missing := [name for name in needs if name not in work.state.done]:
        return f"needs {missing[0]}"
    if job.does in ("looks", "picture") and not work.trained():
        return "needs a network"
    if (needed := _cost(job, work)) > room:
        return f"needs {needed:.0f} s, and {max(0, room):.0f} s are left for it"
    return ""
