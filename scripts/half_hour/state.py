"""What is known so far, in one file that is written anew after each job: the next stage, or the same one again, goes on from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pagkit.data.files import write_atomically

FILE = "half-hour.json"


@dataclass
class State:
    """
    Attributes:
        machine: what it ran on.
        steps: seconds of a step, by kind and way; ``agree``: how far a step's gradient is from the strict one, as a share of
            what two batches differ by; ``ways``: the way that is taken.
        others: other seconds that were measured: ``attack``, one gradient of a chunk; ``unet``, one look of the diffusion model.
        epochs: of every classifier; 0: not decided yet.
        done: job to what it says of itself; ``left_out``: job to the reason.
        home: network to the stage whose files hold its weights.
        slopes: network to the median length of the loss's gradient at the photographs.
        held: attack and network to the share of photographs that withstood it.
    """

    machine: str = ""
    steps: dict[str, dict[str, float]] = field(default_factory=dict)
    agree: dict[str, dict[str, float]] = field(default_factory=dict)
    ways: dict[str, str] = field(default_factory=dict)
    others: dict[str, float] = field(default_factory=dict)
    epochs: int = 0
    done: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    home: dict[str, str] = field(default_factory=dict)
    slopes: dict[str, float] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)

    def save(self, out: Path) -> None:
        write_atomically(out / FILE, (json.dumps(asdict(self), indent=1) + "\n").encode())


def load(out: Path) -> State:
    """The state in the folder ``out``, or a fresh one.

    Raises:
        ValueError: a file that is not of this shape.
    """
    path = out / FILE
    if not path.is_file():
        return State()
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        return State(**found)
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path} is not what a stage wrote ({error}); name another --out") from error
