"""The committed picture of photographs is what its committed networks see."""

from __future__ import annotations

import io
import sys

import matplotlib.pyplot as plt

from pagkit import lab
from tests.helpers import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import photo_pictures as made  # noqa: E402


def test_the_picture_is_that_of_the_networks() -> None:
    task = lab.photographs(made.PHOTOGRAPHS).task
    drawn = plt.imread(io.BytesIO(made.picture(made.draw(task, made.networks(task)))))
    stored = plt.imread(made.EVENING)
    assert drawn.shape == stored.shape
    # another network in one column makes 0.01
    assert abs(drawn - stored).mean() < 0.003, "run `python scripts/photo_pictures.py`"
