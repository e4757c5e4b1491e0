"""What several tests use: small tasks, a model that breaks, a training that is stopped, the code of a chapter."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pagkit.data import Split, Task

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"


def make_task(x: torch.Tensor, y: torch.Tensor, classes: int, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Task:
    return Task("made", tuple(map(str, range(classes))), bounds, Split(x, y), Split(x, y))


class Fragile(nn.Module):
    """Gives nan from its ``calls``-th training batch on."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.layer, self.left = nn.Linear(2, 2), calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= self.training
        return self.layer(x) * (torch.nan if self.left < 0 else 1.0)


def stop_after(monkeypatch: pytest.MonkeyPatch, saves: int, error: BaseException | None = None) -> None:
    """Let ``saves`` checkpoints through, then have a Ctrl-C, or ``error``, in place of the next file's last step."""
    write, left = os.fsync, iter(range(saves))

    def fsync(handle: int) -> None:
        if next(left, None) is None:
            raise error or KeyboardInterrupt
        write(handle)

    monkeypatch.setattr(os, "fsync", fsync)


def run_cells(notebook: str, *ids: str) -> dict[str, Any]:
    """The names that the cells ``ids`` of ``book/<notebook>`` define, executed in that order in one namespace."""
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads((BOOK / notebook).read_text())["cells"]}
    namespace: dict[str, Any] = {"torch": torch}
    for cell_id in ids:
        exec(compile(cells[cell_id], f"{notebook}:{cell_id}", "exec"), namespace)
    return namespace
