"""Exact boundary, radius and scores: held against brute force, attacks and autograd, and against what they must refuse."""

from __future__ import annotations

import math
import time

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from pagkit import data, exact, models
from pagkit.attacks import Threat, pgd
from pagkit.models import Normalize


def random_net(seed: int, hidden: int = 32, classes: int = 2) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, classes))
        nn.init.normal_(net[0].bias, std=1.0)
        nn.init.normal_(net[2].weight)
    return net.double()


def broken_net() -> nn.Sequential:
    net = random_net(0)
    nn.init.constant_(net[0].bias, torch.nan)
    return net


def brute_force(model: nn.Module, x: torch.Tensor, reach: float, rays: int = 540, samples: int = 300) -> torch.Tensor:
    """Distance to the first change of class, or tie of the two highest logits, along many rays.

    It is too long by the gap between rays, never too short by more than a step.
    """
    angle = torch.arange(rays, dtype=torch.float64) * (2 * math.pi / rays)
    ray = torch.stack([angle.cos(), angle.sin()], 1)
    r = torch.linspace(0, reach, samples + 1, dtype=torch.float64)[1:]
    found = []
    for point in x:
        grid = point + r[:, None, None] * ray
        top, classes = model(grid).topk(2)
        changed = ((classes[..., 0] != model(point[None]).argmax(-1)) | (top[..., 0] - top[..., 1] < 1e-12)).any(1)
        found.append(r[changed][0] if changed.any() else torch.tensor(math.inf, dtype=torch.float64))
    return torch.stack(found)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [2, 4])
def test_radius_agrees_with_brute_force(seed: int, classes: int) -> None:
    model = random_net(seed, classes=classes)
    x = 2 * torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    reach = 3.0
    with torch.no_grad():
        searched = brute_force(model, x, reach)
    r = exact.radius(model, x)
    step = reach / 300
    near = r < reach - 0.05
    assert (searched[~near] > reach - 0.06).all()
    assert (searched[near] >= r[near] - 1e-9).all(), "brute force found a class change inside the exact radius"
    assert (searched[near] <= r[near] + 2 * step + 0.01 * r[near]).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_point_at_the_radius_lies_on_the_boundary(seed: int) -> None:
    model = random_net(seed)
    segments = exact.boundary(model, (-5.0, 5.0, -4.0, 4.0))
    share = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None, None]
    on_it = (segments[:, 0] + share * (segments[:, 1] - segments[:, 0])).reshape(-1, 2)
    logits = model(on_it)
    assert (logits[:, 0] - logits[:, 1]).abs().max() < 1e-9
    assert exact.radius(model, on_it).max() < 1e-9
    assert (segments[..., 0].abs() <= 5 + 1e-9).all() and (segments[..., 1].abs() <= 4 + 1e-9).all()


def test_never_above_the_norm_of_a_successful_attack() -> None:
    task = data.load("three-modes", train_per_class=30, test_per_class=300)
    model = models.build("mlp", task, seed=3, normalize=40.0)
    x = task.test.x
    y = model(x).argmax(1)
    r = exact.radius(model, x)
    hits = 0
    for eps in (2.0, 10.0, 30.0):
        x_adv = pgd(model, x, y, Threat("l2", eps, task.bounds), steps=60, restarts=3)
        fooled = model(x_adv).argmax(1) != y
        moved = torch.linalg.vector_norm((x_adv - x).double(), dim=1)
        assert (r[fooled] <= moved[fooled] * (1 + 1e-4) + 1e-4).all()
        assert not (fooled & (r > eps * (1 + 1e-4))).any()
        hits += int(fooled.sum())
    assert hits > 50


def test_normalisation_is_folded_in() -> None:
    net = random_net(1)
    scaled = nn.Sequential(Normalize(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.5])), *net.float())
    x = 4 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    r = exact.radius(scaled, x)
    near = r < 3.5
    with torch.no_grad():
        searched = brute_force(scaled.double(), x.double()[near][:5], 4.0)
    assert len(searched) == 5 and torch.allclose(searched, r[near][:5], atol=0.03)


def test_closed_form_of_a_single_kink() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2)).double()
    with torch.no_grad():  # z0 - z1 = relu(x1) - 1: the line x1 = 1
        for parameter, value in zip(model.parameters(), ([[1.0, 0.0]], [0.0], [[1.0], [0.0]], [-1.0, 0.0]), strict=True):
            parameter.copy_(torch.tensor(value))
    x = torch.tensor([[-3.0, 7.0], [1.0, 0.0], [4.0, -2.0]])
    assert torch.allclose(exact.radius(model, x), torch.tensor([4.0, 0.0, 3.0], dtype=torch.float64))


