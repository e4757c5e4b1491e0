"""``python -m tests.benchmarks``: check, time, print, and write ``book/benchmarks.json``, from which chapter 12 makes its table."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from pagkit.data.files import write_atomically

from ..helpers import BOOK
from . import others, steps
from .compare import Benchmark, Differ, machine, measure, peak

THREADS = 2
FULL = {
    "steps": {"network": "resnet18", "rows": 8, "side": 32, "options": {}},
    "attacks": {"rows": 64, "side": 32, "width": 16, "steps": 20},
    "directions": {"pool": 10000, "rows": 256, "side": 32},
    "scores": {"rows": 16, "side": 32, "widths": (32, 64)},
}
TOY = {
    "steps": {"network": "cnn", "rows": 3, "side": 8, "options": {"width": 2}},
    "attacks": {"rows": 4, "side": 8, "width": 2, "steps": 3},
    "directions": {"pool": 40, "rows": 3, "side": 8},
    "scores": {"rows": 2, "side": 8, "widths": (16, 16)},  # 8 groups of one channel each would take the class away
}


def benchmarks(sizes: dict[str, dict]) -> Iterator[Benchmark]:
    yield from steps.benchmarks(**sizes["steps"])
    yield from others.attacks(**sizes["attacks"])
    yield from others.directions(**sizes["directions"])
    yield from others.scores(**sizes["scores"])


def run(sizes: dict[str, dict], out: Path, *, seconds: float, memory: bool = True) -> int:
    """Returns 0, or 1 where two sides differ; then nothing is written."""
    began, rows = os.getloadavg()[0], []
    for name in others.absent():
        print(f"{name} is not installed: PGD is not compared with it")
    for number, benchmark in enumerate(benchmarks(sizes)):
        try:
            row = measure(benchmark, seconds=seconds)
        except Differ as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        if memory:
            row |= {f"{side}_mib": _peak_of(number, side, sizes["steps"]["rows"]) for side in ("ours", "theirs")}
        told = f"{row['name']} / {row['against']}: {row['ours_ms']:.1f} / {row['theirs_ms']:.1f} ms, ratio {row['ratio_theirs']:.2f}"
        print(f"{told}, counted {row['counted_theirs']}", flush=True)
        rows.append(row)
    about = machine() | ({"batch": sizes["steps"]["rows"]} if sizes else {})
    about |= {"load_before": round(began, 1), "load_after": round(os.getloadavg()[0], 1)}
    write_atomically(out, (json.dumps({"machine": about, "benchmarks": rows}, indent=1) + "\n").encode())
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("tests.benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, default=BOOK / "benchmarks.json")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing, a benchmark (default 10)")
    parser.add_argument("--batch", type=int, default=8, help="rows of a training step (default 8)")
    parser.add_argument("--threads", type=int, default=THREADS, help=f"of PyTorch (default {THREADS})")
    parser.add_argument("--no-memory", action="store_true", help="leave the peaks out, which take a process each")
    parser.add_argument("--peak", nargs=2, metavar=("NUMBER", "SIDE"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    sizes = FULL | {"steps": FULL["steps"] | {"rows": args.batch}}
    if args.peak:
        benchmark = next(islice(benchmarks(sizes), int(args.peak[0]), None))
        print(json.dumps(peak(getattr(benchmark, args.peak[1]))))
        return 0
    return run(sizes, args.out, seconds=args.seconds, memory=not args.no_memory)


def _peak_of(number: int, side: str, batch: int) -> float | None:
    """In a process of its own, which has computed nothing before."""
    call = [sys.executable, "-m", "tests.benchmarks", "--peak", str(number), side]
    call += ["--batch", str(batch), "--threads", str(torch.get_num_threads())]
    return json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    sys.exit(main())
