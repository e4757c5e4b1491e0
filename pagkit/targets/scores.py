"""Directions from scores: what a diffusion model says about each class, found once for a training split and kept as int8."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..data import Task, progress_bar
from ..data.defaults import plain_defaults
from ..data.numbers import whole
from . import stored
from .target import GradientTarget

ROWS = 256  # whose scores are held at a time


class Diffusion(Protocol):
    """What score-based directions ask of a diffusion model."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def classes(self) -> int: ...

    def noised(self, x: Tensor, t: int, *, generator: torch.Generator) -> Tensor: ...

    def score(self, x_t: Tensor, t: int, y: Tensor | int | None = None) -> Tensor: ...


@plain_defaults()
def score_based(
    task: Task,
    ddpm: Diffusion,
    *,
    t: int,
    draws: int = 1,
    folder: str | Path | None = None,
    generator: torch.Generator | None = None,
    progress: bool = True,
) -> GradientTarget:
    """The way that raises the probability of class c at noise level t, by Bayes' rule a difference of two scores:

        grad log p_t(c | x_t) = grad log p_t(x_t | c) - grad log p_t(x_t),

    both taken at ``x_t``, the input x with noise added, and averaged over ``draws`` noises.

    The directions of the training split are found together, in chunks, when the first of them is asked for, and kept as int8: N x C x D
    bytes. Each is scaled so that its largest entry is 127 (the factor is free), which leaves the cosine within 0.001 of 1. Other
    inputs (index -1) get theirs when asked, from the same noise at every call. Where the two scores are equal to the last digit the
    direction is zero.

    Args:
        task: inputs of the shape, and classes in the number, that ``ddpm`` was trained on.
        ddpm: a :class:`pagkit.diffusion.DDPM`, or :class:`pagkit.exact.ToyDiffusion` for exact scores of the toy.
        t: noise level, 0 to 999: the higher, the coarser the features that directions show.
        draws: noises to average over, at least 1.
        folder: keep the directions of the training split in a file here, which is mapped into memory and read where it is needed, and
            which the next run finds by its name, made of everything that the directions depend on. It gets that name when it is whole.
            Of the processes of one machine one makes it, and the others wait. Default: in memory, and made anew.
        generator: source of the noise; default: a fresh one with seed 0.
        progress: show a bar, once it has taken two seconds.

    Raises:
        OSError: when called, the file cannot be written, or the disk has too little room for it.
        TypeError: a t or draws that is no whole number.
        ValueError: a ``folder`` with a model that has no weights to know it by; a model of other inputs, bounds or classes, draws below
            1, t out of range. When called, scores that are nan or infinite.
    """
    directions = _directions(task, ddpm, t=t, draws=draws, folder=folder, generator=generator, progress=progress)
    return GradientTarget("score_based", directions, len(task.classes), task.shape, task.train.x)


def _directions(
    task: Task, ddpm: Diffusion, *, t: int, draws: int, folder: str | Path | None, generator: torch.Generator | None, progress: bool
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """What a :class:`GradientTarget` calls; arguments and errors as of :func:`score_based`."""
    if (tuple(ddpm.shape), ddpm.classes) != (task.shape, len(task.classes)):
        raise ValueError(
            f"the diffusion model knows {ddpm.classes} classes of inputs {tuple(ddpm.shape)}; "
            f"expected the {len(task.classes)} classes and inputs {task.shape} of {task.name}"
        )
    if (bounds := getattr(ddpm, "bounds", task.bounds)) != task.bounds:
        raise ValueError(f"the diffusion model knows inputs in {bounds}; expected the bounds {task.bounds} of {task.name}")
    t, draws = whole("t", t), whole("draws", draws, 1)
    ddpm.noised(task.train.x[:1], t, generator=torch.Generator())  # refuses a bad t now, not in the middle of training
    generator = generator or torch.Generator().manual_seed(0)
    seed = _seed(generator)
    state = generator.get_state()  # of the training split's noise: the same after an interrupt, and whoever else draws from it

    def find(x: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
        return _int8(functools.reduce(torch.add, (difference(ddpm, x, classes, t, generator) for _ in range(draws))))

    shape = (len(task.train), len(task.classes), *task.shape)
    path = None if folder is None else Path(folder) / _name(task, ddpm, t, draws, seed)

    def fill(made: Tensor) -> None:
        every, own = torch.arange(len(task.classes)), torch.Generator(generator.device)
        own.set_state(state)
        for rows in progress_bar(torch.arange(len(task.train)).split(ROWS), "scores", "chunk", show=progress):
            made[rows] = find(task.train.x[rows], every.expand(len(rows), -1), own)

    @functools.cache
    def known() -> Tensor:
        if path is not None:
            return stored.int8(path, shape, fill)
        fill(made := torch.empty(shape, dtype=torch.int8))
        return made

    def found(index: Tensor, x: Tensor, classes: Tensor) -> Tensor:
        index, classes = index.cpu(), classes.cpu()
        made, new = torch.empty(*classes.shape, *task.shape, dtype=torch.int8), index < 0
        if not new.all():
            made[~new] = known()[index[~new, None], classes[~new]]
        if new.any():
            made[new] = find(x[new.to(x.device)], classes[new], torch.Generator().manual_seed(seed))
        return made.to(x)

    return found


def kept_in(folder: str | Path, task: Task, ddpm: Diffusion, *, t: int, draws: int = 1, seed: int = 0) -> Path:
    """The file in which :func:`score_based`, with a generator of this seed, keeps the directions of the training split."""
    return Path(folder) / _name(task, ddpm, t, draws, _seed(torch.Generator().manual_seed(seed)))


def difference(ddpm: Diffusion, x: Tensor, classes: Tensor, t: int, generator: torch.Generator) -> Tensor:
    """``score(x_t, t, c) - score(x_t, t)`` for one draw of x_t and the classes c of each row: (B, k, *shape) on the CPU."""
    x_t = ddpm.noised(x, t, generator=generator)
    anyone = ddpm.score(x_t, t)
    return torch.stack([(ddpm.score(x_t, t, c) - anyone).cpu() for c in classes.unbind(1)], dim=1)


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def _name(task: Task, ddpm: Diffusion, t: int, draws: int, seed: int) -> str:
    """The name of a file for the directions of a training split."""
    network = getattr(ddpm, "unet", None)
    if network is None:
        raise ValueError(f"{type(ddpm).__name__} has no weights to know its directions by; expected a DDPM, or no folder")
    digest = hashlib.sha256(json.dumps([task.shape, task.bounds, t, draws, seed, torch.__version__, torch.get_num_threads()]).encode())
    for tensor in (task.train.x, *network.state_dict().values()):
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return f"directions-{digest.hexdigest()[:16]}.int8"


def _int8(directions: Tensor) -> Tensor:
    """Each direction (B, k, *shape) scaled so that its largest entry is 127, then rounded; zero stays zero."""
    if not directions.isfinite().all():
        raise ValueError("the diffusion model gives scores that are nan or infinite; expected numbers")
    dims = list(range(2, directions.ndim))
    largest = directions.abs().amax(dims, keepdim=True)
    return (127 * (directions / torch.where(largest > 0, largest, 1))).round().to(torch.int8)
