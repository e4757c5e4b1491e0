"""Training steps of a network in evaluation mode, where a batch of repeated images has the same gradients as one without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pagkit import attacks, models
from pagkit.attacks import Threat, log_odds
from pagkit.losses import Alignment, QuickDoubleBackward, Slope, cosine, objective, pag_loss

from ..helpers import make_task
from .compare import Benchmark, Side

WEIGHT = 1.5
BFLOAT16 = 0.2  # how far gradients in it may be apart: 0.06 on a CPU, but 0.15 where oneDNN takes AMX (a plain step: 0.05 on both)
Loss = Callable[[nn.Module], Tensor]


def benchmarks(*, network: str, rows: int, side: int, options: dict[str, object]) -> Iterator[Benchmark]:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(rows, 3, side, side, generator=draw), torch.arange(rows) % 10
    directions = torch.randn(rows, 10, 3, side, side, generator=draw)
    classes = torch.arange(10).repeat(rows, 1)
    task = make_task(x, y, 10, (0.0, 1.0))
    net = models.build(network, task, seed=0, **options).eval()
    last = models.build(network, task, seed=0, **options).eval().to(memory_format=torch.channels_last)
    last_x = x.to(memory_format=torch.channels_last)
    plain = step(net, lambda net: F.cross_entropy(net(x), y))

    def ours(x: Tensor, k: int) -> Loss:
        return lambda net: pag_loss(net, x, y, directions[:, :k], classes[:, :k], weight=WEIGHT).total

    def theirs(k: int) -> Side:
        return step(net, lambda net: repeated(net, x, y, directions[:, :k], classes[:, :k]))

    for k, aim in ((10, 0.5), (2, 0.13)):  # of the published step at ten classes
        beside, against = {"plain": plain} | ({"published": theirs(10)} if k == 2 else {}), f"images repeated {k} times"
        yield Benchmark(f"PAG step, {k} classes", against, step(net, ours(x, k)), theirs(k), beside, aim=aim)
        name = f"PAG step, {k} classes, channels last"
        # rounding differs in this order and may turn a ReLU over; in float64 the two agree to 1e-14
        yield Benchmark(name, against, step(last, ours(last_x, k)), theirs(k), beside, within=1e-3, aim=aim)
        low = step(net, lambda net, k=k: half(net, x, y, directions[:, :k], classes[:, :k]))
        yield Benchmark(f"PAG step, {k} classes, bfloat16", against, low, theirs(k), beside, within=BFLOAT16, aim=aim)
        quick = step(net, quickly(ours(x, k)))
        yield Benchmark(f"PAG step, {k} classes, quick double backward", against, quick, theirs(k), beside, aim=aim)
    slope = lambda net: objective(net, x, y, [(WEIGHT, Slope())]).total  # noqa: E731
    yield Benchmark("slope step", "the five lines", step(net, slope), step(net, lambda net: five_lines(net, x, y)), {"plain": plain})
    threat = Threat("l2", 0.5)
    for steps in (3, 7):
        yield Benchmark(
            f"adversarial step, {steps} attack steps",
            "a bare loop",
            step(net, lambda net, n=steps: F.cross_entropy(net(attacks.pgd(net, x, y, threat, steps=n, step_size=0.2, keep="last")), y)),
            step(net, lambda net, n=steps: F.cross_entropy(net(bare_pgd(net, x, y, n)), y)),
            {"plain": plain},
            within=1e-3,
        )


def quickly(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same loss within :class:`pagkit.losses.QuickDoubleBackward`."""

    def through(*case: Any) -> Tensor:
        with QuickDoubleBackward():
            return loss(*case)

    return through


def repeated(net: nn.Module, x: Tensor, y: Tensor, directions: Tensor, classes: Tensor) -> Tensor:
    """The published way: each image once for each of its k classes, one forward pass, one gradient, one double backward."""
    k = classes.shape[1]
    many = x.repeat_interleave(k, 0).requires_grad_()
    logits = net(many)
    (found,) = torch.autograd.grad(log_odds(logits, classes.flatten()).sum(), many, create_graph=True)
    alignment = cosine(found.view_as(directions), directions).mean()
    return F.cross_entropy(logits[::k], y) + WEIGHT * logits.shape[1] * (1 - alignment)


def half(net: nn.Module, x: Tensor, y: Tensor, directions: Tensor, classes: Tensor) -> Tensor:
    """As a recipe's ``precision: bf16-gradients`` has it."""
    with torch.autocast("cpu", torch.bfloat16):
        return objective(net, x, y, [(WEIGHT, Alignment(directions, classes))], autocast=True).total


def five_lines(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    each = F.cross_entropy(net(x), y, reduction="none")
    (found,) = torch.autograd.grad(each.sum(), x, create_graph=True)
    return each.mean() + WEIGHT * found.flatten(1).square().sum(1).mean()


def bare_pgd(net: nn.Module, x: Tensor, y: Tensor, steps: int, *, eps: float = 0.5, size: float = 0.2) -> Tensor:
    """PGD in L2 from x, without a check of anything."""
    moved = x
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        (found,) = torch.autograd.grad(F.cross_entropy(net(moved), y, reduction="sum"), moved)
        away = moved.detach() + size * found / found.flatten(1).norm(dim=1).view(-1, 1, 1, 1) - x
        away = away * (eps / away.flatten(1).norm(dim=1).clamp_min(1e-30)).clamp_max(1).view(-1, 1, 1, 1)
        moved = (x + away).clamp(0, 1)
    return moved


def step(net: nn.Module, loss: Loss) -> Side:
    """The loss and its gradients in the weights; in the order of memory of ``net``, which does not matter to their values."""
    weights = list(net.parameters())
    return lambda: [(value := loss(net))] + list(torch.autograd.grad(value, weights, materialize_grads=True))
