"""The book's own solutions pass, and the answers that one gives first fail with the words meant for them."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from pagkit import attacks, data, exact, exercises, targets
from pagkit.attacks import log_odds
from pagkit.exercises import check
from tests.helpers import run_cells


def some_target(model, x, y, threat, classes=range(10), own=False):
    broken = torch.zeros(len(x), dtype=torch.bool)
    for c in classes:
        read = model(attacks.pgd(model, x, y, threat, target=c, steps=20)).argmax(1)
        broken |= (read == c) if own else (read != y)
    return broken


def away(model, x, x_adv, target):
    before, after = (log_odds(model(z), target) for z in (x, x_adv))
    return (after < before).float().mean() > 0.5


def first_step(model, x, y, rival=torch.inf, nearest=True):
    z = x.clone().requires_grad_()
    gaps = model(z).gather(1, y[:, None]) - model(z)
    g = torch.stack([torch.autograd.grad(gaps[:, c].sum(), z, retain_graph=True)[0].flatten(1).norm(dim=1) for c in range(10)], 1)
    ratio = (gaps.detach() / g.clamp_min(1e-9)).scatter(1, y[:, None], rival)
    second = gaps.detach().scatter(1, y[:, None], torch.inf).argmin(1, keepdim=True)
    return ratio.amin(1) if nearest else ratio.gather(1, second)[:, 0]


def in_box(x, push, eps):
    low, high = torch.zeros(len(x), 1), torch.full((len(x), 1), 1e6)
    for _ in range(80):
        mu = (low + high) / 2
        long = torch.clamp(mu * push, -x, 1 - x).norm(dim=1, keepdim=True) > eps
        low, high = torch.where(long, low, mu), torch.where(long, mu, high)
    return torch.clamp(low * push, -x, 1 - x)


def straight(x, push, eps):
    return eps * F.normalize(push, dim=1)


def one_entry(g, sign=True):
    k = g.abs().argmax()
    return F.one_hot(k, len(g)) * (g[k].sign() if sign else 1.0)


def nearest_point(x_adv, x, eps):
    low, high = torch.zeros(len(x), 1, 1, 1), torch.ones(len(x), 1, 1, 1)
    for _ in range(40):
        s = (low + high) / 2
        fits = ((x + s * (x_adv - x)).clamp(0, 1) - x).flatten(1).norm(dim=1).view(-1, 1, 1, 1) <= eps
        low, high = torch.where(fits, s, low), torch.where(fits, high, s)
    return (x + low * (x_adv - x)).clamp(0, 1)


M = torch.randn(64, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def bent(points, times=16, power=3):
    return points @ (M / M.norm()) + 200 * torch.sin(times * math.pi * points).pow(power).sum(1)


def closest(model, x, y, aims=range(1, 10), far=2.0):
    pgd = run_cells("03-pgd.ipynb", "pgd-parts", "pgd-loop")["pgd"]
    radius = torch.full((len(x), 1, 1, 1), far)
    for aim in (None, *aims):
        low = torch.zeros_like(radius)
        for _ in range(9):
            eps = (low + radius) / 2
            moved = pgd(model, x, y, "l2", eps, 20, eps / 8, None if aim is None else (y + aim) % 10)
            won = (model(moved).argmax(1) != y).view(radius.shape)
            low, radius = torch.where(won, low, eps), torch.where(won, eps, radius)
    return radius.flatten()


def certified(votes, draws, sigma, level=0.001, majority=0.5):
    low = stats.beta.ppf(level, votes, draws - votes + 1) if level and votes else votes / draws
    return sigma * stats.norm.ppf(low) if low > majority else 0.0


def pupil(x, y, means, factor=2.0):
    square = (x[:, None] - means).square().sum(-1)
    gap = square - square.gather(1, y[:, None])
    width = factor * torch.cdist(means, means)[y]
    return (gap / width).scatter(1, y[:, None], torch.inf).amin(1)


def candidates(wrong=0.0):
    task = data.load("digits")
    pools = [task.train.x[task.train.y == c].flatten(1) for c in range(10)]
    found = {}
    for many in (1, 2, 5, 15, 60, 150):
        d = torch.stack([torch.cdist(task.test.x.flatten(1), p[:many]).amin(1) for p in pools], 1)
        found[many] = 100 * (d.argmin(1) == task.test.y).float().mean() + wrong
    return found


def softer(width=0.5, weights="posterior", out=True):
    """Directions of exercise 7.3 and the posterior, with other widths and weights, or with each image left in its class."""
    train = data.load("digits").train
    x, ways, chances = train.x.flatten(1), [], []
    apart = torch.cdist(x, x).square()
    if out:
        apart.fill_diagonal_(math.inf)
    for c in range(10):
        near = -apart[:, train.y == c] / (2 * width**2)
        ways.append(near.softmax(1) @ x[train.y == c] - x)
        chances.append(near.logsumexp(1))
    g, p = torch.stack(ways, 1), torch.stack(chances, 1).softmax(1)
    q = {"posterior": p, "uniform": torch.full_like(p, 0.1), "one": torch.eye(10)[p.argmax(1)]}[weights]
    return g - (q[..., None] * g).sum(1, keepdim=True), q


def tweedie(x_t, score, a, noise=True):
    return (x_t + ((1 - a) if noise else 1) * score) / math.sqrt(a)


def tilt(x1, crossing, degrees, scale=5**0.5, unit=math.pi / 180):
    return scale * abs(x1 - crossing) * math.cos(degrees * unit)


def linf(net, x):
    return run_cells("09-toy-exactly.ipynb", "cells", "pieces", "layers", "radius-linf")["radius_linf"](net, x)


def ten_nearest(index, x, classes, apart=1e-6):
    train = data.load("digits").train
    flat, means = train.x.flatten(1), []
    for c in range(10):
        pool = flat[train.y == c]
        d = torch.cdist(x.flatten(1), pool)
        d[d < apart] = torch.inf
        means.append(pool[d.topk(10, largest=False).indices].mean(1))
    means = torch.stack(means, 1).view(-1, 10, 1, 8, 8)
    return means[torch.arange(len(x))[:, None], classes] - x[:, None]


PRICE = [(99.9, 0.1), (90.1, 90.0)]
RIGHT = [
    ("1.1", some_target),
    ("1.2", lambda tries, rho: math.sqrt(2 * math.log(tries)) / rho),
    ("2.1", away),
    ("2.2", first_step),
    ("2.3", in_box),
    ("3.1", one_entry),
    ("3.2", nearest_point),
    ("3.3", closest),
    ("4.1", PRICE),
    ("4.1", torch.tensor(PRICE).unbind(0)),
    ("5.2", (bent, M)),
    ("6.1", pupil),
    ("6.2", (2, 7)),
    ("7.1", candidates()),
    ("7.2", {-10, 10}),
    ("7.3", softer()),
    ("8.1", tweedie),
    ("9.1", tilt),
    ("9.2", linf),
    ("10.1", lambda k, s: stats.t.ppf(0.975, k - 1) * s / math.sqrt(k)),
    ("10.2", targets.GradientTarget("ten nearest", ten_nearest)),
    ("10.3", certified),
    ("12.2", {"flips": 0.0, "crops": torch.tensor(0.03)}),
    ("11.1", ((8, 1), (3, 4))),
    ("12.3", (4, 12)),
    ("13.1", lambda low, high, rise: (high - low) * rise / 2),
    ("15.2", lambda rho, k, d: k / (k + rho**2 * (d - k))),
    ("13.2", {3: 3.3, 5: 1.7, 10: 1.0}),
]
WRONG = [
    ("1.1", lambda *a: some_target(*a, own=True), "What if the target is y itself?"),
    ("1.1", lambda *a: some_target(*a, classes=[3]), "hold out"),
    ("1.1", lambda model, x, y, t: model(attacks.pgd(model, x, y, t, steps=20)).argmax(1) != y, "all nine targets"),
    ("1.1", lambda model, x, y, t: model(attacks.fgsm(model, x, y, t)).argmax(1) != y, "all nine targets"),
    ("1.1", lambda model, x, y, t: some_target(model, x, y, t) & (model(x).argmax(1) == y), "4 images are misread before any attack"),
    ("1.1", lambda *a: int(some_target(*a).sum()), "returns a int; expected one truth value an image"),
    ("1.2", lambda tries, rho: math.sqrt(math.log(tries)) / rho, "ask for the share where this is once"),
    (
        "2.1",
        lambda model, x, x_adv, target: bool((model(x_adv).argmax(1) == target).sum() == 0),
        "convicts an attack that takes a step of 0.001",
    ),
    ("2.1", lambda model, x, x_adv, target: bool((x_adv - x).abs().max() > 1), "finds nothing wrong with an attack"),
    ("2.1", lambda model, x, x_adv, target: x_adv > x, "one verdict"),
    ("2.2", lambda *a: first_step(*a, rival=0.0), "Is the label counted among the rivals?"),
    ("2.2", lambda *a: first_step(*a, nearest=False), "are too large"),
    ("2.2", lambda *a: first_step(*a) / 2, "40 of 40 radii are too small"),
    ("2.3", straight, "leave the box"),
    ("2.3", lambda x, push, eps: (x + straight(x, push, eps)).clamp(0, 1) - x, "does more harm"),
    ("2.3", lambda x, push, eps: in_box(x, push, 1.1 * eps), "longest change"),
    ("3.1", lambda g: g.sign(), "L1 norm 64.00"),
    ("3.1", lambda g: g / g.abs().sum(), "another v reaches more"),
    ("3.1", lambda g: one_entry(g, sign=False), "another v reaches more"),
    ("3.2", lambda far, x, eps: attacks.Threat("l2", eps).project(far, x), "is nearer"),
    ("3.2", lambda far, x, eps: far, "leave the box"),
    ("3.3", lambda *a: closest(*a, aims=()), "Was every class aimed at?"),
    ("3.3", lambda *a: 0.9 * closest(*a, aims=()), "no point as near as that is misread"),
    ("4.1", [(0.99, 0.0), (0.9, 0.9)], "in per cent"),
    ("4.1", [(90.0, 90.0), PRICE[1]], "less than a hundred weak hints"),
    ("4.1", [(99.9, 99.9), PRICE[1]], "Is it measured at 0.6"),
    ("4.1", [PRICE[0], (99.0, 2.0)], "still listens"),
    ("4.1", [PRICE[0], (90.0, 60.0)], "What would the first feature alone give?"),
    ("5.2", (lambda points: bent(points, power=1), M), "alignment there has to be 1"),
    ("5.2", (lambda points: points @ M, M), "hold when one pixel moves"),
    ("5.2", (lambda points: bent(points).pow(3), M), "is no multiple of m"),
    ("5.2", (bent, M * math.nan), "the direction m has entries that are nan"),
    ("6.1", lambda *a: pupil(*a, factor=1.0), "at a shorter distance than yours"),
    ("6.1", lambda *a: pupil(*a, factor=4.0), "even a little beyond"),
    ("6.2", (1, 7), "leave 0.1 of the error"),
    ("6.2", (2, 3), "count what finds q"),
    ("7.1", candidates(2.0), "M = 1 gives another accuracy"),
    ("7.2", {-10, 10, 30}, "in your set is silent"),
    ("7.2", {10}, "that speaks is missing"),
    ("7.3", (softer()[0], softer(weights="uniform")[1]), "is not zero"),
    ("7.3", softer(weights="uniform"), "the posterior is off"),
    ("7.3", softer(weights="one"), "the posterior is off"),
    ("7.3", softer(width=0.3), "is h 0.5"),
    ("7.3", softer(out=False), "left out of its own class"),
    ("7.3", (softer()[0].flip(2), softer()[1]), "has a cosine of"),
    ("7.3", (softer()[0] * math.nan, softer()[1]), "entries of the directions are nan or infinite"),
    ("7.3", (softer()[0], softer()[1] * math.nan), "entries of the posterior are nan or infinite"),
    ("8.1", lambda *a: tweedie(*a, noise=False), "yours is off"),
    ("9.1", lambda *a: tilt(*a, scale=1.0), "less than the distance"),
    ("9.1", lambda *a: tilt(*a, unit=1.0), "a tilt of 60 degrees"),
    ("9.2", lambda net, x: -linf(net, x), "10 of 10 radii are negative"),
    ("9.2", exact.radius, "meets the other class"),
    ("9.2", lambda net, x: 0.5 * exact.radius(net, x), "meets one class only"),
    ("10.1", lambda k, s: 1.96 * s / math.sqrt(k), "the interval is wider"),
    ("10.2", lambda *a: ten_nearest(*a, apart=-1.0), "Is a digit its own neighbour?"),
    ("10.3", lambda *a: certified(*a, level=None), "for 870 of 1000 votes and noise of 0.5 yours is 0.563: more than"),
    ("10.3", lambda *a: certified(*a, level=1e-6), "less than so many votes prove"),
    ("10.3", lambda *a: certified(*a, majority=-1), "Is it certain that this class wins?"),
    ("12.2", {"flips": 0.2, "crops": 0.2}, "share one draw"),
    ("12.2", {"flips": 0.0, "crops": 0.0}, "Which pixels are lost"),
    ("11.1", ((3, 5), (3, 4)), "there are digits that share more"),
    ("11.1", ((1, 8), (4, 4)), "no two different digits"),
    ("11.1", ((1, 8), (0, 1)), "there are digits that share less"),
    ("12.3", (5, 12), "too large"),
    ("12.3", (4, 11), "too few to pay"),
    ("13.1", lambda low, high, rise: (high - low) * rise, "more than follows"),
    ("15.2", lambda rho, k, d: 1 / (1 + rho**2), "prefers no direction"),
    ("15.2", lambda rho, k, d: k / (k + rho * (d - k)), "yours is"),
    ("13.2", {3: 1.6, 5: 1.25, 10: 0.9}, "3 seeds find a difference of 1.60"),
]
BAD = [
    ("1.1", 61, "a int; expected a function broken"),
    ("2.2", torch.ones(500), "a Tensor of shape (500,); expected a function estimate"),
    ("4.1", 90, "two pairs (clean, robust) in per cent"),
    ("5.2", bent, "expected a pair"),
    ("6.2", 2, "expected 2 numbers: (power of eta, cost of a class)"),
    ("6.2", (2, 7, 1), "the answer has 3 numbers"),
    ("7.1", {1: 63.8}, "no entry for 2, 5, 15, 60, 150"),
    ("7.2", {0}, "no mode at 0"),
    ("7.3", 0.0, "expected two tensors"),
    ("12.2", None, "None; expected a dict"),
    ("14.1", lambda x: x, "expected attacked images"),
    ("1.2", lambda tries, rho: math.nan, "the answer has nan for share"),
    ("4.1", ((math.nan, math.nan), PRICE[1]), "the answer has nan for clean, robust; expected 2 numbers"),
    ("6.2", (math.nan, math.nan), "the answer has nan for power of eta, cost of a class"),
    ("6.2", [torch.ones(2), 1.0], "expected 2 numbers: (power of eta, cost of a class)"),
    ("7.1", dict.fromkeys((1, 2, 5, 15, 60, 150), math.nan), "the answer has nan for 1, 2, 5, 15, 60, 150"),
    ("9.1", lambda x1, crossing, degrees: math.nan, "the answer has nan for radius"),
    ("10.1", lambda k, s: math.nan, "the answer has nan for half width"),
    ("10.3", lambda votes, draws, sigma: math.nan, "the answer has nan for radius"),
    ("12.2", {"flips": math.nan, "crops": 0.05}, "the answer has nan for 'flips'"),
    ("13.1", lambda low, high, rise: math.nan, "the answer has nan for eta"),
    ("15.2", lambda rho, k, d: math.nan, "the answer has nan for sigma"),
]


@pytest.mark.parametrize(("key", "answer"), RIGHT, ids=[f"{key}-{i}" for i, (key, _) in enumerate(RIGHT)])
def test_a_solution_passes(key: str, answer: object) -> None:
    state = torch.get_rng_state()
    verdict = check(key, answer)
    assert verdict, verdict
    assert repr(verdict) == f"{key}: right."
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("key", "answer", "words"), WRONG, ids=[f"{key}-{i}" for i, (key, *_) in enumerate(WRONG)])
def test_a_wrong_answer_is_told_what_is_wrong(key: str, answer: object, words: str) -> None:
    verdict = check(key, answer)
    assert not verdict and words in verdict.says, verdict
    assert repr(verdict).startswith(f"{key}: not yet: ")


@pytest.mark.parametrize(("key", "answer", "words"), BAD, ids=[f"{key}-{i}" for i, (key, *_) in enumerate(BAD)])
def test_what_is_no_answer_is_an_error(key: str, answer: object, words: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        check(key, answer)
    assert words in str(caught.value)


def written_into(answer):
    """The answer, which leaves its first two inputs spoilt: what it returns in the first, and zeros in the second."""

    def spoiling(first, second, *rest):
        first.copy_(answer(first, second, *rest))
        second.zero_()
        return first

    return spoiling


def push_of_nothing(x, push, eps):
    return push.zero_()


@pytest.mark.parametrize(
    ("key", "answer", "right"),
    [
        ("2.3", written_into(in_box), True),
        ("2.3", push_of_nothing, False),
        ("3.2", written_into(nearest_point), True),
        ("3.2", lambda far, x, eps: far.copy_(attacks.Threat("l2", eps).project(far, x)), False),
        ("8.1", written_into(tweedie), True),
    ],
)
def test_an_answer_that_writes_into_its_inputs_is_judged_by_what_these_were(key: str, answer: object, right: bool) -> None:
    assert bool(check(key, answer)) is right


def test_an_answer_that_spoils_its_model_is_judged_by_what_that_was() -> None:
    def spoiling(net, x):
        found = linf(net, x)
        for p in net.parameters():
            torch.nn.init.zeros_(p)
        return found

    assert check("9.2", spoiling)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(("key", "answer"), [("5.2", (bent, M)), ("2.2", first_step), ("9.2", linf)])
def test_a_verdict_does_not_depend_on_what_is_around_it(around, key: str, answer: object) -> None:
    with around():
        assert check(key, answer)


def test_a_verdict_does_not_depend_on_the_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        verdicts = [check("9.2", linf), check("2.2", first_step), check("9.2", lambda net, x: torch.ones(len(x)))]
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert [bool(verdict) for verdict in verdicts] == [True, True, False]


def test_an_unknown_exercise_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no check for exercise '1.9'; expected one of 1.1, 1.2, 2.1"):
        check("1.9", 1)
    with pytest.raises(TypeError, match="key is 2.3; expected the number of an exercise as text"):
        check(2.3, 1)


def test_every_check_is_seen_to_pass_and_to_fail() -> None:
    graded = {key for key in exercises.KEYS if key.startswith("14.")}
    assert {key for key, _ in RIGHT} == {key for key, *_ in WRONG} == {*exercises.KEYS} - graded
