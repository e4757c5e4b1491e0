"""Chapter 5 teaches what pagkit does: the ghosts, the alignment and the exact robust direction."""

from __future__ import annotations

import pytest
import torch

from pagkit import attacks, data, models
from tests.helpers import run_cells

NOTEBOOK = "05-aligned-gradients.ipynb"


def test_chapter_5_ghosts_are_targeted_pgd() -> None:
    taught = run_cells(NOTEBOOK, "setup", "ghosts")
    task = data.load("digits")
    net = models.build("cnn", task, width=8, seed=1).double()
    x, y = task.test.first(64).x.double(), task.test.first(64).y
    target = (y + 1) % 10
    threat = attacks.Threat("l2", 1.5)
    ours = attacks.pgd(net, x, y, threat, target=target, steps=10, random_start=False, keep="last")
    assert torch.allclose(taught["ghosts"](net, x, target, 1.5, steps=10), ours, atol=1e-9)
    assert not torch.allclose(ours, x, atol=0.1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_chapter_5_robust_direction_is_the_best(share: float) -> None:
    """No other direction has a larger R(w), and the cosine with m grows with eps."""
    direction = run_cells(NOTEBOOK, "setup", "robust-direction")["robust_direction"]
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    covariance, m = root @ root.T + 0.01 * torch.eye(6), torch.randn(6, generator=generator, dtype=torch.float64)
    eps = share * float(m.norm())

    def ratio(w: torch.Tensor) -> torch.Tensor:
        return (w @ m - eps * w.norm(dim=-1)) / ((w @ covariance) * w).sum(-1).sqrt()

    best = direction(m, covariance, eps)
    for size in (0.001, 0.1, 10.0):
        others = best + size * torch.randn(10_000, 6, generator=generator, dtype=torch.float64)
        assert ratio(others).max() <= ratio(best) + 1e-12
    assert best @ m <= direction(m, covariance, eps + 0.05 * float(m.norm())) @ m
