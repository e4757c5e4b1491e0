"""Two ways to compute the same thing: first whether they do, then how long each takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pagkit.results import provenance

from ..helpers import make_task

Side = Callable[[], list[Tensor]]
STATUS = "/proc/self/status"


class Differ(AssertionError):
    """Two sides of a benchmark do not compute the same."""


@dataclass(frozen=True)
class Benchmark:
    """``ours`` against ``theirs``, which give lists of tensors that agree; ``beside`` them others that need not, such as a plain step.

    ``within`` is how far the lists may be apart, in L2, as a share of the length of ``theirs``. ``aim`` is the ratio that we would like
    to reach, to the published step: ``theirs``, or the one in ``beside``. ``items`` is how many things one call makes, if it is to be
    told how many a second.
    """

    name: str
    against: str
    ours: Side
    theirs: Side
    beside: dict[str, Side] = field(default_factory=dict)
    within: float = 1e-4
    aim: float | None = None
    items: int | None = None


def check(benchmark: Benchmark) -> float:
    """How far the two sides are apart, as a share of the length of the second.

    Raises:
        Differ: further than the benchmark allows, or results of different shapes.
    """
    ours, theirs = ([tensor.detach().double() for tensor in side()] for side in (benchmark.ours, benchmark.theirs))
    shapes = [[tuple(tensor.shape) for tensor in side] for side in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise Differ(f"{benchmark.name}: shapes {shapes[0]} and {shapes[1]}; expected the same")
    one, other = (torch.cat([tensor.flatten() for tensor in side]) for side in (ours, theirs))
    apart = ((one - other).norm() / other.norm()).item()
    if not apart <= benchmark.within:  # nan, too
        raise Differ(f"{benchmark.name}: the two sides are {apart:.2g} apart; expected at most {benchmark.within:g}")
    return apart


def measure(benchmark: Benchmark, *, seconds: float, least: int = 3) -> dict[str, Any]:
    """Check, count operations, then time all sides in turn for ``seconds``, at least ``least`` rounds.

    Milliseconds are medians; a ratio is the median of the rounds' ratios, so that a machine that slows down slows both of its sides.

    Raises:
        Differ: as :func:`check`.
    """
    apart = check(benchmark)
    sides = {"ours": benchmark.ours, "theirs": benchmark.theirs} | benchmark.beside
    work = {name: _operations(side) for name, side in sides.items()}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    until = time.perf_counter() + seconds
    while len(spent["ours"]) < least or time.perf_counter() < until:
        for name in sorted(sides, reverse=len(spent["ours"]) % 2 == 1):  # the order changes, too
            started = time.perf_counter()
            sides[name]()
            spent[name].append(time.perf_counter() - started)
    found = {"name": benchmark.name, "against": benchmark.against, "apart": float(f"{apart:.2g}"), "rounds": len(spent["ours"])}
    found |= {f"{name}_ms": round(1000 * median(each), 2) for name, each in spent.items()}
    for other in list(sides)[1:]:
        found[f"ratio_{other}"] = round(median(a / b for a, b in zip(spent["ours"], spent[other], strict=True)), 3)
        found[f"counted_{other}"] = round(work["ours"] / work[other], 3) if work[other] else None
    if benchmark.items:
        found["per_second"] = round(benchmark.items / median(spent["ours"]), 1)
    return found | {"aim": benchmark.aim}


def machine() -> dict[str, Any]:
    """Where and when this runs."""
    spent = {"train_seconds": 0, "train_cpu_seconds": 0, "evaluate_seconds": 0}
    where = provenance(make_task(torch.zeros(1, 1), torch.zeros(1).long(), 1), device="cpu", **spent)
    return {key: where[key] for key in ("hardware", "threads", "versions", "commit")} | {"date": date.today().isoformat()}


def peak(side: Side) -> float | None:
    """By how many MiB a first call of ``side`` raises the memory of this process, at most; None where Linux does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # what was held at most is now what is held
    except OSError:
        return None
    before = _most()
    side()
    return None if before is None else round(_most() - before, 1)


def _operations(side: Side) -> int:
    """Of convolutions and matrix products, forward and backward."""
    with _Counter() as counter:
        side()
    return counter.found


class _Counter(TorchDispatchMode):
    """Adds up; FlopCounterMode would also watch modules, with hooks that fail where a gradient is taken in an input."""

    found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN201
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.found += count(*args, **(kwargs or {}), out_val=out)
        return out


def _most() -> float | None:
    """VmHWM and not ru_maxrss: that one begins with what the parent process held."""
    try:
        with open(STATUS) as lines:
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None
