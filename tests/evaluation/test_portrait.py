"""The portrait of a model at its clean examples, against a classifier for which everything is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from pagkit import evaluation, models
from pagkit.data import Task


class Linear(nn.Module):
    """Logits A x + b of flattened inputs."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


@pytest.fixture(scope="module")
def linear(digits: Task) -> nn.Module:
    """Nearest class means: right on most digits."""
    means = torch.stack([digits.train.x[digits.train.y == c].flatten(1).mean(0) for c in range(10)])
    return Linear(2 * means, -means.square().sum(1))


def test_a_linear_model_has_its_known_margins_slopes_and_distances(linear: nn.Module, digits: Task) -> None:
    found = evaluation.portrait(linear, digits, directions=64)
    x, y = digits.test.x.flatten(1), digits.test.y
    logits = linear(digits.test.x).detach()
    right = logits.argmax(1) == y
    rows = []
    for z, label in zip(logits[right], y[right], strict=True):
        gaps = {c: ((z[label] - z[c]).item(), (linear.weight[label] - linear.weight[c]).norm().item()) for c in range(10) if c != label}
        rival = min(gaps, key=lambda c: gaps[c][0])
        rows.append((*gaps[rival], min(gap / slope for gap, slope in gaps.values())))
    expected = torch.tensor(rows).median(0).values
    assert [found.margin, found.slope, found.radius] == pytest.approx(expected.tolist(), rel=1e-4)
    assert found.on_data == pytest.approx(1, abs=1e-5) and evaluation.portrait(linear, digits, directions=5).on_data < 0.95
    assert x.shape[1] == 64 and set(found.figures()) == {"margin", "slope", "radius", "on_data"}


def test_it_does_not_depend_on_the_batches_and_leaves_the_model_as_it_was(digits: Task) -> None:
    model = models.build("cnn", digits, seed=1).train()
    with torch.no_grad():
        few = replace(digits, test=digits.test.first(40))
        whole, parts = evaluation.portrait(model, few).figures(), evaluation.portrait(model, few, batch_size=7).figures()
    assert whole == pytest.approx(parts, rel=1e-4)
    assert model.training and all(p.grad is None and p.requires_grad for p in model.parameters())


def test_what_is_refused(linear: nn.Module, digits: Task) -> None:
    for count in (0, 65):
        with pytest.raises(ValueError, match=f"directions is {count}; expected 1 to 64"):
            evaluation.portrait(linear, digits, directions=count)
    nothing = Linear(torch.zeros(10, 64), torch.arange(10.0))  # always 9
    with pytest.raises(ValueError, match="reads none of the 3 test examples"):
        evaluation.portrait(nothing, replace(digits, test=replace(digits.test, x=digits.test.x[:3], y=torch.tensor([1, 2, 3]))))


@pytest.mark.parametrize("scale", [1e-20, 1e-25, 1e-30, 1e20])
def test_slopes_whose_squares_are_no_float32_keep_their_direction(linear: nn.Module, digits: Task, scale: float) -> None:
    small = replace(digits, test=digits.test.first(30))
    plain, scaled = (evaluation.portrait(Linear(k * linear.weight.data, k * linear.bias.data), small) for k in (1, scale))
    assert (scaled.radius, scaled.on_data) == pytest.approx((plain.radius, plain.on_data), rel=1e-4)
    assert (scaled.margin, scaled.slope) == pytest.approx((scale * plain.margin, scale * plain.slope), rel=1e-4, abs=0)


def test_training_inputs_have_one_direction_fewer_than_they_are(linear: nn.Module, digits: Task) -> None:
    few = replace(digits, train=digits.train.first(5))
    assert 0 < evaluation.portrait(linear, few, directions=4).on_data < 1
    with pytest.raises(ValueError, match="directions is 5; expected 1 to 4, one fewer than the 5 training inputs"):
        evaluation.portrait(linear, few, directions=5)


def test_the_median_of_two_is_the_lower(digits: Task) -> None:
    model = Linear(torch.tensor([[0.5, 0.0], [-0.5, 0.0]]), torch.zeros(2))
    two = replace(digits.test, x=torch.tensor([[3.0, 0.0], [1.0, 0.0]]), y=torch.tensor([0, 0]))
    train = replace(digits.train, x=torch.eye(2), y=torch.tensor([0, 1]))
    assert evaluation.portrait(model, replace(digits, classes=("a", "b"), train=train, test=two), directions=1).margin == 1
