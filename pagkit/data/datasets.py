"""Data sets by name, as plain tensors: the three-modes toy, scikit-learn's digits, CIFAR, STL, and any folder of images."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..recipes.keys import SEEDS
from . import downloads, folders
from .defaults import plain_defaults
from .images import Files, Images, Rows
from .numbers import whole
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
    test_skip_per_class: int | None = None,
    size: int | None = None,
    holdout: int | None = None,
) -> Task:
    """Load a data set by name.

    Args:
        name: ``"three-modes"``, ``"digits"``, ``"cifar10"``, ``"cifar100"`` (its 100 fine labels), ``"stl10"`` (its labelled
            5,000 and 8,000 images) or ``"folder:<path>"``, where ``<path>`` holds ``train/<class>/*`` and ``test/<class>/*`` images.
        seed: draws the toy's samples, the digits' split, and the subset when ``*_per_class`` is given; 0 to 2**32 - 1.
        root: where CIFAR and STL lie or are downloaded to (default: the folder that the environment variable PAGKIT_DATA
            names, else ``~/.cache/pagkit/data``), and what a relative ``folder:`` path starts from (default: the working directory).
        train_per_class, test_per_class: keep at most this many examples of each class. For the toy this is
            the number drawn (default 3000 and 300; a multiple of three, one third for each mode).
        test_skip_per_class: leave out the first so many of each class that would be drawn, and keep ``test_per_class`` of those that
            follow: examples that no run with the same ``seed`` and ``train_per_class`` has looked at. Images only.
        size: CIFAR, STL or the images of a folder are resized to ``size`` x ``size`` pixels. Needed when those of a folder differ.
        holdout: set aside so many training examples, to choose settings on without a look at the test split: they take its place, and
            the rest is what there is to train on. Drawn with ``seed``, each class by its share, before ``train_per_class`` picks
            among the rest; the two of the test split then play no part. The task's name tells, as in ``"digits+holdout=300"``.

    Returns:
        A :class:`Task`. Images are float32 in [0, 1], shape (C, H, W); the toy has infinite bounds.

    Raises:
        TypeError: a name that is no text, a seed or count that is no whole number.
        ValueError: unknown name, a seed out of range, a count below one, a ``holdout`` that leaves nothing, a malformed folder, an
            unreadable image, more of the toy than memory holds. Of a folder, files that are no images are left out with a warning.
        FileNotFoundError: the folder, or its ``train`` or ``test`` part, is missing.
        ConnectionError: CIFAR or STL is missing or damaged and cannot be downloaded; says which file to put where.
    """
    seed = whole("seed", seed, 0, SEEDS - 1)
    counts = {"train_per_class": train_per_class, "test_per_class": test_per_class, "size": size, "holdout": holdout}
    for key, value in (counts := {**counts, "test_skip_per_class": test_skip_per_class}).items():
        counts[key] = None if value is None else whole(key, value, 1)
    train_per_class, test_per_class, size, holdout, test_skip_per_class = counts.values()
    _check_name(name, root, test_skip_per_class, size)
    generator, aside = torch.Generator().manual_seed(seed), "" if holdout is None else f"+holdout={holdout}"
    if name == "three-modes":
        task = _three_modes(seed, 3000 if train_per_class is None else train_per_class, test_per_class or 300)
        if holdout is None:
            return task
        train, test = _choose(task, None, None, holdout, generator)
        return replace(task, train=train, test=test, name=name + aside)
    if name == "digits":
        task = _digits(seed)
        train, test = _choose(task, train_per_class, test_per_class, holdout, generator)
        return replace(task, train=train, test=test, name=name + aside)
    if name in downloads.DOWNLOADS:
        where = root or os.environ.get("PAGKIT_DATA") or Path.home() / ".cache" / "pagkit" / "data"
        files = downloads.download(name, Path(os.path.expanduser(where)), size)
    else:
        path = Path(os.path.expanduser(root or ".")) / os.path.expanduser(name.removeprefix("folder:"))
        name, files = f"folder:{Path(os.path.abspath(path)).name}", folders.folder(path, size)
    train, test = _choose(files, train_per_class, test_per_class, holdout, generator, test_skip_per_class or 0)
    task = Task(name + aside, files.classes, (0.0, 1.0), train, test)
    shapes = [tuple(split.x.shape[1:]) for split in (task.train, task.test)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"images of {name} differ in shape: train has {shapes[0]}, test {shapes[1]}; expected one: set size")
    return task


def _check_name(name: Any, root: str | Path | None, test_skip_per_class: int | None, size: int | None) -> None:
    """Refuse a data set that is not known, and options that it does not have."""
    if not isinstance(name, str):
        raise TypeError(f"the data set is {name!r}; expected its name as text, one of {', '.join(NAMES)}")
    if name not in NAMES[:-1] and not name.startswith("folder:"):
        raise ValueError(f"unknown data set {name!r}; expected one of {', '.join(NAMES)}")
    if test_skip_per_class is not None and name in ("three-modes", "digits"):
        raise ValueError(f"test_skip_per_class={test_skip_per_class} was given for {name!r}; only images of {', '.join(NAMES[2:])} have it")
    if size is not None and name in ("three-modes", "digits"):
        raise ValueError(f"size={size} was given for {name!r}; only {', '.join(NAMES[2:])} can be resized")
    if root is not None and name in ("three-modes", "digits"):
        raise ValueError(f"root={str(root)!r} was given for {name!r}, which needs no files; only {', '.join(NAMES[2:-1])} have one")


def _choose(
    found: Task | Files,
    train_per_class: int | None,
    test_per_class: int | None,
    holdout: int | None,
    generator: torch.Generator,
    test_skip_per_class: int = 0,
) -> tuple[Split, Split]:
    """The splits for training and test, of what there is; rows that are in neither are not read."""
    y = found.train.y
    if holdout is None:
        train = _read(found.train, _subset(y, train_per_class, generator))
        return train, _read(found.test, _subset(found.test.y, test_per_class, generator, test_skip_per_class))
    held = _hold_out(y, holdout, generator)
    rest = torch.ones(len(y), dtype=torch.bool).index_fill(0, held, False).nonzero().flatten()
    rest = rest[_subset(y[rest], train_per_class, generator)]
    return _read(found.train, rest), _read(found.train, held)


def _hold_out(y: Tensor, holdout: int, generator: torch.Generator) -> Tensor:
    """``holdout`` random rows in their original order, of each class its share: rounded down, and one more where most is lost by that."""
    if holdout >= len(y):
        raise ValueError(f"holdout is {holdout} of {len(y)} training examples; expected at most {len(y) - 1}")
    rows = [(y == label).nonzero().flatten() for label in y.unique()]
    shares = torch.tensor([len(r) * holdout / len(y) for r in rows], dtype=torch.float64)
    counts = shares.floor().long()
    counts[(counts - shares).argsort(stable=True)[: holdout - int(counts.sum())]] += 1
    return torch.cat([r[torch.randperm(len(r), generator=generator)[:n]] for r, n in zip(rows, counts, strict=True)]).sort().values


def _three_modes(seed: int, train_per_class: int, test_per_class: int) -> Task:
    """x1 ~ N(10 m, 1), x2 = 2 x1: six modes on one line, the classes alternating along it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(per_class: int) -> Split:
        if per_class % 3:
            raise ValueError(f"three-modes has {per_class} examples a class; expected a multiple of 3")
        try:
            centres = torch.tensor(MODES, dtype=torch.float32).repeat_interleave(per_class // 3, dim=1).flatten()
        except RuntimeError as error:  # torch's for memory that is not there
            raise ValueError(f"three-modes has {per_class} examples a class; expected as many as memory holds") from error
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


def _read(found: Images | Split, rows: Rows) -> Split:
    """Some rows; of images, whose bytes become floats in [0, 1], no others are read."""
    if isinstance(found, Split):
        return Split(found.x[rows], found.y[rows])
    x = found.read(rows).to(torch.float32, memory_format=torch.contiguous_format)
    return Split(x.div_(255), found.y[rows])


def _subset(y: Tensor, per_class: int | None, generator: torch.Generator, skip: int = 0) -> Rows:
    """The rows of at most ``per_class`` random examples of each class, in their original order; all rows when it is None. The first
    ``skip`` that would be drawn are passed over."""
    if per_class is None and not skip:
        return slice(None)
    rows = [(y == label).nonzero().flatten() for label in y.unique()]
    if smallest := [len(r) for r in rows if len(r) <= skip]:
        raise ValueError(f"test_skip_per_class is {skip} of {min(smallest)} examples of a class; expected fewer")
    end = None if per_class is None else skip + per_class
    return torch.cat([r[torch.randperm(len(r), generator=generator)[skip:end]] for r in rows]).sort().values
