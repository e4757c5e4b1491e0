"""Data sets as plain tensors: the three-modes toy, scikit-learn's digits, and any folder of images."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

T = TypeVar("T")
NAMES = ("three-modes", "digits", "folder:<path>")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp")
MODES = ((-5, -1, 3), (-3, 1, 5))  # three-modes: mode centres of class 0 and of class 1, in units of 10 along x1


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


@dataclass(frozen=True)
class Task:
    """A classification problem: names of the classes, bounds of the inputs, a training and a test split."""

    name: str
    classes: tuple[str, ...]
    bounds: tuple[float, float]
    train: Split
    test: Split

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, (2,) for the toy and (C, H, W) for images."""
        return tuple(self.train.x.shape[1:])


def load(
    name: str,
    *,
    seed: int = 0,
    root: str | Path | None = None,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    size: int | None = None,
) -> Task:
    """Load a data set by name.

    Args:
        name: ``"three-modes"``, ``"digits"`` or ``"folder:<path>"``, where ``<path>`` holds
            ``train/<class>/*`` and ``test/<class>/*`` images.
        seed: draws the toy's samples, the digits' split, and the subset when ``*_per_class`` is given.
        root: folder against which a relative ``folder:`` path is resolved (default: the working directory).
        train_per_class, test_per_class: keep at most this many examples of each class. For the toy this is
            the number drawn (default 3000 and 300; a multiple of three, one third for each mode).
        size: images of a folder are resized to ``size`` x ``size`` pixels. Needed when they differ in size.

    Returns:
        A :class:`Task`. Images are float32 in [0, 1], shape (C, H, W); the toy has infinite bounds.

    Raises:
        ValueError: unknown name, a count below one, a malformed folder, an unreadable image.
        FileNotFoundError: the folder, or its ``train`` or ``test`` part, is missing.
    """
    for key, value in (("train_per_class", train_per_class), ("test_per_class", test_per_class), ("size", size)):
        if value is not None and value < 1:
            raise ValueError(f"{key} is {value}; expected at least 1")
    if size is not None and not name.startswith("folder:"):
        raise ValueError(f"size={size} was given for {name!r}; only folder:<path> data can be resized")
    if name == "three-modes":
        return _three_modes(seed, 3000 if train_per_class is None else train_per_class, test_per_class or 300)
    if name == "digits":
        task = _digits(seed)
    elif name.startswith("folder:"):
        task = _folder(Path(root or ".") / Path(name.removeprefix("folder:")).expanduser(), size)
    else:
        raise ValueError(f"unknown data set {name!r}; expected one of {', '.join(NAMES)}")
    generator = torch.Generator().manual_seed(seed)
    return replace(
        task,
        train=_subset(task.train, train_per_class, generator),
        test=_subset(task.test, test_per_class, generator),
    )


