"""The answer on the front page and in the README is the one that the results give."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import answer  # noqa: E402


@pytest.mark.parametrize("path", answer.PAGES, ids=lambda path: path.name)
def test_the_answer_is_that_of_the_results(path: Path) -> None:
    page = path.read_text()
    assert page == answer.filled(page, roles=answer.PAGES[path]), "run `python scripts/answer.py`"


def test_the_answer_says_what_the_figures_say() -> None:
    """Its sentences hold only while these signs do."""
    runs = answer.results.load_all(ROOT / "book" / "results")
    gap = answer.results.difference
    assert gap(runs, answer.STANDARD, answer.SCORES, answer.HALF).sign == 1
    assert gap(runs, answer.NOISE, answer.SCORES, answer.HALF).sign == 0
    assert gap(runs, answer.MORE_NOISE, answer.MORE_SCORES, answer.ONE).sign == 1
    assert gap(runs, answer.STANDARD, answer.ONE_IMAGE, answer.HALF).sign == 0
    assert gap(runs, answer.STANDARD, answer.TO_MEAN, answer.HALF).sign == -1
    tilted, plain = ([run.alignment for run in runs if run.recipe == recipe] for recipe in (answer.TO_MEAN, answer.STANDARD))
    for source in ("one_image", "class_mean", "nearest_neighbor"):
        assert min(a[source] for a in tilted) > max(a[source] for a in plain)
    assert max(a["score_based"] for a in tilted) < min(a["score_based"] for a in plain)
    assert gap(runs, answer.OTHERS, answer.SCORES, answer.ONE).sign == 1
    assert gap(runs, answer.STEEP, answer.LOUD, answer.FAR_PGD).sign == gap(runs, answer.STEEP, answer.LOUD, "clean").sign == -1
    toy = [run for run in runs if answer.TOY_SEEDS[0] <= run.seed <= answer.TOY_SEEDS[1]]
    signs = {(answer.TOY, answer.ALIGNED_TOY): 1, (answer.TOY, answer.NOISY_TOY): 1, (answer.NOISY_TOY, answer.ALIGNED_TOY): -1}
    assert {pair: gap(toy, *pair, answer.WIDE).sign for pair in signs} == signs


def test_a_page_without_the_marks_is_refused() -> None:
    for page in ("nothing", answer.START, answer.END):
        with pytest.raises(ValueError, match="the page has no <!-- "):
            answer.filled(page)
