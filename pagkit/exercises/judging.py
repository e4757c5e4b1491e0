"""Chapters 9 to 13, and 15. Each checker takes an answer and returns whether it is right, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy import stats

from .. import data, models, targets
from .answers import described, function, misshapen, numbers, table
from .attacking import RIGHT, Checked, wrong

COSTS = {"adversarial": 94.4, "pag": 50.0, "scores": 17.4, "diffusion": 474.2}  # chapter 12's bill of cifar10-rn18, 1e15 operations


def tilt(answer: object) -> Checked:
    predicted = function(answer, "predicted(x1, crossing, degrees) -> radius")
    for x1, crossing, degrees in ((-50.0, -40.0, 0.0), (10.0, 19.0, 60.0), (30.0, 21.0, 10.0)):
        (r,) = numbers([predicted(x1, crossing, degrees)], "radius")
        flat = torch.tensor([1.0, 2.0]) / 5**0.5
        normal = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
        normal = normal[0] * flat + normal[1] * torch.tensor([-flat[1], flat[0]])
        exact = ((x1 - crossing) * torch.tensor([1.0, 2.0]) @ normal).abs().item()
        if abs(r - exact) > 1e-3 * exact:
            case = f"x1 {x1:g}, a crossing at {crossing:g} and a tilt of {degrees:g} degrees"
            return wrong(f"for {case} yours is {r:.2f}, {'less' if r < exact else 'more'} than the distance to that line")
    return RIGHT


def radius_linf(answer: object) -> Checked:
    radius = function(answer, "radius(net, x) -> (N,)")
    task = data.load("three-modes", train_per_class=60, test_per_class=30)
    edge = torch.linspace(-1, 1, 2001)
    one = torch.ones_like(edge)
    square = torch.cat([torch.stack(side, 1) for side in ((edge, one), (edge, -one), (one, edge), (-one, edge))])
    for seed in (1, 3):
        net, x = models.build("mlp", task, seed=seed, normalize=40), task.test.x[::6]
        found = radius(net, x)
        if words := misshapen(found, (len(x),), "one radius a point"):
            return wrong(words)
        if negative := int((found < 0).sum()):
            return wrong(f"{negative} of {len(x)} radii are negative; a distance is not")
        with torch.no_grad():
            for share in (0.99, 1.01):
                rings = x[:, None] + share * found.detach().float()[:, None, None] * square
                mixed = (net(rings.flatten(0, 1)).argmax(1).view(len(x), -1) != net(x).argmax(1)[:, None]).any(1)
                if share < 1 and mixed.any():
                    return wrong(f"for {int(mixed.sum())} of {len(x)} points the square of 0.99 of your radius meets the other class")
                if share > 1 and not mixed.all():
                    return wrong(f"for {int((~mixed).sum())} of {len(x)} points the square of 1.01 of your radius meets one class only")
    return RIGHT


def how_many_seeds(answer: object) -> Checked:
    half = function(answer, "half(k, s) -> half width")
    for k, s in ((2, 1.0), (3, 0.8), (10, 2.0)):
        (width,) = numbers([half(k, s)], "half width")
        exact = stats.t.ppf(0.975, k - 1) * s / math.sqrt(k)
        if abs(width / exact - 1) > 0.01:
            way = "wider" if exact > width else "narrower"
            return wrong(f"for {k} seeds and a standard deviation of {s} yours is {width:.2f}; the interval is {way}")
    return RIGHT


def ten_nearest(answer: object) -> Checked:
    target = function(answer, "target(index, x, classes) -> directions (B, k, *shape)")
    train = data.load("digits").train
    index = torch.arange(0, 400, 10)
    x, classes = train.x[index], torch.stack([train.y[index], (train.y[index] + 1) % 10], 1)
    found = target(index, x, classes)
    if words := misshapen(found, (40, 2, *x.shape[1:]), "a direction for each row and class"):
        return wrong(words)
    flat = train.x.flatten(1)
    for k, who in ((1, "another class"), (0, "the own class")):
        apart = torch.cdist(flat[index], flat).masked_fill(train.y != classes[:, k, None], math.inf)
        apart[torch.arange(40), index] = math.inf
        mean = flat[apart.topk(10, largest=False).indices].mean(1) - flat[index]
        off = (found[:, k].flatten(1) - mean).norm(dim=1) > 1e-3
        if off.any():
            also = ". Is a digit its own neighbour?" if k == 0 else ""
            return wrong(f"for {who}, {int(off.sum())} of 40 directions do not lead from x to the mean of the ten nearest{also}")
    return RIGHT


def certificate(answer: object) -> Checked:
    certified = function(answer, "certified(votes, draws, sigma) -> radius")
    for votes, draws, sigma in ((870, 1000, 0.5), (1000, 1000, 0.3), (505, 1000, 0.3), (0, 1000, 0.3)):
        (r,) = numbers([certified(votes, draws, sigma)], "radius")
        low = stats.beta.ppf(0.001, votes, draws - votes + 1) if votes else 0.0
        exact = sigma * stats.norm.ppf(low) if low > 0.5 else 0.0
        case = f"for {votes} of {draws} votes and noise of {sigma} yours is {r:.3f}"
        if exact == 0 and r != 0:
            return wrong(f"{case}. Is it certain that this class wins?")
        if abs(r - exact) > 0.02 * exact:
            return wrong(f"{case}: {'less' if r < exact else 'more'} than so many votes prove")
    return RIGHT


def who_shares_most(answer: object) -> Checked:
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError(f"the answer is {described(answer)}; expected two pairs of digits, sharing most and sharing least")
    task = data.load("digits")
    x = task.test.x
    d = targets.class_mean(task)(torch.full((len(x),), -1), x, torch.arange(10).expand(len(x), 10)).flatten(2)
    d = torch.nn.functional.normalize(d, dim=2)
    between = (d @ d.transpose(1, 2)).mean(0)
    apart: dict[frozenset[float], float] = {frozenset((a, b)): between[a, b].item() for a in range(10) for b in range(a)}
    for pair, best, which in zip(answer, (max(apart.values()), min(apart.values())), ("more", "less"), strict=True):
        a, b = numbers(pair, "digit, digit")
        if frozenset((a, b)) not in apart:
            return wrong(f"{a:g} and {b:g} are no two different digits")
        if (shared := apart[frozenset((a, b))]) != best:
            return wrong(f"{a:g} and {b:g} share {shared:.2f} in the mean; there are digits that share {which}")
    return RIGHT


def through_the_crop(answer: object) -> Checked:
    apart = table(answer, ("flips", "crops"), "largest difference of the two cosines, for 'flips' and for 'crops'")
    if apart["flips"] > 1e-3:
        return wrong(f"for flips the cosines differ by {apart['flips']:.3f}, but a flip keeps every length. Do both ways share one draw?")
    if not 1e-3 < apart["crops"] < 0.3:
        return wrong(f"for crops the cosines differ by {apart['crops']:.3f}. Which pixels are lost on the way there, and on the way back?")
    return RIGHT


def the_cheaper_one(answer: object) -> Checked:
    most, runs = numbers(answer, "largest k, runs")
    if most != 4:
        return wrong(f"k = {most:g} is too {'small: a larger one is still cheaper' if most < 4 else 'large'} by the count of steps")
    needed = int((COSTS["diffusion"] + COSTS["scores"]) // (COSTS["adversarial"] - COSTS["pag"])) + 1
    if runs != needed:
        return wrong(f"{runs:g} runs are too {'few to pay' if runs < needed else 'many; fewer pay'} for the diffusion model and the scores")
    return RIGHT


def check_the_theorem(answer: object) -> Checked:
    least = function(answer, "least(low, high, rise) -> eta")
    for low, high, rise in ((2.0, 8.0, 0.28), (0.1, 2.0, 1.0)):
        (eta,) = numbers([least(low, high, rise)], "eta")
        exact = (high - low) * rise / 2
        if abs(eta - exact) > 1e-6:
            way = "more" if eta > exact else "less"
            return wrong(f"for the weights {low:g} and {high:g} and a rise of {rise:g} yours is {eta:.2f}: {way} than follows")
    return RIGHT


def what_seeds_can_see(answer: object) -> Checked:
    given = table(answer, (3, 5, 10), "difference, in standard deviations, that 3, 5 and 10 seeds find in 80 % of all cases")
    for k, delta in given.items():
        t, shift = stats.t.ppf(0.975, k - 1), delta * math.sqrt(k)
        power = stats.nct.sf(t, k - 1, shift) + stats.nct.cdf(-t, k - 1, shift)
        if not 0.77 < power < 0.84:
            return wrong(f"{k} seeds find a difference of {delta:.2f} standard deviations in {100 * power:.0f} % of all cases")
    return RIGHT


def share_in_v(answer: object) -> Checked:
    share = function(answer, "share(rho, k, d) -> sigma")
    for rho, k, d in ((1.0, 20, 64), (0.3, 20, 64), (0.5, 5, 3072)):
        (sigma,) = numbers([share(rho, k, d)], "sigma")
        exact = k / (k + rho**2 * (d - k))
        if abs(sigma - exact) > 1e-6:
            if rho == 1:
                return wrong(f"at rho 1 a gradient prefers no direction; for {k} of {d} yours has {sigma:.3f} of its squared length there")
            return wrong(
                f"for rho {rho:g} and {k} of {d} directions yours is {sigma:.3f}; the share is {'larger' if exact > sigma else 'smaller'}"
            )
    return RIGHT


CHECKS: dict[str, Callable[[object], Checked]] = {
    "9.1": tilt,
    "9.2": radius_linf,
    "10.1": how_many_seeds,
    "10.2": ten_nearest,
    "10.3": certificate,
    "11.1": who_shares_most,
    "12.2": through_the_crop,
    "12.3": the_cheaper_one,
    "13.1": check_the_theorem,
    "13.2": what_seeds_can_see,
    "15.2": share_in_v,
}
