"""What directions share, as scripts/shared_directions.py stores it, against the cosines written out."""

from __future__ import annotations

import torch
import yaml
from torch.nn import functional as F

from pagkit import data, targets
from scripts.shared_directions import CONTROLS, shared
from tests.helpers import BOOK


def test_the_means_are_those_of_the_cosines_written_out() -> None:
    task = data.load("digits", train_per_class=20)
    found = shared(task, 150)  # two batches, the second one shorter
    rows = torch.randperm(200, generator=torch.Generator().manual_seed(0))[:150]
    asked = rows, task.train.x[rows], torch.arange(10).expand(150, 10)
    for name in ("class_mean", "nearest_neighbor"):
        unit = F.normalize(targets.build(name, task)(*asked).flatten(2), dim=2)
        table = unit @ unit.transpose(1, 2)
        mean = table[:, ~torch.eye(10, dtype=torch.bool)].mean().item()
        assert abs(found["between classes"][name] - mean) < 1e-3
    own = targets.nearest_neighbor(task)(*asked).flatten(2)
    for change, value in found["with the neighbour's"].items():
        other = targets.control(task, change=change)(*asked).flatten(2)
        assert abs(value - F.cosine_similarity(own, other, dim=2).mean().item()) < 1e-3


def test_the_stored_file_has_every_control_and_says_where_it_is_from() -> None:
    kept = yaml.safe_load((BOOK / "results" / "directions.yaml").read_text())
    assert "cifar10-laptop-pag-nn" in kept
    for stored in kept.values():
        assert list(stored["with the neighbour's"]) == list(CONTROLS) and not stored["commit"].endswith("+")
        assert stored["examples"] == 1000 and set(stored["data_digest"]) == {"train", "test"}
