"""Is a low attack success robustness, or a gradient that leads nowhere? Ten checks for gradient masking.

1. One step (FGSM) breaks nothing that PGD spares.
2. More steps and restarts break nothing more.
3. Accuracy falls with eps, each radius attacked afresh, and ends at chance or below.
4. With eps the diagonal of the box (of the data, for infinite bounds), PGD leaves nothing.
5. Attacks that see no gradient of the model find nothing: Square with ``queries`` queries (AutoAttack's has 5000), and PGD
   on ``surrogate``. Not run for want of both. (Square attacks images in float32 only, and needs the package pyautoattack.)
6. Ten random points of the ball find nothing.
7. PGD on the logits times 0.01 and times 100 finds nothing. A scale-free loss such as DLR gives the same gradient direction
   at every scale, so running it twice compares a thing with itself. The log-odds that PGD climbs
   (:func:`pagkit.models.log_odds`) are scale-free at both ends only: times 100 they are the margin to the best other
   class, times 0.01 to the mean of the others. If either end finds more, the loss was in the way.
8. The gradient of the log-odds at x is nowhere zero. (That of cross-entropy vanishes for every confident model.) The median of
   an even number of norms is the lower of the two in the middle.
9. All attacks together, the worst case of each example, leave about as many as PGD does.
10. The gradient at x is finite everywhere. Entries that are nan or infinite move nothing, so an attack is blind there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..attacks import Threat
from ..attacks.autoattack import is_image, perturb
from ..data import Split
from ..data.rows import finite
from ..models import batches, differentiable, gradient_in, log_odds, logits_of, ordinary, seeded
from .attacked import attacked, correct, logits
from .intervals import Score
from .tables import Table

VERDICTS = {True: "pass", False: "fail", None: "not run"}
SLACK = 0.02  # share of the examples by which two attacks may differ, rounded up to whole examples


@dataclass(frozen=True)
class Check:
    """One row: what should hold, ``"pass"``, ``"fail"`` or ``"not run"``, and the figure that this rests on.

    Raises:
        ValueError: another verdict.
    """

    name: str
    verdict: str
    figure: str

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS.values():
            raise ValueError(f"verdict is {self.verdict!r}; expected one of {', '.join(VERDICTS.values())}")


@dataclass(frozen=True)
class Checklist:
    """All rows; printed as columns, shown by Jupyter as an HTML table."""

    checks: tuple[Check, ...]
    caption: str = "gradient masking"

    @property
    def failed(self) -> tuple[int, ...]:
        """Numbers of the rows that fail, counted from 1."""
        return tuple(i for i, check in enumerate(self.checks, 1) if check.verdict == "fail")

    def _table(self) -> Table:
        rows = tuple((f"{i}. {check.name}", check.verdict, check.figure) for i, check in enumerate(self.checks, 1))
        return Table(self.caption, ("what should hold", "verdict", "figure"), rows)

    def __str__(self) -> str:
        return str(self._table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()


def checklist(
    model: nn.Module,
    split: Split,
    threat: Threat,
    *,
    surrogate: nn.Module | None = None,
    steps: int = 40,
    queries: int = 1000,
    seed: int = 0,
    progress: bool = True,
    batch_size: int | None = None,
) -> Checklist:
    """The signs of gradient masking that Athalye, Carlini & Wagner (2018) and Carlini et al. (2019) list, each tested.

    "White-box" below is PGD with ``steps`` steps, and after it PGD with 2.5 times as many and five restarts. Every other attack
    tries what that one spares. If it breaks more than 2 % of all examples (rounded up), its row fails: it found what the
    gradient hid. The rows are explained at the top of :mod:`pagkit.evaluation.masking`.

    A model that fails is not as robust as PGD says. One that passes can still fall to a better attack: report
    :func:`pagkit.evaluation.autoattack` beside it.

    Args:
        model, split, threat: as for :func:`pagkit.evaluation.robust_accuracy`.
        surrogate: a model of the same task with honest gradients, such as a standard one.
        steps, queries: of PGD and Square.
        seed: of all that is random.
        progress: show bars.
        batch_size: as in :func:`pagkit.evaluation.accuracy`.

    Raises:
        TypeError, ValueError: eps is 0, and all errors of :func:`pagkit.attacks.pgd`.
    """
    if threat.eps == 0:
        raise ValueError("eps is 0; expected a positive radius")
    generator, total = torch.Generator().manual_seed(seed), len(split)
    throws = itertools.count(seed)  # a model that draws random numbers draws them anew for each verdict

    def pgd(net: nn.Module, part: Split, within: Threat = threat, **options: Any) -> Tensor:
        how = {"progress": progress, "generator": generator, "batch_size": batch_size, "steps": steps}
        return attacked(net, part, within, **{**how, **options}).x

    def spared(held: Tensor, attack: Callable[[Split], Tensor]) -> Tensor:
        """Those of the rows ``held``, bool (N,), that the model gets right after ``attack`` as well."""
        kept, rows = held.clone(), held.nonzero().flatten()
        if len(rows):
            part = Split(split.x[rows], split.y[rows])
            kept[rows] = correct(model, Split(attack(part), part.y), batch_size=batch_size, seed=next(throws))
        return kept

    clean = correct(model, split, batch_size=batch_size, seed=next(throws))
    plain = spared(clean, lambda s: pgd(model, s))
    white = spared(plain, lambda s: pgd(model, s, steps=5 * steps // 2, restarts=5))
    one_step = spared(plain, lambda s: pgd(model, s, steps=1, step_size=threat.eps, random_start=False, keep="last"))
    radii = [k * threat.eps for k in (0.5, 1, 2, 4)] + [max(_diagonal(split.x, threat), 4 * threat.eps)]
    left = [int(spared(clean, partial(pgd, model, within=replace(threat, eps=r))).sum()) for r in radii]
    blind: dict[str, Tensor] = {}
    if is_image(split.x.shape[1:]) and split.x.dtype == torch.float32:
        with suppress(ImportError):  # the row says what ran
            square = partial(perturb, model, threat=threat, attacks=["square"], queries=queries, seed=seed)
            blind["Square"] = spared(white, partial(square, progress=progress, batch_size=batch_size))
    if surrogate is not None:
        blind["transfer"] = spared(white, lambda s: pgd(surrogate, s, keep="last"))
    noise = white
    for _ in range(10):
        noise = spared(noise, lambda s: threat.random_start(s.x, generator))
    scaled = {f"times {k:g}": spared(white, partial(pgd, _Scaled(model, k))) for k in (0.01, 100)}
    by_eps = dict(zip(radii, left, strict=True))
    gradients, chance = _gradient_norms(model, split, batch_size, seed), total / logits(model, split.first(2)).shape[1]
    rows = _verdicts(plain, white, one_step, noise, blind, scaled, by_eps, gradients, chance)
    return Checklist(rows, f"gradient masking, {threat.norm} eps {threat.eps:g}")


def _verdicts(
    plain: Tensor,
    white: Tensor,
    one_step: Tensor,
    noise: Tensor,
    blind: dict[str, Tensor],
    scaled: dict[str, Tensor],
    by_eps: dict[float, int],
    gradients: tuple[Tensor, int],
    chance: float,
) -> tuple[Check, ...]:
    """The rows of the checklist, from which examples each attack spares, bool (N,), how many are left at each eps, and gradient norms."""
    total, (norms, broken) = len(plain), gradients
    slack = math.ceil(SLACK * total)

    def extra(base: Tensor, others: dict[str, Tensor]) -> tuple[bool | None, str]:
        """Whether no other attack breaks more than the slack of what the base attack spares, and how many each breaks."""
        if not others:
            return None, "neither Square nor a surrogate"
        broken = {name: int((base & ~held).sum()) for name, held in others.items()}
        figure = ", ".join(f"{name} breaks {count}" for name, count in broken.items())
        return max(broken.values()) <= slack, f"{figure} of the {int(base.sum())} spared"

    left, zero, first = list(by_eps.values()), int((~(norms > 0)).sum()), int(plain.sum())
    worst = int(torch.stack([white, one_step, noise, *blind.values(), *scaled.values()]).all(0).sum())
    falls = all(b <= a + slack for a, b in zip(left, left[1:], strict=False)) and left[-1] <= chance
    listed = ", ".join(f"{count} at {r:.3g}" for r, count in by_eps.items())
    return (
        _check("one step breaks nothing that PGD spares", *extra(plain, {"FGSM": one_step})),
        _check("more steps and restarts break nothing more", *extra(plain, {"longer PGD": white})),
        _check("accuracy falls with eps, to chance or below", falls, f"{listed} of {total}"),
        _check("unbounded, PGD leaves nothing", left[-1] == 0, f"{left[-1]} of {total}"),
        _check("attacks without its gradient find nothing", *extra(white, blind)),
        _check("random points of the ball find nothing", *extra(white, {"noise": noise})),
        _check("other scales of the logits find nothing", *extra(white, scaled)),
        _check("no gradient is zero", zero <= slack, f"median norm {norms.median().item():.2g}, {zero} of {total} zero"),
        _check("the worst case of all is about PGD's", first - worst <= slack, f"PGD {first}, all {Score(worst, total)}"),
        _check("every gradient is finite", broken == 0, f"{broken} of {total} with an entry that is nan or infinite"),
    )


class _Scaled(nn.Module):
    """``factor`` times the logits of ``model``, in float32 at least."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * logits_of(self.model, x, finite=False)


def _check(name: str, passed: bool | None, figure: str) -> Check:
    return Check(name, VERDICTS[passed], figure)


def _diagonal(x: Tensor, threat: Threat) -> float:
    """Largest distance in the threat's norm between two points of the bounds, or of the box around x where they are infinite."""
    low, high = threat.bounds
    side = (high if math.isfinite(high) else x.max().item()) - (low if math.isfinite(low) else x.min().item())
    return side * (math.sqrt(x[0].numel()) if threat.norm == "l2" else 1.0)


def _gradient_norms(model: nn.Module, split: Split, batch_size: int | None, seed: int) -> tuple[Tensor, int]:
    """L2 norm of the gradient of the label's log-odds at each x, (N,), and of how many an entry was nan or infinite (which counts as 0)."""
    norms, count = [], 0
    with differentiable(model), seeded(seed):
        for _, *part in batches(model, split, batch_size):
            x, y = ordinary(*part)
            x.requires_grad_()
            gradient = gradient_in(x, log_odds(logits_of(model, x), y).sum())
            gradient, broken = finite(gradient)
            count += 0 if broken is None else int(broken.sum())
            norms.append(torch.linalg.vector_norm(gradient.flatten(1), dim=1).cpu())
    return torch.cat(norms), count