def test_one_class_everywhere_has_an_infinite_radius() -> None:
    model = random_net(0)
    with torch.no_grad():
        model[2].weight.zero_()
    assert exact.radius(model, torch.zeros(3, 2)).isinf().all()
    assert exact.boundary(model, (-1, 1, -1, 1)).shape == (0, 2, 2)


def test_repeated_and_dead_units() -> None:
    model = random_net(2, hidden=8)
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = model[0].weight[0], model[0].bias[0]
        model[0].weight[2], model[0].bias[2] = -2 * model[0].weight[0], -2 * model[0].bias[0]
        model[0].weight[3] = 0.0
    x = 2 * torch.randn(10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        searched = brute_force(model, x, 3.0)
    r = exact.radius(model, x)
    near = r < 2.9
    assert near.any() and torch.allclose(searched[near], r[near], atol=0.02)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("bias", [None, 0.7])
def test_ties_on_a_whole_cell_agree_with_brute_force(bias: float | None, classes: int) -> None:
    for seed in range(8):
        model, hidden = random_net(seed, hidden=1 + seed % 4, classes=classes), 1 + seed % 4
        if bias is None:
            last, model[2] = model[2], nn.Linear(hidden, classes, bias=False).double()
            model[2].weight = last.weight
        else:
            nn.init.constant_(model[2].bias, bias)
        x = 2 * torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            searched = brute_force(model, x, 3.0, samples=150)
        r = exact.radius(model, x)
        near = r < 2.9
        assert (searched >= r - 1e-9).all(), f"seed {seed}: brute force found a change of class inside the exact radius"
        assert (searched[near] <= 1.03 * r[near] + 0.04).all(), f"seed {seed}"


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.1, 2.5])
def test_closed_form_of_ties_on_whole_cells(angle: float) -> None:
    """z = (u, u, v) with u = relu(x1), v = relu(x2), turned by an angle: two classes alike, and all three tie where both units are off."""
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 3, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(turn)
        model[2].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    x = torch.tensor([[1.0, 3.0], [-2.0, 1.0], [3.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)  # v wins twice; u, u; all
    expected = torch.tensor([math.sqrt(2), 1.0, 0.0, 0.0], dtype=torch.float64)
    assert torch.allclose(exact.radius(model, x @ turn), expected, atol=1e-9)
    one = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2)).double()  # the line of its one unit, and all behind it
    with torch.no_grad():
        for parameter, value in zip(one.parameters(), (turn[:1], [-0.7], [[1.0], [-0.5]], [0.3, 0.3]), strict=True):
            parameter.copy_(torch.as_tensor(value))
    assert torch.allclose(exact.radius(one, x @ turn), (x[:, 0] - 0.7).clamp_min(0), atol=1e-9)


