"""Where a number comes from: data, machine, time, versions and commit."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch

from .. import __version__
from ..data import Split, Task


def provenance(
    task: Task, *, device: torch.device | str, train_seconds: float, train_cpu_seconds: float, evaluate_seconds: float
) -> dict[str, Any]:
    """What a reader needs to judge or repeat a run on this machine.

    Args:
        task: its data; ``data_digest`` tells two data sets of one name and size apart.
        device: where the model did its work; a GPU is named as ``hardware`` where it is one of CUDA's.
        train_seconds, train_cpu_seconds, evaluate_seconds: spent; CPU seconds are summed over cores.
    """
    return {
        "data": f"{task.name}, {len(task.train)} train / {len(task.test)} test, inputs {'x'.join(map(str, task.shape))}",
        "data_digest": data_digest(task),
        "hardware": _hardware(torch.device(device)),
        "device": torch.device(device).type,
        "threads": torch.get_num_threads(),
        "train_seconds": round(train_seconds, 2),
        "train_cpu_seconds": round(train_cpu_seconds, 2),
        "evaluate_seconds": round(evaluate_seconds, 2),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": version("torchvision"),  # which takes seconds to import
            "numpy": numpy.__version__,
            "pagkit": __version__,
        },
        "commit": _commit(),
    }


def data_digest(task: Task) -> dict[str, str]:
    """Of the training split, ``train``, and of the test split, ``test``: equal for equal examples in the same order."""
    return {"train": _digest(task.train), "test": _digest(task.test)}


def _digest(split: Split) -> str:
    """12 hexadecimal digits of a SHA-256 of shapes, inputs and labels, wherever they lie; 0.2 s for 10,000 photographs."""
    found = hashlib.sha256(f"{tuple(split.x.shape)} {split.x.dtype}".encode())
    for tensor in (split.x, split.y):
        held = tensor.detach().cpu().contiguous()
        found.update((held.view(torch.int16) if held.dtype == torch.bfloat16 else held).numpy().data)  # NumPy has no bfloat16
    return found.hexdigest()[:12]


def _hardware(device: torch.device) -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{cpu}, {os.cpu_count()} cores{gpu}"


def _commit(file: Path = Path(__file__)) -> str:
    """The commit of the code that ran, with ``+`` after it if the library differed; ``unknown`` where git does not track ``file``, as
    in a package that was installed inside another project's checkout."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=file.parent, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "--", file.name)
        commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", "..")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit[:12] + ("+" if changed else "")
