"""Chapter 8: the score difference, the toy's density, the denoiser and the memory are what the text says."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from pagkit import data, exact
from pagkit.diffusion import DDPM
from pagkit.recipe import Recipe
from pagkit.targets import scores
from tests.helpers import BOOK, run_cells

NOTEBOOK = "08-principled-source.ipynb"


@pytest.mark.parametrize("t", [0, 300, 999])
def test_its_direction_is_the_librarys(t: int) -> None:
    difference = run_cells(NOTEBOOK, "setup", "score-difference")["score_difference"]
    task = data.load("digits", train_per_class=2)
    torch.manual_seed(0)
    ddpm = DDPM(task.shape, 10, task.bounds, widths=(16,))
    generator = torch.Generator().manual_seed(0)
    every = torch.arange(10).expand(len(task.train), -1)
    library = scores.difference(ddpm, task.train.x, every, t, torch.Generator().manual_seed(0))
    ours = difference(ddpm, task.train.x, t, generator)
    assert torch.equal(ours, library) and ours.abs().sum() > 0


@pytest.mark.parametrize("y", [None, 0, 1])
def test_its_density_has_the_exact_score(y: int | None) -> None:
    log_density = run_cells(NOTEBOOK, "setup", "log-density")["log_density"]
    task = data.load("three-modes")
    x_t = exact.ToyDiffusion(task).noised(task.test.x[::7], 150, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(log_density(x_t, 150, y).sum(), x_t)
    assert torch.allclose(gradient, exact.score(task, x_t, 150, y), rtol=1e-9)


def test_its_denoiser_learns_the_score_of_one_point() -> None:
    """All data at one point m: the score is (sqrt(a) m - x_t) / (1 - a), and "any" is the same as the one class."""
    taught = run_cells(NOTEBOOK, "setup", "denoiser", "denoiser-fit")
    torch.manual_seed(0)
    model, point = taught["Denoiser"](classes=1, width=32), torch.tensor([0.5, -1.0])
    assert isinstance(model, nn.Module) and model.any == 1
    x, y = point.expand(64, 2), torch.zeros(64, dtype=torch.int64)
    taught["fit_denoiser"](model, x, y, 600, torch.Generator().manual_seed(0), lr=5e-3)
    t, a = 500, exact.alpha_bar(500)
    x_t = math.sqrt(a) * x + math.sqrt(1 - a) * torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    truth = (math.sqrt(a) * x - x_t) / (1 - a) / exact.SCALE
    for label in (None, y):
        guess = taught["learned_score"](model, exact.SCALE * x_t, t, label)
        assert (guess - truth).norm() < 0.2 * truth.norm()


def test_its_memory_is_the_score_of_a_bump_on_every_image() -> None:
    taught = run_cells(NOTEBOOK, "setup", "memory")
    task = data.load("digits", train_per_class=3)
    ddpm = DDPM(task.shape, 10, task.bounds, widths=(16,))
    memory = taught["Memory"](task, ddpm)
    for t, y in ((100, None), (400, 7)):
        a, points = exact.alpha_bar(t), memory.points if y is None else memory.points[task.train.y == y]
        x_t = memory.noised(task.train.x[:5], t, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
        squares = (x_t.flatten(1)[:, None] - math.sqrt(a) * points).square().sum(-1)
        (gradient,) = torch.autograd.grad((-squares / (2 * (1 - a))).logsumexp(1).sum(), x_t)
        assert torch.allclose(memory.score(x_t.detach(), t, y), gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_its_sampler_draws_what_the_library_draws(guidance: float) -> None:
    taught = run_cells(NOTEBOOK, "setup", "sampler")
    torch.manual_seed(0)
    ddpm, labels = DDPM((1, 8, 8), 10, (0.0, 1.0), widths=(16,)), torch.tensor([3, 7, 0])
    ours = taught["sample"](ddpm, labels, guidance, list(range(999, 0, -100)), torch.Generator().manual_seed(4))
    library = ddpm.sample(labels, guidance=guidance, steps=10, generator=torch.Generator().manual_seed(4))
    assert torch.allclose(ours, library, atol=1e-4) and 0.05 < ours.std()


def test_the_level_that_chapter_10_trains_with_is_studied() -> None:
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads((BOOK / NOTEBOOK).read_text())["cells"]}
    level = Recipe.load("digits-pag-sbg").target_options["t"]
    assert f"{level}," in cells["strip"] and f"{level}," in cells["dial"] and f"t={level}" in cells["live-direction"]
    assert "`digits-pag-sbg`" in cells["c03b"] and "`digits-pag-sbg`" in cells["c31b"]
