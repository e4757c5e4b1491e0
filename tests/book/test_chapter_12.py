"""Chapter 12: the published way to compute the PAG loss, and what the chapter says about batches and crops, held against the library."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pagkit import data, losses, models, targets
from tests.helpers import run_cells

NOTEBOOK = "12-full-scale.ipynb"


@pytest.mark.parametrize("k", [1, 3])
def test_repeated_images_give_the_loss_and_gradient_of_the_library(k: int) -> None:
    taught = run_cells(NOTEBOOK, "setup", "repeated")
    task = taught["task"]
    net = models.build("cnn", task, width=4).double()
    x, y, classes = task.train.x[:6].double(), task.train.y[:6], torch.arange(k).expand(6, k)
    directions = targets.class_mean(task)(torch.arange(6), x, classes)
    ours = taught["repeated"](net, x, y, directions, classes, 0.7)
    theirs = losses.pag_loss(net, x, y, directions, classes, weight=0.7).total
    assert torch.allclose(ours, theirs)
    weights = list(net.parameters())
    for our, their in zip(torch.autograd.grad(ours, weights), torch.autograd.grad(theirs, weights), strict=True):
        assert torch.allclose(our, their, atol=1e-9)


def test_what_batch_norm_takes_from_a_gradient() -> None:
    """The formula of the chapter, against autograd."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(9, 1, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    v = torch.randn(9, 1, 4, 5, generator=generator, dtype=torch.float64)
    normed = F.batch_norm(h, None, None, training=True, eps=1e-12)
    (found,) = torch.autograd.grad((v * normed).sum(), h)
    sigma = h.var(correction=0).sqrt()
    assert torch.allclose(found, (v - v.mean() - normed * (v * normed).mean()) / sigma)
    assert abs(found.sum()) < 1e-10


def test_without_normalisation_nothing_is_coupled() -> None:
    taught = run_cells(NOTEBOOK, "setup", "coupling")
    alone = models.build("cnn", taught["task"], width=4)
    assert taught["elsewhere"](alone, taught["task"].test.x[:4]) == 0


def test_crops_and_flips_move_a_direction_with_its_image() -> None:
    run_cells(NOTEBOOK, "setup", "moved")  # the cell asserts it
    x, g = torch.rand(20, 1, 6, 6), torch.rand(20, 3, 1, 6, 6)
    moved_x, moved_g = data.augment(x, g, crop=2, flip=True, generator=torch.Generator().manual_seed(1))
    _, moved_r = data.augment(x, g + x[:, None], crop=2, flip=True, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(moved_g, moved_r - moved_x[:, None], atol=1e-6)
