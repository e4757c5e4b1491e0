"""What a chapter teaches and what pagkit does are the same: code cells, by id, are run and held against the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pagkit import data, exact, models

BOOK = Path(__file__).parent.parent / "book"


def run_cells(notebook: str, *ids: str) -> dict[str, Any]:
    """The names that the cells ``ids`` of ``book/<notebook>`` define, executed in that order in one namespace."""
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads((BOOK / notebook).read_text())["cells"]}
    namespace: dict[str, Any] = {"torch": torch}
    for cell_id in ids:
        exec(compile(cells[cell_id], f"{notebook}:{cell_id}", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("seed", range(3))
def test_chapter_9_teaches_the_exact_radius(seed: int) -> None:
    taught = run_cells("09-toy-exactly.ipynb", "cells", "pieces", "layers")
    task = data.load("three-modes", seed=seed)
    net = models.build("mlp", task, seed=seed, normalize=40)
    ours = taught["radius"](task.test.x.double(), *taught["pieces"](*taught["two_layer"](net)))
    assert torch.allclose(ours, exact.radius(net, task.test.x))
