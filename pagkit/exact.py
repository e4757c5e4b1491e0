"""What can be known exactly: the decision boundary of a small network, and the scores of the three-modes toy.

First, boundary and radius of a two-layer ReLU network on the plane.

With H hidden units, the plane is cut by H lines (where a unit switches) into at most ``1 + H + H (H - 1) / 2`` cells, 529 for H = 32.
Inside a cell the logits are linear, so a boundary between two classes is a piece of a straight line: clipped to the cell, it is a
segment, a ray or nothing. All pieces together are the boundary; the distance of a point to it is the smallest distance to a piece.
Nothing is sampled. The arithmetic is float64.

Second, scores of the toy under the noise of a DDPM (Ho, Jain & Abbeel, 2020): 1000 steps t = 0, ..., 999 with
``beta`` rising in equal steps from 0.0001 to 0.02, and ``abar_t = prod_{s <= t} (1 - beta_s)``. The toy's inputs
are divided by 40, noised, and multiplied by 40 again, which in their own units reads

    x_t = sqrt(abar_t) x + 40 sqrt(1 - abar_t) noise.

Each mode of x is a Gaussian on a line, so each mode of x_t is one of the plane, and the score of their mixture is written down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from .data import MODES, Task
from .data.defaults import plain_defaults
from .models import Normalize

STEPS = 1000  # noise levels of the DDPM
BETAS = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
ALPHA_BAR = (1 - BETAS).cumprod(0)  # share of x_t's variance that is signal
SCALE = 40.0  # of the toy's inputs: noise is this many times a standard normal


@dataclass(frozen=True)
class Pieces:
    """Straight pieces ``origin + t * direction``, ``low <= t <= high``; ends may be infinite."""

    origin: Tensor  # (P, 2)
    direction: Tensor  # (P, 2), unit length
    low: Tensor  # (P,)
    high: Tensor  # (P,)


@plain_defaults()
def radius(model: nn.Module, x: Tensor) -> Tensor:
    """Exact L2 distance of each row of x to the decision boundary of ``model``.

    Args:
        model: a two-layer ReLU network on the plane, as ``models.build("mlp", task, hidden=[H])`` makes it:
            optional normalisation and flattening, Linear(2, H), ReLU, Linear(H, C).
        x: points (N, 2).

    Returns:
        Distances (N,) float64, in the units of x; ``inf`` if the model gives one class everywhere.

    Raises:
        ValueError: x is not (N, 2) or not finite; the model has another architecture.
    """
    if x.ndim != 2 or x.shape[1] != 2 or not x.isfinite().all():
        raise ValueError(f"x has shape {tuple(x.shape)}; expected finite points (N, 2): exact radii are for two inputs only")
    found = pieces(model)
    if len(found.low) == 0:
        return torch.full((len(x),), math.inf, dtype=torch.float64)
    offset = x.detach().double().cpu()[:, None] - found.origin  # (N, P, 2)
    t = (offset * found.direction).sum(-1).clamp(found.low, found.high)
    return torch.linalg.vector_norm(offset - t[..., None] * found.direction, dim=-1).amin(1)


@plain_defaults()
def boundary(model: nn.Module, box: tuple[float, float, float, float]) -> Tensor:
    """The decision boundary inside ``box = (x1_low, x1_high, x2_low, x2_high)``.

    Returns:
        Line segments (S, 2, 2), float64, that is S segments, two ends, two coordinates.

    Raises:
        ValueError: the box is empty, or the model has another architecture than :func:`radius` takes.
    """
    if not (box[0] < box[1] and box[2] < box[3]):
        raise ValueError(f"box is {box}; expected (x1_low, x1_high, x2_low, x2_high) with low < high")
    found = pieces(model)
    walls = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    offsets = torch.tensor([-box[0], box[1], -box[2], box[3]], dtype=torch.float64)
    count = len(found.low)
    inside = _clip(found, walls.expand(count, 4, 2), offsets.expand(count, 4))
    ends = torch.stack([inside.low, inside.high], dim=1)[..., None]
    return inside.origin[:, None] + ends * inside.direction[:, None]


def alpha_bar(t: int) -> float:
    """``abar_t`` of noise level t: near 1 at t = 0 (hardly any noise), near 0 at t = 999 (hardly any signal).

    Raises:
        ValueError: t outside [0, 1000).
    """
    if not 0 <= t < STEPS:
        raise ValueError(f"t is {t}; expected a noise level in [0, {STEPS})")
    return ALPHA_BAR[t].item()


@plain_defaults()
def score(task: Task, x: Tensor, t: int, y: Tensor | int | None = None) -> Tensor:
    """Gradient of ``log p_t(x | y)``, or of ``log p_t(x)`` without a y, for the three-modes toy at noise level t.

    With a = abar_t, mode m of x_t is N(sqrt(a) 10 m (1, 2), a [[1, 2], [2, 4]] + 40^2 (1 - a) I). The covariance K
    is the same for all, so the score is the mean of K^-1 (centre - x) over the modes, weighted by how likely
    each is given x. Classes and modes are equally frequent.

    Args:
        task: the toy, in any size.
        x: noised points x_t (N, 2), in the toy's own units (see the top of this module).
        t: noise level, 0 to 999, as in :class:`pagkit.diffusion.DDPM`.
        y: a class, or one a row (N,); None for the density of both classes together.

    Returns:
        Scores (N, 2) float64, in one over the units of x.

    Raises:
        ValueError: another task, x not (N, 2), t or y out of range.
    """
    if task.name.partition("+")[0] != "three-modes":
        raise ValueError(f"the task is {task.name!r}; exact scores are known for 'three-modes' only")
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected points (N, 2)")
    a, x = alpha_bar(t), x.detach().double()
    line = torch.tensor([1.0, 2.0], dtype=torch.float64, device=x.device)
    centres = math.sqrt(a) * 10 * torch.tensor(MODES, dtype=torch.float64, device=x.device).flatten()[:, None] * line  # (6, 2)
    covariance = a * line.outer(line) + SCALE**2 * (1 - a) * torch.eye(2, dtype=torch.float64, device=x.device)
    away = centres - x[:, None]  # (N, 6, 2)
    pull = away @ covariance.inverse()  # each mode's own score
    log_weight = -0.5 * (away * pull).sum(-1)
    if y is not None:
        y = torch.as_tensor(y, device=x.device)
        if y.shape not in (torch.Size([]), x.shape[:1]) or not ((y == 0) | (y == 1)).all():
            raise ValueError(f"y is {y.tolist()}; expected a class 0 or 1, or one for each of the {len(x)} rows")
        label = torch.arange(2, device=x.device).repeat_interleave(len(MODES[0]))
        log_weight = log_weight.masked_fill(label != y.reshape(-1, 1), -math.inf)
    return (log_weight.softmax(1)[..., None] * pull).sum(1)


@dataclass(frozen=True)
class ToyDiffusion:
    """Exact noise and scores of the toy behind the names of :class:`pagkit.diffusion.DDPM`, for ``targets.score_based``."""

    task: Task
    shape = (2,)
    classes = 2

    def noised(self, x: Tensor, t: int, *, generator: torch.Generator) -> Tensor:
        """``sqrt(abar_t) x + 40 sqrt(1 - abar_t) noise`` (N, 2), float64."""
        a = alpha_bar(t)
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64, device=generator.device).to(x.device)
        return math.sqrt(a) * x.double() + SCALE * math.sqrt(1 - a) * noise

    def score(self, x_t: Tensor, t: int, y: Tensor | int | None = None) -> Tensor:
        """:func:`score` of the task."""
        return score(self.task, x_t, t, y)


def _layers(model: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``w1 (H, 2), b1 (H,), w2 (C, H), b2 (C,)`` in float64 with the normalisation folded in; or refuse."""
    layers = [m for m in (model if isinstance(model, nn.Sequential) else [model]) if not isinstance(m, nn.Flatten)]
    normalize = layers.pop(0) if layers and isinstance(layers[0], Normalize) else None
    if [type(m) for m in layers] != [nn.Linear, nn.ReLU, nn.Linear]:
        found = ", ".join(type(m).__name__ for m in layers)
        raise ValueError(f"the model is [{found}]; exact radii need [Linear, ReLU, Linear], one hidden ReLU layer")
    first, _, second = layers
    if first.in_features != 2:
        raise ValueError(f"the model has {first.in_features} inputs; exact radii need 2")
    if second.out_features < 2:
        raise ValueError(f"the model has {second.out_features} output; exact radii need at least 2 classes")

    def values(layer: nn.Linear) -> tuple[Tensor, Tensor]:
        bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
        return layer.weight.detach().double().cpu(), bias.detach().double().cpu()

    (w1, b1), (w2, b2) = values(first), values(second)
    if normalize is not None:
        w1 = w1 / normalize.std.double().cpu()
        b1 = b1 - (w1 * normalize.mean.double().cpu()).sum(1)
    return w1, b1, w2, b2


