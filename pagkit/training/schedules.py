"""What changes while a model is trained: the learning rate, and the weight of the PAG objective."""

from __future__ import annotations

import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float], float]] = {  # share of training done -> share of the learning rate
    "constant": lambda p: 1.0,
    "linear": lambda p: 1.0 - p,
    "cosine": lambda p: 0.5 * (1 + math.cos(math.pi * p)),
    "one-cycle": lambda p: min(p / 0.2, (1 - p) / 0.8),
}


def ramp(share: float, start: float, end: float) -> float:
    """0 up to ``start``, 1 from ``end`` on, linear between; ``share`` of the training is done."""
    if share >= end:
        return 1.0
    return 0.0 if share <= start else (share - start) / (end - start)
