"""Training: reproducible, stops on a loss that is not finite, augmentation commutes with directions, recipes checked."""

from __future__ import annotations

import copy
import math
import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

from pagkit import losses, models, targets, training
from pagkit.data import Split, Task, augment
from pagkit.models import log_odds
from pagkit.training import Recipe, TrainingDiverged, checkpoints, fit, loop, processes
from pagkit.training.fit import check as fit_check
from pagkit.training.fit import single
from tests.helpers import Fragile, make_task

EVERYTHING = "digits-pag-nn-slope+method=pag-slope-noise-adversarial+noise=0.1+eps=0.5"


def short(name: str, **changes: object) -> Recipe:
    return Recipe.load(name, **{"epochs": 3, **changes})


@pytest.mark.parametrize("name", ["three-modes-standard", "three-modes-pag-nn", "digits-adversarial-l2"])
def test_same_seed_same_weights(name: str, toy, digits) -> None:
    recipe = short(name, epochs=2)
    task = toy if recipe.task == "three-modes" else replace(digits, train=digits.train.first(200))
    states, global_state = [], torch.get_rng_state()
    for seed in (1, 1, 2):
        model = models.build(recipe.model, task, seed=0, **recipe.model_options)
        fit(model, task, short(name, epochs=2, seed=seed), progress=False)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    assert torch.equal(torch.get_rng_state(), global_state)


def test_dropout_is_drawn_from_the_recipes_seed_also_when_it_is_resumed(toy, tmp_path: Path) -> None:
    start, weights = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 2)), []
    for seed, how in ((1, [{}]), (1, [{"run_dir": tmp_path, "stop": lambda: True}, {"run_dir": tmp_path, "resume": True}]), (2, [{}])):
        model = copy.deepcopy(start)
        for options in how:
            torch.rand(3)
            before = torch.get_rng_state()
            fit(model, toy, short("three-modes-standard", seed=seed), progress=False, **options)
            assert torch.equal(torch.get_rng_state(), before)
        weights.append(model[0].weight)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_history_mode_and_gradients(toy) -> None:
    recipe = short("three-modes-pag-nn", epochs=4, ramp=[0.5, 1.0], schedule="cosine")
    model = models.build("mlp", toy).eval()
    history = fit(model, toy, recipe, progress=False)
    assert not model.training and all(p.grad is None for p in model.parameters())
    assert len(history.total) == len(history.lr) == 4 and history.seconds > 0
    assert history.weight[:2] == [0, 0] and 0 < history.weight[2] < history.weight[3] < 5
    assert history.lr == sorted(history.lr, reverse=True)
    assert history.cross_entropy[-1] < history.cross_entropy[0]


def test_training_reduces_loss_and_pag_raises_alignment(toy) -> None:
    recipe = short("three-modes-pag-nn", epochs=15, weight=1.0, model_options={"hidden": [32], "normalize": 40.0})
    model = models.build("mlp", toy, **recipe.model_options)
    history = fit(model, toy, recipe, progress=False)
    assert history.alignment[-1] > history.alignment[0] + 0.05


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_weights(toy) -> None:
    recipe = short("three-modes-standard", epochs=5, batch_size=100)  # 6 steps an epoch
    reference, model = Fragile(10**6), Fragile(6 + 6 + 2)
    model.layer.load_state_dict(reference.layer.state_dict())
    fit(reference, toy, short("three-modes-standard", epochs=2, batch_size=100), progress=False)
    with pytest.raises(TrainingDiverged, match=r"the loss became nan at step 15 \(epoch 3\); .* those of the end of epoch 2"):
        fit(model, toy, recipe, progress=False)
    assert torch.equal(model.layer.weight, reference.layer.weight)


def test_diverging_at_once_keeps_the_initial_weights(toy) -> None:
    model = models.build("mlp", toy)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(TrainingDiverged, match="the initial ones"):
        fit(model, toy, short("three-modes-standard", optimizer="sgd", lr=1e30), progress=False)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(("crop", "flip"), [(0, True), (2, False), (2, True)])
