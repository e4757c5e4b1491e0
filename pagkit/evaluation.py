"""Accuracy, clean and under attack, with 95 % Wilson intervals; and how well gradients align with directions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import attacks, exact, losses, models
from .attacks import Threat
from .data import Split, Task, progress_bar
from .targets import GradientTarget

BATCH = 500


@dataclass(frozen=True)
class Score:
    """``correct`` of ``total`` test examples.

    Raises:
        ValueError: total below 1, or correct outside [0, total].
    """

    correct: int
    total: int

    def __post_init__(self) -> None:
        if self.total < 1 or not 0 <= self.correct <= self.total:
            raise ValueError(f"{self.correct} of {self.total} correct; expected 0 <= correct <= total and total >= 1")

    @property
    def rate(self) -> float:
        """``correct / total``."""
        return self.correct / self.total

    @property
    def low(self) -> float:
        """Lower end of the 95 % Wilson interval (Wilson, 1927)."""
        return self._wilson()[0]

    @property
    def high(self) -> float:
        """Upper end of the 95 % Wilson interval."""
        return self._wilson()[1]

    def _wilson(self, z: float = 1.959964) -> tuple[float, float]:
        n, p = self.total, self.rate
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        return f"{self.correct}/{self.total} = {100 * self.rate:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def accuracy(model: nn.Module, split: Split) -> Score:
    """Share of ``split`` that ``model`` classifies correctly, in eval mode.

    Raises:
        ValueError: an empty split.
    """
    return Score(int(correct(model, split).sum()), len(split))


def correct(model: nn.Module, split: Split) -> Tensor:
    """Which rows are classified correctly, bool (N,) on the CPU. Errors as in :func:`accuracy`."""
    with torch.no_grad(), models.mode(model, training=False):
        return torch.cat([(model(x).argmax(1) == y).cpu() for _, x, y in _batches(model, split)])


def robust_accuracy(
    model: nn.Module,
    split: Split,
    threat: Threat,
    *,
    target: Tensor | int | None = None,
    progress: bool = True,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Score:
    """Share of ``split`` still classified correctly after :func:`pagkit.attacks.pgd`.

    Args:
        model: takes x, gives logits.
        split: N examples.
        threat: norm, eps and bounds.
        target: a class, or one a row of ``split`` (N,); a batch in which every row already is the target
            has nothing to attack and counts as it stands.
        progress: show a bar, once it has taken two seconds.
        generator: source of all random starts; default: a fresh one with seed 0.
        options: of :func:`pagkit.attacks.pgd` (steps, step_size, restarts, random_start, keep).

    Raises:
        ValueError: an empty split, and all errors of ``pgd``.
    """
    generator = generator or torch.Generator().manual_seed(0)
    kept = 0
    for rows, x, y in progress_bar(list(_batches(model, split)), "attack", "batch", show=progress):
        goal = target[rows].to(x.device) if isinstance(target, Tensor) and target.ndim else target
        if goal is None or not (torch.as_tensor(goal) == y).all():
            x = attacks.pgd(model, x, y, threat, target=goal, generator=generator, **options)
        elif len(y) == len(split):
            raise ValueError("target equals the true label on every row; a targeted attack needs another class")
        kept += int(correct(model, Split(x, y)).sum())
    return Score(kept, len(split))


def exact_accuracy(model: nn.Module, split: Split, eps: float) -> Score:
    """Share that is correct with an exact L2 radius above ``eps``: no attack can do better (two inputs only).

    Errors as in :func:`accuracy` and :func:`pagkit.exact.radius`.
    """
    held = correct(model, split) & (exact.radius(model, split.x) > eps)
    return Score(int(held.sum()), len(split))


def alignment(model: nn.Module, task: Task, target: GradientTarget, *, split: str = "test", of: str = "log_prob") -> float:
    """Mean cosine between the model's input gradients and ``target``'s directions, over all classes.

    Args:
        split: ``"test"`` or ``"train"`` of the task.
        of: as in :func:`pagkit.losses.pag_loss`.

    Raises:
        ValueError: unknown or empty split.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; expected 'train' or 'test'")
    part = task.train if split == "train" else task.test
    total = 0.0
    with models.mode(model, training=False):
        for rows, x, y in _batches(model, part):
            index = rows if split == "train" else torch.full_like(rows, -1)
            classes = torch.arange(len(task.classes), device=x.device).expand(len(y), -1)
            gradients, _ = losses.input_gradients(model, x, classes, of=of)
            total += losses.cosine(gradients, target(index, x, classes)).sum().item()
    return total / (len(part) * len(task.classes))


def measure(model: nn.Module, task: Task, metric: str, *, progress: bool = True, **options: Any) -> Score:
    """A metric by name: ``"clean"``, or attack-norm-eps such as ``"pgd-l2-0.5"`` or ``"exact-l2-15"``, on the test split.

    Args:
        options: of the attack. ``target="next"`` sends class c to class c + 1, the last one to 0.

    Raises:
        ValueError: a name or option that is not known.
    """
    attack, norm, eps = parse_metric(metric)
    if attack == "clean":
        return accuracy(model, task.test)
    if attack == "exact":
        return exact_accuracy(model, task.test, eps)
    if options.get("target") == "next":
        options["target"] = (task.test.y + 1) % len(task.classes)
    return robust_accuracy(model, task.test, Threat(norm, eps, task.bounds), progress=progress, **options)


METRICS: dict[str, Callable[[str], bool]] = {"pgd": lambda norm: norm in attacks.NORMS, "exact": lambda norm: norm == "l2"}


def parse_metric(metric: str) -> tuple[str, str, float]:
    """``"pgd-l2-0.5"`` -> ``("pgd", "l2", 0.5)``; ``"clean"`` -> ``("clean", "", 0.0)``.

    Raises:
        ValueError: anything else.
    """
    if metric == "clean":
        return "clean", "", 0.0
    attack, _, rest = metric.partition("-")
    norm, _, eps = rest.partition("-")
    try:
        radius = float(eps)
    except ValueError:
        radius = math.nan
    if attack not in METRICS or not METRICS[attack](norm) or not radius >= 0:
        raise ValueError(f"unknown metric {metric!r}; expected 'clean', 'pgd-<l2|linf>-<eps>' or 'exact-l2-<eps>'")
    return attack, norm, radius


def _batches(model: nn.Module, split: Split) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(positions, x, y) of consecutive batches, x and y on the model's device."""
    if len(split) == 0:
        raise ValueError("the split is empty; expected at least one example")
    device = next((p.device for p in model.parameters()), split.x.device)
    for rows in torch.arange(len(split)).split(BATCH):
        yield rows, split.x[rows].to(device), split.y[rows].to(device)
