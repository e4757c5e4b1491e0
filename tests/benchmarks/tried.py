"""Other ways to take a PAG step, tried and timed: ``python -m tests.benchmarks.tried``, minutes of one core, apart from ``make bench``.

Each way is first held against the step as it is, to the tolerance that stands beside it. Then all are timed in turn, in one process and
one thread, in seconds of processor time, which other programs disturb less than the clock. The numbers are in
``book/benchmarks-tried.json``, and chapter 12 shows them. What came of it:

- bfloat16 was adopted, as a recipe's ``precision: bf16-gradients``, and the double backward as
  ``pagkit.losses.QuickDoubleBackward``, which no recipe uses. The rest were not.
- A double backward of our own is exact and saves 12 to 24 %. In autograd the derivative of a derivative takes the gradient in the weights
  as a convolution with a kernel the size of the image; ours takes it as an ordinary backward pass does. On top of bfloat16
  it saves next to nothing.
- Ten log-odds have gradients in a space of nine dimensions, so nine vector-Jacobian products do for ten classes. That is the one way found
  to fewer operations. It saves about a tenth, with ten classes only; with a double backward of our own the two save a quarter.
- One batched product (vmap) in place of one a class, inductor, and channels last are no faster here.
- Weight gradients in the first backward pass need no saving: ``torch.autograd.grad`` computes what it is asked for, and it is asked for
  gradients in x alone. By count, a step of k classes is one forward pass, k first backward passes, k passes each for their two
  derivatives, and one backward pass of two parts: 3 k + 3 convolutions a layer, where the published way has 6 k.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pagkit import models
from pagkit.data.files import write_atomically
from pagkit.losses import cosine, pag_loss

from ..helpers import BOOK, make_task
from .compare import Benchmark, Side, check, machine
from .steps import BFLOAT16, WEIGHT, half, quickly, repeated, step

OUT = BOOK / "benchmarks-tried.json"
EXACT, ROUNDED = 1e-4, 1e-3  # how far gradients may be apart, as a share of their length
AS_IT_IS, PUBLISHED = "as it is", "images repeated"
Loss = Callable[[nn.Module, Tensor, Tensor, Tensor, Tensor], Tensor]  # model, x, y, directions (B, k, *shape), classes (B, k)


def plain(net: nn.Module, x: Tensor, y: Tensor, directions: Tensor, classes: Tensor, *, compiled: bool = False) -> Tensor:
    return pag_loss(net, x, y, directions, classes, weight=WEIGHT, compiled=compiled).total


def compiled(*case: Any) -> Tensor:
    return plain(*case, compiled=True)


def batched(net: nn.Module, x: Tensor, y: Tensor, directions: Tensor, classes: Tensor) -> Tensor:
    """All classes' products in one call."""
    x = x.clone().requires_grad_()
    logits = net(x)
    sums = torch.stack([models.log_odds(logits, own).sum() for own in classes.unbind(1)])
    each = torch.eye(len(sums))
    (found,) = torch.autograd.grad(sums, x, each, create_graph=True, is_grads_batched=True)
    return _total(logits, y, found.transpose(0, 1), directions)


def nine(net: nn.Module, x: Tensor, y: Tensor, directions: Tensor, classes: Tensor) -> Tensor:
    """All C classes in their order. The derivative of log-odds in the logits sums to zero, so C - 1 differences of logits span them."""
    x = x.clone().requires_grad_()
    logits = net(x)
    own = torch.eye(logits.shape[1], dtype=torch.bool)
    others = logits[:, None].expand(-1, len(own), -1).masked_fill(own, -torch.inf).softmax(2)
    ends = [(logits[:, j] - logits[:, -1]).sum() for j in range(len(own) - 1)]
    spanning = torch.stack([torch.autograd.grad(end, x, create_graph=True)[0].flatten(1) for end in ends], 1)
    found = ((own.float() - others)[:, :, :-1] @ spanning).view_as(directions)
    return _total(logits, y, found, directions)


