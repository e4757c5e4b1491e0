"""Boundary and radius of a two-layer ReLU network on the plane.

With H hidden units, the plane is cut by H lines (where a unit switches) into at most ``1 + H + H (H - 1) / 2`` cells, 529 for H = 32.
Inside a cell the logits are linear, so a boundary between two classes is a piece of a straight line: clipped to the cell, it is a
segment, a ray or nothing. All pieces together are the boundary; the distance of a point to it is the smallest distance to a piece.
Nothing is sampled. The arithmetic is float64.

Where no output bias tells two classes apart, they may tie on a whole cell: with all units off, say, every logit is 0. Such a cell is
boundary all over. Its edges are pieces found in its neighbours, whose line then runs along their own edge; a point inside has radius 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from ..data.defaults import plain_defaults
from ..models import Normalize, refuse_altered

ROUNDING = 1e-12  # what counts as zero, for each unit of the numbers that it is a sum of


@dataclass(frozen=True)
class Pieces:
    """Straight pieces ``origin + t * direction``, ``low <= t <= high``; ends may be infinite."""

    origin: Tensor  # (P, 2)
    direction: Tensor  # (P, 2), unit length
    low: Tensor  # (P,)
    high: Tensor  # (P,)


@plain_defaults()
def radius(model: nn.Module, x: Tensor) -> Tensor:
    """Exact L2 distance of each row of x to the decision boundary of ``model``: to the nearest point whose two highest logits are equal.

    Args:
        model: a two-layer ReLU network on the plane, as ``models.build("mlp", task, hidden=[H])`` makes it:
            optional normalisation and flattening, Linear(2, H), ReLU, Linear(H, C).
        x: points (N, 2).

    Returns:
        Distances (N,) float64, in the units of x; ``inf`` if the model gives one class everywhere, 0 where two classes tie on a whole cell.

    Raises:
        ValueError: x is not (N, 2) or not finite; the model has another architecture, a hook or a ``forward`` of its own, or weights that
            are nan or infinite.
    """
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected points (N, 2): exact radii are for two inputs only")
    if broken := int((~x.isfinite()).any(1).sum()):
        raise ValueError(f"x has {broken} of {len(x)} points with a coordinate that is nan or infinite; expected finite ones")
    x, found = x.detach().double().cpu(), pieces(model)
    if len(found.low) == 0:
        distance = torch.full((len(x),), math.inf, dtype=torch.float64)
    else:
        offset = x[:, None] - found.origin  # (N, P, 2)
        t = (offset * found.direction).sum(-1).clamp(found.low, found.high)
        distance = torch.linalg.vector_norm(offset - t[..., None] * found.direction, dim=-1).amin(1)
    return distance.masked_fill(_tied(model, x), 0.0)


@plain_defaults()
def boundary(model: nn.Module, box: tuple[float, float, float, float]) -> Tensor:
    """The decision boundary inside ``box = (x1_low, x1_high, x2_low, x2_high)``.

    Returns:
        Line segments (S, 2, 2), float64, that is S segments, two ends, two coordinates.

    Raises:
        ValueError: the box is empty or infinite or has not four ends, or the model is none that :func:`radius` takes.
    """
    if not (len(box) == 4 and all(map(math.isfinite, box)) and box[0] < box[1] and box[2] < box[3]):
        raise ValueError(f"box is {box}; expected (x1_low, x1_high, x2_low, x2_high), finite, with low < high")
    found = pieces(model)
    walls = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    offsets = torch.tensor([-box[0], box[1], -box[2], box[3]], dtype=torch.float64)
    count = len(found.low)
    near = ROUNDING * (offsets.abs() + torch.linalg.vector_norm(found.origin, dim=1)[:, None])
    inside = _clip(found, walls.expand(count, 4, 2), offsets.expand(count, 4), torch.full_like(near, ROUNDING), near)
    ends = torch.stack([inside.low, inside.high], dim=1)[..., None]
    return inside.origin[:, None] + ends * inside.direction[:, None]


def _tied(model: nn.Module, x: Tensor) -> Tensor:
    """Rows of x (N, 2) whose two highest logits are equal, but for rounding, bool (N,)."""
    w1, b1, w2, b2 = _layers(model)
    units = (x @ w1.T + b1).relu()
    first, second = (units @ w2.T + b2).topk(2, dim=1).values.unbind(1)
    summed = (units > 0) * (x.abs() @ w1.abs().T + b1.abs())
    return first - second <= ROUNDING * (summed @ w2.abs().T + b2.abs()).amax(1)


def _layers(model: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``w1 (H, 2), b1 (H,), w2 (C, H), b2 (C,)`` in float64 with the normalisation folded in; or refuse."""
    layers: list[Any] = [model]
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        layers = [m for m in model if type(m) is not nn.Flatten]
    normalize = layers.pop(0) if layers and type(layers[0]) is Normalize else None
    if [type(m) for m in layers] != [nn.Linear, nn.ReLU, nn.Linear]:
        found = ", ".join(type(m).__name__ for m in layers)
        raise ValueError(f"the model is [{found}]; exact radii need [Linear, ReLU, Linear], one hidden ReLU layer")
    refuse_altered(model)
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
    if broken := sum(int((~value.isfinite()).sum()) for value in (w1, b1, w2, b2)):
        raise ValueError(f"the model has {broken} weights that are nan or infinite; exact radii need finite ones")
    return w1, b1, w2, b2


