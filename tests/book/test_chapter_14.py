"""Chapter 14: its DLR is AutoAttack's and has no units; its grader accepts attacks and refuses tricks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from pagkit import attacks, data, evaluation, models
from pagkit.attacks import Threat
from pagkit.exercises import defences
from tests.helpers import run_cells

NOTEBOOK = "14-trust-no-number.ipynb"


@pytest.fixture(scope="module")
def taught() -> dict[str, Any]:
    graders = ("objection", "lend", "grader", "refuse", "grade", "cheats")
    return run_cells(NOTEBOOK, "setup", "dlr", "defences", "ruler", *graders)


@pytest.fixture(scope="module")
def exam() -> data.Split:
    return data.load("digits").test.first(20)


@pytest.fixture(scope="module")
def net(exam: data.Split) -> nn.Module:
    return models.build("cnn", data.load("digits"), width=4, seed=1).eval().requires_grad_(False)


def test_dlr_is_autoattacks_and_has_no_units(taught: dict[str, Any]) -> None:
    apgd = pytest.importorskip("pyautoattack.autopgd_base").APGDAttack
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(50, 10, generator=generator, dtype=torch.float64)
    y = torch.randint(10, (50,), generator=generator)
    ours = taught["dlr"](z, y)
    assert torch.allclose(ours, apgd.dlr_loss(None, z, y))
    assert torch.allclose(taught["dlr"](7.5 * z + 3, y), ours)
    wrong = z.argmax(1) != y
    assert torch.equal(ours > 0, wrong) and (ours[~wrong] >= -1).all() and wrong.any() and not wrong.all()


@pytest.mark.parametrize("norm, eps", [("l2", 0.5), ("linf", 0.1)])
def test_climb_is_pgd_without_a_random_start(taught: dict[str, Any], net: nn.Module, exam: data.Split, norm: str, eps: float) -> None:
    threat, loss = Threat(norm, eps), lambda z, y: -attacks.log_odds(z, y)
    ours = taught["climb"](net, loss, exam.x, exam.y, threat, 7)
    assert torch.allclose(ours, attacks.pgd(net, exam.x, exam.y, threat, steps=7, random_start=False, keep="last"), atol=1e-6)


def test_grader_counts_the_worst_case_of_an_honest_attack(taught: dict[str, Any], net: nn.Module, exam: data.Split) -> None:
    labels = net(exam.x).argmax(1)
    labels[:3] = (labels[:3] + 1) % 10  # three that are wrong to begin with
    split, threat = data.Split(exam.x, labels), Threat("l2", 0.3)
    score = taught["grade"](attacks.pgd, taught["Defence"]("net", net, "none"), split, threat)
    x_adv = attacks.pgd(net, split.x, split.y, threat)
    assert score == evaluation.worst_case(net, split.y, split.x, x_adv) and score.correct <= 17


REASONS = {
    "leave the ball": "left the ball",
    "another digit": "left the ball",
    "leave the box": "pixels range over",
    "not a number": "nan or infinite",
    "fewer digits": "expected torch.float32 (20, 1, 8, 8), found",
    "move the labels": "images or labels that it was lent",
    "break the model": "changed the model",
    "secret luck": "two equal calls",
}


@pytest.mark.parametrize("name", REASONS)
def test_grader_refuses_tricks(taught: dict[str, Any], net: nn.Module, exam: data.Split, capsys, name: str) -> None:
    before = copy.deepcopy(net.state_dict())
    defence = taught["Defence"]("Stairs", taught["Stairs"](net), "none")
    assert taught["grade"](taught["cheats"][name], defence, exam, Threat("l2", 0.3)) is None
    assert "REFUSED" in (said := capsys.readouterr().out) and REASONS[name] in said
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_grader_refuses_an_attack_on_the_defence_behind_its_back(taught: dict[str, Any], net: nn.Module, exam: data.Split, capsys) -> None:
    mine = copy.deepcopy(net)
    defence = taught["Defence"]("net", mine, "none")

    def burglar(model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: Threat) -> torch.Tensor:
        mine[-1].bias.add_(torch.arange(10.0))
        return x

    assert taught["grade"](burglar, defence, exam, Threat("l2", 0.3)) is None
    assert "changed the model" in capsys.readouterr().out
    for bad in (None, exam.x.double(), exam.x.numpy()):
        assert taught["grade"](lambda *_, bad=bad: bad, taught["Defence"]("net", net, "none"), exam, Threat("l2", 0.3)) is None


class Moody(nn.Module):
    """Right in about four throws of five."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        off = (torch.rand(len(x)) < 0.2).long()
        return torch.eye(10)[off]


def test_grader_is_fair_to_a_random_model(taught: dict[str, Any], exam: data.Split, capsys) -> None:
    split = data.Split(exam.x, torch.zeros(len(exam), dtype=torch.int64))
    state = torch.get_rng_state()
    score = taught["grade"](lambda model, x, y, threat: x, taught["Defence"]("Moody", Moody(), "none", 51), split, Threat("l2", 0.3))
    assert score.correct == len(split) and "NOT BROKEN" in capsys.readouterr().out
    assert torch.equal(torch.get_rng_state(), state)


def test_dice_moves_the_image_by_at_most_one_pixel(taught: dict[str, Any], exam: data.Split) -> None:
    torch.manual_seed(0)
    seen = taught["Dice"](nn.Identity())(exam.x)
    shifts = [torch.nn.functional.pad(exam.x, (1, 1, 1, 1))[..., i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    nearest = torch.stack([(seen - moved).flatten(1).std(1) for moved in shifts]).amin(0)
    assert ((nearest - 0.15).abs() < 0.06).all()


@pytest.mark.parametrize("name", ["leave the ball", "another digit", "leave the box", "not a number", "fewer digits", "honest"])
def test_the_library_refuses_what_the_chapter_refuses(taught: dict[str, Any], net: nn.Module, exam: data.Split, name: str) -> None:
    threat, attack = Threat("l2", 0.3), taught["cheats"].get(name, attacks.pgd)
    x_adv = attack(net, exam.x.clone(), exam.y.clone(), threat)
    ours, theirs = (objection(x_adv, exam.x, threat) for objection in (defences.objection, taught["objection"]))
    assert (ours is None) == (theirs is None) == (name == "honest")


def test_the_librarys_stairs_are_the_chapters(taught: dict[str, Any], net: nn.Module, exam: data.Split) -> None:
    assert torch.equal(defences.Stairs(net)(exam.x), taught["Stairs"](net)(exam.x))
