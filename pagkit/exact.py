"""The exact decision boundary of a two-layer ReLU network on the plane, and the exact distance to it.

With H hidden units, the plane is cut by H lines (where a unit switches) into at most
``1 + H + H (H - 1) / 2`` cells, 529 for H = 32. Inside a cell the logits are linear, so a boundary
between two classes is a piece of a straight line: clipped to the cell, it is a segment, a ray or
nothing. All pieces together are the boundary; the distance of a point to it is the smallest distance
to a piece. Nothing is sampled. The arithmetic is float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from .models import Normalize


@dataclass(frozen=True)
class Pieces:
    """Straight pieces ``origin + t * direction``, ``low <= t <= high``; ends may be infinite."""

    origin: Tensor  # (P, 2)
    direction: Tensor  # (P, 2), unit length
    low: Tensor  # (P,)
    high: Tensor  # (P,)


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
    pieces = _pieces(*_layers(model))
    if len(pieces.low) == 0:
        return torch.full((len(x),), math.inf, dtype=torch.float64)
    offset = x.detach().double().cpu()[:, None] - pieces.origin  # (N, P, 2)
    t = (offset * pieces.direction).sum(-1).clamp(pieces.low, pieces.high)
    return torch.linalg.vector_norm(offset - t[..., None] * pieces.direction, dim=-1).amin(1)


def boundary(model: nn.Module, box: tuple[float, float, float, float]) -> Tensor:
    """The decision boundary inside ``box = (x1_low, x1_high, x2_low, x2_high)``.

    Returns:
        Line segments (S, 2, 2): S segments, two ends, two coordinates; float64.

    Raises:
        ValueError: the box is empty, or the model has another architecture than :func:`radius` takes.
    """
    if not (box[0] < box[1] and box[2] < box[3]):
        raise ValueError(f"box is {box}; expected (x1_low, x1_high, x2_low, x2_high) with low < high")
    pieces = _pieces(*_layers(model))
    walls = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    offsets = torch.tensor([-box[0], box[1], -box[2], box[3]], dtype=torch.float64)
    count = len(pieces.low)
    inside = _clip(pieces, walls.expand(count, 4, 2), offsets.expand(count, 4))
    ends = torch.stack([inside.low, inside.high], dim=1)[..., None]
    return inside.origin[:, None] + ends * inside.direction[:, None]


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


def _pieces(w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Pieces:
    """Every straight piece of the decision boundary, over all cells and all pairs of classes."""
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
