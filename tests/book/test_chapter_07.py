"""Chapter 7 teaches the three heuristic sources and the score that joins them: each against the library or its limit."""

from __future__ import annotations

import torch

from pagkit import data, targets
from tests.helpers import run_cells

NOTEBOOK = "07-three-heuristics.ipynb"


def test_chapter_7_teaches_the_three_sources() -> None:
    taught = run_cells(NOTEBOOK, "setup", "sources")
    task = data.load("digits", train_per_class=40)
    x, index = task.train.x, torch.arange(len(task.train))
    classes = torch.arange(10).expand(len(x), 10)

    def library(target: targets.GradientTarget) -> torch.Tensor:
        return target(index, x, classes)

    seed = torch.Generator().manual_seed
    assert torch.equal(taught["one_image"](task, seed(3)) - x[:, None], library(targets.one_image(task, generator=seed(3))))
    for scale in (1.0, 1.7):
        assert torch.allclose(taught["class_mean"](task, scale) - x[:, None], library(targets.class_mean(task, scale=scale)))
    ours, theirs = taught["nearest_neighbor"](task, chunk=64) - x[:, None], library(targets.nearest_neighbor(task))
    assert torch.allclose(ours.flatten(2).norm(dim=2), theirs.flatten(2).norm(dim=2), atol=1e-3)  # pixels in 16ths: ties occur
    assert ours.flatten(2).norm(dim=2).min() > 0, "no image is its own neighbour"


def test_chapter_7_kernel_density_score_has_the_heuristics_as_its_ends() -> None:
    taught = run_cells(NOTEBOOK, "kde")
    pool = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    z = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    nearest = pool[torch.cdist(z, pool).argmin(1)]
    assert torch.allclose(taught["kde"](z, pool, 1e-3)[0], nearest - z, atol=1e-4)
    assert torch.allclose(taught["kde"](z, pool, 1e4)[0], pool.mean(0) - z, atol=1e-4)
    skip = torch.cdist(z, pool).argmin(1)[:, None] == torch.arange(50)
    assert not torch.isclose(taught["kde"](z, pool, 1e-3, skip)[0], nearest - z).all(1).any()


def test_chapter_7_certificate_is_exact_for_two_points_and_never_too_large() -> None:
    certified = run_cells(NOTEBOOK, "setup", "certificate")["certified"]
    points, classes = torch.tensor([[0.0, 0.0], [4.0, 0.0]]), torch.tensor([0, 1])
    z = torch.tensor([[0.5, 1.0], [3.0, -2.0]])
    assert torch.allclose(certified(z, torch.tensor([0, 0]), points, classes), torch.tensor([1.5, -1.0]))
    points = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    classes, z = torch.arange(30) % 3, torch.randn(25, 2, generator=torch.Generator().manual_seed(1))
    label = classes[torch.cdist(z, points).argmin(1)]
    bound = certified(z, label, points, classes)
    assert (bound >= 0).all()
    angle = torch.linspace(0, 2 * torch.pi, 721)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    for x, y, r in zip(z, label, bound, strict=True):
        assert (classes[torch.cdist(x + 0.999 * r * ring, points).argmin(1)] == y).all()
