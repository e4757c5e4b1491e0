"""Chapters 5 to 8. Each checker takes an answer and returns whether it is right, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from .. import data, targets
from .answers import described, function, misshapen, numbers, table
from .attacking import RIGHT, Checked, wrong

LIMITS = (1, 2, 5, 15, 60, 150)  # exercise 7.1: candidates a class


def bent_score(answer: object) -> Checked:
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], Tensor):
        raise TypeError(f"the answer is {described(answer)}; expected a pair: a function score(points) -> (N,), and the direction m (D,)")
    score, m = function(answer[0], "score(points (N, D)) -> (N,)"), answer[1]
    if not m.isfinite().all():
        return wrong("the direction m has entries that are nan or infinite")
    draw = torch.Generator().manual_seed(0)
    points = (torch.randint(17, (60, len(m)), generator=draw) / 16).to(m.dtype).requires_grad_()
    value = score(points)
    if words := misshapen(value, (60,), "one score a point"):
        return wrong(words)
    (slope,) = torch.autograd.grad(value.sum(), points)
    if (low := cosine_similarity(slope, m.expand_as(slope), dim=1).min()) < 0.999:
        return wrong(f"at a point with pixels k/16 the cosine of the gradient and m is {low:.3f}; alignment there has to be 1")
    rise, along = (value - value[0]).detach(), (points.detach() - points[0].detach()) @ m
    if (off := (rise - (rise @ along) / (along @ along) * along).abs().max()) > 1e-3 * rise.abs().max():
        return wrong(f"at points with pixels k/16 your score is no multiple of m @ points plus a constant: up to {off:.2g} is left")
    turned = torch.zeros(60, dtype=torch.bool)
    with torch.no_grad():
        for step in (1 / 64, -1 / 64, 1 / 32, -1 / 32, 3 / 64, -3 / 64):
            for pixel in torch.eye(len(m), dtype=m.dtype):
                turned |= score(points + step * pixel).sign() != value.sign()
    held = int((~turned).sum())
    return wrong(f"{held} of 60 points hold when one pixel moves by less than 0.05") if held > 6 else RIGHT


def perfect_pupil(answer: object) -> Checked:
    radius = function(answer, "radius(x, y, means) -> (N,)")
    draw = torch.Generator().manual_seed(0)
    means, noise = torch.rand(10, 64, generator=draw), torch.randn(60, 64, generator=draw)
    y = torch.arange(60) % 10
    x = means[y] + 0.1 * noise
    found = radius(x, y, means)
    if words := misshapen(found, (60,), "one radius a row of x"):
        return wrong(words)
    square = torch.cdist(x, means).square()
    gaps = square - square.gather(1, y[:, None])
    exact = (gaps / (2 * torch.cdist(means, means)[y]).clamp_min(1e-9)).scatter(1, y[:, None], math.inf).amin(1)
    for name, off in (("reached", found > 1.001 * exact), ("not reached", found < 0.999 * exact)):
        if off.any():
            says = "at a shorter distance than yours" if name == "reached" else "even a little beyond your distance"
            return wrong(f"for {int(off.sum())} of 60 rows another mean is {name} {says}")
    return RIGHT


def without_a_second_derivative(answer: object) -> Checked:
    power, cost = numbers(answer, "power of eta, cost of a class")
    if abs(power - 2) > 0.1:
        return wrong(f"with the power {power:g}, a tenth of eta would leave {10.0**-power:.2g} of the error. Look at those that you print")
    if abs(cost - 7) > 0.1:
        return wrong(f"{cost:g} is not the cost: count what finds q, and then both ends of the difference with their way back")
    return RIGHT


def fewer_candidates(answer: object) -> Checked:
    given = table(answer, LIMITS, f"accuracy in per cent for M = {', '.join(map(str, LIMITS))}")
    task = data.load("digits")
    flat, y, test = task.train.x.flatten(1), task.train.y, task.test.x.flatten(1)
    if max(given.values()) <= 1:
        return wrong("the accuracies are all at most 1: give them in per cent")
    for many, rate in given.items():
        near = torch.stack([torch.cdist(test, flat[y == c][:many]).amin(1) for c in range(10)], 1)
        if abs(rate - 100 * (near.argmin(1) == task.test.y).float().mean().item()) > 0.5:
            return wrong(f"M = {many} gives another accuracy than {rate:.1f} %: first M training digits of each class, test digits")
    return RIGHT


def silent_modes(answer: object) -> Checked:
    if not isinstance(answer, set | frozenset | list | tuple):
        raise TypeError(f"the answer is {described(answer)}; expected the set of the modes that speak, each as its centre along x1")
    modes = {10 * m for centres in data.MODES for m in centres}
    if unknown := sorted(set(answer) - modes):
        raise ValueError(f"no mode at {', '.join(map(str, unknown))}; the modes lie at x1 = {', '.join(map(str, sorted(modes)))}")
    if not answer:
        return wrong("the set is empty, but the class-mean network is not the plain one")
    toy = data.load("three-modes", train_per_class=300)
    index, pair = torch.arange(600), torch.tensor([0, 1]).expand(600, 2)
    ways = targets.class_mean(toy)(index, toy.train.x, pair)
    speaks = cosine_similarity(ways[:, 0], ways[:, 1], dim=1) < 0.999
    for mode in sorted(modes):
        share = speaks[(toy.train.x[:, 0] - mode).abs() < 8].float().mean()
        if (mode in answer) != bool(share > 0.05):
            return wrong("some mode in your set is silent" if mode in answer else "some mode that speaks is missing")
    return RIGHT


def softer_neighbour(answer: object) -> Checked:
    if not isinstance(answer, tuple) or len(answer) != 2 or not all(isinstance(part, Tensor) for part in answer):
        raise TypeError(f"the answer is {described(answer)}; expected two tensors: the directions (N, C, D) and the posterior (N, C)")
    directions, posterior = answer
    digits = data.load("digits").train
    shape = (len(digits), 10, 64)
    if directions.shape != shape or posterior.shape != shape[:2]:
        raise ValueError(f"the shapes are {tuple(directions.shape)} and {tuple(posterior.shape)}; expected {shape} and {shape[:2]}")
    for name, part in (("directions", directions), ("posterior", posterior)):
        if bad := int((~part.isfinite()).sum()):
            return wrong(f"{bad} entries of the {name} are nan or infinite")
    if (apart := (posterior.sum(1) - 1).abs().max()) > 1e-3:
        return wrong(f"the posterior of some row sums to 1 only within {apart:.2g}")
    size = directions.norm(dim=2).mean()
    if size == 0:
        return wrong("all directions are zero")
    if (left := (posterior[..., None] * directions).sum(1).norm(dim=1).max() / size) > 1e-3:
        return wrong(f"the sum weighted by the posterior is not zero: up to {left:.2g} of a direction is left")
    ways, chances = _softer_ways(digits.x[:50].flatten(1), digits.x.flatten(1), digits.y)
    if (off := (posterior[:50] - chances).abs().max()) > 1e-3:
        return wrong(f"of the first 50 images the posterior is off by up to {off:.2g}; is h 0.5, and each image left out of its own class?")
    if (low := cosine_similarity(directions[:50].to(ways.dtype), ways, dim=2).min()) < 0.999:
        return wrong(f"of the first 50 images some direction has a cosine of {low:.3f} with g_c minus the posterior's mean of all")
    return RIGHT


def _softer_ways(x: Tensor, pool: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Directions (B, 10, D) and posterior (B, 10) of the first rows x (B, D) of ``pool``, by the kernel density of width 0.5."""
    exponent = -torch.cdist(x, pool).square() / (2 * 0.5**2)
    exponent = exponent.masked_fill(torch.eye(len(x), len(pool), dtype=torch.bool), -math.inf)
    each = [exponent[:, y == c] for c in range(10)]
    ways = torch.stack([e.softmax(1) @ pool[y == c] - x for c, e in enumerate(each)], 1)
    chances = torch.stack([e.logsumexp(1) for e in each], 1).softmax(1)
    return ways - (chances[..., None] * ways).sum(1, keepdim=True), chances


def tweedie(answer: object) -> Checked:
    mean = function(answer, "mean(x_t, score, alpha_bar) -> (N, D)")
    draw = torch.Generator().manual_seed(0)
    centre, spread = 3.0, 2.0
    for a in (0.9, 0.3):
        variance = a * spread**2 + 1 - a
        x_t = a**0.5 * centre + variance**0.5 * torch.randn(50, 3, generator=draw)
        found = mean(x_t, (a**0.5 * centre - x_t) / variance, a)
        if words := misshapen(found, (50, 3), "one mean a row"):
            return wrong(words)
        exact = centre + a**0.5 * spread**2 / variance * (x_t - a**0.5 * centre)
        if (off := (found - exact).abs().max()) > 1e-3:
            return wrong(f"for a Gaussian, where the mean is known, yours is off by up to {off:.2f} at alpha_bar {a}")
    return RIGHT


CHECKS: dict[str, Callable[[object], Checked]] = {
    "5.2": bent_score,
    "6.1": perfect_pupil,
    "6.2": without_a_second_derivative,
    "7.1": fewer_candidates,
    "7.2": silent_modes,
    "7.3": softer_neighbour,
    "8.1": tweedie,
}
