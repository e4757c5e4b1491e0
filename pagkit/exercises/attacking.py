"""Chapters 1 to 4. Each checker takes an answer and returns whether it is right, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..attacks import Threat, log_odds
from .answers import function, misshapen, numbers

Checked = tuple[bool, str]
RIGHT: Checked = (True, "")


def wrong(says: str) -> Checked:
    return False, says


def linear_digits(rows: int) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A linear model of ten classes, images (rows, 1, 8, 8) near grey that it reads as their labels, and their exact L2 radii (rows,)."""
    draw = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.utils.skip_init(nn.Linear, 64, 10)).requires_grad_(False)
    weight, bias = net.parameters()
    weight.copy_(torch.randn(10, 64, generator=draw) * torch.linspace(10, 40, 10)[:, None])
    bias.copy_(-weight.sum(1) / 2)  # grey is a tie
    x = (0.5 + 0.12 * torch.randn(rows, 1, 8, 8, generator=draw)).clamp(0.05, 0.95)
    z = net(x)
    y = z.argmax(1)
    apart = torch.cdist(weight, weight)[y].scatter(1, y[:, None], 1.0)
    gaps = (z.gather(1, y[:, None]) - z).scatter(1, y[:, None], math.inf)
    return net, x, y, (gaps / apart).amin(1)


def longest(way: Tensor, x: Tensor, eps: float, most: float) -> Tensor:
    """The change clip(x + s way) - x of x (N, D) inside [0, 1], with the largest s up to ``most`` that stays within ``eps`` in L2."""
    low, high = torch.zeros(len(x), 1), torch.full((len(x), 1), most)
    for _ in range(60):
        s = (low + high) / 2
        fits = ((x + s * way).clamp(0, 1) - x).norm(dim=1, keepdim=True) <= eps
        low, high = torch.where(fits, s, low), torch.where(fits, high, s)
    return (x + low * way).clamp(0, 1) - x


def out_of_reach(change: Tensor, x: Tensor, eps: float) -> str | None:
    """Which limit the changes (N, D) of x break; None if they keep to the ball and to the box."""
    moved, size = x + change, change.norm(dim=1)
    if moved.min() < -1e-4 or moved.max() > 1 + 1e-4:
        return f"the moved images range over [{moved.min():.3f}, {moved.max():.3f}] and leave the box [0, 1]"
    if size.max() > eps * 1.001:
        return f"the longest change has L2 length {size.max():.3f}; eps is {eps}"
    return None


def some_target(answer: object) -> Checked:
    broken = function(answer, "broken(model, x, y, threat) -> bool (N,)")
    net, x, y, radius = linear_digits(40)
    y = y.clone()
    y[:4] = (y[:4] + 1) % 10  # misread before any attack
    eps = radius.median().item()
    found = broken(net, x, y, Threat("l2", eps))
    if words := misshapen(found, (40,), "one truth value an image", torch.bool):
        return wrong(words)
    if missed := int((~found[:4]).sum()):
        return wrong(f"{missed} images are misread before any attack and not counted as broken")
    if extra := int(found[4:][radius[4:] > 1.02 * eps].sum()):
        return wrong(f"{extra} images are counted as broken that no change of this size breaks. What if the target is y itself?")
    if held := int((~found[4:])[radius[4:] < 0.99 * eps].sum()):
        return wrong(f"{held} images hold out that some target breaks at this size")
    weight, bias = net.parameters()
    weight.zero_()
    weight[1, 0], weight[2, 1] = 1.0, 1600.0  # class 1 looks likelier than 2 and is 0.5 away; 2 is 0.025 away
    bias.copy_(torch.tensor([0.0, -1.0, -840.0] + 7 * [-2000.0]))
    found = broken(net, torch.full((3, 1, 8, 8), 0.5), torch.tensor([0, 0, 5]), Threat("l2", 0.1))  # the last is misread as it is
    if not found.all():
        return wrong("an image holds out whose likeliest wrong class is out of reach, and another one near; did you ask all nine targets?")
    return RIGHT


def patient_gambler(answer: object) -> Checked:
    share = function(answer, "share(tries, rho) -> number")
    for tries, rho in ((100, 6.3), (10, 4.0), (1000, 8.0)):
        (a,) = numbers([share(tries, rho)], "share")
        if abs(a - math.sqrt(2 * math.log(tries)) / rho) > 1e-3:
            expected = tries * math.exp(-((a * rho) ** 2) / 2)
            return wrong(
                f"at {tries} tries and rho {rho} your share is {a:.2f}. By the bound, {tries} tries reach it "
                f"{expected:.2g} times on average at most; ask for the share where this is once"
            )
    return RIGHT


def wrong_sign(answer: object) -> Checked:
    caught = function(answer, "caught(model, x, x_adv, target) -> bool")
    net, x, y, _ = linear_digits(40)
    target, z = (y + 1) % 10, x.clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(log_odds(net(z), target).sum(), z)
    for size in (0.001, 0.2):
        for sign, name in ((1, "right"), (-1, "wrong")):
            found = caught(net, x, (x + sign * size * gradient.sign()).clamp(0, 1), target)
            if isinstance(found, Tensor) and found.numel() != 1:
                return wrong(f"your function returns shape {tuple(found.shape)}; expected one verdict on the whole attack")
            if bool(found) != (sign < 0):
                says = "finds nothing wrong with" if sign < 0 else "convicts"
                return wrong(f"it {says} an attack that takes a step of {size} with the {name} sign")
    return RIGHT


