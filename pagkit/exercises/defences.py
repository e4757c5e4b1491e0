"""Three defences with flattering numbers, to break: :func:`load` hands one out, and ``check("14.1", x_adv)`` grades attacked images.

Their networks are small and trained when they are first asked for, in seconds. All three can be broken, and none by the attack that
its authors ran.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from .. import data, models, training
from ..attacks import Threat, pgd
from ..data import Split
from .answers import as_usual, described

NUMBERS = {"14.1": "ruler", "14.2": "stairs", "14.3": "dice"}
THREAT = Threat("l2", 1.0)  # of all three claims
DIGITS, ALLOWED = 100, 10  # the test digits of the exam, and how many of them may be left
THROWS = 51  # a random model is asked so often, and the majority counts


class Stairs(nn.Module):
    """Rounds every pixel to five levels of grey before the network sees it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net((4 * x).round() / 4)


class Dice(nn.Module):
    """Shifts each image by up to one pixel and adds Gaussian noise, anew at every call, from the global random state."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        n, grid = len(x), torch.arange(8)
        down, right = torch.randint(3, (2, n, 1))  # 0, 1, 2: the shift plus one
        rows, columns = (down + grid)[:, :, None], (right + grid)[:, None, :]
        moved = pad(x, (1, 1, 1, 1))[torch.arange(n)[:, None, None], 0, rows, columns]
        return self.net(moved[:, None] + 0.15 * torch.randn_like(x))


@dataclass(frozen=True)
class Defence:
    """A model with a claim, and all that an attacker may know: everything.

    Attributes:
        name: ``"ruler"``, ``"stairs"`` or ``"dice"``.
        model: takes images (N, 1, 8, 8) in [0, 1], gives logits (N, 10). A copy of your own: change it as you like.
        exam: the 100 test digits that are graded.
        threat: the ball in which the claim is made.
        authors: the attack behind the claim, ``authors()`` -> attacked images of the exam.
    """

    name: str
    model: nn.Module
    exam: Split
    threat: Threat
    authors: Callable[[], Tensor]


@as_usual()
def load(name: str) -> Defence:
    """A defence by name. The first call trains its network; the global random state is left as it was.

    Raises:
        ValueError: unknown name.
    """
    if name not in NUMBERS.values():
        raise ValueError(f"unknown defence {name!r}; expected one of {', '.join(NUMBERS.values())}")
    model, exam = copy.deepcopy(_model(name)), data.load("digits").test.first(DIGITS)
    authors = _in_normalised_units if name == "ruler" else pgd
    return Defence(name, model, exam, THREAT, partial(authors, model, exam.x, exam.y, THREAT))


def _model(name: str) -> nn.Module:
    if name == "ruler":
        return _network(0)
    return (Stairs(_network(0)) if name == "stairs" else Dice(_network(1))).eval()


@cache
def _network(crop: int) -> nn.Module:
    recipe, task = training.Recipe.load("digits-standard", epochs=12, crop=crop, model_options={"width": 16}), data.load("digits")
    net = models.build("cnn", task, seed=0, **recipe.model_options)
    training.fit(net, task, recipe, progress=False)
    return net.eval().requires_grad_(False)


def _in_normalised_units(model: Any, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """The evaluation of ruler's authors: normalise, attack there with the same eps, and back to pixels."""
    z = model[0](x)
    z_adv = pgd(model[1:], z, y, Threat(threat.norm, threat.eps, (z.min().item(), z.max().item())))
    return z_adv * model[0].std + model[0].mean


def objection(x_adv: object, x: Tensor, threat: Threat) -> str | None:
    """Why attacked images may not be counted; None if they may.

    Raises:
        TypeError: they are no tensor.
    """
    if not isinstance(x_adv, Tensor):
        raise TypeError(f"the answer is {described(x_adv)}; expected attacked images, a Tensor of shape {tuple(x.shape)}")
    if x_adv.shape != x.shape or x_adv.dtype != x.dtype:
        return f"found {x_adv.dtype} {tuple(x_adv.shape)}, expected {x.dtype} {tuple(x.shape)}: the whole exam, in its order"
    if bad := int((~torch.isfinite(x_adv)).sum()):
        return f"{bad} values are nan or infinite"
    low, high = x_adv.min().item(), x_adv.max().item()
    if low < threat.bounds[0] - 1e-5 or high > threat.bounds[1] + 1e-5:
        return f"pixels range over [{low:.2f}, {high:.2f}]; the box is {threat.bounds}"
    size = (x_adv - x).flatten(1).norm(dim=1)
    if outside := int((size > threat.eps * (1 + 1e-4)).sum()):
        return f"{outside} digits left the ball: the longest change is {size.max():.2f}, eps is {threat.eps}"
    return None


@torch.no_grad()
def share_right(model: nn.Module, split: Split, throws: int = 1) -> Tensor:
    """In which share of ``throws`` calls each row is read correctly (N,). The throws are the same at every call of this function."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(2027)
        return torch.stack([model(split.x).argmax(1) == split.y for _ in range(throws)]).float().mean(0)


def grade(name: str, x_adv: Any) -> tuple[bool, str]:
    """Whether attacked images of the exam break a defence, and how many digits are left: right on the image and on its attacked copy."""
    exam = data.load("digits").test.first(DIGITS)
    if words := objection(x_adv, exam.x, THREAT):
        return False, words
    model, throws = _model(name), THROWS if name == "dice" else 1
    after = share_right(model, Split(x_adv.detach(), exam.y), throws)
    left = int(((after > 0.5) & (share_right(model, exam, throws) > 0.5)).sum())
    says = f"{left} of {DIGITS} digits are left, at most {ALLOWED} may be"
    if throws > 1:
        says += f"; a single throw is right on {100 * after.mean():.0f} %"
    if left <= ALLOWED:
        return True, f"{name} is broken, {says}"
    used = ((x_adv.detach() - exam.x).flatten(1).norm(dim=1) / THREAT.eps).median()
    return False, f"{name} is not broken, {says}. The median change is {used:.2f} of eps"


CHECKS = {key: partial(grade, name) for key, name in NUMBERS.items()}
