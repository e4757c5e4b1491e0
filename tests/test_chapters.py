"""What a chapter teaches and what pagkit does are the same: code cells, by id, are run and held against the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BOOK = Path(__file__).parent.parent / "book"


def run_cells(notebook: str, *ids: str) -> dict[str, Any]:
    """The names that the cells ``ids`` of ``book/<notebook>`` define, executed in that order in one namespace."""
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads((BOOK / notebook).read_text())["cells"]}
    namespace: dict[str, Any] = {}
    for cell_id in ids:
        exec(compile(cells[cell_id], f"{notebook}:{cell_id}", "exec"), namespace)
    return namespace