def augment(
    x: Tensor, directions: Tensor | None, *, crop: int, flip: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Shift each image by up to ``crop`` pixels (zeros move in) and flip it with probability one half.

    Both are linear, so directions (B, k, C, H, W) are moved by the same draw: the direction of the moved
    image is the moved direction. x is (B, C, H, W).
    """
    if not crop and not flip:
        return x, directions
    stack = x[:, None] if directions is None else torch.cat([x[:, None], directions], dim=1)
    size, (height, width) = len(x), x.shape[-2:]
    if flip:
        flipped = (torch.rand(size, generator=generator) < 0.5).to(x.device)
        stack = torch.where(flipped.view(-1, 1, 1, 1, 1), stack.flip(-1), stack)
    if crop:
        padded = F.pad(stack, (crop, crop, crop, crop))
        top, left = (torch.randint(2 * crop + 1, (2, size), generator=generator)).to(x.device)
        down = top[:, None] + torch.arange(height, device=x.device)
        right = left[:, None] + torch.arange(width, device=x.device)
        stack = padded[torch.arange(size, device=x.device)[:, None, None], :, :, down[:, :, None], right[:, None, :]]
        stack = stack.permute(0, 3, 4, 1, 2)
    return stack[:, 0], None if directions is None else stack[:, 1:]


def progress_bar(items: Iterable[T], what: str, unit: str, *, show: bool = True) -> tqdm[T]:
    """A bar over ``items`` that appears after two seconds; never when ``show`` is False or TQDM_DISABLE is set to 1."""
    return tqdm(items, desc=what, unit=unit, delay=2, disable=not show or os.environ.get("TQDM_DISABLE") == "1")


def _three_modes(seed: int, train_per_class: int, test_per_class: int) -> Task:
    """x1 ~ N(10 m, 1), x2 = 2 x1: six modes on one line, the classes alternating along it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(per_class: int) -> Split:
        if per_class % 3:
            raise ValueError(f"three-modes has {per_class} examples a class; expected a multiple of 3")
        centres = torch.tensor(MODES, dtype=torch.float32).repeat_interleave(per_class // 3, dim=1).flatten()
        x1 = 10 * centres + torch.randn(len(centres), generator=generator)
        y = torch.arange(2).repeat_interleave(per_class)
        return Split(torch.stack([x1, 2 * x1], dim=1), y)

    return Task("three-modes", ("class 0", "class 1"), (-math.inf, math.inf), draw(train_per_class), draw(test_per_class))


def _digits(seed: int) -> Task:
    """The 1,797 8 x 8 digits that ship with scikit-learn, split 1,297 / 500 with equal class shares."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    x = (bunch.images / 16).astype(np.float32)[:, None]
    y = bunch.target.astype(np.int64)
    parts = train_test_split(x, y, test_size=500, stratify=y, random_state=seed)
    x_train, x_test, y_train, y_test = (torch.from_numpy(part) for part in parts)
    return Task("digits", tuple("0123456789"), (0.0, 1.0), Split(x_train, y_train), Split(x_test, y_test))


def _folder(path: Path, size: int | None) -> Task:
    """``path/train/<class>/*`` and ``path/test/<class>/*``, read in sorted order."""
    for part in (path, path / "train", path / "test"):
        if not part.is_dir():
            raise FileNotFoundError(f"no folder {part}; expected {path} with train/<class>/ and test/<class>/ in it")
    names = {part: tuple(sorted(d.name for d in (path / part).iterdir() if d.is_dir())) for part in ("train", "test")}
    classes = names["train"]
    if len(classes) < 2:
        raise ValueError(f"{path / 'train'} has {len(classes)} class folders; expected at least 2")
    if names["test"] != classes:
        odd = sorted(set(classes) ^ set(names["test"]))
        raise ValueError(f"train and test of {path} differ in their classes: {', '.join(odd)} is in only one of them")
    read = {part: _read_images(path / part, classes, size) for part in ("train", "test")}
    if read["train"].x.shape[1:] != read["test"].x.shape[1:]:
        shapes = {part: tuple(split.x.shape[1:]) for part, split in read.items()}
        raise ValueError(f"images of {path} differ in shape: {shapes}; pass size= to resize them")
    return Task(f"folder:{path.name}", classes, (0.0, 1.0), read["train"], read["test"])


def _read_images(folder: Path, classes: tuple[str, ...], size: int | None) -> Split:
    files = [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((folder / name).iterdir())
        if file.suffix.lower() in IMAGE_SUFFIXES
    ]
    missing = sorted(set(range(len(classes))) - {label for _, label in files})
    if missing:
        raise ValueError(f"{folder / classes[missing[0]]} has no images; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    x: np.ndarray | None = None
    for i, (file, _) in enumerate(progress_bar(files, f"read {folder.name}", "image")):
        image = _read_image(file, size)
        if x is None:  # the first image fixes the shape, and the mode: grey stays one channel
            x = np.empty((len(files), *image.shape), dtype=np.uint8)
        if image.shape != x.shape[1:]:
            raise ValueError(f"{file} has shape {image.shape}, the images before it {x.shape[1:]}; pass size= to resize them")
        x[i] = image
    assert x is not None
    labels = torch.tensor([label for _, label in files])
    return Split(torch.from_numpy(x).float().div_(255), labels)


def _read_image(file: Path, size: int | None) -> np.ndarray:
    """uint8 (C, H, W); one channel for grey images, three for all others."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            image = image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB")
            if size is not None:
                image = image.resize((size, size), Image.Resampling.BICUBIC)
            array = np.asarray(image)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"cannot read {file} as an image: {error}") from error
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _subset(split: Split, per_class: int | None, generator: torch.Generator) -> Split:
    """At most ``per_class`` random examples of each class, in their original order."""
    if per_class is None:
        return split
    pick: Callable[[int], Tensor] = lambda n: torch.randperm(n, generator=generator)[:per_class]  # noqa: E731
    rows = [(split.y == label).nonzero().flatten() for label in split.y.unique()]
    index = torch.cat([r[pick(len(r))] for r in rows]).sort().values
    return Split(split.x[index], split.y[index])
