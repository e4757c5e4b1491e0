"""torch's default dtype and default device change nothing that the library makes or measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from pagkit import attacks, data, diffusion, evaluation, exact, lab, models, plots, targets, training
from pagkit.attacks import Threat
from pagkit.data import Split, Task
from pagkit.losses import pag_loss


@contextmanager
def changed(what: str) -> Iterator[None]:
    if what == "float64":
        torch.set_default_dtype(torch.float64)
    else:
        torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def digits() -> Task:
    return data.load("digits", train_per_class=8, test_per_class=2)


def trained(name: str, task: Task, **changes: Any) -> nn.Module:
    recipe = training.Recipe.load(name, epochs=1, **changes)
    model = models.build(recipe.model, task, **recipe.model_options)
    training.fit(model, task, recipe, progress=False)
    return model


def ddpm() -> diffusion.DDPM:
    return diffusion.DDPM.fit(digits(), epochs=1, widths=(16,), progress=False)


THREE = torch.arange(3)
def photographs() -> Task:
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), device="cpu", dtype=torch.float32)
    y = torch.arange(3, device="cpu")
    return Task("photographs", ("cat", "dog", "yak"), (0.0, 1.0), Split(x, y), Split(x, y))


MADE: dict[str, Callable[[], Any]] = {
    "toy": lambda: data.load("three-modes", train_per_class=6, test_per_class=6).train.x,
    "digits": lambda: digits().train.x,
    "models": lambda: [p for name in ("mlp", "cnn", "resnet-small", "resnet18", "vit") for p in models.build(name, digits()).parameters()],
    "standard": lambda: list(trained("digits-standard", digits()).parameters()),
    "adversarial": lambda: list(trained("digits-adversarial-l2", digits(), steps=2).parameters()),
    "pag": lambda: list(trained("digits-pag-nn", digits(), ema=0.9, model_options={"width": 4}).parameters()),
    "pgd": lambda: attacks.pgd(models.build("cnn", digits()), digits().test.x, digits().test.y, Threat("l2", 1.0), steps=3, restarts=2),
    "linf": lambda: attacks.fgsm(models.build("cnn", digits()), digits().test.x, digits().test.y, Threat("linf", 0.1), target=3),
    "offsets": lambda: Threat("l2", 1.0).random_start(digits().test.x, torch.Generator().manual_seed(0)),
    "verdicts": lambda: [
        str(evaluation.robust_accuracy(models.build("cnn", digits()), digits().test, Threat("l2", 0.5), steps=2, likeliest=1)),
        str(evaluation.checklist(models.build("cnn", digits()), digits().test, Threat("l2", 0.5), steps=2, queries=3, progress=False)),
        str(evaluation.autoattack(models.build("cnn", digits()), digits().test, Threat("linf", 0.1), attacks=["apgd-ce"], progress=False)),
        evaluation.alignment(models.build("cnn", digits()), digits(), targets.one_image(digits())),
    ],
    "targets": lambda: [
        make(digits())(THREE, digits().train.x[:3], targets.sample_classes(3, 10, 2, torch.Generator().manual_seed(0)))
        for make in (targets.one_image, targets.class_mean, targets.nearest_neighbor)
    ],
    "loss": lambda: (
        pag_loss(
            models.build("cnn", digits()),
            digits().train.x,
            digits().train.y,
            digits().train.x[:, None],
            digits().train.y[:, None],
            weight=1.0,
        ).total
    ),
    "labs": lambda: [
        lab.plane({"one": models.build("mlp", toy := data.load("three-modes", train_per_class=6, test_per_class=3))}, toy.test).html(),
        lab.digits({"one": models.build("cnn", digits(), width=4)}, digits(), steps=1).html(),
        lab.sliced(models.build("mlp", digits()), digits().test.x[0], digits().test.x[1:3])(digits().test.x[0, 0, :4, :2]),
        lab.dial({"one": digits().test.x[:3, 0] - 0.5}, {"k": [1, 2, 3]}, says=["a", "b", "c"], signed=["one"]).html(),
        lab.photo({"one": models.build("resnet-small", (few := photographs()), widths=(8, 8))}, few, steps=1).html(),
    ],
    "map": lambda: plots.decision_map(
        models.build("mlp", toy := data.load("three-modes", train_per_class=6)), toy.test, (-9.0, 9.0, -9.0, 9.0), resolution=9
    )
    .images[0]
    .get_array()
    .tolist(),
    "radius": lambda: exact.radius(models.build("mlp", toy := data.load("three-modes", train_per_class=6)), toy.test.x),
    "boundary": lambda: exact.boundary(models.build("mlp", data.load("three-modes", train_per_class=6)), (-10.0, 10.0, -10.0, 10.0)),
    "exact scores": lambda: exact.score(toy := data.load("three-modes", train_per_class=6), toy.test.x, 300, 1),
    "diffusion": lambda: [
        (model := ddpm()).sample(torch.arange(2, device="cpu"), steps=2),
        targets.score_based(digits(), model, t=100, progress=False)(
            torch.tensor([0, -1], device="cpu"), digits().train.x[:2], torch.tensor([[1], [2]], device="cpu")
        ),
    ],
}


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
    if isinstance(one, (list, tuple)):
        return all(equal(a, b) for a, b in zip(one, other, strict=True))
    return one == other


@pytest.mark.parametrize("what", ["float64", "meta"])
@pytest.mark.parametrize("name", MADE)
def test_torch_defaults_change_nothing(name: str, what: str) -> None:
    if name == "verdicts":
        pytest.importorskip("pyautoattack")
    usual = MADE[name]()
    with changed(what):
        assert equal(usual, MADE[name]())
        assert torch.get_default_dtype() == (torch.float64 if what == "float64" else torch.float32)
        assert torch.get_default_device().type == ("meta" if what == "meta" else "cpu")
