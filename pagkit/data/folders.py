"""Folders of images, as people have them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps
from torch import Tensor

from .images import Files, Images, Rows
from .progress import progress_bar

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".pgm", ".ppm", ".webp", ".tif", ".tiff", ".gif")
LITTER = ("__macosx", "thumbs.db", "desktop.ini")  # of macOS and Windows; as little looked at as names that start with a dot


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
    for needed in (path, path / "train", path / "test"):
        if not needed.is_dir():
            raise FileNotFoundError(f"no folder {needed}; expected {path} with train/<class>/ and test/<class>/ in it")
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
        # the caller of data.load, past its context manager, is the fourth frame
        warnings.warn(f"{what}: not images ({', '.join(IMAGE_SUFFIXES)}) in the folder of a class", stacklevel=4)
    every = progress_bar([file for part in names for found in images[part] for file in found], f"look at {path.name}", "image")
    grey = all(_is_grey(file) for file in every)
    return Files(classes, *(_on_disk(path / part, images[part], grey, size) for part in names))


def fewest(path: Path) -> int:
    """Test images of the smallest class of a folder, by their names; 0 where there are none."""
    classes = [entry for entry in _visible(path / "test") if entry.is_dir()] if (path / "test").is_dir() else []
    return min((sum(file.suffix.lower() in IMAGE_SUFFIXES for file in _files(entry)) for entry in classes), default=0)


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
                raise ValueError(f"{file} has shape {image.shape}, the images before it {x.shape[1:]}; expected one: set size")
            x[i] = image
        return torch.from_numpy(x)

    return Images(torch.arange(len(images)).repeat_interleave(torch.tensor([len(found) for found in images])), read)


@contextmanager
def _opened(file: Path) -> Iterator[ImageFile.ImageFile]:
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
            return not np.ptp(np.asarray(image.getpalette()).reshape(-1, 3), axis=1).any()
        return Image.getmodebase(image.mode) == "L" or "LA;16B" in (args for *_, args in image.tile)  # a PNG's, opened as RGBA


def _read_image(file: Path, grey: bool, size: int | None) -> np.ndarray:
    """uint8 (C, H, W), upright and on white; one channel if ``grey``, else three."""
    with _opened(file) as stored:
        image = ImageOps.exif_transpose(stored)
        if image.mode[0] in "IF":  # more than 8 bits: I;16, I;16B, I and F, which Pillow would cut off rather than scale
            pixels, top = np.asarray(image), 1 if image.mode == "F" else 65535
            if not (pixels.min() >= 0 and pixels.max() <= top):
                raise ValueError(f"its values run from {pixels.min()} to {pixels.max()}; expected 0 to {top} (mode {image.mode})")
            if getattr(stored, "tag_v2", {}).get(262) == 0:  # a TIFF in which 0 is white; Pillow turns 8 bits, and not these
                pixels = top - pixels
            grey8 = (pixels * (255 / top)).round().astype(np.uint8)
            grey8[np.asarray(image) == image.info.get("transparency", np.nan)] = 255  # the one value of a PNG that is transparent
            image = Image.fromarray(grey8)
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        image = image.convert("L" if grey else "RGB")
        if size is not None:
            image = image.resize((size, size), Image.Resampling.BICUBIC)
        return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