def pieces(model: nn.Module) -> Pieces:
    """Every straight piece of the decision boundary, over all cells and all pairs of classes, of a model that :func:`radius` takes."""
    w1, b1, w2, b2 = _layers(model)
    active = _cells(w1, b1)
    cell_w = torch.einsum("ch,sh,hd->scd", w2, active, w1)  # logits of cell s: cell_w[s] @ x + cell_b[s]
    cell_b = torch.einsum("ch,sh,h->sc", w2, active, b1) + b2
    sign = 2 * active - 1
    sides, offsets = sign[..., None] * w1, sign * b1  # inside a cell: sides @ x + offsets >= 0
    found = []
    for a, b in combinations(range(len(b2)), 2):
        slope, level = cell_w[:, a] - cell_w[:, b], cell_b[:, a] - cell_b[:, b]
        length = torch.linalg.vector_norm(slope, dim=1)
        keep = length > 0  # where two logits differ by a constant there is no line
        unit = slope[keep] / length[keep, None]
        line = Pieces(
            origin=-(level[keep] / length[keep])[:, None] * unit,
            direction=torch.stack([-unit[:, 1], unit[:, 0]], dim=1),
            low=torch.full((int(keep.sum()),), -math.inf, dtype=torch.float64),
            high=torch.full((int(keep.sum()),), math.inf, dtype=torch.float64),
        )
        others = [c for c in range(len(b2)) if c not in (a, b)]  # both classes must beat the rest
        rest_w = cell_w[keep, a, None] - cell_w[keep][:, others]
        rest_b = cell_b[keep, a, None] - cell_b[keep][:, others]
        found.append(_clip(line, torch.cat([sides[keep], rest_w], 1), torch.cat([offsets[keep], rest_b], 1)))
    return Pieces(*(torch.cat([getattr(p, f) for p in found]) for f in ("origin", "direction", "low", "high")))