def test_six_hundred_points_in_under_a_second() -> None:
    model, x = random_net(0), 50 * torch.randn(600, 2)
    start = time.perf_counter()
    exact.radius(model, x)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(1, 2), "has 3 inputs; exact radii need 2"),
        (nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(1, 3), r"x has shape \(1, 3\).*two inputs"),
        (nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), torch.full((1, 2), torch.nan), "x has 1 of 1 points with a"),
        (nn.Sequential(nn.Linear(2, 4), nn.SiLU(), nn.Linear(4, 2)), torch.zeros(1, 2), r"\[Linear, SiLU, Linear\]; exact radii need"),
        (nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(1, 2), "one hidden ReLU"),
        (nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)), torch.zeros(1, 2), "has 1 output"),
        (nn.Linear(2, 2), torch.zeros(1, 2), r"\[Linear\]"),
        (broken_net(), torch.zeros(1, 2), "has 32 weights that are nan or infinite; exact radii need finite ones"),
    ],
)
def test_refuses_what_it_cannot_do_exactly(model: nn.Module, x: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exact.radius(model, x)


@pytest.mark.parametrize("box", [(1, 0, 0, 1), (0, 1, 0), (-math.inf, math.inf, -1, 1), (0, math.nan, 0, 1)])
def test_a_box_that_is_none(box: tuple) -> None:
    with pytest.raises(ValueError, match=r"box is \(.*\); expected \(x1_low, x1_high, x2_low, x2_high\), finite, with low < high"):
        exact.boundary(random_net(0), box)


def toy_density(t: int, modes: tuple[int, ...]) -> MixtureSameFamily:
    """The toy at noise level t, from its definition: x1 ~ N(10 m, 1) and x2 = 2 x1, with m in units of 10."""
    a = exact.alpha_bar(t)
    centres = math.sqrt(a) * torch.tensor([[10.0 * m, 20.0 * m] for m in modes], dtype=torch.float64)
    covariance = a * torch.tensor([[1.0, 2.0], [2.0, 4.0]]).double() + 1600 * (1 - a) * torch.eye(2).double()
    same = Categorical(torch.ones(len(modes), dtype=torch.float64))
    return MixtureSameFamily(same, MultivariateNormal(centres, covariance.expand(len(modes), 2, 2)))


@pytest.mark.parametrize("t", [0, 100, 400, 999])
@pytest.mark.parametrize("y", [0, 1, None])
def test_score_is_the_gradient_of_the_log_density(toy, t: int, y: int | None) -> None:
    x = toy.test.x.double() + 20 * torch.randn(len(toy.test), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(t))
    x.requires_grad_()
    modes = (*data.MODES[0], *data.MODES[1]) if y is None else data.MODES[y]
    (gradient,) = torch.autograd.grad(toy_density(t, modes).log_prob(x).sum(), x)
    assert torch.allclose(exact.score(toy, x, t, y), gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("t", [100, 400])
def test_score_fits_the_data_as_drawn(t: int) -> None:
    """Stein's identity: over x ~ p_t the mean score is zero and the mean of score(x) x^T is minus the identity."""
    task = data.load("three-modes", train_per_class=90_000)
    noisy = exact.ToyDiffusion(task).noised(task.train.x, t, generator=torch.Generator().manual_seed(0))
    for y in (0, 1, None):
        x = noisy if y is None else noisy[task.train.y == y]
        s = exact.score(task, x, t, y)
        assert (s.mean(0) / s.std(0)).abs().max() < 0.02
        assert torch.allclose(s.T @ x / len(x), -torch.eye(2, dtype=torch.float64), atol=0.05)


def test_score_of_a_label_for_each_row(toy) -> None:
    x, y = toy.test.x, toy.test.y
    mixed = exact.score(toy, x, 300, y)
    for label in (0, 1):
        assert torch.equal(mixed[y == label], exact.score(toy, x[y == label], 300, label))


def test_scores_that_are_not_known(toy, digits) -> None:
    x = toy.test.x[:4]
    for call, message in (
        (lambda: exact.score(digits, x, 5), "the task is 'digits'; exact scores are known for 'three-modes' only"),
        (lambda: exact.score(toy, x[0], 5), r"x has shape \(2,\); expected points \(N, 2\)"),
        (lambda: exact.score(toy, x, 1000), r"t is 1000; expected a noise level in \[0, 1000\)"),
        (lambda: exact.score(toy, x * torch.nan, 5), "x has 4 of 4 points with a coordinate that is nan or infinite"),
        (lambda: exact.score(toy, x, 5, 2), "y is 2; expected a class 0 or 1"),
        (lambda: exact.score(toy, x, 5, torch.tensor([0, 1])), r"y is \[0, 1\]; expected .* one for each of the 4 rows"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_forward_of_its_own_is_refused() -> None:
    """Layers alone do not say what a model does: one divides its inputs by 40 in ``forward``, one in a hook."""
    plain, x = random_net(0), torch.zeros(1, 2, dtype=torch.float64)

    class Scaled(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x / 40)

    class Shifted(Normalize):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1

    for model in (Scaled(*plain), nn.Sequential(Shifted(torch.zeros(2), torch.ones(2)), *plain)):
        with pytest.raises(ValueError, match="exact radii need"):
            exact.radius(model, x)
    hooked = nn.Sequential(*plain)
    hooked[1].register_forward_hook(lambda _, given, said: 2 * said)
    with pytest.raises(ValueError, match=r"the model's 1 \(ReLU\) has a hook"):
        exact.radius(hooked, x)
    replaced = random_net(0)
    replaced[1].forward = lambda x: 2 * x.relu()
    with pytest.raises(ValueError, match=r"the model's 1 \(ReLU\) was given another forward"):
        exact.radius(replaced, x)


@pytest.mark.parametrize("t", [500.0, 0.5, True])
def test_a_noise_level_is_a_whole_number(toy, t: object) -> None:
    with pytest.raises(TypeError, match=f"t is {t}; expected a whole number"):
        exact.score(toy, toy.test.x[:1], t)
    assert torch.equal(exact.score(toy, toy.test.x[:1], torch.tensor(5)), exact.score(toy, toy.test.x[:1], 5))
