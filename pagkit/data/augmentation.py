"""Crop and flip, of images and of the directions that belong to them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .defaults import plain_defaults


def augment(x: Tensor, directions: Tensor | None, *, crop: int, flip: bool, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Shift each image by up to ``crop`` pixels (zeros move in) and flip it with probability one half.

    Both are linear, so directions (B, k, C, H, W) are moved by the same draw: the direction of the moved
    image is the moved direction. x is (B, C, H, W).

    Raises:
        ValueError: x of another shape that is to be moved.
    """
    return move(x, directions, **moves(len(x), crop=crop, flip=flip, generator=generator), crop=crop)


@plain_defaults()
def moves(rows: int, *, crop: int, flip: bool, generator: torch.Generator) -> dict[str, Tensor]:
    """What :func:`augment` draws for so many images: which are flipped, (B,), and where each one's corner comes to lie, (B, 2)."""
    drawn = {"flipped": torch.rand(rows, generator=generator) < 0.5} if flip else {}
    return drawn | ({"corner": torch.randint(2 * crop + 1, (2, rows), generator=generator).T} if crop else {})


def move(
    x: Tensor, directions: Tensor | None, *, crop: int, flipped: Tensor | None = None, corner: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """What :func:`augment` does with what :func:`moves` drew; directions come out in the dtype and on the device of x."""
    directions = None if directions is None else directions.to(x)
    if flipped is None and corner is None:
        return x, directions
    if x.ndim != 4:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected images (B, C, H, W) to crop or flip")
    stack = x[:, None] if directions is None else torch.cat([x[:, None], directions], dim=1)
    size, (height, width) = len(x), x.shape[-2:]
    if flipped is not None:
        stack = torch.where(flipped.to(x.device).view(-1, 1, 1, 1, 1), stack.flip(-1), stack)
    if corner is not None:
        padded = F.pad(stack, (crop, crop, crop, crop))
        top, left = corner.to(x.device).T
        down = top[:, None] + torch.arange(height, device=x.device)
        right = left[:, None] + torch.arange(width, device=x.device)
        stack = padded[torch.arange(size, device=x.device)[:, None, None], :, :, down[:, :, None], right[:, None, :]]
        stack = stack.permute(0, 3, 4, 1, 2)
    return stack[:, 0], None if directions is None else stack[:, 1:]