def test_augmentation_commutes_with_directions(digits, crop: int, flip: bool) -> None:
    """The direction of the moved image is the moved direction: aug(r) - aug(x) = aug(r - x)."""
    rows, classes = torch.arange(30), torch.arange(10).expand(30, 10)
    x = digits.train.x[:30]
    directions = targets.nearest_neighbor(digits)(rows, x, classes)
    r = directions + x[:, None]
    how = {"crop": crop, "flip": flip}
    moved_x, moved = augment(x, directions, **how, generator=torch.Generator().manual_seed(1))
    _, moved_r = augment(x, r, **how, generator=torch.Generator().manual_seed(1))
    alone, _ = augment(x, None, **how, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(moved_r - moved_x[:, None], moved, atol=1e-6)
    assert torch.equal(alone, moved_x) and not torch.equal(moved_x, x)


def test_augmentation_shifts_and_flips() -> None:
    x = torch.zeros(500, 1, 5, 5)
    x[:, :, 2, 1] = 1
    moved, _ = augment(x, None, crop=1, flip=True, generator=torch.Generator().manual_seed(0))
    assert (moved.flatten(1).sum(1) == 1).all()
    places = moved.mean(0)[0].nonzero()
    assert places.min(0).values.tolist() == [1, 0] and places.max(0).values.tolist() == [3, 4]


@pytest.mark.parametrize("error", [KeyboardInterrupt, TrainingDiverged])
def test_a_training_that_breaks_off_leaves_no_gradient_and_no_order_of_memory(error: type[BaseException], digits) -> None:
    task, model = replace(digits, train=digits.train.first(40)), models.build("cnn", digits, width=4).eval()

    def stop() -> bool:
        raise error

    with pytest.raises(error):
        fit(model, task, short("digits-standard", channels_last=True), progress=False, stop=stop)
    assert all(p.grad is None and p.is_contiguous() for p in model.parameters()) and not model.training


def test_what_the_caller_does_with_gradients_changes_nothing(toy) -> None:
    weights, contexts = [], (nullcontext, torch.no_grad, torch.inference_mode)
    for context in contexts:
        model = models.build("mlp", toy)
        with context():
            x = toy.train.x.clone() if context is torch.inference_mode else toy.train.x.clone().requires_grad_()
            fit(model, replace(toy, train=Split(x, toy.train.y.clone())), short("three-modes-pag-nn"), progress=False)
        assert x.grad is None
        weights.append(model.state_dict())
    assert all(torch.equal(value, other[name]) for other in weights[1:] for name, value in weights[0].items())
    with torch.inference_mode():
        model = models.build("mlp", toy)
    with pytest.raises(ValueError, match="parameters were made inside torch.inference_mode; expected one built or loaded outside it"):
        fit(model, toy, short("three-modes-standard"), progress=False)


def test_bad_tasks(toy) -> None:
    model = models.build("mlp", toy)
    empty = make_task(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match="training split of made is empty"):
        fit(model, empty, short("three-modes-standard"), progress=False)
    with pytest.raises(ValueError, match=r"crop and flip need images .* shape \(2,\)"):
        fit(model, toy, short("three-modes-standard", crop=1), progress=False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda y: y.fill_(-100), ValueError, r"training labels of made range over \[-100, -100\]; expected values in \[0, 2\)"),
        (lambda y: y + 1, ValueError, r"training labels of made range over \[1, 2\]; expected values in \[0, 2\)"),
        (lambda y: y[:, None], ValueError, r"x has shape \(4, 2\) and y \(4, 1\); expected \(N, \*shape\) and \(N,\)"),
        (lambda y: y.float(), TypeError, "y has dtype torch.float32; expected torch.int64"),
    ],
)
def test_bad_labels(change, error: type[Exception], message: str, toy) -> None:
    task = make_task(torch.randn(4, 2), change(torch.tensor([0, 1, 0, 1])), 2)
    with pytest.raises(error, match=message):
        fit(models.build("mlp", toy), task, short("three-modes-standard"), progress=False)
    with pytest.raises(ValueError, match="x has 3 rows and y has 2"):
        Split(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))


