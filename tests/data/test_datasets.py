"""Data sets: shapes, bounds, seeds, folders, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pagkit import data, exact
from pagkit.data import Split


def test_three_modes_is_the_published_toy() -> None:
    task = data.load("three-modes", seed=4)
    assert task.shape == (2,) and task.bounds == (-math.inf, math.inf) and task.classes == ("class 0", "class 1")
    assert len(task.train) == 6000 and len(task.test) == 600
    x, y = task.train.x, task.train.y
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    assert torch.equal(x[:, 1], 2 * x[:, 0])
    nearest = (x[:, 0] / 20).round(decimals=0)  # modes lie at +-10, +-30, +-50
    mode = ((x[:, 0] / 10 - 1) / 2).round() * 2 + 1
    assert {int(m) for m in mode[y == 0].unique()} == {-5, -1, 3} and {int(m) for m in mode[y == 1].unique()} == {-3, 1, 5}
    spread = (x[:, 0] - 10 * mode).std().item()
    assert spread == pytest.approx(1, abs=0.05) and nearest.isfinite().all()


@pytest.mark.parametrize("name", ["three-modes", "digits"])
def test_seeds_decide_and_global_state_is_left(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = data.load(name, seed=1), data.load(name, seed=1), data.load(name, seed=2)
    assert torch.equal(first.train.x, again.train.x) and not torch.equal(first.train.x, other.train.x)
    assert torch.equal(torch.get_rng_state(), before)


def test_digits_have_equal_shares_and_bounds() -> None:
    task = data.load("digits")
    assert task.shape == (1, 8, 8) and len(task.train) == 1297 and len(task.test) == 500
    assert task.train.x.min() == 0 and task.train.x.max() == 1
    assert task.test.y.bincount().min() >= 48
    both = torch.cat([task.train.x, task.test.x]).flatten(1)
    assert len(both.unique(dim=0)) == len(both), "an image is in both splits"


def test_subsets_are_seeded_and_balanced() -> None:
    task = data.load("digits", train_per_class=7, test_per_class=3, seed=5)
    assert task.train.y.bincount().tolist() == [7] * 10 and task.test.y.bincount().tolist() == [3] * 10
    assert torch.equal(task.train.x, data.load("digits", train_per_class=7, seed=5).train.x)


def rows(split: data.Split) -> set[bytes]:
    found = {x.numpy().tobytes() for x in split.x}
    assert len(found) == len(split), "no example is there twice"
    return found


@pytest.mark.parametrize(("name", "holdout"), [("digits", 300), ("three-modes", 50), ("digits", 1), ("digits", 1296)])
def test_what_is_held_out_is_a_part_of_the_training_split(name: str, holdout: int) -> None:
    few = {"train_per_class": 60} if name == "three-modes" else {}  # of many, two are the same float32 by chance
    whole, task, again = (data.load(name, seed=3, holdout=n, **few) for n in (None, holdout, holdout))
    assert task.name == f"{name}+holdout={holdout}" and (task.classes, task.bounds) == (whole.classes, whole.bounds)
    assert len(task.test) == holdout and len(task.train) == len(whole.train) - holdout
    assert rows(task.train) | rows(task.test) == rows(whole.train) and not rows(task.train) & rows(task.test)
    assert not rows(task.test) & rows(whole.test), "the test split plays no part"
    shares = whole.train.y.bincount() * holdout / len(whole.train)
    assert (task.test.y.bincount(minlength=len(whole.classes)) - shares).abs().max() < 1
    assert torch.equal(task.test.x, again.test.x) and torch.equal(task.train.x, again.train.x)
    places = {x.numpy().tobytes(): i for i, x in enumerate(whole.train.x)}
    for split in (task.train, task.test):
        where = [places[x.numpy().tobytes()] for x in split.x]
        assert where == sorted(where) and torch.equal(whole.train.y[where], split.y)
    if holdout > 1:
        assert rows(task.test) != rows(data.load(name, seed=4, holdout=holdout, **few).test)


def test_a_subset_is_picked_among_what_is_not_held_out() -> None:
    task = data.load("digits", holdout=300, train_per_class=20, test_per_class=1)
    assert task.train.y.bincount().tolist() == [20] * 10 and len(task.test) == 300
    assert rows(task.test) == rows(data.load("digits", holdout=300).test) and not rows(task.train) & rows(task.test)


def test_exact_scores_know_the_toy_without_what_is_held_out() -> None:
    x = torch.randn(5, 2)
    toy, less = data.load("three-modes"), data.load("three-modes", holdout=60)
    assert torch.equal(exact.score(toy, x, 100), exact.score(less, x, 100))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for name in ("cat", "dog", "yak"):
            where = tmp_path / part / name
            where.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(where / f"{i}.png")
    return tmp_path


def test_folder_reads_images_in_order(folder: Path) -> None:
    task = data.load(f"folder:{folder}")
    assert task.classes == ("cat", "dog", "yak") and task.shape == (3, 6, 5) and task.bounds == (0.0, 1.0)
    assert task.train.y.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and len(task.test) == 6
    expected = np.asarray(Image.open(folder / "train" / "dog" / "2.png")) / 255
    assert np.allclose(task.train.x[6].permute(1, 2, 0).numpy(), expected)
    assert data.load(f"folder:{folder.name}", root=folder.parent, size=8, train_per_class=2).train.x.shape == (6, 3, 8, 8)


def test_a_folder_has_its_own_name_from_inside_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert data.load("folder:.").name == data.load(f"folder:{folder}").name == f"folder:{folder.name}"


def test_a_part_of_a_folder_is_held_out(folder: Path) -> None:
    task = data.load(f"folder:{folder}", holdout=5)
    assert task.name == f"folder:{folder.name}+holdout=5" and (len(task.train), len(task.test)) == (7, 5)
    assert sorted(task.test.y.bincount().tolist()) == [1, 2, 2] and not rows(task.train) & rows(task.test)
    with pytest.raises(ValueError, match="holdout is 12 of 12 training examples; expected at most 11"):
        data.load(f"folder:{folder}", holdout=12)


def test_folder_of_grey_images_has_one_channel(folder: Path) -> None:
    for file in folder.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    assert data.load(f"folder:{folder}").shape == (1, 6, 5)


def test_bad_folders(folder: Path) -> None:
    def refuses(kind: type[Exception], message: str) -> None:
        with pytest.raises(kind, match=message):
            data.load(f"folder:{folder}")

    with pytest.raises(FileNotFoundError, match="nowhere; expected"):
        data.load(f"folder:{folder / 'nowhere'}")
    (folder / "train" / "cat" / "4.png").write_bytes(b"not a picture")
    refuses(ValueError, r"cannot read .*4\.png as an image")
    Image.new("RGB", (9, 9)).save(folder / "train" / "cat" / "4.png")
    refuses(ValueError, r"4\.png has shape \(3, 9, 9\), the images before it \(3, 6, 5\); expected one: set size")
    (folder / "train" / "cat" / "4.png").unlink()
    for file in (folder / "test" / "yak").iterdir():
        file.unlink()
    refuses(ValueError, "yak has no images; expected files ending in .png")
    (folder / "test" / "yak").rmdir()
    refuses(ValueError, "differ in their classes: yak is in only one of them")
    for file in (folder / "test").rglob("*.png"):
        file.unlink()
    (folder / "test" / "cat").rmdir()
    (folder / "test" / "dog").rmdir()
    (folder / "test").rmdir()
    refuses(FileNotFoundError, "no folder .*test; expected .* with train/<class>/ and test/<class>/")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnist", {}, "unknown data set 'mnist'; expected one of three-modes, digits, cifar10, cifar100, stl10, folder:<path>"),
        ("digits", {"train_per_class": 0}, "train_per_class is 0; expected at least 1"),
        ("digits", {"holdout": 0}, "holdout is 0; expected at least 1"),
        ("digits", {"holdout": 1297}, "holdout is 1297 of 1297 training examples; expected at most 1296"),
        ("three-modes", {"holdout": 6, "train_per_class": 3}, "holdout is 6 of 6 training examples; expected at most 5"),
        ("digits", {"size": 32}, "size=32 was given for 'digits'"),
        ("three-modes", {"test_per_class": 100}, "100 examples a class; expected a multiple of 3"),
        ("three-modes", {"train_per_class": 3 * 10**15}, "3000000000000000 examples a class; expected as many as memory holds"),
        ("digits", {"seed": -1}, "seed is -1; expected 0 to 4294967295"),
        ("digits", {"seed": 2**32}, "seed is 4294967296; expected 0 to 4294967295"),
    ],
)
def test_bad_calls(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.load(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (Path("digits"), {}, r"the data set is .*Path\('digits'\); expected its name as text, one of three-modes, digits"),
        ("digits", {"train_per_class": 10.0}, "train_per_class is 10.0; expected a whole number, at least 1"),
        ("digits", {"holdout": 300.0}, "holdout is 300.0; expected a whole number"),
        ("digits", {"holdout": True}, "holdout is True; expected a whole number"),
        ("folder:x", {"size": 8.0}, "size is 8.0; expected a whole number"),
        ("digits", {"seed": 1.0}, "seed is 1.0; expected a whole number"),
    ],
)
def test_what_is_no_name_or_number_is_refused(name, options: dict, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        data.load(name, **options)


def test_numbers_of_numpy_are_numbers() -> None:
    one, other = (data.load("digits", seed=kind(3), train_per_class=kind(2)) for kind in (int, np.int64))
    assert torch.equal(one.train.x, other.train.x)


def test_the_home_folder_in_a_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert data.load(f"folder:{folder.name}", root="~").name == data.load(f"folder:~/{folder.name}").name == f"folder:{folder.name}"
    with pytest.raises(FileNotFoundError, match="no folder ~nobody-here/x; expected"):
        data.load("folder:~nobody-here/x")


def test_bounds_given_as_a_list_are_a_tuple() -> None:
    split = Split(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    assert data.Task("made", ("a",), [0.0, 1.0], split, split).bounds == (0.0, 1.0)


def test_vectors_are_not_moved() -> None:
    for how in ({"crop": 0, "flip": True}, {"crop": 1, "flip": False}):
        with pytest.raises(ValueError, match=r"x has shape \(4, 2\); expected images \(B, C, H, W\)"):
            data.augment(torch.rand(4, 2), None, **how, generator=torch.Generator())


def test_rows_at_even_distances_leave_no_class_out() -> None:
    split = Split(torch.arange(600.0)[:, None], torch.arange(600) // 200)
    assert split.spread(7).x.flatten().tolist() == [0, 85, 171, 257, 342, 428, 514]
    assert split.spread(30).y.bincount().tolist() == [10, 10, 10]
    assert torch.equal(split.spread(1000).x, split.x) and len(split.spread(0)) == 0