def radius_from_gradients(answer: object) -> Checked:
    estimate = function(answer, "estimate(model, x, y) -> radii (N,)")
    net, x, y, radius = linear_digits(40)
    found = estimate(net, x, y)
    if words := misshapen(found, (40,), "one radius an image"):
        return wrong(words)
    found = found.detach()
    if zero := int((found.abs() < 1e-6).sum()):
        return wrong(f"{zero} radii are zero. Is the label counted among the rivals?")
    for much, rows in (("large", found > 1.001 * radius), ("small", found < 0.999 * radius)):
        if rows.any():
            return wrong(f"on a linear model, where the formula is exact, {int(rows.sum())} of 40 radii are too {much}")
    return RIGHT


def worst_in_box(answer: object) -> Checked:
    worst = function(answer, "worst(x, push, eps) -> changes (N, 64)")
    draw = torch.Generator().manual_seed(0)
    x = (2 * torch.rand(20, 64, generator=draw) - 0.5).clamp(0, 1)
    push = torch.randn(20, 64, generator=draw)
    for eps in (0.3, 1.0, 20.0):
        change = worst(x, push, eps)
        if words := misshapen(change, (20, 64), "one change an image"):
            return wrong(words)
        if words := out_of_reach(change, x, eps):
            return wrong(f"at eps {eps} {words}")
        best, found = ((part * push).sum(1) for part in (longest(push, x, eps, 1e6), change))
        if (short := found < best - 1e-3 * best.abs()).any():
            return wrong(f"at eps {eps} another change inside both limits does more harm, on {int(short.sum())} of 20 images")
    return RIGHT


def third_norm(answer: object) -> Checked:
    best = function(answer, "best(g) -> v, both of shape (D,)")
    for seed in range(4):
        g = torch.randn(64, generator=torch.Generator().manual_seed(seed))
        v = best(g)
        if words := misshapen(v, (64,), "one v"):
            return wrong(words)
        size, reached = v.abs().sum().item(), (v @ g).item()
        if size > 1.0001:
            return wrong(f"your v has L1 norm {size:.2f}; at most 1 is allowed")
        if reached < g.abs().max() - 1e-4:
            return wrong(f"another v reaches more: yours gives {reached:.2f} on a g whose L2 norm is {g.norm():.2f}")
    return RIGHT


def nearest_point(answer: object) -> Checked:
    nearest = function(answer, "nearest(x_adv, x, eps) -> points (N, 1, 8, 8)")
    draw = torch.Generator().manual_seed(0)
    x = (2 * torch.rand(20, 1, 8, 8, generator=draw) - 0.5).clamp(0, 1)
    for size in (0.02, 0.3):
        far = x + size * torch.randn(x.shape, generator=draw)
        points = nearest(far, x, 0.5)
        if words := misshapen(points, tuple(x.shape), "one point an image"):
            return wrong(words)
        if words := out_of_reach((points - x).flatten(1), x.flatten(1), 0.5):
            return wrong(words)
        flat, way = x.flatten(1), (far - x).flatten(1)
        best = (flat + longest(way, flat, 0.5, 1.0)).view_as(x)
        usual, found = ((far - part).flatten(1).norm(dim=1) for part in (best, points))
        if (more := found > usual * 1.001 + 1e-5).any():
            return wrong(f"for {int(more.sum())} of 20 images another point of ball and box is nearer")
    return RIGHT


def smallest_radius(answer: object) -> Checked:
    closest = function(answer, "closest(model, x, y) -> radii (N,)")
    net, x, y, radius = linear_digits(40)
    found = closest(net, x, y)
    if words := misshapen(found, (40,), "one radius an image"):
        return wrong(words)
    found, slack = found.detach(), 0.002  # of a bisection that begins at a radius of 2
    if short := int((found < 0.99 * radius - slack).sum()):
        return wrong(f"on a linear model, whose radii are known, {short} of 40 are too small: no point as near as that is misread")
    if long := int((found > 1.02 * radius + slack).sum()):
        return wrong(f"on a linear model, whose radii are known, {long} of 40 are too large. Was every class aimed at?")
    return RIGHT


def price(answer: object) -> Checked:
    if not isinstance(answer, list | tuple) or len(answer) != 2:
        raise TypeError(f"expected two pairs (clean, robust) in per cent, of the models trained at 0 and at 0.6; found {answer!r}")
    (clean, robust), (clean_at, robust_at) = (numbers(list(pair), "clean, robust") for pair in answer)
    if max(clean, clean_at) <= 1:
        return wrong("the shares are all at most 1: give them in per cent")
    if clean < 97:
        return wrong(f"trained at 0 the clean share is {clean:.0f} %: less than a hundred weak hints together can tell")
    if robust > 3:
        return wrong(f"trained at 0 the robust share is {robust:.0f} %. Is it measured at 0.6, against the worst change?")
    if clean_at > 95:
        return wrong(f"trained at 0.6 the clean share is {clean_at:.0f} %: this model still listens to the weak features")
    if abs(clean_at - 90) > 2.5 or abs(robust_at - 90) > 2.5:
        return wrong(f"trained at 0.6 the shares are {clean_at:.0f} % and {robust_at:.0f} %. What would the first feature alone give?")
    return RIGHT


CHECKS: dict[str, Callable[[object], Checked]] = {
    "1.1": some_target,
    "1.2": patient_gambler,
    "2.1": wrong_sign,
    "2.2": radius_from_gradients,
    "2.3": worst_in_box,
    "3.1": third_norm,
    "3.2": nearest_point,
    "3.3": smallest_radius,
    "4.1": price,
}
