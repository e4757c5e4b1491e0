"""Terms of an objective: what else is asked of a model than to be right where it looks.

- :class:`Alignment`: the gradients of the classes point where they should (Ganz, Kawar & Elad, ICML 2023, equation 4)
- :class:`Slope`: a gradient is short. Of the loss: Drucker & LeCun, IEEE Transactions on Neural Networks 1992; Ross & Doshi-Velez, AAAI
  2018; Finlay & Oberman, 2019, at the size of ImageNet. (Hoffman, Roberts & Yaida, 2019, shorten those of all logits.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor
from torch.nn import functional as F

from ..models import log_odds
from .gradients import GRADIENTS, check_classes, columns, cosine, one_of

SLOPES = ("loss", "log_odds")


class Term(Protocol):
    """What adds ``penalty`` to an objective. None of its methods knows the weights of the model."""

    @property
    def name(self) -> str: ...  # of what :class:`Objective` reports

    @property
    def size(self) -> int: ...  # k, the number of its gradients

    def check(self, x: Tensor) -> None: ...  # ValueError where it does not fit the inputs (B, *shape)

    def outputs(self, logits: Tensor, y: Tensor) -> list[Tensor]: ...  # k outputs (B,), whose gradients in x it asks for

    def measure(self, gradients: Tensor) -> Tensor: ...  # (B, k, *shape) -> a scalar, a mean over the rows

    def penalty(self, weight: float, measured: Tensor, classes: int) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Alignment:
    """``weight * C * mean over k classes of (1 - cos(input gradient, direction))``; measures the mean cosine. See :func:`pag_loss`."""

    directions: Tensor
    classes: Tensor
    of: str = "log_prob"

    name: ClassVar[str] = "alignment"

    @property
    def size(self) -> int:
        return self.classes.shape[1]

    def check(self, x: Tensor) -> None:
        one_of(self.of, GRADIENTS)
        if self.directions.shape != (expected := x.shape[:1] + self.classes.shape[1:] + x.shape[1:]):
            raise ValueError(f"directions have shape {tuple(self.directions.shape)}; expected {tuple(expected)}")
        check_classes(self.classes, x)

    def outputs(self, logits: Tensor, y: Tensor) -> list[Tensor]:
        return columns(logits, self.classes, self.of)

    def measure(self, gradients: Tensor) -> Tensor:
        return cosine(gradients, self.directions).mean()

    def penalty(self, weight: float, measured: Tensor, classes: int) -> Tensor:
        return weight * classes * (1 - measured)


@dataclass(frozen=True)
class Slope:
    """``weight * mean over the rows of the squared L2 length of an input gradient``; measures that mean.

    Attributes:
        of: whose gradient: ``"loss"``, the cross-entropy of a row, or ``"log_odds"``, those of its label. The first is the second times
            1 - p_y, so that a model that is sure of itself pays nothing for being steep.
    """

    of: str = "loss"

    name: ClassVar[str] = "slope"
    size: ClassVar[int] = 1

    def check(self, x: Tensor) -> None:
        one_of(self.of, SLOPES)

    def outputs(self, logits: Tensor, y: Tensor) -> list[Tensor]:
        return [F.cross_entropy(logits, y, reduction="none") if self.of == "loss" else log_odds(logits, y)]

    def measure(self, gradients: Tensor) -> Tensor:
        return gradients.flatten(1).square().sum(1).mean()

    def penalty(self, weight: float, measured: Tensor, classes: int) -> Tensor:
        return weight * measured
