"""The recipes of CIFAR-10, CIFAR-100 and STL-10 in full: everything that can be wrong with them before a day of training."""

from __future__ import annotations

import functools
import inspect
import math
import re
from dataclasses import replace

import pytest
import torch
import yaml

from pagkit import attacks, data, evaluation, exact, models, targets, training
from pagkit.data import Split, Task
from pagkit.diffusion import DDPM
from pagkit.evaluation import masking
from pagkit.training import Recipe
from tests.helpers import BOOK

SHAPES = {"cifar10": (10, 32), "cifar100": (100, 32), "stl10": (10, 96)}
FULL = [name for name in training.recipe_names() if re.match(r"(cifar10|cifar100|stl10)-(rn18|vit|ddpm)", name)]
CLASSIFIERS = [name for name in FULL if "ddpm" not in name]
EVENING = [f"cifar10-evening-{kind}" for kind in ("slope", "noise", "pag-sbg", "adversarial")]
PARTNERS = {"standard", "adversarial", "pag-oi", "pag-cm", "pag-nn", "pag-sbg"}


@functools.cache
def noise(name: str) -> Task:
    """Two random images a class, in the shape of a data set."""
    classes, side = SHAPES[name]
    y = torch.arange(classes).repeat(2)
    split = Split(torch.rand(len(y), 3, side, side, generator=torch.Generator().manual_seed(0)), y)
    return Task(name, tuple(map(str, range(classes))), (0.0, 1.0), split, split)


class FakeDDPM:
    """Scores without a network: the one of class c pulls every pixel to c / C."""

    def __init__(self, task: Task) -> None:
        self.shape, self.classes = task.shape, len(task.classes)

    def noised(self, x, t, *, generator):
        exact.alpha_bar(t)  # refuses a level out of range
        return x + 0.1 * torch.randn(x.shape, generator=generator)

    def score(self, x_t, t, y=None):
        centre = torch.full((len(x_t),), 0.5) if y is None else torch.as_tensor(y).expand(len(x_t)) / self.classes
        return centre.view(-1, 1, 1, 1) - x_t


def target(name: str, task: Task, options: dict) -> targets.GradientTarget:
    if name != "score_based":
        return targets.build(name, task, **options)
    ddpm = Recipe.load(options["ddpm"])
    assert (ddpm.method, ddpm.task) == ("ddpm", task.name)
    return targets.build(name, task, **{**options, "ddpm": FakeDDPM(task), "progress": False})


def test_all_are_there() -> None:
    assert {name for name in FULL if "vit" not in name} == {
        *(f"{task}-ddpm" for task in SHAPES),
        *(f"{task}-rn18-{kind}" for task in SHAPES for kind in PARTNERS),
        "cifar10-rn18-pag-adversarial",
        "cifar10-rn18-slope",
        "cifar10-rn18-noise",
    }
    assert {name for name in FULL if "vit" in name} == {f"cifar10-vit-{kind}" for kind in ("standard", "adversarial", "pag-sbg")}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_fits_its_data_and_can_be_measured(name: str) -> None:
    recipe = Recipe.load(name)
    task = noise(recipe.task)
    assert name.startswith(f"{recipe.task}-") and recipe.data == {"seed": 0}  # all of the data
    assert not set(recipe.data) - set(inspect.signature(data.load).parameters)
    model = models.build(recipe.model, task, **recipe.model_options).eval()
    with torch.no_grad():
        assert model(task.test.x[:1]).shape == (1, len(task.classes))
    index, classes = torch.full((2,), -1), torch.tensor([[0, 1], [1, 0]])
    for kind, options in {**recipe.alignment, **({recipe.target: recipe.target_options} if recipe.target else {})}.items():
        assert target(kind, task, options)(index, task.test.x[:2], classes).shape == (2, 2, *task.shape)
    known = inspect.signature(attacks.pgd).parameters | inspect.signature(evaluation.robust_accuracy).parameters
    for metric, options in recipe.metrics.items():
        attack, norm, eps = evaluation.parse_metric(metric)
        attacks.Threat(norm, eps, task.bounds)
        assert set(options) <= set(known) and options.get("likeliest", 0) < len(task.classes)
        assert attack in ("pgd", "autoattack") and norm in ("l2", "linf")
    asked = set(recipe.checklist) - {"norm", "eps", "examples", "surrogate"}
    assert asked <= set(inspect.signature(masking.checklist).parameters)


