"""Ground-truth gradient directions g(x, c): which way does class c lie from x?

Three heuristics of Ganz, Kawar & Elad (ICML 2023, section 4.1), each ``r - x`` with a representative r of class c:
one image, the class mean, the nearest neighbour. And their principled source, the score of a diffusion model.
A :class:`GradientTarget` makes directions when asked, for the rows and classes of one batch.

Only the cosine with a direction is ever used, so any positive factor in front of it is free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import scores
from .data import Task
from .recipe import Recipe

DISTANCES = 2**25  # held at a time: 128 MiB


@dataclass(frozen=True)
class GradientTarget:
    """A callable (index (B,), x (B, *shape), classes (B, k)) -> directions (B, k, *shape).

    ``index`` is each row's position in ``task.train``, or -1 for inputs that are not in it. ``x`` are the
    inputs themselves, before any augmentation: crop and flip are linear, so the direction is made on the
    clean input and moved together with it.
    """

    name: str
    directions: Callable[[Tensor, Tensor, Tensor], Tensor]  # same arguments, same result

    def __call__(self, index: Tensor, x: Tensor, classes: Tensor) -> Tensor:
        if not len(index) == len(x) == len(classes) or classes.ndim != 2:
            raise ValueError(
                f"index, x and classes have shapes {tuple(index.shape)}, {tuple(x.shape)}, {tuple(classes.shape)}; "
                "expected (B,), (B, *shape), (B, k)"
            )
        return self.directions(index, x, classes)


def one_image(task: Task, *, generator: torch.Generator | None = None) -> GradientTarget:
    """``r_c - x`` with one training image r_c a class, drawn with ``generator`` (default: seed 0).

    Raises:
        ValueError: a class without training examples.
    """
    generator = generator or torch.Generator().manual_seed(0)
    picks = [rows[torch.randint(len(rows), (), generator=generator)] for rows in _rows_by_class(task)]
    return _fixed("one_image", task.train.x[torch.stack(picks)])


def class_mean(task: Task, *, scale: float = 1.0) -> GradientTarget:
    """``scale * m_c - x`` with m_c the mean training input of class c.

    A scale above 1 gives the blurred mean the norm of a real image. It turns the direction, since only m_c is scaled.

    Raises:
        ValueError: a scale that is not positive, or a class without training examples.
    """
    if not scale > 0:
        raise ValueError(f"scale is {scale}; expected a positive number")
    return _fixed("class_mean", scale * torch.stack([task.train.x[rows].mean(0) for rows in _rows_by_class(task)]))


def nearest_neighbor(task: Task, *, per_class: int | None = None) -> GradientTarget:
    """``r - x`` with r the training example of class c nearest to x in L2, x itself excluded.

    Args:
        task: its training split supplies the neighbours; their indices (N, C) are found once, in chunks.
        per_class: look only among the first ``per_class`` examples of each class (default: among all).

    Raises:
        ValueError: ``per_class`` below 1, or a class with fewer than two candidates.
    """
    if per_class is not None and per_class < 1:
        raise ValueError(f"per_class is {per_class}; expected at least 1")
    candidates = [rows[:per_class] for rows in _rows_by_class(task)]
    for name, rows in zip(task.classes, candidates, strict=True):
        if len(rows) < 2:
            raise ValueError(f"class {name!r} has {len(rows)} candidate; expected at least 2, since a point is not its own neighbour")
    pool = task.train.x
    nearest = _nearest(torch.arange(len(pool)), pool, candidates, pool)

    def directions(index: Tensor, x: Tensor, classes: Tensor) -> Tensor:
        index, found = index.cpu(), torch.empty(len(x), len(candidates), dtype=torch.int64)
        known = index >= 0
        found[known] = nearest[index[known]]
        if not known.all():
            found[~known] = _nearest(index[~known], x[(~known).to(x.device)].to(pool), candidates, pool)
        return pool[found.gather(1, classes.cpu())].to(x) - x[:, None]

    return GradientTarget("nearest_neighbor", directions)


def score_based(
    task: Task,
    ddpm: scores.Diffusion,
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
        OSError: the file cannot be written, or the disk has too little room for it.
        ValueError: a ``folder`` with a model that has no weights to know it by; a model of other inputs or classes, draws below 1,
            t out of range, inputs outside the model's bounds.
    """
    directions = scores.directions(task, ddpm, t=t, draws=draws, folder=folder, generator=generator, progress=progress)
    return GradientTarget("score_based", directions)


TARGETS: dict[str, Callable[..., GradientTarget]] = {
    "one_image": one_image,
    "class_mean": class_mean,
    "nearest_neighbor": nearest_neighbor,
    "score_based": score_based,
}
OPTIONS = {
    "one_image": ("seed",),
    "class_mean": ("scale",),
    "nearest_neighbor": ("per_class",),
    "score_based": ("ddpm", "t", "draws", "seed", "folder"),
}