def _total(logits: Tensor, y: Tensor, found: Tensor, directions: Tensor) -> Tensor:
    return F.cross_entropy(logits, y) + WEIGHT * logits.shape[1] * (1 - cosine(found, directions).mean())


WAYS: dict[str, tuple[Loss, bool, float, tuple[int, ...]]] = {  # the loss, channels last, how far it may be apart, numbers of classes
    AS_IT_IS: (plain, False, EXACT, (10, 2)),
    PUBLISHED: (lambda net, *case: repeated(net, *case), False, EXACT, (10, 2)),
    "channels last": (plain, True, ROUNDED, (10, 2)),
    "one batched product": (batched, False, EXACT, (10, 2)),
    "compiled with inductor": (compiled, False, ROUNDED, (2,)),  # with ten classes the compiler had not ended after eight minutes
    "a double backward of our own": (quickly(plain), False, EXACT, (10, 2)),
    "nine products for ten classes": (nine, False, EXACT, (10,)),
    "nine, and our own": (quickly(nine), False, EXACT, (10,)),
    "bfloat16": (half, False, BFLOAT16, (10, 2)),
    "bfloat16, channels last": (half, True, BFLOAT16, (10, 2)),
    "bfloat16, and our own": (quickly(half), False, BFLOAT16, (10, 2)),
}


def ways(*, network: str, rows: int, side: int, options: dict[str, object]) -> dict[tuple[str, int], tuple[Side, float]]:
    """A step of each way and number of classes, and how far it may be from the step as it is."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(rows, 3, side, side, generator=draw), torch.arange(rows) % 10
    directions, classes = torch.randn(rows, 10, 3, side, side, generator=draw), torch.arange(10).repeat(rows, 1)
    task, found = make_task(x, y, 10, (0.0, 1.0)), {}
    nets = [models.build(network, task, seed=0, **options).eval() for _ in range(2)]
    nets[1].to(memory_format=torch.channels_last)
    inputs = x, x.to(memory_format=torch.channels_last)
    for name, (loss, last, within, counts) in WAYS.items():
        for k in counts:
            case = inputs[last], y, directions[:, :k], classes[:, :k]
            found[name, k] = step(nets[last], lambda net, loss=loss, case=case: loss(net, *case)), within
    return found


def timed(sides: dict[tuple[str, int], tuple[Side, float]], *, rounds: int) -> list[dict[str, Any]]:
    """How far each way is from the step as it is, and the medians of its seconds and of their ratio to the published step of ten classes.

    Raises:
        Differ: further than its tolerance.
    """
    apart = {}
    for (name, k), (side, within) in sides.items():
        apart[name, k] = check(Benchmark(f"{name}, {k} classes", AS_IT_IS, side, sides[AS_IT_IS, k][0], within=within))
    spent: dict[tuple[str, int], list[tuple[float, float]]] = {key: [] for key in sides}
    for number in range(rounds):
        for key in sorted(sides, reverse=number % 2 == 1):
            before = time.process_time(), time.perf_counter()
            sides[key][0]()
            spent[key].append((time.process_time() - before[0], time.perf_counter() - before[1]))
    rows = []
    for (name, k), each in spent.items():
        row = {"name": name, "classes": k, "within": sides[name, k][1], "apart": float(f"{apart[name, k]:.2g}")}
        for i, clock in enumerate(("cpu", "wall")):
            row[f"{clock}_ms"] = round(1000 * median(times[i] for times in each), 1)
            ratios = (times[i] / others[i] for times, others in zip(each, spent[PUBLISHED, 10], strict=True))
            row[f"{clock}_ratio"] = round(median(ratios), 3)
        rows.append(row)
    return rows


def main() -> None:
    torch.set_num_threads(1)
    load, rounds = os.getloadavg()[0], 5
    rows = timed(ways(network="resnet18", rows=8, side=32, options={}), rounds=rounds)
    about = machine() | {"batch": 8, "rounds": rounds, "load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1)}
    found = {"machine": about, "ways": rows}
    write_atomically(OUT, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
