"""What a denoiser refuses: each error names what was found and what was expected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.numbers import whole, wholes
from ..exact import STEPS

GROUPS = 8  # of the group normalisation: widths are multiples of it


def network(shape: Sequence[int], bounds: Sequence[float], widths: Any, patch: int) -> tuple[tuple[int, ...], int]:
    """Widths and patch of a network that fits the images, as plain numbers.

    Raises:
        TypeError: widths or a patch that are no whole numbers.
        ValueError: not images, bounds that are not finite, widths or a patch that do not fit the image, widths that are all of 8.
    """
    if len(shape) != 3 or not all(map(math.isfinite, bounds)):
        raise ValueError(f"inputs have shape {tuple(shape)} and bounds {tuple(bounds)}; expected images (C, H, W) with finite bounds")
    widths, patch = wholes("widths", widths), whole("patch", patch, 1)
    factor = patch * 2 ** (len(widths) - 1)
    if shape[1] % factor or shape[2] % factor:
        raise ValueError(f"images are {shape[1]} x {shape[2]}; {len(widths)} widths and patch {patch} need sides divisible by {factor}")
    if not widths or any(width < 1 or width % GROUPS for width in widths):
        raise ValueError(f"widths are {widths}; expected at least one, each a multiple of {GROUPS}")
    if max(widths) < 2 * GROUPS:
        why = "groups of a single channel are normalised to the same whatever class and noise level add to them"
        raise ValueError(f"widths are {widths}; expected one of {2 * GROUPS} or more: {why}, so the network would know neither")
    return widths, patch


def noised(x_t: Tensor) -> None:
    """Refuse noised images that are not floating point, to whose dtype scores would be cut, with a TypeError."""
    if not x_t.is_floating_point():
        raise TypeError(f"x_t has dtype {x_t.dtype}; expected a floating-point tensor")


def sampling(labels: Any, guidance: float, steps: int, batch_size: int | None) -> tuple[int, bool]:
    """How many images are asked for, and whether each has a class of its own.

    Raises:
        TypeError: a number of images or steps that is no whole number.
        ValueError: ``steps`` out of range, a guidance that is not finite, less than one image or one at a time.
    """
    if batch_size is not None:
        whole("batch_size", batch_size, 1)
    whole("steps", steps)
    if not 1 <= steps <= STEPS:
        raise ValueError(f"steps is {steps}; expected 1 to {STEPS}")
    if not math.isfinite(guidance):
        raise ValueError(f"guidance is {guidance}; expected a finite number")
    classes = torch.as_tensor(labels).ndim > 0
    count = len(labels) if classes else whole("the number of images", labels)
    if count < 1:
        raise ValueError(f"{count} images were asked for; expected at least 1")
    return count, classes
