"""A classifier at its clean examples, without any attack: its margin, its slope, and where its gradient lies."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from ..attacks import checks
from ..data import Task
from ..data.rows import finite
from ..models import batches, differentiable, gradient_in, logits_of, seeded


@dataclass(frozen=True)
class Portrait:
    """Medians over the examples that the model reads right; of an even number, the lower of the two values in the middle.

    Attributes:
        margin: logit of the label minus that of the likeliest other class.
        slope: L2 length of the gradient of that margin in the input.
        radius: the L2 distance at which a model linear around x would give up: the least margin over slope among the other classes.
        on_data: share of the squared length of the margin's gradient in the span of the leading principal directions of the
            training inputs, in [0, 1].
    """

    margin: float
    slope: float
    radius: float
    on_data: float

    def figures(self) -> dict[str, float]:
        """The four by name, for a file."""
        return asdict(self)


def portrait(model: nn.Module, task: Task, *, directions: int = 20, batch_size: int | None = None) -> Portrait:
    """Margin, slope, linear radius and place of the gradient on the test examples (Hein & Andriushchenko, 2017, for the radius).

    Args:
        model: gives logits (N, C); eval mode, left as found.
        task: its training inputs give the principal directions.
        directions: how many of them count as the data.
        batch_size: rows at a time, see :func:`pagkit.models.batching.batches`.

    A gradient's entries that are nan or infinite count as 0; a RuntimeWarning says how many inputs had any.

    Raises:
        TypeError, ValueError: fewer directions than 1, more than an input has entries, or as many as there are training inputs, which
            lie in one fewer; no test example read right; test examples that :func:`pagkit.evaluation.accuracy` refuses.
    """
    size, most = task.train.x[:1].numel(), len(task.train) - 1
    if not 1 <= directions <= min(size, most):
        limit = f"{size}, the entries of an input" if size <= most else f"{most}, one fewer than the {most + 1} training inputs"
        raise ValueError(f"directions is {directions}; expected 1 to {limit}")
    checks.rows(task.test.x, task.test.y)
    flat = task.train.x.flatten(1)
    basis = torch.linalg.svd(flat - flat.mean(0), full_matrices=False).Vh[:directions]
    with differentiable(model), seeded(0):
        parts = [_rows(model, x, y, basis.to(x)) for _, x, y in batches(model, task.test, batch_size)]
    found, broken = (torch.cat(part) for part in zip(*parts, strict=True))
    if len(found) == 0:
        raise ValueError(f"the model reads none of the {len(task.test)} test examples of {task.name}; expected at least one")
    if broken.any():
        what = f"{int(broken.sum())} of {len(found)} inputs had gradients with entries that are nan or infinite"
        warnings.warn(f"{what}; these count as 0", RuntimeWarning, stacklevel=2)
    return Portrait(*found.median(0).values.tolist())


def _rows(model: nn.Module, x: Tensor, y: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Margin, slope, radius and share of each row that is read right, (rows, 4); and which of them had a gradient that is not finite."""
    x = x.detach().clone().requires_grad_()
    logits = logits_of(model, x)
    checks.labels(logits, y)
    right = logits.argmax(1) == y
    gaps = logits.gather(1, y[:, None]) - logits  # (N, C), 0 for the label
    each, bad = zip(*(finite(gradient_in(x, gap.sum(), retain_graph=True).flatten(1)) for gap in gaps.unbind(1)), strict=True)
    broken = torch.stack([torch.zeros_like(right), *(rows for rows in bad if rows is not None)]).any(0)
    slopes = torch.stack([_sized(g)[0] for g in each], dim=1)
    others = torch.ones_like(gaps, dtype=torch.bool).scatter(1, y[:, None], False)
    margin, rival = gaps.where(others, torch.inf).min(1)
    gradient = torch.stack(each, dim=1)[torch.arange(len(x)), rival]
    radius = (gaps / slopes.clamp_min(torch.finfo(slopes.dtype).tiny)).where(others, torch.inf).amin(1)
    slope, gradient = _sized(gradient)
    share = (gradient @ basis.T).square().sum(1) / gradient.norm(dim=1).square().clamp_min(torch.finfo(slope.dtype).tiny)
    return torch.stack([margin, slope, radius, share], dim=1)[right].detach(), broken[right]


def _sized(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """L2 lengths (N,) of the rows of ``gradient`` (N, D), and the rows; those whose squares would round to 0 or infinity are scaled."""
    largest = gradient.abs().amax(1, keepdim=True)
    size = torch.where((largest == 0) | ((largest > 1e-12) & (largest < 1e15)), 1, largest)
    return (gradient / size).norm(dim=1) * size[:, 0], gradient / size