def test_every_recipe_loads_and_describes_itself() -> None:
    for name in training.recipe_names():
        recipe = Recipe.load(name)
        assert recipe.name == name and recipe.description


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: digits\nmodel: cnn\nmethod: standard\nepochs: 1\nlr: 0.1\nlamda: 2", "unknown key 'lamda'; expected some of name, task"),
        ("task: digits\nmodel: cnn\nmethod: standard\nepochs: 1", "key 'lr' is missing"),
        ("task: digits\nmodel: cnn\nmethod: magic\nepochs: 1\nlr: 0.1", "method is 'magic'; expected one of standard"),
        ("task: digits\nmodel: cnn\nmethod: standard\nepochs: 0\nlr: 0.1", "epochs is 0; expected int, at least 1"),
        ("task: digits\nmodel: cnn\nmethod: standard\nepochs: 1\nlr: -0.1", "lr is -0.1; expected float, above 0"),
        ("task: digits\nmodel: cnn\nmethod: pag\nepochs: 1\nlr: 0.1", "method is 'pag' with target None"),
        ("task: digits\nmodel: cnn\nmethod: standard\nepochs: 1\nlr: 0.1\nramp: [0.6, 0.3]", r"ramp is \(0.6, 0.3\)"),
        ("task: digits\nmodel: cnn\nmethod: standard\nepochs: ten\nlr: 0.1", "epochs is 'ten'; expected int"),
        ("- a\n- b", "holds list; expected a mapping"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        Recipe.load(tmp_path / "mine.yaml")


def test_a_name_carries_settings() -> None:
    recipe = Recipe.load("digits-pag-nn+weight=0.125+model_options.activation=relu+ramp=[0, 0.5]")
    assert recipe.name == "digits-pag-nn+weight=0.125+model_options.activation=relu+ramp=[0, 0.5]"
    assert (recipe.weight, recipe.model_options["activation"], recipe.ramp) == (0.125, "relu", (0, 0.5))
    plain = Recipe.load("digits-pag-nn")
    assert plain.name == "digits-pag-nn" and plain.weight != 0.125
    assert replace(plain, name=recipe.name, weight=0.125, ramp=(0, 0.5), model_options=recipe.model_options) == recipe
    longer = Recipe.load("digits-pag-nn+metrics.pgd-l2-0.5.steps=100+weight=1")
    assert longer.metrics == {**plain.metrics, "pgd-l2-0.5": {**plain.metrics["pgd-l2-0.5"], "steps": 100}} and longer.weight == 1
    with pytest.raises(ValueError, match="unknown key 'lamda'"):
        Recipe.load("digits-pag-nn+lamda=1")
    with pytest.raises(ValueError, match="is not valid YAML"):
        Recipe.load("digits-pag-nn+ramp=[")
    with pytest.raises(ValueError, match=r"setting 'lr.x=1' asks for an option inside lr, which is 0.002; expected one that holds"):
        Recipe.load("digits-pag-nn+lr.x=1")


@pytest.mark.parametrize("value", ["digits-ddpm+epochs=1", "runs/digits-ddpm+epochs=1-seed0/model.safetensors", "'é+a=1' # +b=2"])
def test_a_setting_is_whole_and_its_name_is_read_back(value: str) -> None:
    setting = f"target_options.ddpm={value}"
    recipe = Recipe.load("digits-pag-sbg", setting, "epochs=7")
    assert recipe.target_options["ddpm"] == yaml.safe_load(value) and recipe.epochs == 7
    assert Recipe.load(recipe.name) == recipe == Recipe.load("digits-pag-sbg").changed(setting, "epochs=7")
    assert Recipe.load("digits-pag-sbg", "epochs=7").name == "digits-pag-sbg+epochs=7"


def test_pag_adversarial_takes_cross_entropy_on_attacked_inputs(digits) -> None:
    """At weight 0 it is adversarial training, weight for weight; at a positive one it is not, and the alignment is reported."""
    task = replace(digits, train=digits.train.first(200))
    how = {"epochs": 2, "model_options": {"width": 8}, "eps": 1.0, "ramp": [0.0, 0.0]}
    nets = {}
    for name, recipe in {
        "adversarial": Recipe.load("digits-adversarial-l2", **how),
        "weight 0": Recipe.load("digits-pag-nn", method="pag-adversarial", **how, weight=0),
        "weight 1": Recipe.load("digits-pag-nn", method="pag-adversarial", **how, weight=1),
    }.items():
        recipe = replace(recipe, batch_size=64, lr=0.002, optimizer="adamw", schedule="one-cycle", weight_decay=0.0)
        nets[name] = models.build("cnn", task, width=8, seed=1)
        history = fit(nets[name], task, recipe, progress=False)
        assert (history.alignment[-1] == history.alignment[-1]) == (name == "weight 1")
    states = {name: net.state_dict() for name, net in nets.items()}
    assert all(torch.equal(value, states["weight 0"][key]) for key, value in states["adversarial"].items())
    assert not all(torch.equal(value, states["weight 1"][key]) for key, value in states["adversarial"].items())


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("slope", {"slope": 0.3}),
        ("slope", {"slope": 0.3, "slope_of": "log_odds"}),
        ("noise", {"noise": 0.2}),
        ("slope-noise", {"slope": 0.3, "noise": 0.2}),
    ],
)
def test_slope_and_noise_are_what_they_say(method: str, keys: dict, toy) -> None:
    """The library's training is the loop below, also where the bounds are infinite: the slope at x, cross-entropy with noise."""
    recipe = Recipe("made", "three-modes", "mlp", method, epochs=2, lr=0.05, optimizer="sgd", batch_size=100, **keys)
    model, ours = (models.build("mlp", toy, normalize=40.0) for _ in range(2))
    history = fit(model, toy, recipe, progress=False)
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.05, momentum=0.9)
    generator, slopes = torch.Generator().manual_seed(0), []
    for _ in range(2):
        for rows in torch.randperm(len(toy.train), generator=generator).split(100):
            x, y = toy.train.x[rows].requires_grad_(), toy.train.y[rows]
            seen = x.detach() + recipe.noise * torch.randn(x.shape, generator=generator) if recipe.noise else x
            logits, seen_logits = ours(x), ours(seen)
            each = F.cross_entropy(logits, y, reduction="none") if recipe.slope_of == "loss" else log_odds(logits, y)
            slope = torch.autograd.grad(each.sum(), x, create_graph=True)[0].square().sum(1).mean()
            optimizer.zero_grad()
            (F.cross_entropy(seen_logits, y) + recipe.slope * slope).backward()
            optimizer.step()
            slopes.append(slope.item())
    for key, value in ours.state_dict().items():
        assert torch.allclose(value, model.state_dict()[key], atol=1e-6), key
    steps = len(slopes) // 2
    assert history.slope == (pytest.approx([sum(slopes[:steps]) / steps, sum(slopes[steps:]) / steps], rel=1e-4) if recipe.slope else [])
    assert len(history.alignment) == 2 and all(math.isnan(value) for value in history.alignment)


