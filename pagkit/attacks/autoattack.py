"""AutoAttack (Croce & Hein, 2020) behind the library's own conventions.

The attacks are those of the package ``pyautoattack``, the authors' code under another import. It is an optional
extra: ``pip install 'pagkit[autoattack]'``. It assumes images in [0, 1], at least as many classes as it has
targets, and a process to itself; this module supplies all three.
"""

from __future__ import annotations

import logging
import math
import random
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Split, progress_bar
from ..data.defaults import plain_defaults
from ..data.numbers import whole
from ..data.rows import finite
from ..models import batches, differentiable, gradient_in, logits_of, ordinary, seeded
from . import checks
from .threat import Threat

PARTS = {"autoattack": None, "apgd": ["apgd-ce", "apgd-t"], "square": ["square"]}  # which attacks a metric of each name runs; None: all
SMALL, SMALLEST = 1e-3, 1e-5  # shares of the box: an eps below the first has its box cut to the data, one below the second is refused
LEAST_CLASSES = {"apgd-ce": 2, "apgd-dlr": 3, "apgd-t": 4, "fab": 2, "fab-t": 2, "square": 2}


def perturb(
    model: nn.Module,
    split: Split,
    threat: Threat,
    *,
    attacks: Sequence[str] | None = None,
    queries: int = 5000,
    restarts: int = 1,
    seed: int = 0,
    progress: bool = True,
    batch_size: int | None = None,
) -> Tensor:
    """AutoAttack's worst case for each row of ``split``.

    With four classes or more this is the standard version: apgd-ce, apgd-t, fab-t, square, one run each, all parameters the
    authors', except that the targeted attacks aim at ``min(9, C - 1)`` classes. With fewer, where the targeted loss is
    undefined, it is apgd-ce and fab with five random starts each, then square. Square is left out for inputs that are no
    images (C, H, W) of at least 5 x 5 pixels.

    The box [0, 1] that AutoAttack knows is mapped onto ``threat.bounds``, and eps with it. An infinite bound is replaced by
    one 2 eps beyond the data, where nothing within eps can meet it, and so are both where eps is below a thousandth of the box.

    Args:
        model: takes x in bounds, gives logits (N, C). Attacked in eval mode; left exactly as found, as are the random states
            of torch, NumPy and Python and the trace function.
        split: x float32 (N, *shape) inside the bounds, y in [0, C).
        threat: norm, eps and bounds.
        attacks: which to run, in this order, in place of the list above.
        queries: that Square may make for each row; AutoAttack's 5000 unless a quick look is all that is wanted.
        restarts: of the attacks by gradients, each from a random start; with fewer than four classes at least the five above.
        seed: of all that is random.
        progress: show a bar, once it has taken two seconds.
        batch_size: rows at a time, see :func:`pagkit.models.batching.batches`.

    What AutoAttack warns of (a model that draws random numbers, one that gives probabilities, gradients that are zero) is passed on as
    a RuntimeWarning. A gradient's entries that are nan or infinite move nothing.

    Returns:
        x_adv (N, *shape) on ``split.x``'s device, inside the ball and the bounds; a row that no attack breaks comes back
        as it was, to floating-point rounding.

    Raises:
        ImportError: pyautoattack is missing; says what to install.
        TypeError: x is not float32 or y not int64; the model gives something else than logits.
        ValueError: logits that are nan or infinite, no rows, no queries, x outside the bounds, labels out of range, an unknown
            attack, or one that this number of classes or shape of input rules out; an eps too small for float32 in a box around the data.
    """
    attack = package()
    checks.batch(split.x, split.y, threat.bounds)
    if split.x.dtype != torch.float32:
        raise TypeError(f"x has dtype {split.x.dtype}; expected torch.float32, in which AutoAttack computes")
    for name, value in (("queries", queries), ("restarts", restarts)):
        whole(name, value, 1)
    low, width = _box(split.x, threat)
    moved = []
    with _undisturbed(model, seed):
        for _, *part in progress_bar(list(batches(model, split, batch_size)), "AutoAttack", "batch", show=progress):
            x, y = (tensor.detach() for tensor in ordinary(*part))
            classes = checks.labels(logits_of(model, x), y)
            if set(plan(attacks, classes, tuple(x.shape[1:]))) - {"square"}:
                gradient_in(one := x[:1].clone().requires_grad_(), logits_of(model, one).sum())
            if threat.eps > 0:
                adversary = _adversary(attack, model, x, threat, low, width, classes, attacks, queries, restarts, seed)
                shape = x.shape[1:] if x.ndim == 4 else (-1, 1, 1)
                boxed = ((x - low) / width).reshape(len(x), *shape).contiguous()
                broken, _ = adversary.run_standard_evaluation(boxed, y, batch_size=len(x))
                broken = low + width * broken.reshape(x.shape)
                x = threat.project(torch.where(broken.isfinite(), broken, x), x)
            moved.append(x.to(split.x.device))
    return torch.cat(moved)


