"""Convolutions whose input gradients are quick to differentiate: the same derivatives, by another way."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pagkit import losses, models
from pagkit.data import Split, Task


def derivatives(net: nn.Module, x: torch.Tensor, y: torch.Tensor, quick: bool) -> list[torch.Tensor]:
    """Of an objective with both terms, in the weights."""
    directions = torch.ones(len(x), 2, *x.shape[1:], dtype=x.dtype)
    classes = torch.tensor([[0, 1]]).expand(len(x), 2)
    terms = [(0.5, losses.Alignment(directions, classes, "log_prob")), (0.3, losses.Slope("loss"))]
    with losses.QuickDoubleBackward() if quick else torch.enable_grad():
        total = losses.objective(net, x, y, terms).total
        return list(torch.autograd.grad(total, list(net.parameters())))


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(2, 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, 4, 3, 2, bias=False)],
        [nn.Conv2d(2, 4, 2, dilation=2), nn.SiLU(), nn.Conv2d(4, 4, (3, 1), padding=(1, 0), groups=2)],
        [nn.Conv2d(2, 4, 3, padding="same"), nn.SiLU(), nn.Conv2d(4, 4, 3)],
    ],
)
def test_derivatives_are_those_of_autograd(layers: list[nn.Module]) -> None:
    net = nn.Sequential(*layers, nn.SiLU(), nn.Flatten(), nn.LazyLinear(3)).double()
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(5, 2, 6, 6, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    net(x)
    for slow, quick in zip(derivatives(net, x, y, False), derivatives(net, x, y, True), strict=True):
        torch.testing.assert_close(quick, slow, rtol=1e-9, atol=1e-11)


def test_a_network_in_training_mode() -> None:
    x, y = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    task = Task("few", tuple("0123"), (0.0, 1.0), Split(x, y), Split(x, y))
    net = models.build("resnet-small", task, widths=[8, 16], norm="batch").double()
    with models.mode(net, training=True):
        pairs = zip(derivatives(net, x.double(), y, False), derivatives(net, x.double(), y, True), strict=True)
        for slow, quick in pairs:
            torch.testing.assert_close(quick, slow, rtol=1e-9, atol=1e-11)


def test_under_autocast_it_computes_in_its_precision() -> None:
    convolution, x = nn.Conv2d(2, 3, 3), torch.rand(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16), losses.QuickDoubleBackward():
        found = convolution(x)
    assert found.grad_fn.name() == "AddBackward0", "the value, and what its input gradient is taken through"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert found.dtype == torch.bfloat16 and torch.equal(found, convolution(x))