def test_a_slope_that_is_trained_is_smaller(digits) -> None:
    task, slopes = replace(digits, train=digits.train.first(300)), {}
    for weight in (1e-9, 1.0):
        recipe = Recipe.load("digits-slope", epochs=12, slope=weight)
        slopes[weight] = fit(models.build("cnn", task, width=8), task, recipe, progress=False).slope[-1]
    assert slopes[1.0] < slopes[1e-9] / 4


def test_noise_falls_on_what_was_attacked(digits, monkeypatch) -> None:
    task, plain = replace(digits, train=digits.train.first(64)), losses.objective
    found: list[tuple[torch.Tensor, torch.Tensor]] = []

    def spy(model, x, y, terms, *, seen: torch.Tensor, **how: object) -> losses.Objective:
        found.append((x, seen))
        return plain(model, x, y, terms, seen=seen)

    monkeypatch.setattr(losses, "objective", spy)
    recipe = Recipe.load("digits-noise+method=noise-adversarial+eps=0.5+noise=0.1+schedule=constant", epochs=1, batch_size=64, steps=2)
    fit(models.build("cnn", task, width=4), task, recipe, progress=False)
    ((x, seen),) = found
    away = (seen - x).flatten(1).norm(dim=1)
    assert seen.min() < 0 and seen.max() > 1, "not clipped"
    assert away.mean().item() == pytest.approx((0.1**2 * 64 + 0.5**2) ** 0.5, rel=0.1)


