"""The tables of the page with every result: what stands in a cell, in which order, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pagkit import cli, results
from pagkit.evaluation import Board, Score
from pagkit.results import Published, Result, Table, leaderboard
from tests.helpers import ROOT

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


def test_a_cell_is_median_interval_and_range_over_seeds() -> None:
    runs = [make("b", seed, pgd_l2_1=count, clean=490) for seed, count in enumerate((30, 10, 20))]
    runs.append(make("a", 0, clean=480, exact_l2_15=7))
    table = leaderboard.rates([*runs, make("toy", 0, task="three-modes", clean=1)], "digits")
    assert table.header == ("recipe", "clean", "exact\nl2-15", "pgd\nl2-1", "seeds", "examples")
    assert table.caption == "Digits: % correct, ordered by exact-l2-15"
    assert table.rows == (
        ("a", "96.0\n[93.9, 97.4]", "1.4\n[0.7, 2.9]", "", "1", "500"),
        ("b", "98.0\n[96.4, 98.9]\n98.0 to 98.0", "", "4.0\n[2.6, 6.1]\n2.0 to 6.0", "3", "500"),
    )
    assert leaderboard.counts(runs, "digits").rows[1] == ("b", "490 (490-490)", "", "20 (10-30)", "3", "500")


def test_an_even_number_of_seeds_has_a_median_between_two() -> None:
    table = leaderboard.rates([make("a", seed, clean=count) for seed, count in enumerate((100, 101))], "digits")
    assert table.rows[0][1].startswith("20.1\n") and table.caption == "Digits: % correct"


def test_columns_go_from_strong_to_weak_and_radii_are_numbers() -> None:
    names = ("square-l2-1", "pgd-linf-0.1", "pgd-l2-20", "pgd-l2-5", "autoattack-l2-1", "clean")
    table = leaderboard.rates([make("a", 0, **dict.fromkeys(names, 1))], "digits")
    assert [cell.replace("\n", "-") for cell in table.header[1:-2]] == ["clean", "autoattack-l2-1", "pgd-l2-5", "pgd-l2-20", *names[1::-1]]


def test_rows_are_ranked_and_settings_stand_under_their_recipe() -> None:
    counts = {"weak": 10, "strong": 90, "strong+weight=16": 95, "strong+weight=8": 5, "only+a.b=2": 99}
    runs = [make(name, 0, clean=480, pgd_l2_1=count) for name, count in counts.items()] + [make("unmeasured", 0, clean=490)]
    names = [row[0] for row in leaderboard.rates(runs, "digits").rows]
    assert names == ["strong", "  +weight=8", "  +weight=16", "weak", "only", "  +a.b=2", "unmeasured"]
    assert leaderboard.rates(runs, "digits").rows[4] == ("only", "", "", "", "")


def test_runs_that_cannot_be_pooled_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'a' have 'clean' on \[100, 500\] examples"):
        leaderboard.rates([make("a", 0, clean=490), make("a", 1, total=100, clean=99)], "digits")


def test_two_folders_of_one_name_are_not_one_table() -> None:
    def row(recipe: str, seed: int, digest: str) -> Result:
        return make(recipe, seed, clean=490, task="folder:imgs", where={"data_digest": {"train": "0", "test": digest}})

    told = r"test examples of 'folder:imgs' differ between 'digits-standard', seed 0 \(aaa\) and '{}', seed 1 \(bbb\); expected the same"
    for recipe in ("digits-standard", "digits-pag-nn"):
        with pytest.raises(ValueError, match=told.format(recipe)):
            leaderboard.rates([row("digits-standard", 0, "aaa"), row(recipe, 1, "bbb")], "folder:imgs")
    for recipe in ("digits-standard+data.test_per_class=50", "mine"):  # each seed draws its own, or may do so
        assert leaderboard.rates([row(recipe, 0, "aaa"), row(recipe, 1, "bbb")], "folder:imgs").rows


def test_a_metric_that_some_seeds_lack_says_how_many_have_it() -> None:
    runs = [make("a", 0, clean=490), make("a", 1, clean=490, pgd_l2_1=50), make("a", 2, clean=490)]
    row = ("a", "98.0\n[96.4, 98.9]\n98.0 to 98.0", "10.0\n[7.7, 12.9]\n1 of 3 seeds", "3", "500")
    assert leaderboard.rates(runs, "digits").rows == (row,)
    assert leaderboard.counts(runs, "digits").rows[0][2] == "50\n1 of 3 seeds"


def test_one_seed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' has two runs of one seed"):
        leaderboard.rates([make("a", 0, clean=490), make("a", 0, clean=491)], "digits")


def test_an_unknown_task_is_refused_with_the_tasks_there_are() -> None:
    with pytest.raises(ValueError, match="no result of task 'cifar10'; found digits"):
        leaderboard.rates([make("a", 0, clean=490)], "cifar10")
    with pytest.raises(ValueError, match="found none"):
        leaderboard.samples([make("a", 0, clean=490)], "digits")


def test_tasks_are_in_the_order_of_the_book_and_a_lossy_copy_says_so() -> None:
    names = ("zoo", "cifar10", "folder:CIFAR-10, JPEG q75 copy", "folder:mine", "digits", "three-modes")
    runs = [make("a", 0, task=task, clean=1) for task in names] + [make("ddpm", 0, task="stl10", samples=1)]
    assert leaderboard.tasks(runs) == [*names[5:1:-1][:2], names[2], "cifar10", "folder:mine", "zoo"]
    assert leaderboard.tasks(runs, "samples") == ["stl10"]
    assert "lossy copy" in leaderboard.rates(runs, names[2]).caption and "lossy" not in leaderboard.rates(runs, "cifar10").caption
    assert leaderboard.rates(runs, "folder:mine").caption == "mine, a folder of images: % correct"
    (row,) = leaderboard.samples(runs, "stl10").rows
    assert row == ("ddpm", "0.2\n[0.0, 1.1]", "1", "500")


def test_alignment_is_shown_where_there_is_one() -> None:
    runs = [replace(make("a", seed, clean=1), alignment={"one_image": value}) for seed, value in enumerate((-0.1, 0.2, 0.3))]
    runs += [replace(make("b", 0, clean=1), alignment={"class_mean": 0.5}), make("c", 0, clean=1)]
    table = leaderboard.alignments(runs, "digits")
    assert table.header[1:3] == ("class\nmean", "one\nimage")
    assert table.rows == (("a", "", "0.20\n-0.10 to 0.30", "3", "500"), ("b", "0.50", "", "1", "500"))


def test_a_sum_bears_a_star_in_every_table_and_the_caption_says_why() -> None:
    runs = [replace(make(name, 0, clean=490), alignment={"one_image": 0.2}) for name in ("a", "a+weight=2", "b")]
    for table in (f(runs, "digits", ["a+weight=2"]) for f in (leaderboard.rates, leaderboard.counts, leaderboard.alignments)):
        assert [row[0] for row in table.rows] == ["a", "  +weight=2 *", "b"] and leaderboard.STAR in table.caption
    assert leaderboard.STAR not in leaderboard.rates(runs, "digits").caption


FIGURE = {"name": "lambda 1", "recipe": "a+weight=1", "metric": "clean"}


def published(**figure: Any) -> Published:
    return Published("key2023", "cifar10", "Key (2023)", "table 1", "a net", "CIFAR-10", "none", [{**FIGURE, **figure}])


def test_published_figures_stand_beside_the_same_recipe_on_the_same_task() -> None:
    ours, copy = (make("a+weight=1", 0, task=task, clean=250) for task in ("cifar10", "folder:CIFAR-10, JPEG q75 copy"))
    name = "lambda 1\na+weight=1"
    assert leaderboard.comparison([ours, copy], published(percent=48.3)).rows == ((name, "clean", "50.0\n[45.6, 54.4]", "48.30"),)
    assert leaderboard.comparison([copy], published(correct=35, total=600)).rows == ((name, "clean", "", "5.8\n35 of 600"),)
    assert "Key (2023), table 1. Model: a net. Data: CIFAR-10." in leaderboard.comparison([], published(percent=1)).caption


@pytest.mark.parametrize(
    "figure",
    [
        {},
        {"correct": 1},
        {"percent": 1, "total": 2},
        {"percent": 1, "metric": "fly"},
        {"percent": "35"},
        {"percent": True},
        {"percent": 101},
        {"correct": 5, "total": 0},
        {"correct": 700, "total": 600},
        {"correct": 5.5, "total": 600},
    ],
)
def test_a_published_figure_must_be_whole(figure: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "published.yaml"
    entry = {**asdict(published(percent=1)), "figures": [{**FIGURE, **figure}]}
    path.write_text(yaml.safe_dump([entry]))
    with pytest.raises(ValueError, match="published.yaml is not a file of published figures: .*(expected|unknown metric)"):
        results.load_published(path)


def test_a_published_figure_stands_once(tmp_path: Path) -> None:
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump([asdict(published(percent=35))]).replace("percent: 35", "percent: 35\n    percent: 53"))
    with pytest.raises(ValueError, match="published.yaml is not a file of published figures: key 'percent' stands twice"):
        results.load_published(path)


def test_cosines_asked_for_in_two_ways_are_not_pooled() -> None:
    def aligned(recipe: str, seed: int, **how: float) -> Result:
        made = make(recipe, seed, clean=480, where={"asked": {"alignment.class_mean": how}})
        return replace(made, alignment={"class_mean": 0.5, "one_image": 0.1})

    one, two = aligned("a", 0, scale=1.0), aligned("a", 1, scale=10.0)
    with pytest.raises(ValueError, match="'alignment.class_mean' was measured in two ways, of 'a', seed 0 .with {'scale': 1.0}. and of"):
        leaderboard.alignments([one, two], "digits")
    assert len(leaderboard.rates([one, two], "digits").rows) == 1
    assert len(leaderboard.alignments([one, aligned("a", 1, scale=1.0), make("a", 2, clean=480)], "digits").rows) == 1


def test_a_column_is_of_one_attack_unless_the_rows_name_says_otherwise() -> None:
    def attacked(recipe: str, steps: int) -> Result:
        return make(recipe, 0, clean=480, pgd_l2_1=9, where={"asked": {"pgd-l2-1": {"steps": steps}}})

    told = "'pgd-l2-1' was measured in two ways, of 'a', seed 0 .with {'steps': 40}. and of 'b', seed 0 .with {'steps': 20}.; expected"
    for board in (leaderboard.rates, leaderboard.counts):
        with pytest.raises(ValueError, match=told):
            board([attacked("a", 40), attacked("b", 20)], "digits")
        rows = board([attacked("a", 40), attacked("b", 40), attacked("b+metrics.pgd-l2-1.steps=20", 20)], "digits").rows
        assert [row[0] for row in rows] == ["a", "b", "  +metrics.pgd-l2-1.steps=20"]
    judged = [make(judge, 0, samples=9, where={"asked": {"samples": {"judge": judge}}}) for judge in "ab"]
    assert len(leaderboard.samples(judged, "digits").rows) == 2


def test_origins_lists_what_differs_between_seeds_once() -> None:
    runs = [make("a", seed, clean=1, where={"commit": commit, "train_seconds": 8.0 + seed}) for seed, commit in enumerate("xxy")]
    (row,) = leaderboard.origins(runs).rows
    found = dict(zip(leaderboard.origins(runs).header, row, strict=True))
    assert str(found["seeds"]) == "0-2" and found["commit"] == "x; y" and found["threads"] == "1"
    assert found["versions"] == "python 3.11.7, torch 2.15.0"
    assert found["train (s)"] == "9.0" and found["evaluate (s)"] == "2.0"
    assert leaderboard.origins([]).rows == ()


def test_origins_shortens_runs_of_seeds() -> None:
    table = leaderboard.origins([make("a", seed, clean=1) for seed in (7, 2, 21, 0, 20, 1)])  # in any order
    assert str(table.rows[0][1]) == "0-2, 7, 20-21" and "a       0-2, 7, 20-21  " in str(table)
    assert '<td><span class="origin" tabindex="0">0-2, 7, 20-21<span' in table._repr_html_()
    assert table._repr_html_().count('<a href="results/a/seed-') == 6


def test_table_as_text_and_as_html() -> None:
    table = Table("a & b", ("recipe", "clean"), (("<x>", "1"), ("long name", "23")))
    assert str(table) == "a & b\nrecipe     clean\n<x>        1\nlong name  23"
    assert repr(table) == str(table)
    text = table._repr_html_()
    assert ">a &amp; b</caption>" in text and '<th scope="row">&lt;x&gt;</th><td>1</td>' in text
    assert text.count("<tr>") == text.count("</tr>") == 3


def test_board_as_text_and_as_html() -> None:
    board = Board("a & b", ("recipe", "pgd\nl2-1"), (("<x>", "1.0\n[0.5, 2.0]"), ("  +w=1", "23.0")))
    lines = ["a & b", "recipe         pgd", "              l2-1", "<x>            1.0", "        [0.5, 2.0]", "  +w=1        23.0"]
    assert str(board) == repr(board) == "\n".join(lines)
    text = board._repr_html_()
    assert "<figcaption>a &amp; b</figcaption>" in text
    assert '<th scope="row">&lt;x&gt;</th><td>1.0<br><small>[0.5, 2.0]</small></td>' in text
    assert '<th scope="row" class="under">+w=<wbr>1</th>' in text and 'class="dataframe"' in text
    assert str(Board("c", ("a", "b", "d"), (("1", "22", "x"),), align="left")) == "c\na  b   d\n1  22  x"


def test_the_command_prints_the_tables_of_the_books_results(capsys, monkeypatch) -> None:
    """In which one recipe's test photographs are another draw than another's."""
    monkeypatch.chdir(ROOT)
    assert cli.main(["leaderboard"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("digits-slope", "cifar10-laptop-slope", "cifar10-evening-slope"))


ORIGIN = json.dumps(PROVENANCE)
SCORE = '"clean": {"correct": 5, "total": 10}'


@pytest.mark.parametrize(
    ("seed", "metrics", "more", "message"),
    [
        ("1.7", SCORE, "", "seed is 1.7; expected a whole number"),
        ("true", SCORE, "", "seed is True; expected a whole number"),
        ("1", '"clean": {"correct": 9.5, "total": 10}', "", "correct is 9.5; expected a whole number"),
        ("1", '"clean": {"correct": true, "total": 10}', "", "correct is True; expected a whole number"),
        ("1", f"{SCORE}, {SCORE}", "", "key 'clean' stands twice; expected it once"),
        ("1", SCORE, '"alignment": {"class_mean": NaN},', "alignment 'class_mean' is nan; expected a finite number"),
        (
            "1",
            SCORE,
            '"checklists": [{"caption": "c", "rows": [["name", "FAIL", "1"]]}],',
            "verdict is 'FAIL'; expected one of pass, fail, not run",
        ),
    ],
)
def test_a_result_changed_by_hand_is_refused(seed: str, metrics: str, more: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(f'{{"recipe": "a", "task": "t", "seed": {seed}, "metrics": {{{metrics}}}, {more} "provenance": {ORIGIN}}}')
    with pytest.raises(ValueError, match=f"result.json is not a result file: ValueError {message}"):
        results.load(path)
