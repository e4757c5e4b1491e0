"""The second look at radius 1 finds what AutoAttack is made to miss here, counts no digit twice, and spares who stands too far away."""

from __future__ import annotations

import sys

import torch
from torch import nn

from pagkit import data
from tests.helpers import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import second_look  # noqa: E402


def linear(scale: float) -> nn.Module:
    """Ten classes, each ``scale`` pixel values of its own above the others."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    model[1].weight.data = torch.eye(64)[:10] * scale
    return model


def test_what_each_attack_takes_and_leaves(monkeypatch) -> None:
    for name, few in (("STEPS", 5), ("STARTS", 1), ("COPIES", 2)):
        monkeypatch.setattr(second_look, name, few)
    monkeypatch.setattr(second_look, "perturb", lambda model, split, *args, **how: split.x)  # an AutoAttack that moves nothing
    x = torch.zeros(3, 64)
    x[0, 0], x[1, 1], x[2, 5] = 1.0, 0.1, 1.0
    test = data.Split(x.view(3, 1, 8, 8), torch.tensor([0, 1, 4]))  # L2 0.71 from the boundary, 0.07, and wrong as it is
    found = second_look.look(linear(1.0), test, [linear(2.0)])
    assert found == {
        "digits": 3,
        "AutoAttack leaves": 2,
        "APGD, five starts": 0,
        "every class": 2,
        "averaged": 0,
        "strangers": 0,
    }
    monkeypatch.setattr(second_look, "every_class", lambda model, x, y: iter(()))
    assert second_look.look(linear(1.0), test, [linear(2.0)])["averaged"] == 2


def test_only_seeds_with_every_network_are_looked_at(tmp_path, capsys) -> None:
    folder = tmp_path / second_look.CLAIMED[0] / "seed-1"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    assert second_look.main([str(tmp_path)]) == 2
    assert "has no seed that was asked for with the weights of digits-pag-sbg+weight=4, digits-noise" in capsys.readouterr().err
