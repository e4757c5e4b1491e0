"""Images on disk: CIFAR-10, CIFAR-100 and STL-10, fetched when they are missing, and folders of images."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

T = TypeVar("T")
Rows = Tensor | slice  # positions (n,) int64, or slice(None) for all: what picks rows without a copy where it can
DOWNLOADS = ("cifar10", "cifar100", "stl10")
STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".pgm", ".ppm", ".webp", ".tif", ".tiff", ".gif")
LITTER = ("__macosx", "thumbs.db", "desktop.ini")  # of macOS and Windows; as little looked at as names that start with a dot


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


def progress_bar(items: Iterable[T], what: str, unit: str, *, show: bool = True) -> tqdm[T]:
    """A bar over ``items`` that appears after two seconds; never when ``show`` is False or TQDM_DISABLE is set to 1."""
    return tqdm(items, desc=what, unit=unit, delay=2, disable=not show or os.environ.get("TQDM_DISABLE") == "1")


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


def folder(path: Path, size: int | None = None) -> Files:
    """``path/train/<class>/*`` and ``path/test/<class>/*`` in sorted order, subfolders included; only the images asked for are decoded.

    Hidden files and folders do not count; files that are no images are left out, and one warning says how many.
    The images have one channel when all of the data set are grey (their headers tell), else three. They are turned upright as their
    EXIF says; of several frames the first is read, and what is transparent shows white. 16-bit grey is scaled from 0..65535, and
    so are 32-bit integers, which may not exceed it; floats are scaled from 0..1.

    Args:
        path: the folder.
        size: resize to ``size`` x ``size`` pixels (bicubic, antialiased). Needed when images differ in size.

    Raises:
        ValueError: a malformed folder; an image that cannot be read, exceeds its range, or differs from the others in shape.
        FileNotFoundError: the folder, or its ``train`` or ``test`` part, is missing.
    """
    for part in (path, path / "train", path / "test"):
        if not part.is_dir():
            raise FileNotFoundError(f"no folder {part}; expected {path} with train/<class>/ and test/<class>/ in it")
    names = {part: tuple(d.name for d in _visible(path / part) if d.is_dir()) for part in ("train", "test")}
    classes = names["train"]
    if len(classes) < 2:
        raise ValueError(f"{path / 'train'} has {len(classes)} class folders; expected at least 2")
    if names["test"] != classes:
        odd = sorted(set(classes) ^ set(names["test"]))
        raise ValueError(f"train and test of {path} differ in their classes: {', '.join(odd)} is in only one of them")
    images: dict[str, list[list[Path]]] = {part: [] for part in names}
    left_out = [file for part in names for file in _visible(path / part) if not file.is_dir()]
    for part in names:
        for name in classes:
            found = list(_files(path / part / name))
            images[part].append([file for file in found if file.suffix.lower() in IMAGE_SUFFIXES])
            others = [file for file in found if file.suffix.lower() not in IMAGE_SUFFIXES]
            if len(others) == len(found):
                only = f" but {', '.join(file.name for file in others[:3])}{', ...' * (len(others) > 3)}" if others else ""
                raise ValueError(f"{path / part / name} has no images{only}; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
            left_out += others
    if left_out:
        what = f"{len(left_out)} file{'s were' if left_out[1:] else ' was'} left out under {path}, such as {left_out[0].relative_to(path)}"
        warnings.warn(f"{what}: not images ({', '.join(IMAGE_SUFFIXES)}) in the folder of a class", stacklevel=3)
    every = progress_bar([file for part in names for found in images[part] for file in found], f"look at {path.name}", "image")
    grey = all(_is_grey(file) for file in every)
    return Files(classes, *(_on_disk(path / part, images[part], grey, size) for part in names))


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


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder and is not hidden, sorted."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name.lower() not in LITTER)


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The visible files in a folder and its subfolders; a link to a folder that it lies in is not followed."""
    real = folder.resolve()
    for entry in _visible(folder) if real not in above else ():
        if entry.is_dir():
            yield from _files(entry, (*above, real))
        else:
            yield entry


def _on_disk(path: Path, images: list[list[Path]], grey: bool, size: int | None) -> Images:
    """One split, given the images of each class."""
    files = [file for found in images for file in found]

    def read(rows: Rows) -> Tensor:
        chosen = [files[i] for i in torch.arange(len(files))[rows].tolist()]
        x: np.ndarray | None = None
        for i, file in enumerate(progress_bar(chosen, f"read {path.name}", "image")):
            image = _read_image(file, grey, size)
            if x is None:  # the first image fixes the shape
                x = np.empty((len(chosen), *image.shape), dtype=np.uint8)
            if image.shape != x.shape[1:]:
                raise ValueError(f"{file} has shape {image.shape}, the images before it {x.shape[1:]}; pass size= to resize them")
            x[i] = image
        return torch.from_numpy(x)

    return Images(torch.arange(len(images)).repeat_interleave(torch.tensor([len(found) for found in images])), read)


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """The image, its header read and its pixels not yet; whatever goes wrong with it is a ValueError that names the file."""
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning), Image.open(file) as image:
            yield image
    except Exception as error:  # any: a damaged file may raise SyntaxError, struct.error, zlib.error, ...
        raise ValueError(f"cannot read {file} as an image: {error}") from error


def _is_grey(file: Path) -> bool:
    """Whether its mode is a grey one, or all colours of its palette are grey."""
    with _opened(file) as image:
        if image.mode in ("P", "PA"):
            return not np.ptp(np.reshape(image.getpalette(), (-1, 3)), axis=1).any()
        return Image.getmodebase(image.mode) == "L" or "LA;16B" in (args for *_, args in image.tile)  # a PNG's, opened as RGBA


def _read_image(file: Path, grey: bool, size: int | None) -> np.ndarray:
    """uint8 (C, H, W), upright and on white; one channel if ``grey``, else three."""
    with _opened(file) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode[0] in "IF":  # more than 8 bits: I;16, I;16B, I and F, which Pillow would cut off rather than scale
            pixels, top = np.asarray(image), 1 if image.mode == "F" else 65535
            if not (pixels.min() >= 0 and pixels.max() <= top):
                raise ValueError(f"its values run from {pixels.min()} to {pixels.max()}; expected 0 to {top} (mode {image.mode})")
            image = Image.fromarray((pixels * (255 / top)).round().astype(np.uint8))
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        image = image.convert("L" if grey else "RGB")
        if size is not None:
            image = image.resize((size, size), Image.Resampling.BICUBIC)
        return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
