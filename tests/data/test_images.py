"""CIFAR and STL in their true formats, a few images each, and folders of images as people have them: read, fetched, refused. Nothing is
downloaded."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import tarfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from torchvision.datasets import CIFAR10, CIFAR100, STL10, utils

from pagkit import data
from pagkit.data import downloads

KINDS = {"cifar10": CIFAR10, "cifar100": CIFAR100, "stl10": STL10}
SIDE = {"cifar10": 32, "cifar100": 32, "stl10": 96}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def cifar(kind: type[CIFAR10], classes: int) -> dict[str, bytes]:
    """As published: pickled dictionaries, an image a row of 3,072 bytes. Two images a class in each file; their first byte is the label."""
    files = {}
    for name, _ in kind.train_list + kind.test_list:
        rng = np.random.default_rng(len(name) + int.from_bytes(name.encode()[-1:], "big"))
        labels = rng.permutation(np.repeat(np.arange(classes), 2)).tolist()
        rows = rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        rows[:, 0] = labels
        files[name] = pickle.dumps({"data": rows, "labels" if kind is CIFAR10 else "fine_labels": labels}, protocol=2)
    files[kind.meta["filename"]] = pickle.dumps({kind.meta["key"]: [f"name {label}" for label in range(classes)]}, protocol=2)
    return files


def stl() -> dict[str, bytes]:
    """As published: images column by column, labels from 1. Every image is dark but for a bright top left corner."""
    files = {}
    for part, count in (("train", 20), ("test", 30)):
        labels = np.tile(np.arange(10), count // 10)
        images = np.full((count, 3, 96, 96), 20, dtype=np.uint8)
        images[:, :, 0, :] = 200  # the left column: the first axis on disk is the column
        images[:, 0, 0, 0] = labels
        files |= {f"{part}_X.bin": images.tobytes(), f"{part}_y.bin": (labels + 1).astype(np.uint8).tobytes()}
    return {**files, "unlabeled_X.bin": b"never asked for", "class_names.txt": b"airplane\nbird\n"}


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Packs a data set the way its site does, makes its md5 sums the ones that torchvision knows, and cuts the network."""

    def no_network(url: str, *args: object, **options: object) -> None:
        raise URLError("Name or service not known")

    def make(name: str) -> Path:
        kind = KINDS[name]
        files = stl() if name == "stl10" else cifar(kind, 10 if name == "cifar10" else 100)
        published = tmp_path / "published" / kind.filename
        folder = tmp_path / "packed" / kind.base_folder
        for path in (published.parent, folder):
            path.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        with tarfile.open(published, "w:gz") as tar:
            tar.add(folder, kind.base_folder)
        for split in ("train_list", "test_list"):
            monkeypatch.setattr(kind, split, [[file, md5(files[file])] for file, _ in getattr(kind, split)])
        if name != "stl10":
            monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(files[kind.meta["filename"]])})
        monkeypatch.setattr(kind, "tgz_md5", md5(published.read_bytes()))
        return published

    monkeypatch.setattr(utils, "download_url", no_network)
    return make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def put(published: Path, root: Path) -> None:
    root.mkdir()
    (root / published.name).write_bytes(published.read_bytes())