def _adversary(
    package: ModuleType,
    model: nn.Module,
    x: Tensor,
    threat: Threat,
    low: float,
    width: float,
    classes: int,
    attacks: Sequence[str] | None,
    queries: int,
    restarts: int,
    seed: int,
) -> Any:
    """pyautoattack's own object, for inputs like x in a box that [0, 1] stands for."""
    shape = x.shape[1:]
    adversary = package.AutoAttack(
        lambda z: _single(logits_of(model, _Finite.apply(low + width * z.reshape(len(z), *shape)))),
        norm={"linf": "Linf", "l2": "L2"}[threat.norm],
        eps=threat.eps / width,
        version="custom",
        attacks=plan(attacks, classes, tuple(shape)),
        seed=seed,
        device=x.device,
    )
    square = adversary.square.perturb  # which fails where each row has a tie of its label with another class, and so is broken already
    adversary.square.perturb = lambda z, y: square(z, y) if (adversary.square.margin_and_loss(z, y)[0] > 0).any() else z
    adversary.verbose, adversary.square.n_queries = False, queries
    adversary.apgd.n_restarts = adversary.fab.n_restarts = restarts if classes >= 4 else max(restarts, 5)
    fab, starts = adversary.fab.perturb, adversary.fab.n_restarts

    def restarted(z: Tensor, y: Tensor) -> Tensor:  # before fab-t pyautoattack sets one start, and leaves it so
        adversary.fab.n_restarts = starts
        return fab(z, y)

    adversary.fab.perturb = restarted
    adversary.apgd_targeted.n_restarts = restarts
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = min(9, classes - 1)
    return adversary


def _single(logits: Tensor) -> Tensor:
    """Logits (N, C) in float32, of their own, since Square writes into them; those in float64 less their largest, which no loss sees."""
    if logits.dtype == torch.float64:
        logits = logits - logits.detach().amax(1, keepdim=True)
    return logits.to(torch.float32, copy=True)


class _Finite(torch.autograd.Function):
    """The input itself; entries of its gradient that are nan or infinite are 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return finite(gradient)[0]


def is_image(shape: Sequence[int]) -> bool:
    """Whether Square can attack inputs of this shape: (C, H, W) with sides of 5 or more (its L2 version tiles them 5 x 5)."""
    return len(shape) == 3 and min(shape[1:]) >= 5


def package() -> ModuleType:
    """The package pyautoattack.

    Raises:
        ImportError: it is missing; says what to install.
    """
    try:
        import pyautoattack
    except ImportError as error:
        raise ImportError("AutoAttack needs the package pyautoattack: pip install 'pagkit[autoattack]'") from error
    return pyautoattack


def _box(x: Tensor, threat: Threat) -> tuple[float, float]:
    """Low end and width of the box that [0, 1] stands for; refuses one in which float32 loses eps."""
    (low, high), near = threat.bounds, (x.min().item() - 2 * threat.eps, x.max().item() + 2 * threat.eps)
    low, high = low if math.isfinite(low) else near[0], high if math.isfinite(high) else near[1]
    if threat.eps < SMALL * (high - low):
        low, high = max(low, near[0]), min(high, near[1])
    if threat.eps > 0 and not 0 < (high - low) <= threat.eps / SMALLEST:
        found = f"eps is {threat.eps} and the data reach from {low:g} to {high:g}"
        raise ValueError(f"{found}; expected an eps of at least {SMALLEST:g} of that, as AutoAttack computes in float32")
    return low, high - low


def plan(attacks: Sequence[str] | None, classes: int, shape: tuple[int, ...]) -> list[str]:
    """The attacks to run, checked."""
    if attacks is None:
        return [*(("apgd-ce", "apgd-t", "fab-t") if classes >= 4 else ("apgd-ce", "fab")), *(["square"] if is_image(shape) else [])]
    for name in attacks:
        if name not in LEAST_CLASSES:
            raise ValueError(f"unknown attack {name!r}; expected some of {', '.join(LEAST_CLASSES)}")
        if classes < LEAST_CLASSES[name]:
            raise ValueError(f"the model has {classes} classes; attack {name!r} needs at least {LEAST_CLASSES[name]}")
        if name == "square" and not is_image(shape):
            raise ValueError(f"inputs have shape {shape}; attack 'square' needs images (C, H, W) of at least 5 x 5 pixels")
    if not attacks:
        raise ValueError(f"no attack is given; expected some of {', '.join(LEAST_CLASSES)}")
    return list(attacks)


class _Said(logging.Handler):
    """Collects what pyautoattack warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage().partition(" See flags_doc")[0])


@contextmanager
def _undisturbed(model: nn.Module, seed: int) -> Iterator[None]:
    """Eval mode and silence inside; on leaving, whatever pyautoattack or the model changed is as before, and its warnings are passed on.

    FAB calls ``backward``, which would fill parameter gradients: parameters are frozen meanwhile. A check for dynamic
    defences sets the trace function to None, which would switch off a debugger or a coverage tool.
    """
    logger, said = logging.getLogger("auto-attack"), _Said()
    free = [p for p in model.parameters() if p.requires_grad]
    before, trace, numpy_state, python_state = vars(logger).copy(), sys.gettrace(), np.random.get_state(), random.getstate()  # noqa: NPY002
    with plain_defaults(), differentiable(model), seeded(seed):
        try:
            logger.disabled, logger.propagate, logger.handlers, logger.level = False, False, [said], logging.WARNING
            for p in free:
                p.requires_grad_(False)
            yield
        finally:
            vars(logger).update(before)
            for p in free:
                p.requires_grad_(True)
            sys.settrace(trace)
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
    for message in dict.fromkeys(said.messages):
        warnings.warn(f"AutoAttack says: {message}", RuntimeWarning, stacklevel=4)
