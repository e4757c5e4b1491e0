"""What a data set on disk is: labels, and how to read some of its images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Rows = Tensor | slice  # positions (n,) int64, or slice(None) for all: what picks rows without a copy where it can


@dataclass(frozen=True)
class Images:
    """One split on disk: its labels (N,) int64, and how to read some of its rows, uint8 (n, C, H, W)."""

    y: Tensor
    read: Callable[[Rows], Tensor]


@dataclass(frozen=True)
class Files:
    """A data set on disk: the names of its classes and its two splits."""

    classes: tuple[str, ...]
    train: Images
    test: Images
