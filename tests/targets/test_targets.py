"""Gradient targets: each against its definition, on the toy and on images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pagkit import models, targets
from pagkit.data import Split, Task
from pagkit.diffusion import DDPM
from pagkit.exact import ToyDiffusion
from pagkit.losses import cosine, input_gradients
from pagkit.recipes.keys import CHANGES
from pagkit.targets import heuristics, scores
from tests.helpers import make_task


@pytest.fixture(scope="module")
def few(digits: Task) -> Task:
    return replace(digits, train=digits.train.first(80), test=digits.test.first(20))


@pytest.fixture(scope="module")
def ddpm(few: Task) -> DDPM:
    return DDPM.fit(few, epochs=2, widths=(8, 16), progress=False)


@pytest.mark.parametrize("name", ["toy", "digits"])
def test_nearest_neighbor_is_the_nearest_other_example(name: str, request) -> None:
    task = request.getfixturevalue(name)
    target, rows = targets.nearest_neighbor(task), torch.arange(0, len(task.train), 29)
    x = task.train.x[rows]
    k = len(task.classes)
    directions = target(rows, x, torch.arange(k).expand(len(rows), k))
    flat = task.train.x.flatten(1).double()
    for i, row in enumerate(rows.tolist()):
        for c in range(k):
            distance = (flat - flat[row]).norm(dim=1)
            distance[(task.train.y != c) | (torch.arange(len(flat)) == row)] = torch.inf
            assert directions[i, c].norm().item() == pytest.approx(distance.min().item(), rel=1e-4, abs=1e-6)


def test_nearest_neighbor_of_unknown_points_and_of_a_limited_pool(digits) -> None:
    target = targets.nearest_neighbor(digits, per_class=3)
    first = [(digits.train.y == c).nonzero().flatten()[:3] for c in range(10)]
    x = digits.test.x[:5]
    r = target(torch.full((5,), -1), x, torch.tensor([[7, 2]] * 5)) + x[:, None]
    for i in range(5):
        for j, c in enumerate((7, 2)):
            pool = digits.train.x[first[c]]
            best = pool[(pool - x[i]).flatten(1).norm(dim=1).argmin()]
            assert torch.allclose(r[i, j], best, atol=1e-6)
    known = torch.tensor([first[7][0].item(), -1])
    mixed = target(known, digits.train.x[[known[0].item(), 0]], torch.tensor([[7], [7]]))
    assert mixed[0].abs().sum() > 0, "an example is not its own neighbour"


@pytest.mark.parametrize("name", ["toy", "digits"])
def test_nearest_neighbor_in_chunks_is_the_same_and_ties_go_to_the_first(name: str, request, monkeypatch: pytest.MonkeyPatch) -> None:
    task = request.getfixturevalue(name)
    rows, classes = torch.arange(len(task.train)), torch.arange(len(task.classes)).expand(len(task.train), -1)
    whole = targets.nearest_neighbor(task)(rows, task.train.x, classes)
    monkeypatch.setattr(heuristics, "DISTANCES", 100 * len(rows))
    assert torch.equal(targets.nearest_neighbor(task)(rows, task.train.x, classes), whole)
    x = task.train.x.flatten(1).double()
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    first = torch.stack([distance.where(task.train.y == c, torch.inf).argmin(1) for c in range(len(task.classes))], dim=1)
    assert torch.equal(whole, task.train.x[first] - task.train.x[:, None])


@pytest.mark.parametrize("make", [targets.nearest_neighbor, lambda task: targets.control(task, change="random_image")])
def test_directions_of_other_rows_are_refused(make, few: Task) -> None:
    target, classes = make(few), torch.arange(10).expand(2, -1)
    target(torch.tensor([3, -1 if make is targets.nearest_neighbor else 5]), few.train.x[[3, 5]], classes)
    for index, wrong in (([3, 6], 6), ([80, 5], 80)):  # of a part of the split, or of a longer one
        with pytest.raises(ValueError, match=f"made from 80 training inputs, and what is given as number {wrong} is not the one"):
            target(torch.tensor(index), few.train.x[[3, 5]], classes)


def test_one_image_and_class_mean(digits) -> None:
    x, classes = digits.test.x[:4], torch.tensor([[1, 9]] * 4)
    index = torch.full((4,), -1)
    r = targets.one_image(digits, generator=torch.Generator().manual_seed(2))(index, x, classes) + x[:, None]
    for j, c in enumerate((1, 9)):
        same = (digits.train.x[digits.train.y == c] - r[0, j]).flatten(1).abs().amax(1) < 1e-6
        assert same.any() and torch.allclose(r[:, j], r[:1, j].expand(4, 1, 8, 8), atol=1e-6)
    assert torch.equal(targets.one_image(digits)(index, x, classes), targets.one_image(digits)(index, x, classes))
    mean = digits.train.x[digits.train.y == 9].mean(0)
    scaled = targets.class_mean(digits, scale=2.0)(index, x, classes)
    assert torch.allclose(scaled[:, 1], 2 * mean - x, atol=1e-6)


def test_build_knows_names_and_options(digits) -> None:
    assert targets.build("class_mean", digits, scale=2.0).name == "class_mean"
    x = (torch.tensor([-1]), digits.test.x[:1], torch.tensor([[4]]))
    assert torch.equal(targets.build("one_image", digits, seed=0)(*x), targets.one_image(digits)(*x))
    for name, options, message in (
        ("two_images", {}, "unknown gradient target 'two_images'; expected one of one_image, class_mean, nearest_neighbor"),
        ("class_mean", {"seed": 1}, "unknown option 'seed' of gradient target 'class_mean'; expected some of scale"),
        ("class_mean", {"scale": 0}, "scale is 0; expected float, above 0"),
        ("nearest_neighbor", {"per_class": 0}, "per_class is 0; expected int . None, at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            targets.build(name, digits, **options)


def test_missing_and_lonely_classes() -> None:
    task = make_task(torch.randn(5, 2), torch.tensor([0, 0, 1, 1, 1]), 3)
    for make in (targets.one_image, targets.class_mean, targets.nearest_neighbor):
        with pytest.raises(ValueError, match="class '2' has no training examples"):
            make(task)
    with pytest.raises(ValueError, match="class '1' has 1 candidate; expected at least 2"):
        targets.nearest_neighbor(make_task(torch.randn(3, 2), torch.tensor([0, 0, 1]), 2))


def test_shapes_that_do_not_fit(digits) -> None:
    with pytest.raises(ValueError, match=r"shapes \(3,\), \(2, 1, 8, 8\), \(2, 1\)"):
        targets.class_mean(digits)(torch.zeros(3), digits.test.x[:2], torch.zeros(2, 1, dtype=torch.int64))


@pytest.mark.parametrize("label", [-1, 10])
def test_classes_out_of_range(digits, label: int) -> None:
    call = (torch.tensor([0]), digits.train.x[:1], torch.tensor([[3, label]]))
    sources = [getattr(targets, name)(digits) for name in ("one_image", "class_mean", "nearest_neighbor")]
    sources += [targets.control(digits, change=change) for change in CHANGES]
    sources.append(targets.teacher(digits, torch.nn.Flatten()))
    for source in sources:
        with pytest.raises(ValueError, match=rf"classes range over \[{min(label, 3)}, {max(label, 3)}\]; expected values in \[0, 10\)"):
            source(*call)
    with pytest.raises(ValueError, match=r"classes range over \[-1, 3\]; expected values at least 0"):
        targets.GradientTarget("made", lambda index, x, classes: x[:, None])(*call[:2], torch.tensor([[3, -1]]))


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda index, x, classes: -x, ValueError, r"'own' gave directions of shape \(2, 1, 8, 8\); expected \(2, 3, 1, 8, 8\)"),
        (lambda index, x, classes: -x[:, None].sum((-1, -2), keepdim=True).expand(-1, 3, -1, -1, -1), ValueError, r"\(2, 3, 1, 1, 1\)"),
        (lambda index, x, classes: None, TypeError, "'own' gave NoneType; expected a tensor of directions"),
    ],
)
def test_directions_of_another_shape_are_refused(function, error: type[Exception], message: str, digits) -> None:
    with pytest.raises(error, match=message):
        targets.GradientTarget("own", function)(torch.tensor([0, 1]), digits.train.x[:2], torch.tensor([[0, 1, 2]] * 2))


@pytest.mark.parametrize("name", ["one_image", "class_mean", "nearest_neighbor"])
def test_inputs_of_another_dtype_or_shape_are_refused(name: str, digits) -> None:
    source, index, classes = getattr(targets, name)(digits), torch.tensor([-1]), torch.tensor([[3]])
    with pytest.raises(TypeError, match="x has dtype torch.uint8; expected a floating-point tensor"):
        source(index, torch.zeros(1, 1, 8, 8, dtype=torch.uint8), classes)
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 8, 8\); expected \(B, 1, 8, 8\)"):
        source(index, torch.zeros(1, 3, 8, 8), classes)


@pytest.mark.parametrize("draws", [1, 3])
def test_score_based_is_the_difference_of_two_scores(few, ddpm, draws: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "ROWS", 32)
    target = targets.score_based(few, ddpm, t=200, draws=draws, generator=torch.Generator().manual_seed(5))
    rows, generator, found = torch.arange(80), torch.Generator().manual_seed(5), []
    torch.randint(2**62, (), generator=generator)
    for chunk in rows.split(32):
        expected = torch.zeros(len(chunk), 10, 1, 8, 8)
        for _ in range(draws):
            x_t = ddpm.noised(few.train.x[chunk], 200, generator=generator)
            expected += torch.stack([ddpm.score(x_t, 200, c) - ddpm.score(x_t, 200) for c in range(10)], dim=1) / draws
        found.append(expected)
    directions = target(rows, few.train.x, torch.arange(10).expand(80, 10))
    error = 1 - cosine(directions, torch.cat(found))
    assert error.max() < 1e-3 and error.mean() < 2e-4
    assert (directions.flatten(2).abs().amax(2) == 127).all()


def test_score_based_of_some_classes_and_of_unknown_points(few, ddpm) -> None:
    target, classes = targets.score_based(few, ddpm, t=200), torch.arange(10).expand(4, 10)
    x, unknown = few.test.x[:4], torch.full((4,), -1)
    new = target(unknown, x, classes)
    assert torch.equal(new, target(unknown, x, classes)) and new.dtype == x.dtype
    assert torch.equal(new[:, [7, 2]], target(unknown, x, torch.tensor([[7, 2]] * 4)))
    known = target(torch.arange(4), few.train.x[:4], classes)
    mixed = target(torch.tensor([0, -1, 2, -1]), torch.stack([few.train.x[0], x[0], few.train.x[2], x[1]]), classes)
    assert torch.equal(mixed[[0, 2]], known[[0, 2]]) and torch.equal(mixed[[1, 3]], new[:2])
    state = torch.get_rng_state()
    again = targets.score_based(few, ddpm, t=200)(torch.arange(4), few.train.x[:4], classes)
    assert torch.equal(again, known) and torch.equal(torch.get_rng_state(), state)


def test_score_based_on_the_toy_points_along_the_line_towards_the_class(toy) -> None:
    """Modes differ along the line only, so g(x, c) lies on it; p(0 | x_t) g(x, 0) + p(1 | x_t) g(x, 1) = 0, so the two are opposite."""
    target = targets.score_based(toy, ToyDiffusion(toy), t=100)
    directions = target(torch.arange(600), toy.train.x, torch.arange(2).expand(600, 2))
    line = torch.tensor([1.0, 2.0]).expand(600, 2, 2)
    assert (cosine(directions, line).abs() > 0.9999).all()
    assert (cosine(directions[:, :1], directions[:, 1:]) < -0.9999).all()
    outermost = toy.train.x[:, 0] < -40  # class 0; the only way to class 1 is up the line
    assert outermost.sum() == 100 and (directions[outermost, 1] > 0).all()


def test_scores_that_are_no_numbers_are_refused(few) -> None:
    broken = DDPM(few.shape, 10, few.bounds, widths=(16,))
    next(broken.unet.parameters()).data.fill_(torch.nan)
    with pytest.raises(ValueError, match="scores that are nan or infinite"):
        targets.score_based(few, broken, t=200)(torch.tensor([-1]), few.test.x[:1], torch.tensor([[4]]))


def test_score_based_refuses_other_tasks(toy, few, ddpm) -> None:
    fewer = replace(few, classes=few.classes[:7])
    for task, model, options, message in (
        (fewer, ddpm, {}, r"knows 10 classes of inputs \(1, 8, 8\); expected the 7 classes and inputs \(1, 8, 8\) of digits"),
        (toy, ddpm, {}, r"expected the 2 classes and inputs \(2,\) of three-modes"),
        (few, ToyDiffusion(toy), {}, r"knows 2 classes of inputs \(2,\)"),
        (replace(few, bounds=(-1.0, 1.0)), ddpm, {}, r"knows inputs in \(0.0, 1.0\); expected the bounds \(-1.0, 1.0\) of digits"),
        (few, ddpm, {"t": 1000}, r"t is 1000; expected a noise level in \[0, 1000\)"),
        (few, ddpm, {"draws": 0}, "draws is 0; expected at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            targets.score_based(task, model, **{"t": 200, **options})
    for model, task in ((ddpm, few), (ToyDiffusion(toy), toy)):
        with pytest.raises(TypeError, match="t is 1.5; expected a whole number"):
            targets.score_based(task, model, t=1.5)


def test_directions_in_a_file_are_the_same_and_made_once(tmp_path: Path, digits) -> None:
    task = replace(digits, train=digits.train.first(40))
    ddpm = DDPM(task.shape, 10, task.bounds, widths=(16,))
    index, classes = torch.tensor([3, 39, -1, 0]), torch.tensor([[1, 2], [9, 0], [4, 5], [7, 7]])
    asked = index, task.train.x[index], classes
    plain = targets.score_based(task, ddpm, t=200, progress=False)(*asked)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(scores, "_int8", lambda found: (_ for _ in ()).throw(KeyboardInterrupt))
        stopped = targets.score_based(task, ddpm, t=200, folder=tmp_path, progress=False)
        stopped(*asked)
    assert list(tmp_path.iterdir()) == []
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(stopped(*asked), plain), "the noise begins anew, and the precision is that of the weights"
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("directions-") and path.stat().st_size == 40 * 10 * 64
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "difference", lambda *_: 1 / 0)
        kept = targets.score_based(task, ddpm, t=200, folder=tmp_path, progress=False)
        assert torch.equal(kept(*(value[:2] for value in asked)), plain[:2]), "read, not made"
    targets.score_based(task, ddpm, t=201, folder=tmp_path, progress=False)(*asked)
    assert len(list(tmp_path.iterdir())) == 2, "another noise level, another file"
    path.write_bytes(b"cut")
    with pytest.raises(ValueError, match="has 3 bytes; expected 25600; delete it"):
        targets.score_based(task, ddpm, t=200, folder=tmp_path, progress=False)(*asked)


@pytest.mark.parametrize("change", CHANGES)
def test_controls_against_their_definitions(change: str, few: Task) -> None:
    rows, classes = torch.arange(30), torch.tensor([[3, 9]] * 30)
    x, source = few.train.x[:30], targets.nearest_neighbor(few)
    found = targets.control(few, change=change)(rows, x, classes)
    assert found.shape == (30, 2, *few.shape) and torch.equal(found, targets.build("control", few, change=change)(rows, x, classes))
    own = source(rows, x, classes)
    if change == "wrong_class":
        assert torch.equal(found, source(rows, x, torch.tensor([[4, 0]] * 30)))
    elif change == "other_example":
        every = source(torch.arange(80), few.train.x, torch.tensor([[3, 9]] * 80))
        same = (found[:, None] == every[None]).flatten(2).all(2)
        assert same.any(1).all() and not same.diagonal().any(), "another example's directions, and nobody's own"
    elif change == "random_image":
        reached = found + x[:, None]
        for column, label in enumerate((3, 9)):
            pool = few.train.x[few.train.y == label]
            assert torch.cdist(reached[:, column].flatten(1), pool.flatten(1)).amin(1).max() < 1e-5
    elif change == "mean_image":
        assert torch.allclose(found, (few.train.x.mean(0) - x)[:, None].expand_as(found))
    elif change == "smooth_field":
        assert (found == found[:1]).all() and cosine(found[:1, :1], found[:1, 1:]).abs() < 0.9
    elif change == "blurred":
        inside = torch.stack([own[..., 1 + i : 7 + i, 1 + j : 7 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)]).mean(0)
        assert torch.allclose(found[..., 1:7, 1:7], inside, atol=1e-6)
    else:
        assert torch.allclose(found + targets.control(few, change="blurred")(rows, x, classes), own, atol=1e-6)


def test_a_control_of_scores(few: Task) -> None:
    ddpm, asked = DDPM(few.shape, 10, few.bounds, widths=(16,)), (torch.arange(6), few.train.x[:6], torch.tensor([[3, 9]] * 6))
    how = {"t": 200, "progress": False}
    found = targets.build("control", few, change="wrong_class", ddpm=ddpm, **how)(*asked)
    source = targets.score_based(few, ddpm, **how)
    new = torch.tensor([-1]), few.test.x[:1], torch.tensor([[3]])
    plain, *seeded = (
        targets.build("control", few, change="wrong_class", ddpm=ddpm, **how, **more)(*new) for more in ({}, {"seed": 0}, {"seed": 1})
    )
    assert [torch.equal(plain, other) for other in seeded] == [True, False], "its seed is that of the scores' noise"
    assert torch.equal(found, source(*asked[:2], torch.tensor([[4, 0]] * 6)))
    for options, message in (({"t": 200}, "has t and no ddpm"), ({"draws": 2}, "has draws and no"), ({"ddpm": ddpm}, "a ddpm and no t")):
        with pytest.raises(ValueError, match=message):
            targets.build("control", few, change="blurred", **options)


def test_a_teacher_gives_the_gradients_of_its_log_odds_and_is_left_as_it_was(few: Task) -> None:
    model = models.build("cnn", few, seed=3).train()
    classes = torch.tensor([[0, 7]] * 5)
    with torch.no_grad():
        found = targets.teacher(few, model)(torch.arange(5), few.train.x[:5], classes)
    expected, _ = input_gradients(model, few.train.x[:5], classes)
    assert torch.allclose(found, expected, atol=1e-6) and not found.requires_grad
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda few, toy: targets.control(few, change="sharp"), "change is 'sharp'; expected one of wrong_class, other_example"),
        (lambda few, toy: targets.control(toy, change="blurred"), r"change 'blurred' of inputs with shape \(2,\); expected images"),
        (
            lambda few, toy: targets.control(few, change="random_image")(torch.tensor([-1]), few.test.x[:1], torch.tensor([[1]])),
            "change 'random_image' at an input that is not in the training split",
        ),
        (lambda few, toy: targets.build("teacher", few, teacher="digits-standard"), "teacher is 'digits-standard'; expected a model"),
    ],
)
def test_controls_refuse(call, message: str, few: Task, toy: Task) -> None:
    with pytest.raises(ValueError, match=message):
        call(few, toy)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_common_offset_changes_no_neighbour(offset: float) -> None:
    """In float32 the squares of the offset would drown the distances."""
    x = torch.randn(300, 20, generator=torch.Generator().manual_seed(0)) + offset
    split = Split(x, torch.arange(300) % 2)
    task = Task("table", ("a", "b"), (-torch.inf, torch.inf), split, split)
    found = targets.nearest_neighbor(task)(torch.arange(300), x, torch.arange(2).expand(300, 2)).double().norm(dim=2)
    distance = torch.cdist(x.double(), x.double()).fill_diagonal_(torch.inf)
    for c in range(2):
        torch.testing.assert_close(found[:, c], distance[:, split.y == c].amin(1), rtol=1e-3, atol=0)
