"""Chapter 15: noise against the proposition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.helpers import run_cells

NOTEBOOK = "15-further.ipynb"


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
