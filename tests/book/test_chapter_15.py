"""Chapter 15: the taught penalty against its formula, the taught training against the library's, noise against the proposition."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pagkit import attacks, data, models, training
from tests.helpers import run_cells

NOTEBOOK = "15-further.ipynb"


def test_the_penalty_is_the_squared_length_of_the_loss_gradient() -> None:
    """By hand: the loss gradient is minus (1 - p_y) times that of the log-odds."""
    slope_loss = run_cells(NOTEBOOK, "setup", "slope-loss")["slope_loss"]
    task = data.load("digits")
    net = models.build("cnn", task, width=8, seed=1).double()
    x, y = task.train.x[:16].double(), task.train.y[:16]
    found = slope_loss(net, x, y, 0.7)
    z = x.clone().requires_grad_()
    logits = net(z)
    (slope,) = torch.autograd.grad(attacks.log_odds(logits, y).sum(), z)
    spared = 1 - logits.softmax(1).gather(1, y[:, None]).squeeze(1)
    by_hand = F.cross_entropy(logits, y) + 0.7 * (spared * slope.flatten(1).norm(dim=1)).square().mean()
    assert found.item() == pytest.approx(by_hand.item())
    assert not x.requires_grad and all(p.grad is None for p in net.parameters())
    found.backward()
    assert any(p.grad.abs().max() > 0 for p in net.parameters())


def test_without_a_penalty_the_training_is_the_librarys() -> None:
    taught = run_cells(NOTEBOOK, "setup", "slope-loss", "train-slope")
    task = data.load("digits", train_per_class=15)
    ours = taught["train_slope"](0.0, 2, task, width=8)
    recipe = training.Recipe.load("digits-standard", epochs=2)
    library = models.build(recipe.model, task, seed=recipe.seed, width=8)
    training.fit(library, task, recipe, progress=False)
    for name, value in ours.state_dict().items():
        assert torch.allclose(value, library.state_dict()[name], atol=1e-6), name


def test_noise_on_a_linear_model_is_as_the_proposition_says() -> None:
    taught = run_cells(NOTEBOOK, "setup", "subspace", "noise")
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        w = torch.randn(64, generator=generator)
        net[1].weight.copy_(torch.stack([w, -w]))  # the log-odds of two classes: a linear function with gradient 2 w
        net[1].bias.zero_()
    net.requires_grad_(False)
    taught["y"] %= 2
    on, off = taught["on"], taught["off"]
    rho = taught["move"](net, off) / taught["move"](net, on)
    share = (on @ w).square().sum() / w.square().sum()
    assert len(on) / (len(on) + rho**2 * len(off)) == pytest.approx(share.item(), rel=0.05)
    assert torch.allclose(on @ off.T, torch.zeros(len(on), len(off)), atol=1e-5)