def _cells(w1: Tensor, b1: Tensor) -> Tensor:
    """Activation patterns (S, H) of 0 and 1, one for each cell that the units' lines cut the plane into.

    Each cell lies beside a stretch of some line. So walk along every line, cut it where the others
    cross it, and note the pattern on both sides of the middle of each stretch.
    """
    norm = torch.linalg.vector_norm(w1, dim=1)
    patterns = [(b1 > 0).double()[None]] if not (norm > 0).any() else []
    for i in norm.nonzero().flatten().tolist():
        start = -b1[i] / norm[i] ** 2 * w1[i]
        along = torch.stack([-w1[i, 1], w1[i, 0]]) / norm[i]
        speed, height = w1 @ along, w1 @ start + b1  # unit h at start + t along: speed t + height
        same = (speed.abs() <= 1e-12 * norm) & (height.abs() <= 1e-12 * (norm * start.norm() + b1.abs()))  # i, and copies of it
        alike = w1 @ w1[i] > 0  # copies that face the same way
        crossing = ~same
        cuts = (-height / speed)[crossing & (speed != 0)].sort().values
        span = 1 + cuts.abs().max() if len(cuts) else torch.tensor(1.0, dtype=torch.float64)
        ends = torch.cat([(cuts[:1] - span), cuts, (cuts[-1:] + span)]) if len(cuts) else torch.stack([-span, span])
        middle = (ends[1:] + ends[:-1]) / 2
        pattern = (middle[:, None] * speed + height > 0).double()
        for side in (False, True):
            pattern[:, same] = (alike[same] == side).double()
            patterns.append(pattern.clone())
    return torch.unique(torch.cat(patterns), dim=0)


def _clip(pieces: Pieces, sides: Tensor, offsets: Tensor) -> Pieces:
    """The parts of the pieces (P) inside all half-planes ``sides (P, K, 2) @ x + offsets (P, K) >= 0``."""
    speed = (sides * pieces.direction[:, None]).sum(-1)
    height = (sides * pieces.origin[:, None]).sum(-1) + offsets
    cut = -height / speed
    inf = torch.tensor(math.inf, dtype=torch.float64)
    low = torch.maximum(pieces.low, torch.where(speed > 0, cut, -inf).amax(1))
    high = torch.minimum(pieces.high, torch.where(speed < 0, cut, inf).amin(1))
    keep = (low < high) & ~((speed == 0) & (height < 0)).any(1)
    return Pieces(pieces.origin[keep], pieces.direction[keep], low[keep], high[keep])