@pytest.mark.parametrize("name", downloads.DOWNLOADS)
def test_an_archive_in_the_folder_is_enough(name: str, publish, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(publish(name), root)
    monkeypatch.setenv("PAGKIT_DATA", str(root))
    task = data.load(name)
    side, classes = SIDE[name], 100 if name == "cifar100" else 10
    per_class = {"cifar10": (10, 2), "cifar100": (2, 2), "stl10": (2, 3)}[name]
    assert (task.name, task.shape, task.bounds, len(task.classes)) == (name, (3, side, side), (0.0, 1.0), classes)
    for split, count in zip((task.train, task.test), per_class, strict=True):
        assert split.x.dtype == torch.float32 and split.y.dtype == torch.int64 and split.x.is_contiguous()
        assert split.y.bincount().tolist() == [count] * classes and 0 <= split.x.min() and split.x.max() <= 1
        assert torch.equal((255 * split.x[:, 0, 0, 0]).round().long(), split.y), "images and labels are out of step"
    assert not list(root.rglob(".*")), "something temporary was left"
    (root / KINDS[name].filename).unlink()
    assert torch.equal(data.load(name, root=root).train.x, task.train.x), "what is unpacked is enough, too"


def test_photographs_are_held_out_of_all_and_a_subset_is_picked_among_the_rest(publish, root: Path) -> None:
    put(publish("cifar10"), root)
    task = data.load("cifar10", root=root, holdout=20, train_per_class=5, test_per_class=1)
    assert task.name == "cifar10+holdout=20" and task.test.y.bincount().tolist() == [2] * 10
    assert task.train.y.bincount().tolist() == [5] * 10, "as many as without"
    held = {x.numpy().tobytes() for x in task.test.x}
    assert not held & {x.numpy().tobytes() for x in data.load("cifar10", root=root).test.x}


def test_test_images_that_no_run_has_looked_at(publish, root: Path) -> None:
    put(publish("cifar10"), root)
    looked, fresh = (data.load("cifar10", root=root, train_per_class=3, test_per_class=1, test_skip_per_class=n) for n in (None, 1))
    assert torch.equal(looked.train.x, fresh.train.x) and fresh.test.y.bincount().tolist() == [1] * 10
    both = {x.numpy().tobytes() for task in (looked, fresh) for x in task.test.x}
    whole = data.load("cifar10", root=root)
    assert both == {x.numpy().tobytes() for x in whole.test.x}, "two of a class, one drawn and one left"
    with pytest.raises(ValueError, match="test_skip_per_class is 2 of 2 examples of a class; expected fewer"):
        data.load("cifar10", root=root, test_skip_per_class=2)
    with pytest.raises(ValueError, match="test_skip_per_class=1 was given for 'digits'"):
        data.load("digits", test_skip_per_class=1)


def test_classes_have_their_names(publish, root: Path) -> None:
    put(publish("cifar100"), root)
    assert data.load("cifar100", root=root).classes[98] == "name 98"
    assert downloads.STL10_CLASSES == ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def test_stl_images_stand_upright_and_the_unlabelled_stay_packed(publish, root: Path) -> None:
    put(publish("stl10"), root)
    task = data.load("stl10", root=root, size=48)
    assert task.shape == (3, 48, 48) and task.classes == downloads.STL10_CLASSES
    assert (task.train.x[:, 1, :, 0] > 0.4).all() and (task.train.x[:, 1, 0, 4:] < 0.1).all(), "left is bright, top is dark"
    assert not (root / "stl10_binary" / "unlabeled_X.bin").exists()


def test_subsets_are_seeded_balanced_and_resized(publish, root: Path) -> None:
    put(publish("cifar10"), root)
    whole = data.load("cifar10", root=root)
    few, again, other = (data.load("cifar10", root=root, train_per_class=3, test_per_class=1, seed=seed) for seed in (1, 1, 2))
    assert few.train.y.bincount().tolist() == [3] * 10 and few.test.y.bincount().tolist() == [1] * 10
    assert torch.equal(few.train.x, again.train.x) and not torch.equal(few.train.x, other.train.x)
    rows = [(whole.train.x == image).all(dim=(1, 2, 3)).nonzero().item() for image in few.train.x]
    assert rows == sorted(rows) and torch.equal(whole.train.y[rows], few.train.y)
    small = data.load("cifar10", root=root, train_per_class=3, size=16, seed=1).train
    assert small.x.shape == (30, 3, 16, 16) and torch.equal(small.y, few.train.y)
    assert (small.x.mean(dim=(1, 2, 3)) - few.train.x.mean(dim=(1, 2, 3))).abs().max() < 0.01


def test_download_is_moved_in_when_whole_and_asked_for_once(publish, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published, calls = publish("cifar10"), []

    def download_url(url: str, folder: str, filename: str, checksum: str) -> None:
        assert (url, checksum) == (CIFAR10.url, CIFAR10.tgz_md5)
        assert not (root / filename).exists(), "written in place"
        calls.append(url)
        (Path(folder) / filename).write_bytes(published.read_bytes())

    monkeypatch.setattr(utils, "download_url", download_url)
    first, again = data.load("cifar10", root=root), data.load("cifar10", root=root)
    assert len(calls) == 1 and torch.equal(first.train.x, again.train.x)
    assert sorted(path.name for path in root.iterdir()) == [CIFAR10.base_folder, CIFAR10.filename]


@pytest.mark.parametrize("name", downloads.DOWNLOADS)
def test_no_network_says_which_file_to_put_where(name: str, publish, root: Path) -> None:
    publish(name)
    with pytest.raises(ConnectionError) as caught:
        data.load(name, root=root)
    message = str(caught.value)
    kind = KINDS[name]
    assert message.startswith(f"cannot load {name} from {root}: {name} is not there, and the download failed (<urlopen error")
    assert f"Put {kind.filename} (from {kind.url}, md5 {kind.tgz_md5}) into {root} and load again" in message
    assert not any(root.iterdir())


def test_half_a_download_is_not_taken_for_whole(publish, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = publish("cifar10")
    half = published.read_bytes()[:5000]

    def broken_off(url: str, folder: str, filename: str, checksum: str) -> None:
        (Path(folder) / filename).write_bytes(half)
        raise RuntimeError("File not found or corrupted.")  # torchvision's own words

    monkeypatch.setattr(utils, "download_url", broken_off)
    with pytest.raises(ConnectionError, match=r"the download failed \(File not found or corrupted"):
        data.load("cifar10", root=root)
    assert not any(root.iterdir())
    (root / CIFAR10.filename).write_bytes(half)
    with pytest.raises(ConnectionError, match=f"the {CIFAR10.filename} there is damaged"):
        data.load("cifar10", root=root)


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_damaged_file_is_never_unpickled_and_is_unpacked_anew(name: str, publish, root: Path) -> None:
    published = publish("cifar10")
    put(published, root)
    whole = data.load("cifar10", root=root)
    sprung, batch = root / "sprung", root / CIFAR10.base_folder / name
    batch.write_bytes(pickle.dumps({"data": Trap(sprung), "label_names": Trap(sprung)}))
    assert torch.equal(data.load("cifar10", root=root).train.x, whole.train.x)
    (root / published.name).unlink()
    batch.write_bytes(pickle.dumps({"data": Trap(sprung), "label_names": Trap(sprung)}))
    with pytest.raises(ConnectionError, match="Put cifar-10-python.tar.gz"):
        data.load("cifar10", root=root)
    batch.unlink()
    with pytest.raises(ConnectionError, match="Put cifar-10-python.tar.gz"):
        data.load("cifar10", root=root)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists(), "the trap works"


PARTS = [Path(part, name) for part in ("train", "test") for name in ("cat", "dog")]
GREY = np.arange(0, 192, 2, dtype=np.uint8).reshape(8, 12)
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)
GREY16 = np.linspace(0, 65535, 96).reshape(8, 12).astype(np.uint16)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def png16(pixels: np.ndarray, colour_type: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write: pixels (H, W, C); colour types 2 RGB, 4 grey and alpha, 6 RGBA."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)


def folder(root: Path, **files: bytes) -> str:
    """A data set with these files in each of its class folders; ``__`` stands for a dot, so that ``x__png`` is x.png."""
    for part in PARTS:
        (root / part).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (root / part / name.replace("__", ".")).write_bytes(content)
    return f"folder:{root}"


def pixels(root: Path, content: bytes, suffix: str = "png", **options: Any) -> np.ndarray:
    """The one image of a data set as loaded, (C, H, W)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = data.load(folder(root, **{f"x__{suffix}": content}), **options)
    assert len(task.train) == len(task.test) == 2 and torch.equal(task.train.x, task.test.x)
    return task.train.x[0].numpy()


def big_endian() -> Image.Image:
    return Image.frombytes("I;16B", (12, 8), GREY16.astype(">u2").tobytes())


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("png", encoded(GREY16)),
        ("TIF", encoded(GREY16, "TIFF")),
        ("tiff", encoded(big_endian(), "TIFF")),
        ("tif", encoded(GREY16.astype(np.int32), "TIFF")),
        ("pgm", encoded(GREY16.astype(np.int32), "PPM")),
        ("tif", encoded((GREY16 / 65535).astype(np.float32), "TIFF")),
        ("png", png16(np.stack([GREY16, np.full_like(GREY16, 65535)], axis=2), 4)),
    ],
    ids=["png", "tiff", "big-endian", "int32", "pgm", "float", "grey-and-alpha"],
)
def test_deep_grey_is_scaled_not_cut_off(suffix: str, content: bytes, tmp_path: Path) -> None:
    x = pixels(tmp_path, content, suffix)
    assert x.shape == (1, 8, 12) and np.abs(x[0] - GREY16 / 65535).max() < 0.004 and x.max() == 1
    folder(tmp_path, y__png=encoded(COLOUR))
    x = data.load(f"folder:{tmp_path}").train.x[0]
    assert x.shape == (3, 8, 12) and (x - torch.from_numpy(GREY16 / 65535)).abs().max() < 0.004, "among colour images"


@pytest.mark.parametrize("colour_type", [2, 6])
def test_deep_colour(colour_type: int, tmp_path: Path) -> None:
    deep = np.stack([GREY16, GREY16[::-1], GREY16[:, ::-1], np.full_like(GREY16, 65535)], axis=2)[..., : 3 if colour_type == 2 else 4]
    assert np.abs(pixels(tmp_path, png16(deep, colour_type)) - deep[..., :3].transpose(2, 0, 1) / 65535).max() < 0.004


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, 70000]], dtype=np.int32), r"its values run from 0 to 70000; expected 0 to 65535 \(mode I\)"),
        (np.array([[-1, 7]], dtype=np.int32), "its values run from -1 to 7; expected 0 to 65535"),
        (np.array([[0, 255]], dtype=np.float32), r"its values run from 0.0 to 255.0; expected 0 to 1 \(mode F\)"),
        (np.array([[0, np.nan]], dtype=np.float32), "its values run from nan to nan; expected 0 to 1"),
    ],
)
def test_values_of_an_unknown_range_are_refused(values: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"cannot read .*cat/x\.tif as an image: {message}"):
        pixels(tmp_path, encoded(values, "TIFF"), "tif")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "GIF"])
@pytest.mark.parametrize("colour", ["RGB", "RGBA", "P", "CMYK", "YCbCr", "LAB"])
def test_one_colour_image_anywhere_makes_all_three_channels(mode: str, colour: str, tmp_path: Path) -> None:
    grey = Image.fromarray(GREY)
    content = encoded(grey, "GIF") if mode == "GIF" else encoded(grey.convert(mode))
    path = folder(tmp_path, a__png=content, c__png=content)
    alone = data.load(path)
    assert alone.shape == (1, 8, 12) and (mode == "1" or np.abs(alone.train.x[0, 0].numpy() - GREY / 255).max() < 1e-6)
    kind = {"CMYK": "JPEG", "YCbCr": "TIFF", "LAB": "TIFF"}.get(colour, "PNG")
    image = Image.new("LAB", (12, 8), (128, 200, 90)) if colour == "LAB" else Image.fromarray(COLOUR).convert(colour)
    last = tmp_path / "test" / "dog" / "b.png"
    last.write_bytes(encoded(image, kind))
    for options in ({}, {"train_per_class": 1, "test_per_class": 1}):
        task = data.load(path, **options)
        assert task.train.x.shape[1:] == task.test.x.shape[1:] == (3, 8, 12)
    among = data.load(path).train.x[0]
    assert torch.equal(among, alone.train.x[0].expand(3, -1, -1)), "grey is the same in every channel"


def test_colours_of_other_modes(tmp_path: Path) -> None:
    palette = Image.new("P", (12, 8), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    green = np.broadcast_to(np.array([10, 200, 30])[:, None, None] / 255, (3, 8, 12))
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        assert np.abs(pixels(tmp_path, encoded(palette, kind)) - green).max() < 1e-6, kind
    assert np.abs(pixels(tmp_path, encoded(palette.convert("RGB").convert("CMYK"), "JPEG", quality=100)) - green).max() < 0.03
    assert pixels(tmp_path, encoded(Image.fromarray(GREY > 90))).tolist() == (GREY > 90)[None].astype(float).tolist()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB", "PA"])
def test_what_is_transparent_shows_white(mode: str, tmp_path: Path) -> None:
    """The left half is transparent, whatever colour lies beneath it; the right is not."""
    image = Image.new("RGBA", (12, 8), (60, 60, 60, 0))
    image.paste((90, 90, 90, 255), (6, 0, 12, 8))
    if mode in ("RGBA", "LA"):
        content = encoded(image.convert(mode))
    elif mode == "PA":
        with_palette = Image.new("P", (12, 8), 0)
        with_palette.putpalette([60, 60, 60, 90, 90, 90])
        with_palette.paste(1, (6, 0, 12, 8))
        with_palette = with_palette.convert("PA")
        with_palette.putalpha(image.getchannel("A"))
        content = encoded(with_palette, "TIFF")
    else:
        flat = image.convert("RGB").quantize(2) if mode == "P" else image.convert("RGB").convert(mode)
        content = encoded(flat, transparency=flat.getpixel((0, 0)))
    x = pixels(tmp_path, content)
    assert (x[:, :, :6] == 1).all() and np.abs(x[:, :, 6:] - 90 / 255).max() < 0.02
    half = Image.new("RGBA", (12, 8), (0, 0, 0, 128))
    assert np.abs(pixels(tmp_path, encoded(half)) - 127 / 255).max() < 1e-6


def test_the_transparent_value_of_16_bits_shows_white(tmp_path: Path) -> None:
    x = pixels(tmp_path, encoded(GREY16, transparency=int(GREY16[2, 3])))
    expected = GREY16 / 65535
    expected[2, 3] = 1
    assert x.shape == (1, 8, 12) and np.abs(x[0] - expected).max() < 0.002


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_in_which_zero_is_white(bits: int, tmp_path: Path) -> None:
    """Pillow writes none of 16 bits, so the tag is changed: number 262, a short, of 1, which says that zero is black."""
    values, tag = (GREY if bits == 8 else GREY16), b"\x06\x01\x03\0\x01\0\0\0"
    content = encoded(values, "TIFF")
    assert content.count(tag + b"\x01") == 1
    x = pixels(tmp_path, content.replace(tag + b"\x01", tag + b"\0"), "tif")
    assert np.abs(x[0] - (1 - values / (2**bits - 1))).max() < 0.002


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "16 bits"])
def test_images_are_turned_as_exif_says(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, kind = (GREY16, "PNG") if kind == "16 bits" else (COLOUR, kind)
    options: dict[str, Any] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    x = pixels(tmp_path, encoded(image, kind, exif=exif, **options), kind.lower())
    turned: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # the definition: where row 0 and column 0 of the file come to lie
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a[::-1].swapaxes(0, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }
    expected = turned[orientation](image / (65535 if image.ndim == 2 else 255)).reshape(*x.shape[1:], -1).transpose(2, 0, 1)
    assert np.abs(x - expected).max() < 0.03


def test_shapes_are_compared_as_the_images_stand(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying, turned = encoded(COLOUR), encoded(COLOUR, exif=exif)
    with pytest.raises(ValueError, match=r"b\.png has shape \(3, 12, 8\), the images before it \(3, 8, 12\); expected one: set size"):
        data.load(folder(tmp_path, a__png=lying, b__png=turned))
    assert data.load(f"folder:{tmp_path}", size=6).shape == (3, 6, 6)
    assert data.load(folder(tmp_path, a__png=encoded(COLOUR.transpose(1, 0, 2)))).shape == (3, 12, 8)


def test_hidden_files_and_folders_do_not_count(tmp_path: Path) -> None:
    image = encoded(GREY)
    litter = {name: b"litter" for name in ("__DS_Store", "__" + "_x__png", "__x__png", "Thumbs__db", "desktop__ini")}
    folder(tmp_path, x__png=image, **litter)
    (tmp_path / "test" / ".cache").mkdir()
    for hidden in (".ipynb_checkpoints", "__MACOSX", "cat/.ipynb_checkpoints", "dog/__MACOSX"):
        (tmp_path / "train" / hidden).mkdir()
        (tmp_path / "train" / hidden / "y.png").write_bytes(image)
    (tmp_path / "train" / ".DS_Store").write_bytes(b"litter")
    assert (tmp_path / "train" / "cat" / "._x.png").is_file()
    pixels(tmp_path, image)  # raises on a warning
    assert data.load(f"folder:{tmp_path}").classes == ("cat", "dog")


def test_what_is_left_out_is_counted_in_one_warning(tmp_path: Path) -> None:
    path = folder(tmp_path, x__png=encoded(GREY), notes__txt=b"cats", y__PNG=encoded(GREY), z__JPeG=encoded(GREY, "JPEG"), raw=b"")
    (tmp_path / "test" / "astray.png").write_bytes(encoded(GREY))
    with pytest.warns(UserWarning) as caught:
        task = data.load(path)
    assert len(caught) == 1 and caught[0].filename == __file__
    message = str(caught[0].message)
    assert message.startswith(f"9 files were left out under {tmp_path}, such as test/astray.png: not images (.png, .jpg")
    assert task.train.y.tolist() == [0, 0, 0, 1, 1, 1]
    for part in PARTS:
        (tmp_path / part / "notes.txt").unlink()
        (tmp_path / part / "raw").unlink()
    with pytest.warns(UserWarning, match="1 file was left out under"):
        data.load(path)


def test_a_class_without_images_says_what_lies_there(tmp_path: Path) -> None:
    path = folder(tmp_path, x__png=encoded(GREY))
    (tmp_path / "test" / "dog" / "x.png").unlink()
    with pytest.raises(ValueError, match=r"test/dog has no images; expected files ending in \.png"):
        data.load(path)
    for name in ("a.heic", "b.svg", "c.txt", "d.mp4"):
        (tmp_path / "test" / "dog" / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"test/dog has no images but a\.heic, b\.svg, c\.txt, \.\.\.; expected files ending in \.png"):
        data.load(path)


def test_subfolders_and_links_are_read_once_and_in_order(tmp_path: Path) -> None:
    path = folder(tmp_path / "set", b__png=encoded(np.full((4, 4), 2, np.uint8)))
    cat = tmp_path / "set" / "train" / "cat"
    (cat / "a" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    places = [cat / "a" / "deep" / "z.png", cat / "c.png", tmp_path / "elsewhere" / "y.png"]
    for place, value in zip(places, (1, 3, 4), strict=True):
        place.write_bytes(encoded(np.full((4, 4), value, np.uint8)))
    (cat / "d").symlink_to(tmp_path / "elsewhere")
    (cat / "a" / "loop").symlink_to(cat)
    (tmp_path / "set" / "train" / "dog").rename(tmp_path / "dog")
    (tmp_path / "set" / "train" / "dog").symlink_to(tmp_path / "dog")
    task = data.load(path)
    assert (255 * task.train.x[:, 0, 0, 0]).round().tolist() == [1, 2, 3, 4, 2] and task.train.y.tolist() == [0, 0, 0, 0, 1]


def test_the_first_frame_of_several(tmp_path: Path) -> None:
    later = [Image.fromarray(255 - GREY), Image.fromarray(COLOUR)]
    for kind in ("GIF", "TIFF", "PNG"):
        x = pixels(tmp_path, encoded(GREY, kind, save_all=True, append_images=later[:1]))
        assert x.shape == (1, 8, 12) and np.abs(x[0] - GREY / 255).max() < 1e-6, kind


def noisy(kind: str, **options: Any) -> bytes:
    return encoded(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8), kind, **options)


def flipped(content: bytes, marker: bytes) -> bytes:
    """The byte after a marker changed."""
    at = content.index(marker) + len(marker)
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def bomb_of_text() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("note", "x" * 2**21, zip=True)
    return encoded(GREY, pnginfo=info)


BROKEN = {
    "empty.png": b"",
    "text.jpg": b"<html>404</html>",
    "header.jpg": noisy("JPEG")[:25],
    "checksum.png": flipped(noisy("PNG"), b"IHDR"),
    "stream.png": flipped(noisy("PNG"), b"IDAT"),
    "text-bomb.png": bomb_of_text(),
    "ifd.tif": b"II*\0\x08\0\0\0\xff\xff",
    "maxval.pgm": b"P5\n4 4\n70000\n" + bytes(32),
    **{f"half.{kind.lower()}": noisy(kind)[: len(noisy(kind)) // 2] for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM")},
    "lzw.tif": noisy("TIFF", compression="tiff_lzw")[:-300],
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF data")
@pytest.mark.parametrize("others", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_broken_image_is_named(name: str, others: np.ndarray, tmp_path: Path) -> None:
    path = folder(tmp_path, a__png=encoded(others))
    (tmp_path / "test" / "dog" / name).write_bytes(BROKEN[name])
    with pytest.raises(ValueError, match=f"cannot read {tmp_path}/test/dog/{name} as an image: ."):
        data.load(path, size=8)


@pytest.mark.parametrize("limit", [90, 40])
def test_a_decompression_bomb_is_named(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 96 pixels; Pillow warns above its limit, and raises above twice its limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=r"cannot read .*cat/x\.png as an image: Image size \(96 pixels\) exceeds limit"):
        data.load(folder(tmp_path, x__png=encoded(GREY)))


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path, x__png=encoded(COLOUR))
    (tmp_path / "train" / "dog" / "y.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match=r"cannot read .*train/dog/y\.jpg as an image: .*No such file"):
        data.load(path)
