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
from .attacked import attacked, correct, logits, part_of
from .intervals import Score


def accuracy(model: nn.Module, split: Split, *, batch_size: int | None = None, seed: int = 0) -> Score:
    """Share of ``split`` that ``model`` classifies correctly, in eval mode.

    Args:
        model: takes x, gives logits (N, C). Threads need a copy each, see :func:`pagkit.models.mode`.
        split: N examples.
        batch_size: rows at a time, at least 1; default: 500, or fewer where memory asks for it (:func:`pagkit.models.batching.batch_size`).
        seed: of a model that draws random numbers; the other verdicts read it with 0, the checklist with its own. The global random state
            is left as found.

    Raises:
        TypeError: x is not floating point or y not int64; the model gives something else than floating-point logits.
        ValueError: an empty split, other shapes than (N, *shape) and (N,), labels out of range, logits of another shape, or any that is
            nan or infinite.
    """
    return Score.of(correct(model, split, batch_size=batch_size, seed=seed))


def robust_accuracy(
    model: nn.Module,
    split: Split,
    threat: Threat,
    *,
    target: Tensor | int | None = None,
    likeliest: int = 0,
    progress: bool = True,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
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
        batch_size: as in :func:`accuracy`.
        options: of :func:`pagkit.attacks.pgd` (steps, step_size, restarts, random_start, keep; offsets, of the shape of ``split.x``).
            For a model that draws random numbers take ``keep="last"``: the default rests on the first draw that is fooled, which the
            next need not confirm.

    Raises:
        TypeError, ValueError: an empty split, ``likeliest`` negative, not below the number of classes, or together with a target, a
            target that is neither a class nor one for each row of ``split``; and all errors of ``pgd``.
    """
    if likeliest and target is not None:
        raise ValueError(f"likeliest is {likeliest} with a target; expected one or the other")
    options |= {"progress": progress, "generator": generator or torch.Generator().manual_seed(0), "batch_size": batch_size}
    held = correct(model, attacked(model, split, threat, target=target, **options), batch_size=batch_size)
    if options.get("keep") == "last":  # an attack that goes on may turn a row right that is wrong at x, which is in the ball, too
        held &= correct(model, split, batch_size=batch_size)
    for goal in _likeliest(model, split, likeliest, batch_size):
        if len(rows := held.nonzero().flatten()):
            part, own = part_of(split, rows, options)
            held[rows] = correct(model, attacked(model, part, threat, target=goal[rows], **own), batch_size=batch_size)
    return Score.of(held)


def autoattack(
    model: nn.Module,
    split: Split,
    threat: Threat,
    *,
    seed: int = 0,
    progress: bool = True,
    batch_size: int | None = None,
    **options: Any,
) -> Score:
    """Share of ``split`` still classified correctly after AutoAttack (Croce & Hein, 2020).

    Needs ``pip install 'pagkit[autoattack]'``. Arguments and errors as in :func:`pagkit.attacks.autoattack.perturb`, which gives the
    attacked inputs themselves and takes the ``options`` attacks and queries.
    """
    options |= {"seed": seed, "progress": progress, "batch_size": batch_size}
    return worst_case(model, split.y, perturb(model, split, threat, **options), batch_size=batch_size)


def robustness_curve(
    model: nn.Module,
    split: Split,
    norm: str,
    eps_list: Sequence[float],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    progress: bool = True,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> list[Score]:
    """Accuracy under :func:`pagkit.attacks.pgd` at each eps, in the order given.

    The radii are attacked from small to large, and an example broken at one counts as broken at every larger one, whose
    ball holds the same point. So the accuracy cannot rise with eps, by construction: a curve that does not rise is no sign of
    a sound attack. :func:`pagkit.evaluation.checklist` attacks each radius afresh.

    Args:
        norm, bounds: of the threat.
        eps_list: radii, in the units of x.
        progress, generator, batch_size, options: as in :func:`robust_accuracy`.

    Raises:
        ValueError: an empty split, a target, and all errors of ``Threat`` and ``pgd``.
    """
    if "target" in options:
        raise ValueError("a robustness curve takes no target; expected an untargeted attack")
    how = {"progress": progress, "generator": generator or torch.Generator().manual_seed(0), "batch_size": batch_size, **options}
    held, scores = correct(model, split, batch_size=batch_size), {}
    eps_list = [float(eps) for eps in eps_list]
    for eps in sorted(set(eps_list)):
        threat, rows = Threat(norm, eps, bounds), held.nonzero().flatten()
        if len(rows):
            left, own = part_of(split, rows, how)
            held[rows] = correct(model, attacked(model, left, threat, **own), batch_size=batch_size)
        scores[eps] = Score.of(held)
    return [scores[eps] for eps in eps_list]


def transfer_accuracy(
    model: nn.Module,
    surrogate: nn.Module,
    split: Split,
    threat: Threat,
    *,
    keep: str = "last",
    progress: bool = True,
    batch_size: int | None = None,
    **options: Any,
) -> Score:
    """Share of ``split`` that ``model`` gets right both as it is and after PGD on ``surrogate``, another model of the task.

    ``keep="last"`` is the default: a point that has only just fooled the surrogate, where ``"worst"`` stops, seldom fools
    a second model. Other arguments and errors as in :func:`robust_accuracy`.
    """
    moved = attacked(surrogate, split, threat, keep=keep, progress=progress, batch_size=batch_size, **options)
    return worst_case(model, split.y, split.x, moved.x, batch_size=batch_size)


def worst_case(model: nn.Module, y: Tensor, *x_advs: Tensor, batch_size: int | None = None) -> Score:
    """Share of examples that ``model`` gets right on every one of several attacked copies, each (N, *shape).

    Raises:
        TypeError, ValueError: no copy, no examples, or a copy that has not one row for each label; otherwise as in :func:`accuracy`.
    """
    if not x_advs:
        raise ValueError("no attacked copy is given; expected at least one x_adv")
    return Score.of(torch.stack([correct(model, Split(x_adv, y), batch_size=batch_size) for x_adv in x_advs]).all(0))


def exact_accuracy(model: nn.Module, split: Split, eps: float, *, batch_size: int | None = None) -> Score:
    """Share that is correct with an exact L2 radius above ``eps``: no attack can do better (two inputs only).

    The radius knows no bounds of the inputs. Where there are some an attack may have to do worse, and this is a lower bound.

    Errors as in :func:`accuracy`, :func:`pagkit.exact.radius` and, of ``eps``, :class:`pagkit.attacks.Threat`.
    """
    Threat("l2", eps)  # refuses a radius that none is
    return Score.of(correct(model, split, batch_size=batch_size) & (exact.radius(model, split.x) > eps))


def _likeliest(model: nn.Module, split: Split, count: int, batch_size: int | None) -> list[Tensor]:
    """The ``count`` likeliest classes of each row other than its label, the likeliest first, each (N,)."""
    if count == 0:
        return []
    found = logits(model, split, batch_size=batch_size)
    if not 0 < count < found.shape[1]:
        raise ValueError(f"likeliest is {count}; expected 0 to {found.shape[1] - 1} classes")
    return list(found.scatter(1, split.y.cpu()[:, None], -math.inf).topk(count, dim=1).indices.unbind(1))
