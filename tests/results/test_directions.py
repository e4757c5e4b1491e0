"""What directions share, and what two modes of a network do, as the scripts store it, against the cosines written out."""

from __future__ import annotations

import copy

import torch
import yaml
from torch.nn import functional as F

from pagkit import data, losses, models, targets
from scripts import norm_modes
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


def test_both_modes_are_measured_on_the_same_draws_and_the_network_stays_as_it_was() -> None:
    """Training mode by hand: the network in training mode, on a copy, in the same batches and with the same classes."""
    task = data.load("digits", train_per_class=20)
    net = models.build("resnet-small", task, seed=0, widths=[8], norm="batch")
    before, rows = {k: v.clone() for k, v in net.state_dict().items()}, torch.arange(50)
    found = norm_modes.cosines(net, task, rows, 32, of="test")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items() if "num_batches" not in k) and net.training
    draw, by_hand = torch.Generator().manual_seed(0), []
    for part in rows.split(32):
        x, classes = task.test.x[part], targets.sample_classes(len(part), 10, 1, draw)
        gradients = losses.input_gradients(copy.deepcopy(net).train(), x, classes)[0]
        wanted = targets.nearest_neighbor(task)(torch.full_like(part, -1), x, classes)
        by_hand.append(losses.cosine(gradients, wanted).flatten())
    assert found["training"] == round(torch.cat(by_hand).mean().item(), 4) != found["evaluation"]
    grouped = models.build("resnet-small", task, seed=0, widths=[8], norm="group")
    assert norm_modes.cosines(grouped, task, rows, 32, of="train")["between"] == 1
