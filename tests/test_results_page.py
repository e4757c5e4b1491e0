"""The tables of the page with every result: what stands in a cell, in which order, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from pagkit import results
from pagkit.evaluation import Score
from pagkit.results import Result, Table

PROVENANCE = {
    "data": "digits, 1297 train / 500 test, inputs 1x8x8",
    "hardware": "A CPU, 2 cores",
    "threads": 1,
    "train_seconds": 8.0,
    "evaluate_seconds": 2.0,
    "versions": {"python": "3.11.7", "torch": "2.15.0"},
    "commit": "0123456789ab",
}


def make(recipe: str, seed: int, total: int = 500, task: str = "digits", where: dict[str, Any] | None = None, **correct: int) -> Result:
    metrics = {name.replace("_", "-"): Score(count, total) for name, count in correct.items()}
    return Result(recipe, task, seed, metrics, {**PROVENANCE, **(where or {})})


def test_leaderboard_shows_median_and_range_over_seeds() -> None:
    runs = [make("b", seed, pgd_l2_1=count, clean=490) for seed, count in enumerate((30, 10, 20))]
    runs.append(make("a", 0, clean=480, exact_l2_15=7))
    table = results.leaderboard([*runs, make("toy", 0, task="three-modes", clean=1)], "digits")
    assert table.header == ("recipe", "clean", "exact-l2-15", "pgd-l2-1", "seeds", "examples")
    assert table.rows == (("a", "480", "7", "", "1", "500"), ("b", "490 (490-490)", "", "20 (10-30)", "3", "500"))


def test_leaderboard_orders_radii_as_numbers() -> None:
    table = results.leaderboard([make("a", 0, **{"pgd-l2-20": 1, "pgd-l2-5": 1, "clean": 1})], "digits")
    assert table.header[1:4] == ("clean", "pgd-l2-5", "pgd-l2-20")


@pytest.mark.parametrize("other", [{"total": 100, "clean": 99}, {"clean": 499, "pgd_l2_1": 3}])
def test_leaderboard_refuses_runs_that_cannot_be_pooled(other: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="'a' differ in their metrics or totals"):
        results.leaderboard([make("a", 0, clean=490), make("a", 1, **other)], "digits")


def test_leaderboard_refuses_one_seed_twice() -> None:
    with pytest.raises(ValueError, match="'a' has two runs of one seed"):
        results.leaderboard([make("a", 0, clean=490), make("a", 0, clean=491)], "digits")


def test_leaderboard_names_the_tasks_there_are() -> None:
    with pytest.raises(ValueError, match="no result of task 'cifar10'; found digits"):
        results.leaderboard([make("a", 0, clean=490)], "cifar10")
    with pytest.raises(ValueError, match="found none"):
        results.leaderboard([], "digits")


def test_origins_lists_what_differs_between_seeds_once() -> None:
    runs = [make("a", seed, clean=1, where={"commit": commit, "train_seconds": 8.0 + seed}) for seed, commit in enumerate("xxy")]
    (row,) = results.origins(runs).rows
    found = dict(zip(results.origins(runs).header, row, strict=True))
    assert found["seeds"] == "0-2" and found["commit"] == "x; y" and found["threads"] == "1"
    assert found["versions"] == "python 3.11.7, torch 2.15.0"
    assert found["train (s)"] == "9.0" and found["evaluate (s)"] == "2.0"
    assert results.origins([]).rows == ()


def test_origins_shortens_runs_of_seeds() -> None:
    table = results.origins([make("a", seed, clean=1) for seed in (0, 1, 2, 7, 20, 21)])
    assert table.rows[0][1] == "0-2, 7, 20-21"


def test_table_as_text_and_as_html() -> None:
    table = Table("a & b", ("recipe", "clean"), (("<x>", "1"), ("long name", "23")))
    assert str(table) == "a & b\nrecipe     clean\n<x>        1\nlong name  23"
    assert repr(table) == str(table)
    text = table._repr_html_()
    assert ">a &amp; b</caption>" in text and '<th scope="row">&lt;x&gt;</th><td>1</td>' in text
    assert text.count("<tr>") == text.count("</tr>") == 3
