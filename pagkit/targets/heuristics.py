"""Three heuristics for the way to a class (Ganz, Kawar & Elad, ICML 2023, section 4.1).

Each direction is ``r - x`` with a representative r of class c: one image, the class mean, the nearest neighbour.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from ..data import Task
from ..data.defaults import plain_defaults
from .target import GradientTarget

DISTANCES = 2**25  # held at a time: 128 MiB


@plain_defaults()
def one_image(task: Task, *, generator: torch.Generator | None = None) -> GradientTarget:
    """``r_c - x`` with one training image r_c a class, drawn with ``generator`` (default: seed 0).

    Raises:
        ValueError: a class without training examples.
    """
    generator = generator or torch.Generator().manual_seed(0)
    picks = [rows[torch.randint(len(rows), (), generator=generator)] for rows in rows_by_class(task)]
    return _fixed("one_image", task.train.x[torch.stack(picks)])


@plain_defaults()
def class_mean(task: Task, *, scale: float = 1.0) -> GradientTarget:
    """``scale * m_c - x`` with m_c the mean training input of class c.

    A scale above 1 gives the blurred mean the norm of a real image. It turns the direction, since only m_c is scaled.

    Raises:
        ValueError: a scale that is not positive, or a class without training examples.
    """
    if not scale > 0:
        raise ValueError(f"scale is {scale}; expected a positive number")
    return _fixed("class_mean", scale * torch.stack([task.train.x[rows].mean(0) for rows in rows_by_class(task)]))


@plain_defaults()
def nearest_neighbor(task: Task, *, per_class: int | None = None) -> GradientTarget:
    """``r - x`` with r the training example of class c nearest to x in L2, x itself excluded.

    Args:
        task: its training split supplies the neighbours; their indices (N, C) are found together, in chunks, when the first is asked for.
        per_class: look only among the first ``per_class`` examples of each class (default: among all).

    Raises:
        ValueError: ``per_class`` below 1, or a class with fewer than two candidates.
    """
    if per_class is not None and per_class < 1:
        raise ValueError(f"per_class is {per_class}; expected at least 1")
    candidates = [rows[:per_class] for rows in rows_by_class(task)]
    for name, rows in zip(task.classes, candidates, strict=True):
        if len(rows) < 2:
            raise ValueError(f"class {name!r} has {len(rows)} candidate; expected at least 2, since a point is not its own neighbour")
    pool = task.train.x

    @functools.cache
    def nearest() -> Tensor:
        return _nearest(torch.arange(len(pool)), pool, candidates, pool)

    def directions(index: Tensor, x: Tensor, classes: Tensor) -> Tensor:
        index, found = index.cpu(), torch.empty(len(x), len(candidates), dtype=torch.int64)
        known = index >= 0
        if known.any():
            found[known] = nearest()[index[known]]
        if not known.all():
            found[~known] = _nearest(index[~known], x[(~known).to(x.device)].to(pool), candidates, pool)
        return pool[found.gather(1, classes.cpu())].to(x) - x[:, None]

    return GradientTarget("nearest_neighbor", directions, len(candidates), tuple(pool.shape[1:]), pool)


def _fixed(name: str, images: Tensor) -> GradientTarget:
    """The same representatives (C, *shape) for every x."""

    def directions(index: Tensor, x: Tensor, classes: Tensor) -> Tensor:
        return images.to(x)[classes.to(x.device)] - x[:, None]

    return GradientTarget(name, directions, len(images), tuple(images.shape[1:]))


def rows_by_class(task: Task) -> list[Tensor]:
    """The positions of each class in the training split.

    Raises:
        ValueError: a class without training examples.
    """
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
    centre = others.mean(0)
    if centre.norm() > 10 * (others - centre).norm(dim=1).mean():  # the squares of a common offset would drown the distances
        x, others = x - centre, others - centre
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
