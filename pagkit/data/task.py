"""What there is to learn: a task has classes, bounds of its inputs, and two splits of examples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Inputs ``x`` float32 (N, *shape) and labels ``y`` int64 (N,)."""

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} rows and y has {len(self.y)}; expected the same number")

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device | str) -> Split:
        """The same examples on ``device``."""
        return Split(self.x.to(device), self.y.to(device))

    def first(self, n: int) -> Split:
        """The first ``n`` rows (all of them when there are fewer)."""
        return Split(self.x[:n], self.y[:n])

    def spread(self, n: int) -> Split:
        """``n`` rows at even distances (all of them when there are fewer), so that in a split sorted by class no class is left out."""
        rows = torch.arange(n := min(n, len(self.y)), device=self.y.device) * len(self.y) // max(n, 1)
        return Split(self.x[rows.to(self.x.device)], self.y[rows])


@dataclass(frozen=True)
class Task:
    """A classification problem: names of the classes, bounds of the inputs, a training and a test split."""

    name: str
    classes: tuple[str, ...]
    bounds: tuple[float, float]
    train: Split
    test: Split

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", tuple(self.bounds))  # where a list is given, too: bounds are compared

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, (2,) for the toy and (C, H, W) for images."""
        return tuple(self.train.x.shape[1:])