@pytest.mark.parametrize("name", ["digits-standard+crop=1+flip=true", "digits-adversarial-l2", "digits-pag-nn-adversarial", EVERYTHING])
def test_accumulated_steps_are_the_same(name: str, digits) -> None:
    task, states = replace(digits, train=digits.train.first(150)), []
    for parts in (1, 3, 100):  # of 128 examples, and of 22: some parts are empty
        recipe = short(name, epochs=1, batch_size=128, optimizer="sgd", lr=0.05, accumulate=parts, steps=2)
        model = models.build("cnn", task, width=4)
        history = fit(model, task, recipe, progress=False)
        states.append((model.state_dict(), history.total))
    for state, total in states[1:]:
        assert total == pytest.approx(states[0][1], rel=1e-5)
        assert all(torch.allclose(value, state[key], rtol=0, atol=1e-6) for key, value in states[0][0].items())


@pytest.mark.parametrize("change", ["precision=bf16", "precision=bf16-gradients", "channels_last=true", "compile=true"])
@pytest.mark.parametrize("name", ["digits-pag-nn-adversarial", "digits-standard", "digits-slope-noise", EVERYTHING])
def test_faster_steps_come_near_the_plain_ones(name: str, change: str, digits) -> None:
    if change.startswith("compile") and not os.environ.get("PAGKIT_TEST_COMPILE"):
        pytest.skip("minutes of a compiler's time; PAGKIT_TEST_COMPILE=1 runs it")
    task, nets = replace(digits, train=digits.train.first(96)), []
    for setting in ("seed=0", change):
        recipe = Recipe.load(f"{name}+{setting}", epochs=1, batch_size=48, optimizer="sgd", lr=0.05, ramp=[0.0, 0.0], steps=2)
        model = models.build("cnn", task, width=4)
        fit(model, task, recipe, progress=False)
        assert all(value.is_contiguous() and value.dtype == torch.float32 for value in model.state_dict().values())
        nets.append(torch.cat([value.flatten() for value in model.parameters()]))
    away = (nets[1] - nets[0]).norm() / nets[0].norm()
    bf16 = change.startswith("precision=bf16")
    assert away < (1e-2 if bf16 else 1e-5) and (away > 0 or not bf16)


