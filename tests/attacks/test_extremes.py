"""PGD's default, and the extremes at which it must stay finite and go on attacking."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pagkit.attacks import Threat, fgsm, pgd

NORMS = ["l2", "linf"]


class Odd(nn.Module):
    """A linear model whose gradient at pixel 0 is ``broken``; at the others it is an honest one."""

    def __init__(self, broken: float) -> None:
        super().__init__()
        self.broken = broken

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad:
            x = x.clone()
            x.register_hook(lambda g: torch.cat([torch.full_like(g[:, :1], self.broken), g[:, 1:]], 1))
        score = x.sum(1) - 2
        return torch.stack([score, -score], 1)


@pytest.mark.filterwarnings("ignore:3 of 3 inputs had gradients")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_an_entry_of_the_gradient_that_is_not_finite_moves_nothing(norm: str, broken: float) -> None:
    x, y, threat = torch.full((3, 4), 0.6), torch.zeros(3, dtype=torch.int64), Threat(norm, 0.3)
    for x_adv in (pgd(Odd(broken), x, y, threat), pgd(Odd(broken), x, y, threat, keep="last"), fgsm(Odd(broken), x, y, threat)):
        assert torch.equal(x_adv[:, 0], x[:, 0])
        assert torch.isfinite(x_adv).all() and (Odd(broken)(x_adv).argmax(1) == 1).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [1e6, 1e30, 1e38, 1e300])
@pytest.mark.parametrize("options", [{}, {"keep": "last"}, {"random_start": True}, {"restarts": 2}, {"target": 1}, {"step_size": 1e30}])
def test_a_ball_larger_than_the_bounds_is_attacked(norm: str, eps: float, options: dict) -> None:
    x, model = torch.full((3, 4), 0.9), Odd(1.0)
    y = torch.zeros(3, dtype=torch.int64)
    for x_adv in (pgd(model, x, y, Threat(norm, eps), **options), fgsm(model, x, y, Threat(norm, eps))):
        assert 0 <= x_adv.min() and x_adv.max() <= 1 and (model(x_adv).argmax(1) == 1).all()
    start = Threat(norm, eps).random_start(x, torch.Generator().manual_seed(0))
    assert 0 <= start.min() and start.max() <= 1 and not torch.equal(start, x)


def test_without_bounds_a_ball_has_a_largest_radius() -> None:
    with pytest.raises(ValueError, match=r"eps is 1e\+30 inside bounds \(-inf, inf\); expected at most 1e15"):
        Threat("l2", 1e30, (-math.inf, math.inf))


def test_an_input_just_outside_the_bounds_is_printed_in_full(linear: nn.Module) -> None:
    x = torch.full((1, 2), 1.0).nextafter(torch.tensor(2.0))
    with pytest.raises(ValueError, match=r"x ranges over \[1.0000001192092896, 1.0000001192092896\]"):
        pgd(linear, x, torch.tensor([0]), Threat("l2", 0.5))


def test_the_first_run_starts_at_x_and_restarts_elsewhere(digits_cnn, digits) -> None:
    x, y = digits.test.x[:6], digits.test.y[:6]
    seen: list[torch.Tensor] = []
    hook = digits_cnn.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    try:
        for options, firsts in (({}, [True, False]), ({"random_start": True}, [False, False])):
            seen.clear()
            pgd(digits_cnn, x, y, Threat("l2", 1e-3), steps=2, restarts=2, keep="last", **options)
            assert [torch.equal(seen[run], x) for run in (0, 3)] == firsts
    finally:
        hook.remove()


@pytest.mark.parametrize("options", [{"random_start": True}, {"offsets": torch.full((40, 1, 8, 8), 0.01)}])
def test_x_itself_counts_wherever_a_run_starts(digits_cnn, digits, options: dict) -> None:
    x = digits.test.x[:40]
    y = (digits_cnn(x).argmax(1) + torch.arange(40) % 2) % 10  # every other label is wrong at x already
    x_adv = pgd(digits_cnn, x, y, Threat("l2", 0.1), steps=2, **options)
    assert torch.equal(x_adv[1::2], x[1::2]) and not torch.equal(x_adv[::2], x[::2])


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
def test_the_default_walks_to_the_edge_and_then_searches_it(steps: int) -> None:
    taken: list[float] = []

    class Counting(Threat):
        def step(self, x: torch.Tensor, gradient: torch.Tensor, size: float) -> torch.Tensor:
            taken.append(size / self.eps)
            return super().step(x, gradient, size)

    x, y = torch.full((1, 4), 0.9), torch.tensor([0])
    for keep in ("worst", "last"):
        taken.clear()
        pgd(Odd(1.0), x, y, Counting("l2", 0.1), steps=steps, keep=keep)
        half = steps // 2 if keep == "worst" else 0
        assert taken[: steps - half] == pytest.approx([2.5 / steps] * (steps - half))
        assert taken[steps - half :] == pytest.approx([2 * k / steps for k in range(half, 0, -1)])
