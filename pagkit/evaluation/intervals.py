"""Counts of correct examples, and 95 % intervals: of such counts (Wilson, 1927), and of a mean over seeds (Student, 1908)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor


@dataclass(frozen=True)
class Score:
    """``correct`` of ``total`` test examples.

    Attributes:
        held: which ones: a bit an example, the first one the highest of the first byte, in hexadecimal digits; empty where nobody knows.
            With it two scores of the same examples can be compared pair by pair. Whether scores are equal does not depend on it.

    Raises:
        ValueError: counts that are no whole numbers, total below 1, correct outside [0, total], or ``held`` of another length or with
            another number of bits.
    """

    correct: int
    total: int
    held: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, found in (("correct", self.correct), ("total", self.total)):
            if not isinstance(found, Integral) or isinstance(found, bool):
                raise ValueError(f"{name} is {found!r}; expected a whole number")
        if self.total < 1 or not 0 <= self.correct <= self.total:
            raise ValueError(f"{self.correct} of {self.total} correct; expected 0 <= correct <= total and total >= 1")
        if self.held and self._bits() is None:
            expected = f"{2 * -(-self.total // 8)} hexadecimal digits, {self.correct} of their first {self.total} bits set and no other"
            raise ValueError(f"held is {self.held!r}; expected {expected}")

    @classmethod
    def of(cls, held: Tensor) -> Score:
        """The score that counts ``held``, bool (N,): whether each example is correct."""
        return cls(int(held.sum()), len(held), np.packbits(held.cpu().numpy()).tobytes().hex())

    def each(self) -> Tensor | None:
        """Whether each example is correct, bool (total,); None where nobody knows."""
        return self._bits() if self.held else None

    def _bits(self) -> Tensor | None:
        try:
            bits = np.unpackbits(np.frombuffer(bytes.fromhex(self.held), np.uint8)).astype(bool)
        except (TypeError, ValueError):
            return None
        fits = len(bits) == 8 * -(-self.total // 8) and bits.sum() == bits[: self.total].sum() == self.correct
        return torch.from_numpy(bits[: self.total]) if fits else None

    @property
    def rate(self) -> float:
        """``correct / total``."""
        return self.correct / self.total

    @property
    def low(self) -> float:
        """Lower end of the 95 % Wilson interval (Wilson, 1927)."""
        return wilson(self.rate, self.total)[0]

    @property
    def high(self) -> float:
        """Upper end of the 95 % Wilson interval."""
        return wilson(self.rate, self.total)[1]

    def __str__(self) -> str:
        return f"{self.correct}/{self.total} = {100 * self.rate:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def wilson(rate: float, total: int) -> tuple[float, float]:
    """The 95 % interval (Wilson, 1927) of a share of ``rate``, in [0, 1], among ``total`` examples drawn at random."""
    n, z = total, 1.959964
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half))  # rounding would leave a rate of 0 or 1 outside


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of a normal variable of which ``values`` are independent draws (Student, 1908).

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} value(s); expected at least 2, since one has no spread")
    half = float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values) - half, statistics.mean(values) + half