def build(name: str, task: Task, *, device: torch.device | str = "cpu", progress: bool = True, **options: Any) -> GradientTarget:
    """A gradient target by name, as recipes spell it.

    Args:
        name: ``"one_image"``, ``"class_mean"``, ``"nearest_neighbor"`` or ``"score_based"``.
        task: the data.
        device: where a diffusion model that is found by name does its work.
        progress: show a bar where it takes long, which is with ``"score_based"`` only.
        options: of the function of that name, with ``seed`` for its generator. The ``ddpm`` of ``"score_based"`` is a model, a
            file, a folder or a recipe's name: see :func:`pagkit.pretrained.find`. In all but the first case its directions are kept
            where it is kept, unless ``folder`` says otherwise (None: in memory only).

    Raises:
        ValueError: as :func:`check`, and those of the function of that name.
    """
    check(name, **options)
    if name == "score_based":
        options["progress"] = progress
        if isinstance(options["ddpm"], (str, Path)):
            from . import pretrained  # here, because diffusers takes seconds to import

            options["ddpm"] = pretrained.find(options["ddpm"], task, device=device, progress=progress)
            options.setdefault("folder", pretrained.cache())
    if "seed" in options:
        options["generator"] = torch.Generator().manual_seed(int(options.pop("seed")))
    return TARGETS[name](task, **options)


def check(name: str, **options: Any) -> None:
    """Refuse, at no cost, a name or options that :func:`build` cannot mean.

    Raises:
        ValueError: unknown name or option; a score-based target without ``ddpm`` or ``t``, or with a ``ddpm`` that names no recipe of
            method ``"ddpm"``.
        FileNotFoundError: a ``ddpm`` that names a file which is not there.
    """
    if name not in TARGETS:
        raise ValueError(f"unknown gradient target {name!r}; expected one of {', '.join(TARGETS)}")
    if unknown := sorted(set(options) - set(OPTIONS[name])):
        raise ValueError(f"unknown option {unknown[0]!r} for gradient target {name!r}; expected {' or '.join(OPTIONS[name])}")
    if name == "score_based":
        if missing := [key for key in ("ddpm", "t") if key not in options]:
            raise ValueError(f"gradient target 'score_based' has no {missing[0]}; expected a diffusion model, ddpm, and a noise level, t")
        source = options["ddpm"]
        if str(source).endswith(".safetensors") and not Path(source).is_file():
            raise FileNotFoundError(f"no file {source}; expected one that DDPM.save wrote")
        named = isinstance(source, str) and not source.endswith(".safetensors") and not Path(source).is_dir()
        if named and (method := Recipe.load(source).method) != "ddpm":
            raise ValueError(f"recipe {source!r} has method {method!r}; expected 'ddpm'")


def sample_classes(rows: int, classes: int, k: int | None, generator: torch.Generator | None = None) -> Tensor:
    """``k`` distinct classes for each row, uniformly (rows, k); all of them in order when ``k`` is None.

    Raises:
        ValueError: k outside [1, classes].
    """
    if k is None or k == classes:
        return torch.arange(classes).expand(rows, classes)
    if not 1 <= k <= classes:
        raise ValueError(f"k is {k}; expected 1 to {classes} classes")
    return torch.rand(rows, classes, generator=generator).argsort(1)[:, :k]


def _fixed(name: str, images: Tensor) -> GradientTarget:
    """The same representatives (C, *shape) for every x."""
    return GradientTarget(name, lambda index, x, classes: images.to(x)[classes.to(x.device)] - x[:, None])


def _rows_by_class(task: Task) -> list[Tensor]:
    rows = [(task.train.y == label).nonzero().flatten() for label in range(len(task.classes))]
    for name, found in zip(task.classes, rows, strict=True):
        if len(found) == 0:
            raise ValueError(f"class {name!r} has no training examples; expected at least one")
    return rows


def _nearest(index: Tensor, x: Tensor, candidates: list[Tensor], pool: Tensor) -> Tensor:
    """Positions in ``pool`` of the nearest candidate of each class (N, C), rows' own positions excluded.

    ``|x - r|^2 = |x|^2 - 2 x.r + |r|^2``, and the first term is the same for every r: one matrix product ranks all candidates.
    In a few dimensions distances are taken directly: that product loses digits there.
    """
    x, index, every = x.flatten(1), index.to(pool.device), torch.cat(candidates)
    others, sizes = pool[every].flatten(1), [len(rows) for rows in candidates]
    squares = torch.einsum("nd,nd->n", others, others)
    column = torch.full((len(pool),), -1, device=pool.device)  # of each position in the pool; -1 where it is no candidate
    column[every] = torch.arange(len(every), device=pool.device)
    nearest, step = [], max(1, DISTANCES // len(every))
    for part, own in zip(x.split(step), torch.where(index >= 0, column[index], -1).split(step), strict=True):
        if x.shape[1] <= 16:
            distance = torch.cdist(part, others, compute_mode="donot_use_mm_for_euclid_dist")
        else:
            distance = torch.addmm(squares, part, others.T, alpha=-2)
        distance[own >= 0, own[own >= 0]] = torch.inf
        nearest.append(torch.stack([rows[d.argmin(1)] for rows, d in zip(candidates, distance.split(sizes, 1), strict=True)], 1))
    return torch.cat(nearest).cpu()