def pieces(model: nn.Module) -> Pieces:
    """Every straight piece of the decision boundary, over all cells and all pairs of classes, of a model that :func:`radius` takes."""
    w1, b1, w2, b2 = _layers(model)
    active = _cells(w1, b1)
    cell_w = torch.einsum("ch,sh,hd->scd", w2, active, w1)  # logits of cell s: cell_w[s] @ x + cell_b[s]
    cell_b = torch.einsum("ch,sh,h->sc", w2, active, b1) + b2
    sign = 2 * active - 1
    sides, offsets = sign[..., None] * w1, sign * b1  # inside a cell: sides @ x + offsets >= 0
    tilt, lift = _open(active, w1, b1, w2, b2)
    found = []
    for a, b in combinations(range(len(b2)), 2):
        slope, level = cell_w[:, a] - cell_w[:, b], cell_b[:, a] - cell_b[:, b]
        length = torch.linalg.vector_norm(slope, dim=1)
        keep = length > tilt  # where two logits differ by a constant there is no line
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
        inside = torch.cat([sides[keep], rest_w], 1)
        share = torch.linalg.vector_norm(inside, dim=-1) / length[keep, None]  # of the line's own error that moves it off a side
        share[:, len(b1) :] += 1  # a side between two classes has an error too
        parallel = share * tilt[keep, None]
        near = parallel * torch.linalg.vector_norm(line.origin, dim=1)[:, None] + share * lift[keep, None]
        found.append(_clip(line, inside, torch.cat([offsets[keep], rest_b], 1), parallel, near))
    return Pieces(*(torch.cat([getattr(p, f) for p in found]) for f in ("origin", "direction", "low", "high")))


def _open(active: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> tuple[Tensor, Tensor]:
    """What rounding leaves open in each cell's slopes (S,) and levels (S,): a small share of all that they sum up."""
    slopes = torch.einsum("ch,sh,h->sc", w2.abs(), active, torch.linalg.vector_norm(w1, dim=1))
    levels = torch.einsum("ch,sh,h->sc", w2.abs(), active, b1.abs()) + b2.abs()
    return ROUNDING * slopes.amax(1), ROUNDING * levels.amax(1)


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
        parallel = speed.abs() <= ROUNDING * norm
        same = parallel & (height.abs() <= ROUNDING * (norm * start.norm() + b1.abs()))  # i, and copies of it
        alike = w1 @ w1[i] > 0  # copies that face the same way
        cuts = (-height / speed)[~parallel].sort().values
        span = 1 + cuts.abs().max() if len(cuts) else torch.tensor(1.0, dtype=torch.float64)
        ends = torch.cat([(cuts[:1] - span), cuts, (cuts[-1:] + span)]) if len(cuts) else torch.stack([-span, span])
        middle = (ends[1:] + ends[:-1]) / 2
        pattern = (middle[:, None] * speed + height > 0).double()
        for side in (False, True):
            pattern[:, same] = (alike[same] == side).double()
            patterns.append(pattern.clone())
    return torch.unique(torch.cat(patterns), dim=0)


def _clip(pieces: Pieces, sides: Tensor, offsets: Tensor, parallel: Tensor, near: Tensor) -> Pieces:
    """The parts of the pieces (P) inside all half-planes ``sides (P, K, 2) @ x + offsets (P, K) >= 0``.

    A piece whose ``|sides @ direction|`` is at most ``parallel`` (P, K) runs along the half-plane's edge: all of it is inside or nothing,
    and inside it is up to ``near`` (P, K) beyond the edge. There cutting would divide rounding errors by each other.
    """
    speed = (sides * pieces.direction[:, None]).sum(-1)
    height = (sides * pieces.origin[:, None]).sum(-1) + offsets
    cut, along = -height / speed, speed.abs() <= parallel
    inf = torch.tensor(math.inf, dtype=torch.float64)
    low = torch.maximum(pieces.low, torch.where(~along & (speed > 0), cut, -inf).amax(1))
    high = torch.minimum(pieces.high, torch.where(~along & (speed < 0), cut, inf).amin(1))
    keep = (low < high) & ~(along & (height < -near)).any(1)
    return Pieces(pieces.origin[keep], pieces.direction[keep], low[keep], high[keep])
