"""Attacks: held against closed forms, against their promises, and against other libraries."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pagkit.attacks import Threat, fgsm, log_odds, pgd
from pagkit.data import Split
from pagkit.evaluation import robust_accuracy

NORMS = ["l2", "linf"]
FREE = (-math.inf, math.inf)


def length(delta: torch.Tensor, norm: str) -> torch.Tensor:
    return torch.linalg.vector_norm(delta.flatten(1), ord=2 if norm == "l2" else math.inf, dim=1)


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_finds_the_closed_form_distance_of_a_linear_model(linear: nn.Module, norm: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(64, 2, generator=generator)
    y = linear(x).argmax(1)
    distance = (x @ torch.tensor([3.0, 4.0]) - 5).abs() / (5 if norm == "l2" else 7)
    for row in range(0, 64, 4):
        one, label, eps = x[row : row + 1], y[row : row + 1], distance[row].item()
        inside = pgd(linear, one, label, Threat(norm, 0.99 * eps, FREE), restarts=2)
        outside = pgd(linear, one, label, Threat(norm, 1.01 * eps, FREE))
        assert linear(inside).argmax(1) == label
        assert linear(outside).argmax(1) != label


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("keep", ["worst", "last"])
def test_outputs_stay_in_ball_and_bounds(digits_cnn, digits, norm: str, eps: float, keep: str) -> None:
    x, y = digits.test.x[:40], digits.test.y[:40]
    threat = Threat(norm, eps)
    for x_adv in (
        pgd(digits_cnn, x, y, threat, steps=5, restarts=2, keep=keep),
        pgd(digits_cnn, x, y, threat, target=(y + 1) % 10, steps=5, keep=keep),
        fgsm(digits_cnn, x, y, threat),
        threat.random_start(x, torch.Generator().manual_seed(1)),
    ):
        assert x_adv.dtype == x.dtype and x_adv.shape == x.shape
        assert length(x_adv - x, norm).max() <= eps * (1 + 1e-5)
        assert x_adv.min() >= 0 and x_adv.max() <= 1


def test_random_start_fills_the_ball() -> None:
    x = torch.zeros(4000, 2)
    for norm, share in (("l2", 0.25), ("linf", 0.25)):  # both areas grow with the square of the radius
        start = Threat(norm, 2.0, FREE).random_start(x, torch.Generator().manual_seed(0))
        assert (length(start, norm) < 1).float().mean().item() == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("targeted", [False, True])
def test_worst_is_never_weaker_than_last(digits_cnn, digits, norm: str, targeted: bool) -> None:
    x, y = digits.test.x[:200], digits.test.y[:200]
    target = (y + 3) % 10 if targeted else None
    for eps in (0.1, 0.4, 0.8):
        threat = Threat(norm, eps if norm == "l2" else eps / 6)
        fooled = {}
        for keep in ("worst", "last"):
            guess = digits_cnn(pgd(digits_cnn, x, y, threat, target=target, steps=10, keep=keep)).argmax(1)
            fooled[keep] = (guess != y, guess == target if targeted else guess != y)
        for worst, last in zip(fooled["worst"], fooled["last"], strict=True):
            assert (worst | ~last).all()


def test_restarts_keep_the_best_of_each_row(digits_cnn, digits) -> None:
    x, y, threat = digits.test.x[:200], digits.test.y[:200], Threat("l2", 0.5)
    for keep in ("worst", "last"):
        once = digits_cnn(pgd(digits_cnn, x, y, threat, steps=3, keep=keep)).argmax(1) != y
        often = digits_cnn(pgd(digits_cnn, x, y, threat, steps=3, restarts=5, keep=keep)).argmax(1) != y
        assert (often | ~once).all() and often.sum() > once.sum()


@pytest.mark.parametrize("norm", NORMS)
def test_eps_zero_returns_x(digits_cnn, digits, norm: str) -> None:
    x, y = digits.test.x[:8], digits.test.y[:8]
    assert torch.equal(pgd(digits_cnn, x, y, Threat(norm, 0.0)), x)
    assert torch.equal(fgsm(digits_cnn, x, y, Threat(norm, 0.0)), x)


def test_model_and_global_state_are_left_as_found() -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3))
    model.train()
    model[1].eval()  # a frozen layer inside a training model
    model[0].weight.requires_grad_(False)
    model[5].weight.grad = torch.ones_like(model[5].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    x, y = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])
    pgd(model, x, y, Threat("l2", 0.5), steps=3, restarts=2)
    fgsm(model, x, y, Threat("linf", 0.1), target=(y + 1) % 3)
    robust_accuracy(model, Split(x, y), Threat("l2", 0.5), steps=2)
    assert [m.training for m in model] == [True, False, True, True, True, True] and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model[0].weight.requires_grad and model[5].weight.requires_grad
    assert torch.equal(model[5].weight.grad, torch.ones_like(model[5].weight)) and model[5].bias.grad is None
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not x.requires_grad


def test_state_is_restored_when_the_model_fails(digits) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 10)).train()  # 64 inputs do not fit
    with pytest.raises(RuntimeError):
        pgd(model, digits.test.x[:2], digits.test.y[:2], Threat("l2", 0.5))
    assert model.training


def test_works_under_no_grad_and_repeats(digits_cnn, digits) -> None:
    x, y, threat = digits.test.x[:20], digits.test.y[:20], Threat("l2", 0.5)
    with torch.no_grad():
        first = pgd(digits_cnn, x, y, threat, steps=4, restarts=2)
    assert torch.equal(first, pgd(digits_cnn, x, y, threat, steps=4, restarts=2))
    other = pgd(digits_cnn, x, y, threat, steps=4, restarts=2, generator=torch.Generator().manual_seed(9))
    assert not torch.equal(first, other)


@pytest.mark.parametrize("norm", NORMS)
def test_zero_gradients_give_no_nan(norm: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    nn.init.zeros_(model[1].weight)
    x, y = torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])
    assert pgd(model, x, y, Threat(norm, 0.3), keep="last").isfinite().all()
    assert torch.equal(fgsm(model, x, y, Threat(norm, 0.3)), x)


def test_a_saturated_model_is_attacked_as_well_as_a_mild_one(digits_cnn, digits) -> None:
    class Loud(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1e4 * digits_cnn(x)

    test, threat = digits.test.first(200), Threat("l2", 0.5)
    mild, loud = (robust_accuracy(m, test, threat, steps=20).correct for m in (digits_cnn, Loud()))
    assert loud <= mild + 12  # cross-entropy itself would give zero gradients and leave nearly all


def test_log_odds_is_log_p_minus_log_one_minus_p() -> None:
    logits = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    p = logits.softmax(1).gather(1, label[:, None]).squeeze(1)
    assert torch.allclose(log_odds(logits, label), p.log() - (1 - p).log())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(2,), (5,), (1, 4, 4), (3, 4, 4)])
def test_inputs_of_any_shape(norm: str, shape: tuple[int, ...]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 3))
    x, y = torch.rand(6, *shape), torch.tensor([0, 1, 2, 0, 1, 2])
    assert pgd(model, x, y, Threat(norm, 0.2), steps=3).shape == x.shape
    double = pgd(model.double(), x.double(), y, Threat(norm, 0.2), steps=3)
    assert double.dtype == torch.float64


def test_rows_whose_target_is_their_label_come_back_unchanged(digits_cnn, digits) -> None:
    x, y = digits.test.x[:50], digits.test.y[:50]
    for keep in ("worst", "last"):
        x_adv = pgd(digits_cnn, x, y, Threat("l2", 1.0), target=3, steps=5, keep=keep)
        assert torch.equal(x_adv[y == 3], x[y == 3]) and not torch.equal(x_adv[y != 3], x[y != 3])


X, Y = torch.full((4, 1, 8, 8), 0.5), torch.tensor([0, 1, 2, 3])
L2 = Threat("l2", 0.5)
BAD_CALLS = {
    "x above the bounds": (dict(x=X + 1), ValueError, r"x ranges over \[1.5, 1.5\].*\(0.0, 1.0\)"),
    "x below the bounds": (dict(x=X - 1), ValueError, r"x ranges over \[-0.5"),
    "x not a number": (dict(x=X * torch.nan), ValueError, r"x ranges over \[nan"),
    "x in bytes": (dict(x=X.to(torch.uint8)), TypeError, r"x has dtype torch.uint8"),
    "y in floats": (dict(y=Y.float()), TypeError, r"y has dtype torch.float32; expected torch.int64"),
    "y a list": (dict(y=[0, 1, 2, 3]), TypeError, r"y is a list; expected a tensor of int64"),
    "y of another length": (dict(y=Y[:3]), ValueError, r"shape \(4, 1, 8, 8\) and y \(3,\)"),
    "y one-hot": (dict(y=torch.eye(4, dtype=torch.int64)), ValueError, r"expected \(N, \*shape\) and \(N,\)"),
    "no rows": (dict(x=X[:0], y=Y[:0]), ValueError, r"batch is empty"),
    "a label too high": (dict(y=Y + 7), ValueError, r"labels range over \[7, 10\]; expected values in \[0, 10\)"),
    "a label too low": (dict(y=Y - 1), ValueError, r"labels range over \[-1, 2\]"),
    "a target too high": (dict(target=10), ValueError, r"targets range over \[10, 10\]"),
    "a target in floats": (dict(target=Y.float()), ValueError, r"target has dtype torch.float32"),
    "targets of another length": (dict(target=Y[:2]), ValueError, r"shape \(2,\); expected int64, a class or \(4,\)"),
    "target is the label": (dict(target=Y), ValueError, r"target equals the true label on every row"),
    "no steps": (dict(steps=0), ValueError, r"steps is 0; expected at least 1"),
    "no restarts": (dict(restarts=0), ValueError, r"restarts is 0; expected at least 1"),
    "a step backwards": (dict(step_size=-0.1), ValueError, r"step_size is -0.1"),
    "a step of no length": (dict(step_size="0.1"), TypeError, r"step_size is '0.1'; expected a number"),
    "an endless step": (dict(step_size=math.inf), ValueError, r"step_size is inf; expected a positive number, and a finite one"),
    "a step that overflows": (
        dict(step_size=1e20, threat=Threat("l2", 0.5, (-math.inf, 9.0))), ValueError, r"step_size is 1e\+20 inside bounds .*at most 1e15"
    ),
    "steps in halves": (dict(steps=10.0), TypeError, r"steps is 10.0; expected a whole number, at least 1"),
    "restarts in halves": (dict(restarts=2.0), TypeError, r"restarts is 2.0; expected a whole number, at least 1"),
    "offsets of other rows": (dict(offsets=X[:2]), ValueError, r"offsets have shape \(2, 1, 8, 8\); expected \(4, 1, 8, 8\)"),
    "offsets in a list": (dict(offsets=[0.0]), TypeError, r"offsets is a list; expected a tensor of shape \(4, 1, 8, 8\)"),
    "unknown keep": (dict(keep="best"), ValueError, r"keep is 'best'; expected 'worst' or 'last'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls_name_value_and_expectation(digits_cnn, case: str) -> None:
    change, kind, message = BAD_CALLS[case]
    call = {"x": X, "y": Y, "threat": L2, **change}
    with pytest.raises(kind, match=message):
        pgd(digits_cnn, call.pop("x"), call.pop("y"), call.pop("threat"), **call)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("l3", 0.1), "unknown norm 'l3'; expected one of l2, linf"),
        (("l2", -0.1), "eps is -0.1; expected a finite number >= 0"),
        (("l2", math.inf), "eps is inf"),
        (("l2", math.nan), "eps is nan"),
        (("linf", 0.1, (1.0, 0.0)), r"bounds are \(1.0, 0.0\)"),
    ],
)
def test_bad_threats(options: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Threat(*options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("l2", torch.tensor([0.1, 0.2])), r"eps is tensor\(\[0.1000, 0.2000\]\); expected a number"),
        (("l2", "0.5"), "eps is '0.5'; expected a number"),
        (("l2", None), "eps is None; expected a number"),
        (("l2", 0.5, None), r"bounds are None; expected a pair of numbers \(low, high\)"),
        (("l2", 0.5, (0.0, 1.0, 2.0)), r"bounds are \(0.0, 1.0, 2.0\); expected a pair"),
    ],
)
def test_a_threat_is_made_of_numbers(options: tuple, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Threat(*options)
    assert Threat("l2", torch.tensor(0.5)).eps == 0.5


@pytest.mark.parametrize("bounds", [(-0.4242, 2.8215), (0.0, 0.1)])
def test_what_is_clamped_to_the_bounds_lies_inside_them(bounds: tuple[float, float]) -> None:
    """Though float32 rounds -0.4242 up, and 2.8215 and 0.1 as well."""
    model, threat = nn.Linear(4, 3), Threat("linf", 0.05, bounds)
    x = torch.linspace(-5, 5, 32).view(8, 4).clamp(*bounds)
    x_adv = fgsm(model, x, torch.arange(8) % 3, threat)
    assert pgd(model, x_adv, torch.arange(8) % 3, threat, steps=2).shape == x.shape
    with pytest.raises(ValueError, match="x ranges over"):
        pgd(model, x.double() * 1.000001, torch.arange(8) % 3, threat)
