"""What a recipe can ask to be measured: metrics by name, and how well gradients align with directions."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import nn

from .. import losses
from ..attacks import NORMS, Threat
from ..attacks.autoattack import PARTS
from ..data import Task
from ..data.rows import finite
from ..models import batches, differentiable, refuse_broken, refuse_other_classes, seeded
from ..recipes import keys
from ..targets import GradientTarget
from .intervals import Score
from .robustness import accuracy, autoattack, exact_accuracy, robust_accuracy


def alignment(
    model: nn.Module,
    task: Task,
    target: GradientTarget,
    *,
    split: str = "test",
    of: str = "log_prob",
    batch_size: int | None = None,
) -> float:
    """Mean cosine between the model's input gradients and ``target``'s directions, over all classes.

    Args:
        split: ``"test"`` or ``"train"`` of the task.
        of: as in :func:`pagkit.losses.pag_loss`.
        batch_size: as in :func:`accuracy`.

    Raises:
        TypeError, ValueError: an unknown or empty split, an unknown ``of``, and what :func:`pagkit.models.logits_of` refuses;
            directions that are not finite, and what the target refuses.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; expected 'train' or 'test'")
    part = task.train if split == "train" else task.test
    total = 0.0
    with differentiable(model), seeded(0):
        for rows, x, y in batches(model, part, batch_size):
            index = rows if split == "train" else torch.full_like(rows, -1)
            classes = torch.arange(len(task.classes), device=x.device).expand(len(y), -1)
            gradients, found = losses.input_gradients(model, x, classes, of=of)
            refuse_other_classes(found, len(task.classes))
            refuse_broken(found)
            gradients, broken = finite(gradients)
            if broken is not None:
                what = f"{int(broken.sum())} of {len(x)} inputs had gradients with entries that are nan or infinite"
                warnings.warn(f"{what}; these count as 0", RuntimeWarning, stacklevel=2)
            directions = target(index, x, classes)
            if not directions.isfinite().all():
                raise ValueError(f"target {target.name!r} gave directions with entries that are nan or infinite; expected finite ones")
            total += losses.cosine(gradients, directions).sum().item()
    return total / (len(part) * len(task.classes))


def measure(model: nn.Module, task: Task, metric: str, *, progress: bool = True, batch_size: int | None = None, **options: Any) -> Score:
    """A metric by name on the test split: ``"clean"``, or attack-norm-eps such as ``"pgd-l2-0.5"`` or ``"exact-l2-15"``.

    The attacks are pgd, autoattack, apgd (AutoAttack's two attacks by projected gradients alone, for where the other two take too long),
    square (its black-box attack alone) and exact.

    Args:
        model: takes x, gives logits (N, C), on whichever device its parameters are.
        task: its test split is measured, and its bounds are those of the attacks.
        metric: the name. The norm is l2 or linf, with exact l2; eps >= 0 is the radius, in the units of the inputs.
        progress: show a bar, once an attack has taken two seconds.
        batch_size: as in :func:`accuracy`.
        options: of the attack, as a recipe gives them: those of :data:`pagkit.recipes.keys.METRICS`. ``target="next"`` sends class c to
            class c + 1, the last one to 0.

    Returns:
        How many test examples are right, and which. What is random is drawn from a seed, so that the same call counts the same.

    Raises:
        TypeError: test inputs that are not floating point, labels that are not int64, a model that gives no floating-point logits.
        ValueError: a name or option that is not known, ``"samples"`` among them, which is of diffusion models; an option of the wrong type
            or out of range; an empty test split; a batch size below 1; exact radii of inputs that have bounds, or are not points of the
            plane; what :func:`accuracy`, :func:`robust_accuracy`, :func:`autoattack` and :func:`exact_accuracy` refuse.
        ImportError: autoattack, apgd or square without the package of AutoAttack.
    """
    attack, norm, eps = parse_metric(metric)
    if attack == "samples":
        raise ValueError("metric 'samples' is one of diffusion models; expected 'clean' or an attack")
    keys.check(f"metric {metric!r}", options, keys.METRICS[attack])
    if attack == "clean":
        return accuracy(model, task.test, batch_size=batch_size)
    if attack == "exact":
        if task.shape == (2,) and any(map(math.isfinite, task.bounds)):
            raise ValueError(f"metric {metric!r} on inputs with bounds {task.bounds}; expected none: exact radii are of the whole plane")
        return exact_accuracy(model, task.test, eps, batch_size=batch_size)
    options |= {"progress": progress, "batch_size": batch_size}
    if attack in PARTS:
        options |= {} if PARTS[attack] is None else {"attacks": PARTS[attack]}
        return autoattack(model, task.test, Threat(norm, eps, task.bounds), **options)
    if options.get("target") == "next":
        options["target"] = (task.test.y + 1) % len(task.classes)
    return robust_accuracy(model, task.test, Threat(norm, eps, task.bounds), **options)


def parse_metric(metric: str) -> tuple[str, str, float]:
    """``"pgd-l2-0.5"`` -> ``("pgd", "l2", 0.5)``; ``"clean"`` -> ``("clean", "", 0.0)``, and so for ``"samples"`` of a diffusion model.

    Raises:
        ValueError: anything else. Exact radii are known in L2 only.
    """
    attack, norm, eps = keys.split_metric(metric)
    known = ("l2",) if attack == "exact" else NORMS
    if norm and norm not in known:
        raise ValueError(f"unknown metric {metric!r}; expected 'clean', '{attack}-<{'|'.join(known)}>-<eps>'")
    return attack, norm, eps
