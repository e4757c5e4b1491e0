"""CIFAR-10, CIFAR-100 and STL-10 on disk, fetched when they are missing."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .images import Files, Images, Rows
from .progress import progress_bar

DOWNLOADS = ("cifar10", "cifar100", "stl10")
STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def download(name: str, root: Path, size: int | None = None) -> Files:
    """CIFAR-10 or CIFAR-100 (3 x 32 x 32, 50,000 / 10,000, fine labels), or the labelled part of STL-10 (3 x 96 x 96, 5,000 / 8,000).

    What lies under ``root`` is used once its md5 sums are those that torchvision knows, and before anything is unpickled. What is
    missing or damaged is unpacked from the archive in ``root``, and that is downloaded first where it is missing or damaged itself.
    Files get their names when they are whole; the archive stays.

    Args:
        name: ``"cifar10"``, ``"cifar100"`` or ``"stl10"``.
        root: the folder that holds torchvision's, such as ``cifar-10-batches-py``. Made when something is fetched.
        size: resize to ``size`` x ``size`` pixels (bicubic, antialiased).

    Raises:
        ConnectionError: the archive cannot be had; says which file to put where.
    """
    from torchvision import datasets  # here, because it takes a second to import

    kinds = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "stl10": datasets.STL10}
    kind: Any = kinds[name]
    if name == "stl10":  # the 2.6 GiB of unlabelled images are neither unpacked nor asked for
        kind = type("STL10", (kind,), {"train_list": kind.train_list[:2]})

    def splits() -> list[Any]:  # torchvision checks the md5 sums, then reads
        if name == "stl10":
            return [kind(root, split=part) for part in ("train", "test")]
        return [kind(root, train=part) for part in (True, False)]

    try:
        found = splits()
    except RuntimeError:  # torchvision's word for a file that is missing or damaged
        _unpack(kind, _archive(name, kind, root), root)
        found = splits()
    if name == "stl10":
        return Files(STL10_CLASSES, *(_in_memory(split.data, split.labels, size) for split in found))
    return Files(tuple(found[0].classes), *(_in_memory(split.data.transpose(0, 3, 1, 2), split.targets, size) for split in found))


def _archive(name: str, kind: Any, root: Path) -> Path:
    """The archive of a torchvision data set, md5 checked; downloaded if need be."""
    from torchvision.datasets import utils

    archive = root / kind.filename
    if utils.check_integrity(archive, kind.tgz_md5):
        return archive
    state = f"the {kind.filename} there is damaged" if archive.exists() else f"{name} is not there"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{kind.filename}.") as partial:
        try:
            utils.download_url(kind.url, partial, kind.filename, kind.tgz_md5)  # RuntimeError: its md5 is wrong
        except (OSError, HTTPException, RuntimeError) as error:
            raise ConnectionError(
                f"cannot load {name} from {root}: {state}, and the download failed ({error}). Put {kind.filename} "
                f"(from {kind.url}, md5 {kind.tgz_md5}) into {root} and load again; root= or PAGKIT_DATA names another folder"
            ) from error
        os.replace(Path(partial) / kind.filename, archive)
    return archive


def _unpack(kind: Any, archive: Path, root: Path) -> None:
    """Those files of the archive that torchvision has an md5 for, one after the other, each renamed when it is whole."""
    names = [name for name, _ in (*kind.train_list, *kind.test_list)]
    if meta := getattr(kind, "meta", None):
        names.append(meta["filename"])
    into = root / kind.base_folder
    into.mkdir(exist_ok=True)
    with tarfile.open(archive) as tar, tempfile.TemporaryDirectory(dir=into, prefix=".") as partial:
        for member in progress_bar(tar, f"unpack {archive.name}", "file"):
            path = Path(member.name)
            content = tar.extractfile(member) if path.name in names and path.parent.name == kind.base_folder else None
            if content is not None:
                with content, open(Path(partial) / path.name, "wb") as file:
                    shutil.copyfileobj(content, file)
                os.replace(Path(partial) / path.name, into / path.name)


def _in_memory(data: np.ndarray, labels: Any, size: int | None) -> Images:
    x = torch.from_numpy(data)

    def read(rows: Rows) -> Tensor:
        return x[rows] if size is None else F.interpolate(x[rows], size=(size, size), mode="bicubic", antialias=True)

    return Images(torch.as_tensor(labels, dtype=torch.int64), read)
