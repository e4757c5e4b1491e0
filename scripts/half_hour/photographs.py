"""CIFAR-10 from what there is: the packed JPEG copy, a folder of images, or torchvision's own folder."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pagkit import data
from pagkit.data import Split, Task

COPY = "folder:CIFAR-10, JPEG q75 copy"  # what results call the packed copy
PACKED = ("jpeg", "offset", "label", "split", "classes")
AT_ONCE = 500  # images of one piece of work


def load(path: Path) -> Task:
    """All photographs, float32 in [0, 1].

    Args:
        path: a .npz file with JPEG images one after the other (``jpeg``, from ``offset[i]`` to ``offset[i + 1]``), their ``label``, their
            ``split`` (0: training) and ``classes``; a folder with train/<class>/ and test/<class>/; or the folder with torchvision's
            ``cifar-10-batches-py`` or its archive. Nothing is downloaded.

    Raises:
        ValueError: none of these, and those of :func:`pagkit.data.load`.
    """
    if path.suffix == ".npz" and path.is_file():
        return _packed(path)
    if (path / "train").is_dir():
        return data.load(f"folder:{path}")
    if (path / "cifar-10-batches-py").is_dir() or (path / "cifar-10-python.tar.gz").is_file():
        return data.load("cifar10", root=path)
    raise ValueError(
        f"no photographs in {path}; expected a .npz of JPEG images, a folder with train/ and test/, or one with cifar-10-batches-py"
    )


def _packed(path: Path) -> Task:
    """In the order of the folder that the file unpacks to: by class, then as they come."""
    with np.load(path) as pack:
        if missing := [name for name in PACKED if name not in pack]:
            raise ValueError(f"{path} has no {missing[0]!r}; expected arrays {', '.join(PACKED)}")
        content, offset, label, split = pack["jpeg"].tobytes(), pack["offset"].astype(np.int64), pack["label"], pack["split"]
        classes = tuple(str(name) for name in pack["classes"])

    def decoded(rows: np.ndarray) -> np.ndarray:
        images = [Image.open(io.BytesIO(content[offset[i] : offset[i + 1]])).convert("RGB") for i in rows]
        return np.stack([np.asarray(image) for image in images]).transpose(0, 3, 1, 2)

    splits = []
    with ThreadPoolExecutor() as pool:
        for part in (0, 1):
            rows = np.flatnonzero(split == part)
            rows = rows[np.argsort(label[rows], kind="stable")]
            found = np.concatenate(list(pool.map(decoded, np.array_split(rows, -(-len(rows) // AT_ONCE)))))
            x = torch.from_numpy(found).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
            splits.append(Split(x, torch.from_numpy(label[rows].astype(np.int64))))
    return Task(COPY if path.stem == "cifar10-jpeg" else f"folder:{path.stem}", classes, (0.0, 1.0), *splits)


def toy(seed: int = 0) -> Task:
    """Four classes of noise around a colour each, 8 x 8 pixels, 30 and 3 of each: what a rehearsal runs on."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(4, 3, 1, 1, generator=generator)

    def draw(per_class: int) -> Split:
        y = torch.arange(4).repeat_interleave(per_class)
        return Split((colours[y] + 0.2 * torch.randn(len(y), 3, 8, 8, generator=generator)).clamp(0, 1), y)

    return Task("folder:toy", tuple(map(str, range(4))), (0.0, 1.0), draw(30), draw(3))


def few(split: Split, count: int, seed: int = 0, skip: int = 0) -> Split:
    """``count`` rows, as many of each class, those that ``test_per_class`` and ``test_skip_per_class`` of :func:`pagkit.data.load` draw
    with this seed, the classes taking turns: however many of the first there is time for, each class has its share."""
    generator = torch.Generator().manual_seed(seed)
    labels = split.y.unique()
    rows = [(split.y == label).nonzero().flatten() for label in labels]
    each = min(count // len(labels), *(len(r) - skip for r in rows))
    picked = torch.stack([r[torch.randperm(len(r), generator=generator)[skip : skip + each]].sort().values for r in rows])
    picked = picked.T.flatten()
    return Split(split.x[picked], split.y[picked])
