"""Where a number comes from: data, machine, time, versions and commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy
import torch
import torchvision

from .. import __version__
from ..data import Task


def provenance(task: Task, *, train_seconds: float, train_cpu_seconds: float, evaluate_seconds: float) -> dict[str, Any]:
    """What a reader needs to judge or repeat a run on this machine. CPU seconds are summed over cores."""
    return {
        "data": f"{task.name}, {len(task.train)} train / {len(task.test)} test, inputs {'x'.join(map(str, task.shape))}",
        "hardware": _hardware(),
        "threads": torch.get_num_threads(),
        "train_seconds": round(train_seconds, 2),
        "train_cpu_seconds": round(train_cpu_seconds, 2),
        "evaluate_seconds": round(evaluate_seconds, 2),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": numpy.__version__,
            "pagkit": __version__,
        },
        "commit": _commit(),
    }


def _hardware() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{cpu}, {os.cpu_count()} cores{gpu}"


def _commit() -> str:
    """The commit of the code that ran, with ``+`` after it if the library differed; ``unknown`` outside a checkout."""
    here = Path(__file__).parents[1]
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--", "."], cwd=here, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit[:12] + ("+" if changed.strip() else "")
