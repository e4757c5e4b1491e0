"""What a figure says that a reader could take wrongly."""

import matplotlib.pyplot as plt
import pytest
import torch

from pagkit import plots
from pagkit.evaluation import Score
from pagkit.results import Estimate


def test_a_hollow_dot_is_a_lead_whose_interval_holds_zero() -> None:
    found = [Estimate(2.0, 1.0, 3.0, (1,)), Estimate(1.0, -1.0, 3.0, (1,)), Estimate(-2.0, -3.0, -1.0, (1,))]
    axis = plots.intervals(["ahead", "open", "behind"], found)
    bars, dots = ([line for line in axis.lines if line.get_marker() == marker] for marker in ("None", "o"))
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, True, False]
    assert [list(bar.get_xdata()) for bar in bars[:3]] == [[one.low, one.high] for one in found]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ahead", "open", "behind"]
    assert axis.get_ylim()[0] > axis.get_ylim()[1]  # the first on top
    plt.close(axis.figure)


def test_names_and_leads_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="shorter"):
        plots.intervals(["one", "two"], [Estimate(0.0, -1.0, 1.0, (1,))])
    plt.close("all")


def test_bars_of_all_and_of_nothing() -> None:
    axis = plots.bars(["none", "all"], {"one": [Score(0, 3), Score(4, 4)]})
    assert [bar.get_height() for bar in axis.patches] == [0, 100]
    plt.close(axis.figure)


@pytest.mark.parametrize(
    ("shape", "titles", "message"),
    [
        ((0, 1, 8, 8), None, "no image is given; expected at least one"),
        ((3, 1, 8, 8), ["one"], "1 titles for 3 images; expected one each"),
        ((1, 4, 8, 8), None, r"the image has shape \(4, 8, 8\); expected \(1, H, W\) or \(3, H, W\)"),
    ],
)
def test_images_that_cannot_be_shown(shape: tuple[int, ...], titles: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.images(torch.zeros(shape), titles)
    plt.close("all")