def test_alignment_stays_in_float32_under_autocast_unless_asked(digits) -> None:
    model, x, y = models.build("cnn", digits, width=4), digits.train.x[:8], digits.train.y[:8]
    classes = torch.arange(10).expand(8, 10)
    directions = targets.class_mean(digits)(torch.arange(8), x, classes)
    plain = losses.pag_loss(model, x, y, directions, classes, weight=1.0, attacked=x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = losses.pag_loss(model, x, y, directions, classes, weight=1.0, attacked=x)
        terms = [(1.0, losses.Alignment(directions, classes))]
        asked = losses.objective(model, x, y, terms, autocast=True)
    assert torch.equal(plain.alignment, mixed.alignment) and not torch.equal(plain.cross_entropy, mixed.cross_entropy)
    assert asked.alignment.dtype == asked.total.dtype == torch.float32
    assert 0 < (asked.alignment - plain.alignment).abs() < 1e-2
    assert torch.equal(losses.objective(model, x, y, terms, autocast=True).total, plain.total)  # without autocast it changes nothing


@pytest.mark.parametrize(("name", "what"), [("digits-pag-nn", "a target"), ("digits-slope", "a slope")])
def test_compile_with_an_input_gradient_refuses_batch_norm(name: str, what: str, digits) -> None:
    with pytest.raises(ValueError, match=f"compile with {what} needs a model without BatchNorm"):
        fit(models.build("resnet18", digits), digits, Recipe.load(f"{name}+compile=true"), progress=False)


def test_a_line_and_a_log_entry_an_epoch(toy, tmp_path: Path, monkeypatch) -> None:
    lines, logged = [], []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            logged.append((Path(folder), purge_step))

        def __enter__(self) -> Writer:
            return self

        def __exit__(self, *_: object) -> None:
            logged.append("closed")

        def add_scalar(self, name: str, value: float, step: int) -> None:
            logged.append((name, step))

    monkeypatch.setattr(loop, "summary_writer", lambda: Writer)
    fit(
        models.build("mlp", toy),
        toy,
        short("three-modes-standard", epochs=2),
        run_dir=tmp_path,
        log=True,
        tell=lines.append,
        progress=False,
    )
    assert [line.split(", ")[0] for line in lines] == [f"three-modes-standard: epoch {epoch} of 2" for epoch in (1, 2)]
    assert " total " in lines[1] and "alignment" not in lines[1]
    assert logged[0] == (tmp_path / "tensorboard", 1) and logged[-1] == "closed"
    assert ("total", 2) in logged and ("lr", 1) in logged and len(logged) == 10
    with pytest.raises(ValueError, match="log is True and run_dir is None"):
        fit(models.build("mlp", toy), toy, short("three-modes-standard"), log=True, progress=False)


def test_a_missing_tensorboard_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        loop.summary_writer()


def test_what_is_no_model_of_the_data_is_refused(digits) -> None:
    recipe = training.Recipe.load("digits-standard", epochs=1)
    with pytest.raises(ValueError, match="the model gave logits of 12 classes; expected 10, as the data have"):
        training.fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 12)), digits, recipe)
    with pytest.raises(TypeError, match="the model is '<lambda>'; expected a torch.nn.Module"):
        training.fit(lambda x: x, digits, recipe)
    with pytest.raises(ValueError, match="crop is 8 with images of 8 x 8 pixels; expected fewer than a side has"):
        training.fit(models.build("cnn", digits), digits, replace(recipe, crop=8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "one-cycle"}, "schedule is 'one-cycle' with 1 step in all, and the learning rate 0 in each; expected more epochs"),
        ({"ramp": (0.0, 0.5)}, r"ramp is \(0.0, 0.5\) with 1 step in all, and the weight of the PAG objective 0 in each"),
        ({"ramp": (0.6, 1.0), "epochs": 2}, "with 2 steps in all, and the weight of the PAG objective 0 in each"),
    ],
)
def test_a_training_too_short_for_its_schedules_is_refused(changes: dict, message: str, toy, tmp_path: Path) -> None:
    recipe = Recipe.load("three-modes-pag-nn", **{"epochs": 1, "batch_size": 1000, "ramp": (0.0, 0.0), **changes})
    with pytest.raises(ValueError, match=message):
        fit(models.build("mlp", toy), toy, recipe, run_dir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    fit_check(models.build("mlp", toy), toy, replace(recipe, epochs=2 * recipe.epochs, ramp=(0.0, 0.5)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_options": {"per_class": 1}}, "expected at least 2, since a point is not its own neighbour"),
        ({"method": "pag-adversarial", "eps": 0.1, "norm": "l3"}, "unknown norm 'l3'"),
    ],
)
def test_what_is_refused_leaves_no_checkpoint(changes: dict, message: str, toy, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        fit(models.build("mlp", toy), toy, short("three-modes-pag-nn", **changes), run_dir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_the_alignment_of_an_epoch_is_that_of_its_steps_with_pag(toy, tmp_path: Path) -> None:
    """PAG is off in the first four steps of eight: the first epoch has none, the second one begins in its second step."""
    recipe = short("three-modes-pag-nn", epochs=2, batch_size=150, ramp=(0.5, 0.6))
    histories = [fit(models.build("mlp", toy), toy, recipe, progress=False)]
    assert len(toy.train) == 600 and math.isnan(histories[0].alignment[0]) and -1 < histories[0].alignment[1] < 1
    late = replace(recipe, ramp=(0.8, 0.8))  # on in the last step alone: the mean over the epoch is that step's
    kept = fit(models.build("mlp", toy), toy, late, progress=False)
    asked: list[int] = []
    model = models.build("mlp", toy)
    fit(model, toy, late, run_dir=tmp_path, progress=False, stop=lambda: asked.append(1) or len(asked) == 7)
    again = fit(model, toy, late, run_dir=tmp_path, resume=True, progress=False)
    assert again.alignment[1] == kept.alignment[1] and again.cross_entropy == kept.cross_entropy
    state = checkpoints.latest(tmp_path)["state"]
    assert state["unmeasured"].tolist() == [0, 0, 450]


def test_a_target_of_another_dtype_is_that_of_the_inputs(digits) -> None:
    few, weights = replace(digits, train=digits.train.first(200)), []
    recipe = short("digits-pag-nn", epochs=1, flip=True, crop=1, ramp=(0.0, 0.0))
    source = targets.class_mean(few)
    for kind in (torch.float32, torch.float64):
        own = targets.GradientTarget("own", lambda index, x, classes, kind=kind: source(index, x, classes).to(kind))
        model = models.build("mlp", few)
        fit(model, few, recipe, target=own, progress=False)
        weights.append(model[2].weight)
    assert torch.equal(*weights)


def test_inputs_of_another_dtype_are_refused_in_words(toy) -> None:
    double = replace(toy, train=Split(toy.train.x.double(), toy.train.y))
    with pytest.raises(TypeError, match=r"three-modes have dtype torch.float64 and the model torch.float32; .* x.to\(torch.float32\)"):
        fit(models.build("mlp", toy), double, short("three-modes-standard"), progress=False)
    fit(models.build("mlp", double).double(), double, short("three-modes-standard", epochs=1), progress=False)


def test_a_target_without_pag_is_refused(toy) -> None:
    own = targets.GradientTarget("own", lambda index, x, classes: x[:, None].expand(-1, classes.shape[1], -1))
    recipe = training.Recipe.load("three-modes-standard", epochs=1)
    with pytest.raises(ValueError, match="target is 'own' with method 'standard'; expected a method with pag"):
        training.fit(models.build("mlp", toy), toy, recipe, target=own, progress=False)


def test_a_diffusion_recipe_trains_no_classifier(digits) -> None:
    with pytest.raises(ValueError, match="recipe 'digits-ddpm' trains a diffusion model"):
        fit(models.build("cnn", digits, width=4), digits, Recipe.load("digits-ddpm"), progress=False)


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(ValueError, match="unknown recipe 'nope'; expected a .yaml file or one of .*three-modes-standard"):
        Recipe.load("nope")


def spots(examples: int, side: int = 8) -> Task:
    x = torch.rand(examples, 3, side, side, generator=torch.Generator().manual_seed(0))
    return make_task(x, torch.arange(examples) % 3, 3, bounds=(0.0, 1.0))


@pytest.mark.parametrize(
    ("examples", "setting", "message"),
    [
        (33, "batch_size=32", "batch_size is 32 with 33 training examples: the last batch has a single row"),
        (1, "batch_size=32", "with 1 training examples: the last batch has a single row"),
        (3, "batch_size=1", "batch_size is 1 with 3 training examples"),
        (32, "batch_size=8+accumulate=6", "6 parts of a batch of 8 make parts of a single row.* a smaller accumulate"),
        (35, "batch_size=32+accumulate=2", "2 parts of a batch of 3 make parts of a single row"),
        (34, "batch_size=32+accumulate=4", "4 parts of a batch of 2 make parts of a single row"),
    ],
)
def test_batch_norm_gets_no_batch_of_one(examples: int, setting: str, message: str, tmp_path: Path) -> None:
    task, recipe = spots(examples), Recipe.load(f"cifar10-rn18-standard+{setting}", epochs=1, crop=0)
    with pytest.raises(ValueError, match=f"{message}.*norm: group"):
        fit(models.build("resnet18", task), task, recipe, run_dir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists(), "found before the first checkpoint"
    fit_check(models.build("resnet18", task, norm="group"), task, recipe)


@pytest.mark.parametrize(("examples", "setting"), [(34, "batch_size=32"), (36, "batch_size=32+accumulate=2"), (5, "batch_size=32")])
def test_batch_norm_gets_what_has_two_rows_or_more(examples: int, setting: str) -> None:
    recipe = Recipe.load(f"cifar10-rn18-standard+{setting}", epochs=1, crop=0)
    fit_check(models.build("resnet18", spots(examples)), spots(examples), recipe)


def test_batch_norm_and_several_processes(monkeypatch) -> None:
    recipe = Recipe.load("cifar10-rn18-standard", batch_size=32)
    monkeypatch.setattr(processes, "count", lambda: 4)
    assert [single(n, recipe) for n in (32, 39, 40, 64)] == [0, 7, 0, 0]
    assert single(64, replace(recipe, accumulate=5)) == 32


def test_a_model_with_nothing_to_train_is_refused(digits: Task) -> None:
    for model in (nn.Flatten(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)):
        with pytest.raises(ValueError, match=r"has no parameter that takes a gradient; expected one that can be trained"):
            fit(model, digits, short("digits-standard"), progress=False)


def test_a_bar_waits_for_its_two_seconds(digits: Task, capsys, monkeypatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "0")
    few = replace(digits, train=digits.train.first(64))
    fit(models.build("mlp", few, seed=0, hidden=[4]), few, short("digits-standard", epochs=2), progress=True)
    assert capsys.readouterr().err == ""
