"""Arithmetic on the rows of a batch."""

from __future__ import annotations

import torch
from torch import Tensor


def per_row(value: Tensor, x: Tensor) -> Tensor:
    """One number a row, (N,), in a shape that multiplies x (N, *shape)."""
    return value.view(-1, *[1] * (x.ndim - 1))


def finite(gradient: Tensor) -> tuple[Tensor, Tensor | None]:
    """A gradient (N, ...) with zero for each entry that is nan or infinite, and which rows had one, bool (N,); None where none had."""
    whole = gradient.isfinite()
    if whole.all():
        return gradient, None
    return torch.where(whole, gradient, 0), (~whole).flatten(1).any(1)


def unit(v: Tensor) -> Tensor:
    """v divided by its L2 norm along the last axis; zeros stay zeros, and tiny vectors keep their direction.

    Differentiable everywhere: at zero the gradient is passed on as it is.
    """
    largest = v.detach().abs().amax(-1, keepdim=True)
    v = v / torch.where(largest > 0, largest, 1)  # first, so that squares neither underflow nor overflow
    norm = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    return v / torch.where(norm > 0, norm, 1)
