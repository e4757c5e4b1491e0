"""Chapter 6: the double backward by hand, the taught objective and the taught step, held against autograd and the library."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pagkit import data, losses, models, targets, training
from tests.helpers import run_cells

NOTEBOOK = "06-pag-objective.ipynb"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["softplus", "tanh", "relu"])
def test_the_double_backward_by_hand(name: str, seed: int) -> None:
    taught = run_cells(NOTEBOOK, "setup", "by-hand")
    activation, slope, curvature = {
        "softplus": (F.softplus, torch.sigmoid, lambda h: h.sigmoid() * (1 - h.sigmoid())),
        "tanh": (torch.tanh, lambda h: 1 - h.tanh() ** 2, lambda h: -2 * h.tanh() * (1 - h.tanh() ** 2)),
        "relu": (F.relu, lambda h: (h > 0).double(), torch.zeros_like),
    }[name]
    generator = torch.Generator().manual_seed(seed)
    sizes = ((7, 3), (7,), (7,), (3,), (3,))
    W, b, w, x, g = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in sizes)
    weights = [part.requires_grad_() for part in (W, b, w)]
    cos, ours = taught["by_hand"](*weights, x, g, slope, curvature)
    value, theirs = taught["by_autograd"](*weights, x, g, activation)
    assert torch.allclose(cos, value, atol=1e-12, rtol=0)
    for our, their in zip(ours, theirs, strict=True):
        assert torch.allclose(our, their, atol=1e-10, rtol=0)
    assert (ours[1].abs().max() == 0) == (name == "relu")


@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_objective(k: int) -> None:
    taught = run_cells(NOTEBOOK, "setup", "pag-loss")
    task = data.load("digits")
    net = models.build("cnn", task, width=8, seed=1).double()
    x, y, rows = task.train.x[:16].double(), task.train.y[:16], torch.arange(16)
    classes = targets.sample_classes(16, 10, k, torch.Generator().manual_seed(0))
    directions = targets.class_mean(task)(rows, x, classes)
    ours = taught["pag_loss"](net, x, y, directions, classes, 0.7)
    theirs = losses.pag_loss(net, x, y, directions, classes, weight=0.7)
    for our, their in zip(ours, theirs, strict=True):
        assert torch.allclose(our, their)
    weights = list(net.parameters())
    for our, their in zip(torch.autograd.grad(ours[0], weights), torch.autograd.grad(theirs.total, weights), strict=True):
        assert torch.allclose(our, their, atol=1e-9)


def test_the_repeated_objective_is_the_same() -> None:
    taught = run_cells(NOTEBOOK, "setup", "pag-loss", "cost-rules")
    task = data.load("digits")
    net = models.build("cnn", task, width=8, seed=1).double()
    x, y, classes = task.train.x[:8].double(), task.train.y[:8], torch.arange(10).expand(8, 10)
    part = x, y, targets.class_mean(task)(torch.arange(8), x, classes), classes, 0.7
    weights = list(net.parameters())
    ours = torch.autograd.grad(taught["repeated"](net, *part), weights)
    for our, their in zip(ours, torch.autograd.grad(taught["pag_loss"](net, *part)[0], weights), strict=True):
        assert torch.allclose(our, their, atol=1e-9)


def test_an_epoch_of_steps_is_an_epoch_of_the_library() -> None:
    taught = run_cells(NOTEBOOK, "setup", "pag-loss")
    task = data.load("digits", train_per_class=15)
    changes = {"epochs": 1, "schedule": "constant", "weight": 0.5, "ramp": (0.0, 0.0), "classes_per_image": 2}
    recipe = training.Recipe.load("digits-pag-nn", model_options={"width": 8}, **changes)
    ours, library = (models.build("cnn", task, width=8, seed=1).double() for _ in range(2))
    target = targets.nearest_neighbor(task)
    task = data.Task(task.name, task.classes, task.bounds, data.Split(task.train.x.double(), task.train.y), task.test)
    training.fit(library, task, recipe, target=target, progress=False)
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(ours.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    for rows in torch.randperm(len(task.train), generator=generator).split(recipe.batch_size):
        taught["pag_step"](ours, optimizer, task, target, rows, 0.5, 2, generator)
    for name, value in ours.state_dict().items():
        assert torch.allclose(value, library.state_dict()[name], atol=1e-7), name
