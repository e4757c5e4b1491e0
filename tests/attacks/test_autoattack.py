"""AutoAttack behind our conventions: against closed forms and PGD, in any box and shape, leaving no trace."""

from __future__ import annotations

import math
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from pagkit import models, training
from pagkit.attacks import Threat
from pagkit.attacks.autoattack import perturb
from pagkit.data import Split
from pagkit.evaluation import attacked, autoattack, correct, exact_accuracy, robust_accuracy

pytest.importorskip("pyautoattack")
FREE = (-math.inf, math.inf)


def linear_problem(classes: int, shape: tuple[int, ...], rows: int = 40) -> tuple[nn.Module, Split]:
    """A linear classifier and points that it gets right."""
    generator = torch.Generator().manual_seed(classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
        x = 7 * torch.randn(rows, *shape, generator=generator)
        return model, Split(x, model(x).argmax(1))


def distances(model: nn.Module, split: Split, norm: str) -> torch.Tensor:
    """Closed form: the nearest of the hyperplanes z_y = z_c, (N,)."""
    weight, z = model[1].weight.detach(), model(split.x).detach()
    gap = z.gather(1, split.y[:, None]) - z
    steepness = torch.linalg.vector_norm(weight[split.y][:, None] - weight, ord=2 if norm == "l2" else 1, dim=-1)
    return (gap / steepness).scatter(1, split.y[:, None], math.inf).amin(1)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("classes", [2, 3, 4, 10])
@pytest.mark.parametrize("shape", [(5,), (1, 6, 6)])
def test_breaks_what_a_closed_form_says_can_be_broken(norm: str, classes: int, shape: tuple[int, ...]) -> None:
    model, split = linear_problem(classes, shape)
    exact = distances(model, split, norm)
    eps = exact.sort().values[19:21].mean().item()  # between two rows: half can be broken
    x_adv = perturb(model, split, Threat(norm, eps, FREE), queries=20, progress=False)
    held = correct(model, Split(x_adv, split.y))
    assert held[exact > 1.001 * eps].all() and not held[exact < 0.99 * eps].any()
    length = torch.linalg.vector_norm((x_adv - split.x).flatten(1), ord=2 if norm == "l2" else math.inf, dim=1)
    assert length.max() <= eps * (1 + 1e-4) and x_adv.shape == split.x.shape
    assert (x_adv - split.x)[held].abs().max() < 1e-4, "a row that holds comes back as it was"


def test_one_survivor_and_none() -> None:
    model, split = linear_problem(4, (1, 6, 6))
    farthest = distances(model, split, "l2").sort().values
    for left, eps in ((1, (farthest[-2] + farthest[-1]).item() / 2), (0, 2 * farthest[-1].item())):
        assert autoattack(model, split, Threat("l2", eps, FREE), queries=20, progress=False).correct == left
    assert autoattack(model, Split(split.x[:1], split.y[:1]), Threat("l2", 0.01, FREE), queries=20).correct == 1
    wrong = Split(split.x, (split.y + 1) % 4)
    assert torch.allclose(perturb(model, wrong, Threat("l2", 1.0, FREE), queries=20), split.x, atol=1e-4), "nothing to attack"


@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.5), ("linf", 0.12)])
def test_leaves_no_more_than_pgd(digits_cnn, digits, norm: str, eps: float) -> None:
    test, threat = digits.test.first(12), Threat(norm, eps)
    x_adv = perturb(digits_cnn, test, threat, queries=50, progress=False)
    left = int(correct(digits_cnn, Split(x_adv, test.y)).sum())
    assert 0 < robust_accuracy(digits_cnn, test, threat).correct < 12
    assert left <= robust_accuracy(digits_cnn, test, threat, steps=40).correct
    length = torch.linalg.vector_norm((x_adv - test.x).flatten(1), ord=2 if norm == "l2" else math.inf, dim=1)
    assert length.max() <= eps * (1 + 1e-5) and x_adv.min() >= 0 and x_adv.max() <= 1


