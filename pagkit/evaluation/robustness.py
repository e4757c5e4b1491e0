"""Accuracy, clean and under attack, with 95 % Wilson intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import exact
from ..attacks import Threat
from ..attacks.autoattack import perturb
from ..data import Split
from ..models import batches, mode
from .attacked import attacked, correct
from .intervals import Score


def accuracy(model: nn.Module, split: Split) -> Score:
    """Share of ``split`` that ``model`` classifies correctly, in eval mode.

    Raises:
        ValueError: an empty split.
    """
    return _count(correct(model, split))


def robust_accuracy(
    model: nn.Module,
    split: Split,
    threat: Threat,
    *,
    target: Tensor | int | None = None,
    likeliest: int = 0,
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
        likeliest: after the untargeted attack, go on with what it spares: attack targeted at the likeliest other class, then at the
            next, for this many. An example counts if it withstands all. The untargeted loss leads to the class that is nearest at
            first, and another one's region may begin sooner.
        progress: show a bar, once it has taken two seconds.
        generator: source of all random starts; default: a fresh one with seed 0.
        options: of :func:`pagkit.attacks.pgd` (steps, step_size, restarts, random_start, keep). For a model that draws random numbers
            take ``keep="last"``: the default rests on the first draw that is fooled, which the next need not confirm.

    Raises:
        ValueError: an empty split, ``likeliest`` negative, not below the number of classes, or together with a target; and all errors
            of ``pgd``.
    """
    if likeliest and target is not None:
        raise ValueError(f"likeliest is {likeliest} with a target; expected one or the other")
    options |= {"progress": progress, "generator": generator or torch.Generator().manual_seed(0)}
    held = correct(model, attacked(model, split, threat, target=target, **options))
    for goal in _likeliest(model, split, likeliest):
        if len(rows := held.nonzero().flatten()):
            part = Split(split.x[rows], split.y[rows])
            held[rows] = correct(model, attacked(model, part, threat, target=goal[rows], **options))
    return _count(held)


def autoattack(model: nn.Module, split: Split, threat: Threat, *, seed: int = 0, progress: bool = True, **options: Any) -> Score:
    """Share of ``split`` still classified correctly after AutoAttack (Croce & Hein, 2020).

    Needs ``pip install 'pagkit[autoattack]'``. Arguments and errors as in :func:`pagkit.attacks.autoattack.perturb`, which gives the
    attacked inputs themselves and takes the ``options`` attacks and queries.
    """
    return worst_case(model, split.y, perturb(model, split, threat, seed=seed, progress=progress, **options))


def robustness_curve(
    model: nn.Module,
    split: Split,
    norm: str,
    eps_list: Sequence[float],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    progress: bool = True,
    generator: torch.Generator | None = None,
    **options: Any,
) -> list[Score]:
    """Accuracy under :func:`pagkit.attacks.pgd` at each eps, in the order given.

    The radii are attacked from small to large, and an example broken at one counts as broken at every larger one, whose
    ball holds the same point. So the accuracy cannot rise with eps, by construction: a curve that does not rise is no sign of
    a sound attack. :func:`pagkit.evaluation.checklist` attacks each radius afresh.

    Args:
        norm, bounds: of the threat.
        eps_list: radii, in the units of x.
        progress, generator, options: as in :func:`robust_accuracy`.

    Raises:
        ValueError: an empty split, a target, and all errors of ``Threat`` and ``pgd``.
    """
    if "target" in options:
        raise ValueError("a robustness curve takes no target; expected an untargeted attack")
    generator = generator or torch.Generator().manual_seed(0)
    held, scores = correct(model, split), {}
    for eps in sorted(set(eps_list)):
        threat, rows = Threat(norm, eps, bounds), held.nonzero().flatten()
        if len(rows):
            left = Split(split.x[rows], split.y[rows])
            held[rows] = correct(model, attacked(model, left, threat, progress=progress, generator=generator, **options))
        scores[eps] = _count(held)
    return [scores[eps] for eps in eps_list]


def transfer_accuracy(
    model: nn.Module, surrogate: nn.Module, split: Split, threat: Threat, *, keep: str = "last", progress: bool = True, **options: Any
) -> Score:
    """Share of ``split`` that ``model`` gets right both as it is and after PGD on ``surrogate``, another model of the task.

    ``keep="last"`` is the default: a point that has only just fooled the surrogate, where ``"worst"`` stops, seldom fools
    a second model. Other arguments and errors as in :func:`robust_accuracy`.
    """
    moved = attacked(surrogate, split, threat, keep=keep, progress=progress, **options)
    return worst_case(model, split.y, split.x, moved.x)


def worst_case(model: nn.Module, y: Tensor, *x_advs: Tensor) -> Score:
    """Share of examples that ``model`` gets right on every one of several attacked copies, each (N, *shape).

    Raises:
        ValueError: no copy, no examples, or a copy that has not one row for each label.
    """
    if not x_advs:
        raise ValueError("no attacked copy is given; expected at least one x_adv")
    return _count(torch.stack([correct(model, Split(x_adv, y)) for x_adv in x_advs]).all(0))


def exact_accuracy(model: nn.Module, split: Split, eps: float) -> Score:
    """Share that is correct with an exact L2 radius above ``eps``: no attack can do better (two inputs only).

    Errors as in :func:`accuracy` and :func:`pagkit.exact.radius`.
    """
    return _count(correct(model, split) & (exact.radius(model, split.x) > eps))


def _likeliest(model: nn.Module, split: Split, count: int) -> list[Tensor]:
    """The ``count`` likeliest classes of each row other than its label, the likeliest first, each (N,)."""
    if count == 0:
        return []
    with torch.no_grad(), mode(model, training=False):
        logits = torch.cat([model(x).cpu() for _, x, _ in batches(model, split)])
    if not 0 < count < logits.shape[1]:
        raise ValueError(f"likeliest is {count}; expected 0 to {logits.shape[1] - 1} classes")
    return list(logits.scatter(1, split.y.cpu()[:, None], -math.inf).topk(count, dim=1).indices.unbind(1))


def _count(held: Tensor) -> Score:
    return Score(int(held.sum()), len(held))
