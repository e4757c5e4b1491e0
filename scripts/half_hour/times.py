"""Step times, and whether faster ways compute the same: a way is taken where its gradient is as good as the strict one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pagkit import losses, models, targets, training
from pagkit.data import Split, Task
from pagkit.recipe import Recipe

from . import plan

if TYPE_CHECKING:
    from .jobs import Work

STRICT = "float32, no TF32"
WAYS: dict[str, dict[str, Any]] = {  # of a step; all but the strict one let convolutions round to TF32 where the card does
    STRICT: {},
    "float32": {},
    "float32, channels last": {"channels_last": True},
    "bf16, channels last": {"channels_last": True, "precision": "bf16"},
    "bf16 gradients, channels last": {"channels_last": True, "precision": "bf16-gradients"},
    "float32, quick double backward": {},
    "bf16 gradients, quick double backward": {"channels_last": True, "precision": "bf16-gradients"},
}
TWICE = ("bf16 gradients", "float32, quick")  # how ways begin that differ where a gradient is differentiated
PLAIN = ("standard", "adversarial")  # kinds of a step without a gradient of a gradient
LIMIT = 90.0  # seconds after which no way beyond the first is tried
ENOUGH = 0.25  # of the distance between the gradients of two batches: it adds a sixteenth to the variance of a step, at most


@contextmanager
def arithmetic(way: str, *, tuned: bool = False) -> Iterator[None]:
    """TF32 or not, the double backward of the way, and with ``tuned`` the fastest convolutions, which are looked for once a shape."""
    backend = torch.backends.cudnn
    before = backend.allow_tf32, backend.benchmark
    backend.allow_tf32, backend.benchmark = way != STRICT, tuned
    try:
        with losses.QuickDoubleBackward() if "quick" in way else nullcontext():
            yield
    finally:
        backend.allow_tf32, backend.benchmark = before


def measure(work: Work) -> None:
    """Fill in the step times of ``work.state``, how far the ways agree, which are taken, and the seconds of one attack gradient."""
    state, until = work.state, work.clock.now() + LIMIT
    for kind, name in plan.KINDS.items():
        if kind in state.ways:
            continue
        recipe = work.scaled(Recipe.load(name))
        reference, other = (gradient(work, recipe, STRICT, part) for part in (0, 1))
        apart = (other - reference).norm().item()
        state.steps[kind], state.agree[kind] = {}, {}
        for way in WAYS:
            if way.startswith(TWICE if kind in PLAIN else "bf16,"):
                continue  # there is no such gradient, or it is nearly all there is and would stay in float32
            if state.steps[kind] and work.clock.now() > until:
                continue
            try:
                found = reference if way == STRICT else gradient(work, recipe, way, 0)
                state.agree[kind][way] = round((found - reference).norm().item() / apart, 4)
                if state.agree[kind][way] <= ENOUGH:
                    state.steps[kind][way] = seconds(work, recipe, way)
            except RuntimeError as error:  # of one way: there are others
                if way == STRICT:
                    raise
                work.say(f"a {kind} step in {way} is not possible here: {error}")
        state.ways[kind] = min(state.steps[kind], key=state.steps[kind].__getitem__)
        told = ", ".join(f"{way} {1000 * found:.1f} ms" for way, found in state.steps[kind].items())
        work.say(f"a {kind} step: {told}; taken: {state.ways[kind]}")
        state.save(work.out)
    state.others["attack"] = _attack_gradient(work)


def gradient(work: Work, recipe: Recipe, way: str, part: int) -> Tensor:
    """What one step of training subtracts from the weights at learning rate 1, for batch number ``part``."""
    batch = _rows(work.card, part * work.scale.batch, work.scale.batch)
    one = replace(recipe, epochs=1, lr=1.0, weight_decay=0.0, schedule="constant", ramp=(0.0, 0.0), **WAYS[way])
    model = models.build(one.model, work.task, seed=0, **one.model_options).to(work.device)
    before = [p.detach().clone() for p in model.parameters()]
    with arithmetic(way):
        training.fit(model, batch, one, target=_target(recipe, batch), progress=False)
    return torch.cat([(old - p.detach()).flatten() for old, p in zip(before, model.parameters(), strict=True)])


def seconds(work: Work, recipe: Recipe, way: str) -> float:
    """Of a step, after three that do not count; at a rate that leaves the weights about where they are."""
    some = replace(recipe, epochs=1, lr=1e-6, schedule="constant", ramp=(0.0, 0.0), **WAYS[way])
    model = models.build(some.model, work.task, seed=0, **some.model_options).to(work.device)
    with arithmetic(way, tuned=True):
        for count in (3, work.scale.timed):
            batches = _rows(work.card, 0, count * work.scale.batch)
            count = -(-len(batches.train) // work.scale.batch)
            history = training.fit(model, batches, some, target=_target(recipe, batches), progress=False)
    return history.seconds / count


def _target(recipe: Recipe, task: Task) -> targets.GradientTarget | None:
    """Directions to pixels drawn at random: what a step costs does not depend on where they lead."""
    if recipe.target is None:
        return None
    shape = (len(task.classes), *task.shape)
    ends = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(task.train.x)
    return targets.GradientTarget(recipe.target, lambda index, x, classes: ends[classes] - x[:, None])


def _rows(task: Task, start: int, count: int) -> Task:
    """Training rows that are drawn once and for all; where there are fewer, those there are."""
    order = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(1))
    rows = order[start : start + count].to(task.train.x.device)
    return replace(task, train=Split(task.train.x[rows], task.train.y[rows]))


def _attack_gradient(work: Work) -> float:
    """Seconds of one input gradient of as many photographs as are attacked at a time."""
    recipe = work.scaled(Recipe.load(plan.KINDS["standard"]))
    model = models.build(recipe.model, work.task, seed=0, **recipe.model_options).to(work.device)
    model = work.laid_out(model)
    part = work.photographs.first(work.scale.chunk).to(work.device)
    with models.differentiable(model), arithmetic("float32"):
        for count in (2, 5):
            started = time.perf_counter()
            for _ in range(count):
                losses.input_gradients(model, part.x, part.y[:, None])[0].sum().item()
            spent = (time.perf_counter() - started) / count
    return spent
