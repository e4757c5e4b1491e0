"""Each defence stands against its authors' own attack, falls to chapter 14's solutions, and its grader counts fair points only."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from pagkit import attacks
from pagkit.exercises import check, defences
from pagkit.exercises.defences import NUMBERS

KEY = {name: key for key, name in NUMBERS.items()}


class Ramp(nn.Module):
    """Forward the stairs; backward as if they were not there."""

    def __init__(self, stairs: nn.Module) -> None:
        super().__init__()
        self.net = stairs.net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x + ((4 * x).round() / 4 - x).detach())


SOLVED = {
    "ruler": lambda d: attacks.pgd(d.model, d.exam.x, d.exam.y, d.threat),
    "stairs": lambda d: attacks.pgd(Ramp(d.model), d.exam.x, d.exam.y, d.threat),
    "dice": lambda d: attacks.pgd(d.model, d.exam.x, d.exam.y, d.threat, keep="last"),
}


@pytest.mark.parametrize("name", SOLVED)
def test_a_defence_stands_and_falls(name: str) -> None:
    state = torch.get_rng_state()
    defence = defences.load(name)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(0)
    claim = check(KEY[name], defence.authors())
    assert not claim and f"{name} is not broken" in claim.says and "The median change is 0." in claim.says
    verdict = check(KEY[name], SOLVED[name](defence))
    assert verdict and f"{name} is broken" in verdict.says, verdict
    assert check(KEY[name], SOLVED[name](defence)) and "at most 10 may be" in verdict.says


def test_a_copy_may_be_spoilt_and_the_grader_keeps_its_own() -> None:
    first = defences.load("stairs")
    for weight in first.model.parameters():
        weight.zero_()
    assert not check("14.2", first.exam.x)


def test_inference_mode_changes_no_defence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the network that it keeps one of inference mode ever after. One epoch is enough here."""
    fresh, full = cache(defences._network.__wrapped__), defences.training.Recipe.load
    monkeypatch.setattr(defences, "_network", fresh)
    monkeypatch.setattr(defences.training.Recipe, "load", lambda name, **options: full(name, **{**options, "epochs": 1}))
    with torch.inference_mode():
        assert not check("14.1", defences.load("ruler").exam.x)
        model = defences.load("ruler").model
    assert not any(p.is_inference() for p in (*model.parameters(), *fresh(0).parameters()))


@pytest.mark.parametrize(
    ("cheat", "words"),
    [
        (lambda x: 1 - x, "100 digits left the ball: the longest change is"),
        (lambda x: x - 0.1, "the box is (0.0, 1.0)"),
        (lambda x: x * torch.nan, "6400 values are nan"),
        (lambda x: x[:6], "expected torch.float32 (100, 1, 8, 8)"),
        (lambda x: x.double(), "found torch.float64"),
    ],
    ids=["ball", "box", "nan", "few", "dtype"],
)
def test_points_that_may_not_be_counted_are_refused(cheat, words: str) -> None:
    verdict = check("14.2", cheat(defences.load("stairs").exam.x))
    assert not verdict and words in verdict.says


def test_an_unknown_defence_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown defence 'moat'; expected one of ruler, stairs, dice"):
        defences.load("moat")