def test_square_alone_is_weaker_and_sees_no_gradient(digits_cnn, digits) -> None:
    class Rounded(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return digits_cnn((4 * x).round() / 4)

    test, threat = digits.test.first(20), Threat("l2", 1.0)
    square = {"attacks": ["square"], "queries": 100, "progress": False}
    assert robust_accuracy(digits_cnn, test, threat).correct <= autoattack(digits_cnn, test, threat, **square).correct
    blind = attacked(Rounded(), test, threat).x
    assert autoattack(Rounded(), test, threat, **square).correct < correct(Rounded(), Split(blind, test.y)).sum()


def test_on_the_toy_close_to_the_exact_accuracy_and_never_below(toy) -> None:
    recipe = training.Recipe.load("three-modes-scaled-standard", epochs=5)
    model = models.build(recipe.model, toy, seed=0, **recipe.model_options)
    training.fit(model, toy, recipe, progress=False)
    for eps in (5.0, 15.0):
        exact = exact_accuracy(model, toy.test, eps).correct
        left = autoattack(model, toy.test, Threat("l2", eps, toy.bounds), progress=False).correct
        assert exact <= left <= exact + 2, f"eps {eps}: exact {exact}, AutoAttack {left}"


def test_other_bounds_change_nothing_but_the_unit() -> None:
    model, split = linear_problem(3, (1, 6, 6))
    shifted = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    with torch.no_grad():  # the same classifier of u in [0, 1], x = 64 u - 32
        shifted[1].weight.copy_(64 * model[1].weight)
        shifted[1].bias.copy_(model[1].bias - 32 * model[1].weight.sum(1))
    there = Split((split.x + 32) / 64, split.y)
    for norm in ("l2", "linf"):
        eps = distances(model, split, norm).sort().values[19:21].mean().item()
        a = perturb(model, split, Threat(norm, eps, (-32.0, 32.0)), attacks=["apgd-ce", "fab-t"])
        b = perturb(shifted, there, Threat(norm, eps / 64), attacks=["apgd-ce", "fab-t"])
        assert torch.equal(correct(model, Split(a, split.y)), correct(shifted, Split(b, split.y)))


class Fragile(nn.Module):
    """Draws random numbers of every kind, which AutoAttack warns about, and breaks down on the given call."""

    def __init__(self, fails_on: int) -> None:
        super().__init__()
        self.layer, self.norm, self.calls, self.fails_on = nn.Linear(36, 3), nn.BatchNorm1d(36), 0, fails_on

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.fails_on:
            raise RuntimeError("broken")
        return self.layer(self.norm(x.flatten(1))) + 0.01 * (random.random() + np.random.rand() + torch.rand(len(x), 3))  # noqa: NPY002


@pytest.mark.filterwarnings("ignore:AutoAttack says")
@pytest.mark.parametrize("fails_on", [-1, 1, 8, 30])  # never; first; inside the check that sets the trace function; in an attack
def test_everything_is_left_as_found(fails_on: int, capfd, caplog) -> None:
    torch.manual_seed(0)
    model = Fragile(fails_on).train()
    model.norm.eval()
    model.layer.bias.requires_grad_(False)
    model.layer.weight.grad = torch.ones_like(model.layer.weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    split = Split(torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0, 1, 2]))
    found = sys.gettrace()

    def trace(*_: object) -> None:
        return None

    sys.settrace(trace)
    try:
        if fails_on > 0:
            with pytest.raises(RuntimeError, match="broken"):
                perturb(model, split, Threat("l2", 0.3), queries=5, progress=False)
        else:
            perturb(model, split, Threat("l2", 0.3), queries=5, progress=False)
        assert sys.gettrace() is trace
    finally:
        sys.settrace(found)
    assert model.training and model.layer.training and not model.norm.training
    assert model.layer.weight.requires_grad and not model.layer.bias.requires_grad
    assert torch.equal(model.layer.weight.grad, torch.ones_like(model.layer.weight)) and model.norm.weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0]) and (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert random.getstate() == states[2]
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_same_seed_same_points(digits_cnn, digits) -> None:
    test, threat = digits.test.first(4), Threat("l2", 0.6)
    options = {"attacks": ["apgd-ce", "square"], "queries": 10, "progress": False}
    with torch.no_grad():
        first = perturb(digits_cnn, test, threat, **options)
    assert torch.equal(first, perturb(digits_cnn, test, threat, **options))
    assert not torch.equal(first, perturb(digits_cnn, test, threat, seed=1, **options))


def test_eps_zero_returns_x(digits_cnn, digits) -> None:
    assert torch.equal(perturb(digits_cnn, digits.test.first(3), Threat("l2", 0.0)), digits.test.x[:3])


def test_without_the_package_the_error_says_what_to_install(digits_cnn, digits, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(ImportError, match=r"pip install 'pagkit\[autoattack\]'"):
        autoattack(digits_cnn, digits.test, Threat("l2", 0.5))


X, Y = torch.full((4, 1, 8, 8), 0.5), torch.tensor([0, 1, 2, 3])
FLAT = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
BAD_CALLS = {
    "no rows": ({"x": X[:0], "y": Y[:0]}, ValueError, "the batch is empty"),
    "x outside the bounds": ({"x": X + 1}, ValueError, r"x ranges over \[1.5, 1.5\]"),
    "x in float64": ({"x": X.double()}, TypeError, "x has dtype torch.float64; expected torch.float32"),
    "a label too high": ({"y": Y + 8}, ValueError, r"labels range over \[8, 11\]; expected values in \[0, 10\)"),
    "no attacks": ({"attacks": []}, ValueError, "no attack is given; expected some of apgd-ce"),
    "an unknown attack": ({"attacks": ["cw"]}, ValueError, "unknown attack 'cw'; expected some of apgd-ce"),
    "no queries": ({"queries": 0}, ValueError, "queries is 0; expected at least 1"),
    "queries in halves": ({"queries": 2.5}, TypeError, "queries is 2.5; expected a whole number, at least 1"),
    "too few classes": ({"model": FLAT, "y": Y % 3, "attacks": ["apgd-t"]}, ValueError, "has 3 classes; attack 'apgd-t' needs at least 4"),
    "square on a vector": (
        {"model": FLAT, "x": X.flatten(1), "y": Y % 3, "attacks": ["square"]}, ValueError, r"shape \(64,\); attack 'square' needs images"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls_name_value_and_expectation(digits_cnn, case: str) -> None:
    change, kind, message = BAD_CALLS[case]
    call = {"model": digits_cnn, "x": X, "y": Y, **change}
    with pytest.raises(kind, match=message):
        perturb(call.pop("model"), Split(call.pop("x"), call.pop("y")), Threat("l2", 0.5), **call)


def test_restarts_are_those_of_fab_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyautoattack sets one start before fab-t, and leaves it so."""
    fab, starts = pytest.importorskip("pyautoattack.fab_pt").FABAttack_PT, []
    monkeypatch.setattr(fab, "perturb", lambda self, x, y: starts.append((self.targeted, self.n_restarts)) or x)
    model, split = linear_problem(4, (1, 6, 6), rows=3)
    perturb(model, split, Threat("l2", 0.01, FREE), attacks=["fab-t", "fab"], restarts=3, progress=False)
    perturb(model, split, Threat("l2", 0.01, FREE), attacks=["fab-t"], progress=False)
    assert starts == [(True, 3), (False, 3), (True, 1)]


def near_a_line(rows: int) -> tuple[nn.Module, Split]:
    """A linear classifier by the sign of x1, and points less than 0.45 from its boundary."""
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        x = torch.randn(rows, 2, generator=torch.Generator().manual_seed(0))
        x[:, 0] = x[:, 0].sign() * (0.05 + 0.4 * x[:, 0].abs() / x[:, 0].abs().max())
        return model, Split(x, model(x).argmax(1))


@pytest.mark.parametrize("side", [1e4, 1e6, 1e8])
def test_a_box_far_wider_than_eps_hides_nothing(side: float) -> None:
    model, split = near_a_line(40)
    assert autoattack(model, split, Threat("l2", 0.5, (-side, side)), attacks=["apgd-ce"], progress=False).correct == 0


def test_data_far_wider_than_eps_are_refused() -> None:
    model, split = near_a_line(4)
    split.x[:2, 0] = torch.tensor([1e6, -1e6])
    with pytest.raises(ValueError, match="eps is 0.5 and the data reach from -1e.06 to 1e.06; expected an eps of at least 1e-05 of that"):
        autoattack(model, split, Threat("l2", 0.5, FREE), progress=False)
    split.x[:] = 1e20  # which eps does not change
    with pytest.raises(ValueError, match=r"the data reach from 1e\+20 to 1e\+20"):
        autoattack(model, split, Threat("l2", 0.5, FREE), progress=False)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_points_that_are_one_and_a_graph_behind_x(eps: float) -> None:
    """Without bounds and with an eps of 0 their box has no width; what comes back has no graph."""
    model, split = near_a_line(2)
    x = torch.zeros(2, 2, requires_grad=True) * 1.0
    x_adv = perturb(model, Split(x, split.y), Threat("l2", eps, FREE), attacks=["apgd-ce"], progress=False)
    assert not x_adv.requires_grad and x_adv.isfinite().all()
