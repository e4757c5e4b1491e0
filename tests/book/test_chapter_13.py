"""Chapter 13: the exact trend test against SciPy and brute force, the terms of the objective, and the theorem's bookkeeping."""

from __future__ import annotations

import re
from itertools import permutations, product

import pytest
import torch
import yaml

from pagkit import data, evaluation, models, results, targets, training
from tests.helpers import BOOK, run_cells

NOTEBOOK = "13-more-lambda.ipynb"


@pytest.mark.parametrize("values", [(1, 2, 3, 4, 5), (3, 1, 2, 5, 4), (5, 4, 2, 3, 1), (2, 5, 1, 4, 3)])
def test_the_trend_of_one_block_is_kendalls(values: tuple[int, ...]) -> None:
    stats = pytest.importorskip("scipy.stats")
    score, p = run_cells(NOTEBOOK, "setup", "trend")["trend"]([values])
    tau = stats.kendalltau(range(5), values, method="exact")
    assert score / 10 == pytest.approx(tau.statistic)
    assert p == pytest.approx(tau.pvalue)


def test_the_trend_of_several_blocks_is_counted() -> None:
    taught = run_cells(NOTEBOOK, "setup", "trend")
    blocks = [(1, 2, 2, 5), (3, 1, 4, 4)]  # with ties
    score, p = taught["trend"](blocks)
    every = [sum(map(taught["concordance"], orders)) for orders in product(*map(permutations, blocks))]
    assert p == pytest.approx(sum(abs(s) >= abs(score) for s in every) / len(every))
    assert taught["trend"]([block[::-1] for block in blocks]) == (-score, pytest.approx(p))


def test_no_differences_are_no_trend() -> None:
    assert run_cells(NOTEBOOK, "setup", "trend")["trend"]([(7, 7, 7)] * 3) == (0, pytest.approx(1.0))


def test_the_terms_are_those_of_the_objective() -> None:
    taught = run_cells(NOTEBOOK, "setup", "terms", "judge")
    task = data.load("digits")
    model = models.build("cnn", task, width=4, seed=1)
    a, b = taught["terms"](model)
    cosine = evaluation.alignment(model, task, targets.nearest_neighbor(task), split="train")
    assert b == pytest.approx(10 * (1 - cosine))
    assert taught["judge"]({0.5: (a, b)}, [2.0])[2.0][0.5] == pytest.approx(a + 2 * b)
    with torch.no_grad():
        assert a == pytest.approx(torch.nn.functional.cross_entropy(model(task.train.x), task.train.y).item())


def test_a_wrong_order_is_the_sum_of_two_deficits() -> None:
    judge = run_cells(NOTEBOOK, "setup", "judge")["judge"]
    paid = {0.5: (0.1, 2.0), 3.0: (0.4, 2.6)}  # misalignment rose with the price
    table = judge(paid, list(paid))
    deficits = (table[0.5][0.5] - table[0.5][3.0]) + (table[3.0][3.0] - table[3.0][0.5])
    assert deficits == pytest.approx((3.0 - 0.5) * (2.6 - 2.0))


def test_the_live_recipe_takes_the_changes() -> None:
    recipe = training.Recipe.load("digits-pag-nn", epochs=12, weight=2.0, ramp=(0.0, 1.0))
    assert (recipe.method, recipe.target) == ("pag", "nearest_neighbor")


def test_every_run_over_the_weights_has_the_terms_of_its_objective() -> None:
    portraits = yaml.safe_load((BOOK / "results" / "portraits.yaml").read_text())
    runs = [r for r in results.load_all(BOOK / "results") if re.fullmatch(r"digits-pag-(oi|cm|nn|sbg)(\+weight=[\d.]+)?", r.recipe)]
    assert len({r.recipe for r in runs}) == 32  # seven weights and what the rule chose, of four sources
    for r in runs:
        drawn = portraits[r.recipe][r.seed]
        assert drawn["cross_entropy"] > 0 and 0 < drawn["misalignment"] < 20
        assert abs(drawn["misalignment"] / 10 + r.alignment[training.Recipe.load(r.recipe).target] - 1) < 0.1  # as on the test digits
