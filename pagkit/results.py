"""Result files: their schema, atomic writing, loading, and the tables the book renders from them.

``result.json`` holds::

    {"recipe": str, "task": str, "seed": int,
     "metrics": {"clean": {"correct": int, "total": int}, "pgd-l2-15": {...}, ...},
     "provenance": {"data": str, "hardware": str, "threads": int, "train_seconds": float, "evaluate_seconds": float,
                    "versions": {"python": str, "torch": str, ...}, "commit": str}}
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
import torchvision
from torch import Tensor

from . import __version__
from .data import Task
from .evaluation import Score, parse_metric

PROVENANCE = {"data": str, "hardware": str, "threads": int, "train_seconds": float, "evaluate_seconds": float, "versions": dict, "commit": str}


@dataclass(frozen=True)
class Result:
    """One run of one recipe. ``metrics`` maps names such as ``pgd-l2-15`` to scores."""

    recipe: str
    task: str
    seed: int
    metrics: dict[str, Score]
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        for metric in self.metrics:
            parse_metric(metric)
        for key, kind in PROVENANCE.items():
            if not isinstance(self.provenance.get(key), kind):
                raise ValueError(f"provenance {key!r} is {self.provenance.get(key)!r}; expected {kind.__name__}")


def save(path: str | Path, result: Result) -> None:
    """Write ``result`` as JSON, whole or not at all."""
    content = {
        "recipe": result.recipe,
        "task": result.task,
        "seed": result.seed,
        "metrics": {name: {"correct": s.correct, "total": s.total} for name, s in result.metrics.items()},
        "provenance": result.provenance,
    }
    write_atomically(Path(path), (json.dumps(content, indent=1) + "\n").encode())


def load(path: str | Path) -> Result:
    """Read a result file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or not of the schema; names the file and what is wrong.
    """
    try:
        content = json.loads(Path(path).read_text())
        metrics = {name: Score(**score) for name, score in content["metrics"].items()}
        return Result(content["recipe"], content["task"], int(content["seed"]), metrics, content["provenance"])
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not a result file: {type(error).__name__} {error}") from error


def load_all(folder: str | Path) -> list[Result]:
    """Every ``*.json`` below ``folder``, by recipe and seed.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    return sorted((load(path) for path in Path(folder).rglob("*.json")), key=lambda r: (r.recipe, r.seed))


def column(results: Iterable[Result], recipe: str, metric: str) -> list[int]:
    """Correct counts of one metric over the seeds of one recipe.

    Raises:
        ValueError: no such run.
    """
    found = [r.metrics[metric].correct for r in results if r.recipe == recipe and metric in r.metrics]
    if not found:
        raise ValueError(f"no result of recipe {recipe!r} with metric {metric!r}")
    return found


def summary(counts: Sequence[int]) -> str:
    """``median (lowest-highest)`` of some counts."""
    return f"{statistics.median(counts):g} ({min(counts)}-{max(counts)})"


def provenance(task: Task, *, train_seconds: float, evaluate_seconds: float) -> dict[str, Any]:
    """What a reader needs to judge or repeat a run on this machine."""
    return {
        "data": f"{task.name}, {len(task.train)} train / {len(task.test)} test, inputs {'x'.join(map(str, task.shape))}",
        "hardware": _hardware(),
        "threads": torch.get_num_threads(),
        "train_seconds": round(train_seconds, 2),
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


def save_weights(path: str | Path, state: dict[str, Tensor]) -> None:
    """Write a state dict as safetensors, whole or not at all."""
    from safetensors.torch import save as to_bytes

    write_atomically(Path(path), to_bytes({name: value.detach().cpu().contiguous() for name, value in state.items()}))


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file beside ``path``, then rename: a reader sees the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


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
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--", "."], cwd=here, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit[:12] + ("+" if changed.strip() else "")
