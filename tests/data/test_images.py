"""CIFAR and STL in their true formats, a few images each: read, fetched, refused. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100, STL10, utils

from pagkit import data
from pagkit.data import images as datasets

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


@pytest.mark.parametrize("name", datasets.DOWNLOADS)
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


def test_classes_have_their_names(publish, root: Path) -> None:
    put(publish("cifar100"), root)
    assert data.load("cifar100", root=root).classes[98] == "name 98"
    assert datasets.STL10_CLASSES == ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def test_stl_images_stand_upright_and_the_unlabelled_stay_packed(publish, root: Path) -> None:
    put(publish("stl10"), root)
    task = data.load("stl10", root=root, size=48)
    assert task.shape == (3, 48, 48) and task.classes == datasets.STL10_CLASSES
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


@pytest.mark.parametrize("name", datasets.DOWNLOADS)
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
