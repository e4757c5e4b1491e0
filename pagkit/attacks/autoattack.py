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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Split, progress_bar
from ..models import batches, mode
from . import checks
from .threat import Threat

LEAST_CLASSES = {"apgd-ce": 2, "apgd-dlr": 3, "apgd-t": 4, "fab": 2, "fab-t": 2, "square": 2}


def perturb(
    model: nn.Module,
    split: Split,
    threat: Threat,
    *,
    attacks: Sequence[str] | None = None,
    queries: int = 5000,
    seed: int = 0,
    progress: bool = True,
) -> Tensor:
    """AutoAttack's worst case for each row of ``split``.

    With four classes or more this is the standard version: apgd-ce, apgd-t, fab-t, square, one run each, all parameters the
    authors', except that the targeted attacks aim at ``min(9, C - 1)`` classes. With fewer, where the targeted loss is
    undefined, it is apgd-ce and fab with five random starts each, then square. Square is left out for inputs that are no
    images (C, H, W) of at least 5 x 5 pixels.

    The box [0, 1] that AutoAttack knows is mapped onto ``threat.bounds``, and eps with it. An infinite bound is replaced by
    one 2 eps beyond the data, where nothing within eps can meet it.

    Args:
        model: takes x in bounds, gives logits (N, C). Attacked in eval mode; left exactly as found, as are the random states
            of torch, NumPy and Python and the trace function.
        split: x float32 (N, *shape) inside the bounds, y in [0, C).
        threat: norm, eps and bounds.
        attacks: which to run, in this order, in place of the list above.
        queries: that Square may make for each row; AutoAttack's 5000 unless a quick look is all that is wanted.
        seed: of all that is random.
        progress: show a bar, once it has taken two seconds.

    Returns:
        x_adv (N, *shape) on ``split.x``'s device, inside the ball and the bounds; a row that no attack breaks comes back
        as it was, to floating-point rounding.

    Raises:
        ImportError: pyautoattack is missing; says what to install.
        TypeError: x is not float32 or y not int64.
        ValueError: no rows, no queries, x outside the bounds, labels out of range, an unknown attack, or one that this number of
            classes or shape of input rules out.
    """
    attack = package()
    checks.batch(split.x, split.y, threat.bounds)
    if split.x.dtype != torch.float32:
        raise TypeError(f"x has dtype {split.x.dtype}; expected torch.float32, in which AutoAttack computes")
    if queries < 1:
        raise ValueError(f"queries is {queries}; expected at least 1")
    low, width = _box(split.x, threat)
    shape = tuple(split.x.shape[1:])
    moved = []
    with _undisturbed(model):
        for _, x, y in progress_bar(list(batches(model, split)), "AutoAttack", "batch", show=progress):
            with torch.no_grad():
                classes = model(x[:1]).shape[-1]
            if y.min() < 0 or y.max() >= classes:
                raise ValueError(f"labels range over [{y.min()}, {y.max()}]; expected values in [0, {classes})")
            adversary = attack.AutoAttack(
                lambda z: model(low + width * z.view(len(z), *shape)),
                norm={"linf": "Linf", "l2": "L2"}[threat.norm],
                eps=threat.eps / width,
                version="custom",
                attacks=_plan(attacks, classes, shape),
                seed=seed,
                device=x.device,
            )
            adversary.verbose, adversary.square.n_queries = False, queries
            adversary.apgd.n_restarts = adversary.fab.n_restarts = 1 if classes >= 4 else 5
            adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = min(9, classes - 1)
            if threat.eps > 0:
                boxed = ((x - low) / width).reshape(len(x), *(shape if len(shape) == 3 else (-1, 1, 1)))
                broken, _ = adversary.run_standard_evaluation(boxed, y, batch_size=len(x))
                x = threat.project(low + width * broken.view_as(x), x)
            moved.append(x.to(split.x.device))
    return torch.cat(moved)


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
    """Low end and width of the box that [0, 1] stands for."""
    low, high = threat.bounds
    low = low if math.isfinite(low) else x.min().item() - 2 * threat.eps
    high = high if math.isfinite(high) else x.max().item() + 2 * threat.eps
    return low, high - low


def _plan(attacks: Sequence[str] | None, classes: int, shape: tuple[int, ...]) -> list[str]:
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


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode and silence inside; on leaving, whatever pyautoattack or the model changed is as before.

    FAB calls ``backward``, which would fill parameter gradients: parameters are frozen meanwhile. A check for dynamic
    defences sets the trace function to None, which would switch off a debugger or a coverage tool.
    """
    logger = logging.getLogger("auto-attack")
    free = [p for p in model.parameters() if p.requires_grad]
    disabled, trace, numpy_state, python_state = logger.disabled, sys.gettrace(), np.random.get_state(), random.getstate()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with mode(model, training=False), torch.random.fork_rng(devices=devices):
        try:
            logger.disabled = True
            for p in free:
                p.requires_grad_(False)
            yield
        finally:
            logger.disabled = disabled
            for p in free:
                p.requires_grad_(True)
            sys.settrace(trace)
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