@pytest.mark.parametrize("task", SHAPES)
def test_a_diffusion_model_fits_its_data_and_has_a_judge(task: str) -> None:
    recipe = Recipe.load(f"{task}-ddpm")
    judge = Recipe.load(recipe.metrics["samples"]["judge"])
    assert (recipe.task, judge.task, judge.method) == (task, task, "standard")
    made, how = noise(task), recipe.model_options
    ddpm = DDPM(made.shape, len(made.classes), made.bounds, widths=how["widths"], patch=how.get("patch", 1))
    assert ddpm.score(torch.zeros(1, *made.shape), 150, 3).shape == (1, *made.shape)
    assert set(how) <= set(inspect.signature(DDPM.fit).parameters)


def test_what_is_compared_is_trained_alike() -> None:
    """One network, optimizer, schedule and set of measurements for all methods of a data set; weight times classes alike on all three."""
    shared = ("model", "model_options", "epochs", "batch_size", "optimizer", "lr", "schedule", "weight_decay", "crop", "flip", "metrics")
    for task, arch in (("cifar10", "rn18"), ("cifar100", "rn18"), ("stl10", "rn18"), ("cifar10", "vit")):
        recipes = [Recipe.load(name) for name in CLASSIFIERS if name.startswith(f"{task}-{arch}")]
        for key in shared:
            assert all(getattr(recipe, key) == getattr(recipes[0], key) for recipe in recipes), key
    for kind in PARTNERS:
        prices = [len(noise(task).classes) * Recipe.load(f"{task}-rn18-{kind}").weight for task in SHAPES]
        assert prices == pytest.approx(prices[:1] * 3)
    sbg = Recipe.load("cifar10-rn18-pag-sbg")
    assert (sbg.weight, Recipe.load("cifar10-vit-pag-sbg").weight) == (1.5, 3.0)  # the published ones
    assert Recipe.load("cifar10-rn18-pag-sbg+weight=0.1").weight == 0.1  # a column of the published row


def test_an_evening_compares_alike() -> None:
    """One network and training but for the epochs, which make up for what a step costs: three times as many where it is a third."""
    names = [name for name in training.recipe_names() if name.startswith("cifar10-evening-") and "ddpm" not in name]
    recipes = {name.removeprefix("cifar10-evening-"): Recipe.load(name) for name in names}
    assert set(recipes) == {"standard", "noise", "slope", "pag-oi", "pag-cm", "pag-nn", "pag-sbg", "adversarial"}
    shared = ("task", "data", "model", "model_options", "batch_size", "channels_last", "crop", "flip", "optimizer", "lr", "schedule")
    for key in (*shared, "weight_decay", "metrics", "alignment"):
        assert len({str(getattr(recipe, key)) for recipe in recipes.values()}) == 1, key
    assert {name: recipe.epochs for name, recipe in recipes.items()} == {name: 12 for name in recipes} | {"standard": 36, "noise": 36}
    for name, key in (("noise", "noise"), ("slope", "slope"), ("adversarial", "eps")):  # what the laptop's trials chose
        assert getattr(recipes[name], key) == getattr(Recipe.load(f"cifar10-laptop-{name}"), key), name
    measured = yaml.safe_load((BOOK / "results" / "protocol.yaml").read_text())["cifar10-laptop"]["measured"]["methods"]["recipes"]
    assert "cifar10-laptop-pag-sbg+weight=0.3" in measured and {r.weight for n, r in recipes.items() if n.startswith("pag-")} == {0.3}
    one = recipes["slope"]
    assert set(one.data) == {"seed", "test_per_class", "test_skip_per_class"}, "all training photographs"
    assert sum(p.numel() for p in models.build(one.model, noise("cifar10"), **one.model_options).parameters()) * 2 < 2.7e6, "float16"
    ddpm = Recipe.load(recipes["pag-sbg"].target_options["ddpm"])
    assert (ddpm.name, ddpm.data, ddpm.metrics["samples"]["judge"]) == ("cifar10-evening-ddpm", one.data, "cifar10-evening-standard")


@pytest.mark.parametrize("name", ["cifar10-rn18-pag-nn", "cifar10-rn18-pag-adversarial", "cifar10-vit-pag-sbg", *EVENING])
def test_one_step(name: str) -> None:
    recipe = Recipe.load(name, epochs=1, batch_size=20, ramp=[0.0, 0.0], steps=2, schedule="constant")
    task = noise(recipe.task)
    task = replace(task, train=Split(task.train.x[..., ::2, ::2], task.train.y))  # a quarter of the work
    small = {"dim": 24, "depth": 1, "heads": 2} if recipe.model == "vit" else {}
    model = models.build(recipe.model, task, **{**recipe.model_options, **small})
    before = [p.detach().clone() for p in model.parameters()]
    aim = target(recipe.target, task, recipe.target_options) if recipe.target else None
    history = training.fit(model, task, recipe, target=aim, progress=False)
    assert math.isfinite(history.total[0]) and (aim is None or -1 <= history.alignment[0] <= 1)
    assert all(p.isfinite().all() for p in model.parameters())
    assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
