"""The plan as data, the clock, and what it decides: how many epochs there are, and what is left out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pagkit.recipe import Recipe

from .state import State

BATCH, CLASSES = 256, 10
HOW = f"batch_size={BATCH}+lr=0.1+schedule=one-cycle"  # 0.1 goes with 256 (Goyal et al., 2017); one-cycle, as there are few epochs
BEGIN, END = 25.0, 20.0  # seconds of a stage before its first job and after its last: imports, photographs; packing
EACH = 15.0  # seconds of a training that are no steps: building, the checks before, weights, the clean verdict
DIFFUSION, VERDICTS = 300.0, 200.0  # seconds: of the diffusion model's training; the least that is kept for attacks
AT_LEAST = {"times": 60.0, "ddpm": 60.0, "looks": 40.0, "picture": 30.0}  # seconds that these are begun with
GRADIENTS = {"apgd": 1000, "autoattack": 6000, "pgd": 600}  # that an attack takes of a chunk, at worst; FAB and Square counted as such
FEW = 0.15  # of a chunk: fewer take no less time
SLACK = 1.1  # of a time that was measured in small


@dataclass(frozen=True)
class Job:
    """One thing to do.

    Attributes:
        name: of its folder.
        does: ``"times"``, ``"train"``, ``"ddpm"``, ``"scores"``, ``"looks"``, ``"picture"`` or ``"attack"``.
        recipe: what is trained: a recipe's name with its settings, without those that all have in common.
        needs: jobs without which this one makes no sense.
        of, metric: what is attacked, and how.
        optional: done if time is left when all else of its stage has what it needs; it does not count when epochs are chosen.
    """

    name: str
    does: str
    recipe: str = ""
    needs: tuple[str, ...] = ()
    of: str = ""
    metric: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Scale:
    """How large everything is: in earnest, or as a rehearsal.

    Attributes:
        most, least: epochs of a classifier; a plan with fewer than ``least`` leaves trainings out.
        batch: rows of a step.
        photographs: so many of the test photographs are attacked, ``chunk`` at a time, and ``shown`` are in the picture; after
            ``skip`` of each class, so that they are those of the recipes ``cifar10-evening-*``.
        timed: steps that a step time is measured on.
        rows: whose scores are asked for at a time.
        changes: keys of every classifier's recipe; ``ddpm``: of the diffusion model's.
    """

    most: int = 10
    least: int = 3
    batch: int = BATCH
    photographs: int = 1000
    skip: int = 100
    chunk: int = 500
    timed: int = 8
    rows: int = 512
    shown: int = 6
    steps: int = 100
    changes: dict[str, object] = field(default_factory=dict)
    ddpm: dict[str, object] = field(default_factory=dict)


TOY = Scale(
    most=2, batch=20, photographs=8, skip=1, chunk=8, timed=2, rows=40, shown=2, steps=3,
    changes={"model": "resnet-small", "model_options": {"widths": [8, 8]}, "batch_size": 20, "crop": 1},
    ddpm={"model_options": {"widths": [16, 16], "ema": 0.9}, "epochs": 1, "batch_size": 20},
)  # fmt: skip

ALIGNED = f"{HOW}+classes_per_image=1"  # on an H200 a step of two classes took 14 plain ones, and one of one class half of that
SLOPE, NEAREST = f"cifar10-rn18-slope+{HOW}", f"cifar10-rn18-pag-nn+{ALIGNED}"
SCORES = f"cifar10-rn18-pag-sbg+{ALIGNED}+target_options.draws=1"
DDPM = "cifar10-ddpm+batch_size=256+lr=0.0004+precision=bf16+channels_last=true+model_options.ema=0.999"
KINDS = {  # of a step, each with a recipe that takes it
    "standard": f"cifar10-rn18-standard+{HOW}",
    "adversarial": f"cifar10-rn18-adversarial+{HOW}+steps=3",
    "slope": SLOPE,
    "pag": f"cifar10-rn18-pag-oi+{ALIGNED}",
    "pag-slope": f"cifar10-rn18-pag-oi+{ALIGNED}+method=pag-slope+slope=0.3",
}
LIKE = {"noise": "standard"}  # methods whose step costs what another's does
SHOWN = ("standard", "pag-oi", "pag-nn", "pag-sbg", "slope", "adversarial")  # in the picture
ORDER = (  # what matters most first
    "slope", "adversarial", "pag-sbg", "standard", "pag-nn", "pag-oi", "noise", "slope-1", "pag-cm", "pag-sbg-slope",
)  # fmt: skip


def _attacks() -> list[Job]:
    """APGD at both radii, one network after the other, then all of AutoAttack for as many as there is time for."""
    metrics = {"apgd-l2-0.5": False, "apgd-linf-0.0314": False, "autoattack-l2-0.5": True}
    return [Job(f"{metric} {name}", "attack", of=name, metric=metric, optional=more) for metric, more in metrics.items() for name in ORDER]


STAGES: dict[str, tuple[Job, ...]] = {
    "networks": (
        Job("times", "times"),
        Job("standard", "train", KINDS["standard"]),
        Job("adversarial", "train", KINDS["adversarial"]),
        Job("slope", "train", SLOPE),
        Job("pag-oi", "train", KINDS["pag"]),
        Job("noise", "train", f"cifar10-rn18-noise+{HOW}", optional=True),
        Job("slope-1", "train", f"{SLOPE}+slope=1.0", optional=True),
    ),
    "diffusion": (
        Job("ddpm", "ddpm", DDPM),
        Job("pag-nn", "train", NEAREST),
        Job("pag-cm", "train", f"cifar10-rn18-pag-cm+{ALIGNED}", optional=True),
    ),
    "attacks": (
        Job("scores", "scores", needs=("ddpm",)),
        Job("pag-sbg", "train", SCORES, needs=("scores",)),
        Job("pag-sbg-slope", "train", f"{SCORES}+method=pag-slope+slope=0.3", needs=("scores",), optional=True),
        Job("looks", "looks"),
        Job("picture", "picture"),
        *_attacks(),
    ),
}


class Clock:
    """How much is left of so many seconds, counted from ``started``."""

    def __init__(self, seconds: float, *, started: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self.now, self.seconds = now, seconds
        self.end = (now() if started is None else started) + seconds

    def left(self) -> float:
        """Seconds until nothing more is done; what is packed at the end has its own."""
        return self.end - END - self.now()


def room(job: Job, stage: str, left: float, done: Sequence[str], cost: Callable[[Job], float]) -> float:
    """Seconds that a job of a stage may take of those ``left``: the later jobs that are not optional keep what they need.

    Args:
        done: names of the jobs that are done, or cannot be.
        cost: what a job needs at least.
    """
    jobs = STAGES[stage]
    later = [other for other in jobs[jobs.index(job) + 1 :] if other.name not in done and not other.optional and other.does != "attack"]
    verdicts = job.does != "attack" and any(other.does == "attack" and other.name not in done for other in jobs)
    return left - sum(map(cost, later)) - verdicts * VERDICTS


def cost(job: Job, state: State, scale: Scale, examples: int) -> float:
    """Seconds that a job needs at least, from what was measured; of an attack those of one chunk, at worst."""
    if job.does == "train":
        return EACH + state.epochs * epoch(state, kind(job), scale, examples)
    if job.does == "scores":
        return 15 + SLACK * math.ceil(examples / scale.rows) * (CLASSES + 1) * state.others.get("unet", 0.0)
    if job.does == "attack":
        attack, _, threat = job.metric.partition("-")
        left = state.held.get(f"apgd-{threat} {job.of}", 1.0) if attack == "autoattack" else 1.0
        return 2 + 1.3 * GRADIENTS[attack] * max(FEW, left) * state.others.get("attack", 0.0)
    return AT_LEAST[job.does]


def epoch(state: State, kind: str, scale: Scale, examples: int) -> float:
    """Seconds of an epoch, checkpoint included."""
    return 1 + SLACK * math.ceil(examples / scale.batch) * state.steps[kind][state.ways[kind]]


def decide(state: State, scale: Scale, examples: int, left: float, seconds: float) -> tuple[int, list[str]]:
    """Epochs for all trainings, and which are left out; the first stage has ``left`` seconds for its own, the others ``seconds`` each."""

    def costs(stage: str) -> dict[str, float]:
        wanted = [job for job in STAGES[stage] if job.does == "train" and not job.optional and job.name not in state.done]
        return {job.name: epoch(state, kind(job), scale, examples) for job in wanted}

    calm = seconds - BEGIN - END
    scores = cost(Job("", "scores"), state, scale, examples) + AT_LEAST["looks"] + AT_LEAST["picture"]
    rooms = {"networks": left, "diffusion": calm - min(DIFFUSION, 0.6 * calm), "attacks": calm - VERDICTS - scores}
    return epochs([(rooms[stage], costs(stage)) for stage in STAGES], scale.most, scale.least)


def kind(job: Job) -> str:
    """The kind of step that a training takes."""
    method = Recipe.load(job.recipe).method
    method = LIKE.get(method, method)
    if method not in KINDS:
        raise ValueError(f"method of {job.name} is {method!r}; expected one of {', '.join(KINDS)}")
    return method


def epochs(stages: Sequence[tuple[float, Mapping[str, float]]], most: int, least: int) -> tuple[int, list[str]]:
    """So many epochs for every training, at most ``most``, that each stage has room for its own; and what is left out for that.

    Args:
        stages: of each its room in seconds, and the seconds of an epoch of each of its trainings, in the order of the plan. Where
            ``least`` epochs of all do not fit, the last are left out.
    """
    found, out = most, []
    for room, costs in stages:
        kept = list(costs)
        while kept and len(kept) * EACH + least * sum(costs[name] for name in kept) > room:
            out.append(kept.pop())
        if kept:
            each = sum(costs[name] for name in kept)
            found = min(found, math.floor((room - len(kept) * EACH) / each + 1e-9) if each else most)
    return found, out
