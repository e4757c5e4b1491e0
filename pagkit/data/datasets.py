"""Data sets by name, as plain tensors: the three-modes toy, scikit-learn's digits, CIFAR, STL, and any folder of images."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import downloads, folders
from .defaults import plain_defaults
from .images import Images, Rows
from .task import Split, Task

NAMES = ("three-modes", "digits", *downloads.DOWNLOADS, "folder:<path>")
MODES = ((-5, -1, 3), (-3, 1, 5))  # three-modes: mode centres of class 0 and of class 1, in units of 10 along x1


@plain_defaults()
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
        name: ``"three-modes"``, ``"digits"``, ``"cifar10"``, ``"cifar100"`` (its 100 fine labels), ``"stl10"`` (its labelled
            5,000 and 8,000 images) or ``"folder:<path>"``, where ``<path>`` holds ``train/<class>/*`` and ``test/<class>/*`` images.
        seed: draws the toy's samples, the digits' split, and the subset when ``*_per_class`` is given.
        root: where CIFAR and STL lie or are downloaded to (default: the folder that the environment variable PAGKIT_DATA
            names, else ``~/.cache/pagkit/data``), and what a relative ``folder:`` path starts from (default: the working directory).
        train_per_class, test_per_class: keep at most this many examples of each class. For the toy this is
            the number drawn (default 3000 and 300; a multiple of three, one third for each mode).
        size: CIFAR, STL or the images of a folder are resized to ``size`` x ``size`` pixels. Needed when those of a folder differ.

    Returns:
        A :class:`Task`. Images are float32 in [0, 1], shape (C, H, W); the toy has infinite bounds.

    Raises:
        ValueError: unknown name, a count below one, a malformed folder, an unreadable image. Of a folder, files that are no images are left
            out with a warning.
        FileNotFoundError: the folder, or its ``train`` or ``test`` part, is missing.
        ConnectionError: CIFAR or STL is missing or damaged and cannot be downloaded; says which file to put where.
    """
    for key, value in (("train_per_class", train_per_class), ("test_per_class", test_per_class), ("size", size)):
        if value is not None and value < 1:
            raise ValueError(f"{key} is {value}; expected at least 1")
    if name not in NAMES[:-1] and not name.startswith("folder:"):
        raise ValueError(f"unknown data set {name!r}; expected one of {', '.join(NAMES)}")
    if size is not None and name in ("three-modes", "digits"):
        raise ValueError(f"size={size} was given for {name!r}; only {', '.join(NAMES[2:])} can be resized")
    if name == "three-modes":
        return _three_modes(seed, 3000 if train_per_class is None else train_per_class, test_per_class or 300)
    generator = torch.Generator().manual_seed(seed)
    if name == "digits":
        task = _digits(seed)
        train, test = _subset(task.train.y, train_per_class, generator), _subset(task.test.y, test_per_class, generator)
        return replace(task, train=Split(task.train.x[train], task.train.y[train]), test=Split(task.test.x[test], task.test.y[test]))
    if name in downloads.DOWNLOADS:
        where = root or os.environ.get("PAGKIT_DATA") or Path.home() / ".cache" / "pagkit" / "data"
        files = downloads.download(name, Path(where).expanduser(), size)
    else:
        path = Path(root or ".") / Path(name.removeprefix("folder:")).expanduser()
        name, files = f"folder:{path.name}", folders.folder(path, size)
    splits = [_read(*pair, generator) for pair in ((files.train, train_per_class), (files.test, test_per_class))]
    shapes = [tuple(split.x.shape[1:]) for split in splits]
    if shapes[0] != shapes[1]:
        raise ValueError(f"images of {name} differ in shape: train has {shapes[0]}, test {shapes[1]}; pass size= to resize them")
    return Task(name, files.classes, (0.0, 1.0), *splits)


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


def _read(found: Images, per_class: int | None, generator: torch.Generator) -> Split:
    """Bytes to floats in [0, 1], for the rows of the subset only."""
    rows = _subset(found.y, per_class, generator)
    x = found.read(rows).to(torch.float32, memory_format=torch.contiguous_format)
    return Split(x.div_(255), found.y[rows])


def _subset(y: Tensor, per_class: int | None, generator: torch.Generator) -> Rows:
    """The rows of at most ``per_class`` random examples of each class, in their original order; all rows when it is None."""
    if per_class is None:
        return slice(None)
    pick: Callable[[int], Tensor] = lambda n: torch.randperm(n, generator=generator)[:per_class]  # noqa: E731
    rows = [(y == label).nonzero().flatten() for label in y.unique()]
    return torch.cat([r[pick(len(r))] for r in rows]).sort().values
