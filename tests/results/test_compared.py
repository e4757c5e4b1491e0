"""Recipes compared over seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pagkit import results
from pagkit.evaluation import Score, t_interval, wilson
from pagkit.results import Result, column, difference, leaderboard, mean, percents


def run(recipe: str, seed: int, correct: int) -> Result:
    origin = {"data": "", "hardware": "", "threads": 1, "train_seconds": 1.0, "evaluate_seconds": 1.0, "versions": {}, "commit": ""}
    return Result(recipe, "digits", seed, {"clean": Score(correct, 500)}, origin)


RUNS = [run("a", 1, 400), run("a", 2, 410), run("a", 3, 405), run("b", 3, 425), run("b", 1, 420), run("b", 2, 420), run("b", 4, 500)]


def test_means_and_paired_differences() -> None:
    found = results.mean(RUNS, "a", "clean")
    assert (found.mean, found.seeds) == (pytest.approx(81), (1, 2, 3))
    half = 4.302653 * 1 / 3**0.5  # t with two degrees of freedom, standard deviation of one point
    assert (found.low, found.high) == (pytest.approx(81 - half, abs=1e-5), pytest.approx(81 + half, abs=1e-5))
    alike = results.mean([run("a", seed, 496) for seed in (1, 2, 3)], "a", "clean")  # no spread at all, by luck
    assert (alike.low / 100, alike.high / 100) == pytest.approx(wilson(496 / 500, 1500)) and alike.high < 100
    assert results.mean([run("a", 1, 0), run("a", 2, 9)], "a", "clean").low == 0, "no share is negative"
    gap = results.difference(RUNS, "a", "b", "clean")  # 4, 2, 4 points; seed 4 has no partner
    assert gap.mean == pytest.approx(10 / 3) and gap.seeds == (1, 2, 3) and gap.sign == 1
    assert f"{gap:+}" == "+3.3 [+0.5, +6.2]" and str(gap) == f"{gap:+}"
    level = [run(recipe, seed, 250 + (recipe == "b")) for recipe in "ab" for seed in (1, 2, 3)]  # one digit more, each time
    assert f"{results.difference(level, 'a', 'b', 'clean'):+}" == "+0.2 [-3.4, +3.8]", "1.96 times the root of 2/4 in 1,500"
    assert str(gap) != str(results.mean(RUNS, "a", "clean"))
    assert results.difference(RUNS, "b", "a", "clean").sign == -1 and results.difference(RUNS, "a", "a", "clean").sign == 0


def test_one_seed_has_the_interval_of_its_examples() -> None:
    one = results.mean(RUNS[:1], "a", "clean", at_least=1)
    assert (one.low / 100, one.high / 100) == pytest.approx(wilson(0.8, 500)) and "Seed 1 alone" in one._repr_html_()
    gap = results.difference(RUNS[2:4], "a", "b", "clean", at_least=1)  # 405 and 425 of 500
    shares = (406 / 502, 426 / 502)  # Agresti and Caffo add one example of each kind to each
    half = 196 * sum(p * (1 - p) / 502 for p in shares) ** 0.5
    assert (gap.mean, gap.low, gap.high) == pytest.approx((4, 4 - half, 4 + half)) and gap.sign == 0


def test_seeds_that_share_their_examples_count_these_once() -> None:
    """The photographs' recipes fix the seed of the data; so three seeds on 500 examples are no 1,500."""
    base, other = "cifar10-laptop-slope", "cifar10-laptop-pag-nn+weight=0.3"
    runs = [run(base, 1, 400), run(base, 2, 410), run(base, 3, 405), *(run(other, seed, 425) for seed in (1, 2, 3))]
    found, t = results.mean(runs, base, "clean"), 4.302653 * 1 / 3**0.5
    low, high = (100 * end for end in wilson(0.81, 500))
    assert (found.low, found.high) == pytest.approx((81 - (t**2 + (81 - low) ** 2) ** 0.5, 81 + (t**2 + (high - 81) ** 2) ** 0.5))
    assert "500 test examples, the same for all seeds" in found._repr_html_()
    gap = results.difference(runs, base, other, "clean")
    shares = (405, 400, 410, 425, 425, 425)
    half = 196 * (sum((k + 1) / 502 * (501 - k) / 502**2 for k in shares) / 3) ** 0.5
    assert (gap.high - gap.mean, gap.mean - gap.low) == pytest.approx((whole := (t**2 + half**2) ** 0.5, whole))
    one = results.mean(runs[:1], base, "clean", at_least=1)
    assert (one.low / 100, one.high / 100) == pytest.approx(wilson(0.8, 500)), "as of one seed that drew its own"


def digested(result: Result, digest: str, task: str = "digits") -> Result:
    return replace(result, task=task, provenance={**result.provenance, "data_digest": {"train": "0", "test": digest}})


def bits(recipe: str, held: torch.Tensor, digest: str = "abc") -> Result:
    return digested(replace(run(recipe, 1, 0), metrics={"clean": Score.of(held)}), digest)


def test_the_same_examples_are_compared_one_by_one() -> None:
    """Agresti and Min (2005) add half an example to each of the four kinds: held by both, by one, by the other, by none."""
    one, two = torch.zeros(500).bool(), torch.zeros(500).bool()
    one[:300], two[20:310] = True, True  # 20 held by the first alone, 10 by the second alone
    gap = results.difference(pair := [bits("a", one), bits("b", two)], "a", "b", "clean", at_least=1)
    more, fewer = 10.5 / 502, 20.5 / 502
    half = 196 * ((more + fewer - (more - fewer) ** 2) / 502) ** 0.5
    assert (gap.mean, gap.high, gap.low) == pytest.approx((-2, -2 + half, -2 - half)) and "compared one by one" in gap.told
    apart = results.difference([pair[0], digested(run("b", 1, 290), "abc")], "a", "b", "clean", at_least=1)  # nobody knows which these are
    assert apart.mean == pytest.approx(-2) and apart.high > 2 * half - 2 and "one by one" not in apart.told
    with pytest.raises(ValueError, match="test examples of 'digits' differ between 'a', seed 1 .abc. and 'b', seed 1 .another."):
        results.difference([pair[0], bits("b", two, "another")], "a", "b", "clean", at_least=1)
    row = torch.arange(160)  # R's PropCIs gives diffpropci.mp(40, 20, 160) as -0.21601726 to -0.03089632, about -20/162
    gap = results.difference([bits("a", row < 140), bits("b", row >= 40)], "a", "b", "clean", at_least=1)
    assert (gap.high - gap.low) / 100 == pytest.approx(0.21601726 - 0.03089632, abs=1e-5)
    assert results.difference([pair[0], bits("b", one)], "a", "b", "clean", at_least=1).high > 0, "no width is zero"
    assert results.difference([run("a", 1, 500), run("b", 1, 500)], "a", "b", "clean", at_least=1).high > 0


def test_intervals_of_pairs_cover() -> None:
    """95 % intervals of 200 pairs that hold with 0.9 and 0.8, and often together."""
    inside, generator = 0, torch.Generator().manual_seed(0)
    for _ in range(300):
        easy = torch.rand(200, generator=generator) < 0.7
        one, two = (easy | (torch.rand(200, generator=generator) < share) for share in (2 / 3, 1 / 3))
        gap = results.difference([bits("a", one), bits("b", two)], "a", "b", "clean", at_least=1)
        inside += gap.low <= -10 <= gap.high
    assert inside / 300 == pytest.approx(0.95, abs=0.03)


def test_results_of_different_tasks_or_test_examples_are_not_pooled() -> None:
    mixed = [*RUNS[:2], replace(RUNS[2], task="three-modes")]
    for call in (results.mean, results.percents, results.column):
        with pytest.raises(ValueError, match="results of recipe 'a' are of the tasks 'digits' and 'three-modes'; expected those of one"):
            call(mixed, "a", "clean")
    with pytest.raises(ValueError, match="'a' was measured on 'digits' and 'b' on 'x'; expected one task"):
        results.difference([*RUNS[:3], *(replace(r, task="x") for r in RUNS[3:])], "a", "b", "clean")
    fixed, other = ([run(f"cifar10-laptop-{name}", seed, 400) for seed in (1, 2)] for name in ("slope", "noise"))
    apart = [digested(fixed[0], "aaa"), digested(fixed[1], "bbb")]
    told = r"test examples of 'digits' differ between 'cifar10-laptop-slope', seed 1 \(aaa\) and 'cifar10-laptop-{}', seed {} \(bbb\)"
    with pytest.raises(ValueError, match=told.format("slope", 2)):
        results.mean(apart, "cifar10-laptop-slope", "clean")
    assert results.mean([apart[0], fixed[1]], "cifar10-laptop-slope", "clean").mean == 80, "nothing is known of the second"
    with pytest.raises(ValueError, match=told.format("noise", 1)):
        both = [*(digested(r, "aaa") for r in fixed), *(digested(r, "bbb") for r in other)]
        results.difference(both, "cifar10-laptop-slope", "cifar10-laptop-noise", "clean")


def test_digests_say_which_seeds_share_their_examples() -> None:
    drawn, same = ([digested(r, digest or str(r.seed)) for r in RUNS[:3]] for digest in ("", "abc"))
    assert str(results.mean(drawn, "a", "clean")) == str(results.mean(RUNS, "a", "clean"))
    assert "the same for all seeds" in (found := results.mean(same, "a", "clean")).told and found.low < 77
    with pytest.raises(ValueError, match="expected the same: are these two folders"):
        results.mean([*same[:2], drawn[2]], "a", "clean")


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="no result of recipe 'c' with 'clean'; expected at least one"):
        results.percents(RUNS, "c", "clean")
    with pytest.raises(ValueError, match="recipe 'a' has two runs of one seed"):
        results.percents([*RUNS, run("a", 1, 3)], "a", "clean")
    for call in (lambda: results.mean(RUNS[:1], "a", "clean"), lambda: results.difference(RUNS[2:4], "a", "b", "clean")):
        with pytest.raises(ValueError, match=r"1 seed\(s\); expected at least 2"):
            call()
    with pytest.raises(ValueError, match="format '.2f' of an Estimate"):
        format(results.mean(RUNS, "a", "clean"), ".2f")
    with pytest.raises(ValueError, match="expected at least 2"):
        t_interval([1.0])


def test_a_number_says_where_it_comes_from() -> None:
    gap = results.difference(RUNS, "a", "b", "clean")
    assert gap.files == tuple(f"{name}/seed-{seed}.json" for name in ("b", "a") for seed in (1, 2, 3))
    page = results.Table("caption", ("what", "points"), (("b over a", gap),))._repr_html_()
    assert (
        'tabindex="0">+3.3 [+0.5, +6.2]<span class="origin-told" role="tooltip">b minus a, clean, in points: 500 test examples a seed.'
        in page
    )
    assert 'href="results/b/seed-1.json"' in page and "Mean of seeds 1, 2, 3" in page
    assert str(results.Table("caption", ("what", "points"), (("b over a", gap),))).splitlines()[-1] == "b over a  +3.3 [+0.5, +6.2]"
    assert "&lt;b&gt;" in results.Estimate(1.0, 0.0, 2.0, (1, 2), told="<b>")._repr_html_()
    half = results.mean(RUNS, "a", "clean").point(".0f")
    assert str(half) == "81" and "95 % interval over them" in half.told and "81.0 [" in half.told and len(half.files) == 3
    assert str(gap.point("+.1f")) == "+3.3" and "+3.3 [+0.5, +6.2]" in gap.point("+.1f").told


def test_a_count_of_one_run_says_where_it_comes_from() -> None:
    one = RUNS[0]
    told = "clean: 400 of 500, 80.0 [76.3, 83.3] %, Wilson's interval. a, seed 1."
    assert results.count(one, "clean") == results.Figure("80.0 [76.3, 83.3]", told, ("a/seed-1.json",))
    assert repr(results.count(one, "clean", ".0f")) == "80" and str(results.count(one, "clean", "d")) == "400"
    assert results.figure("x", "Both.", *RUNS[:3], RUNS[3]).told == "Both. a, seeds 1, 2, 3; b, seed 3."
    page = results.figure("<1", "a & b", one)._repr_html_()
    assert page.startswith('<span class="origin" tabindex="0">&lt;1<span class="origin-told" role="tooltip">a &amp; b a, seed 1. <a href=')
    with pytest.raises(ValueError, match="the result of 'a', seed 1, has no 'pgd'; it has clean"):
        results.count(one, "pgd")
    with pytest.raises(ValueError, match="the figure 'x' comes from no run; expected at least one"):
        results.figure("x", "told")


def test_seeds_whose_digests_tell_share_their_examples_with_the_one_that_does_not() -> None:
    """Of a recipe that is not the library's; no digest is no sign of other examples."""
    known = [digested(run("mine", seed, 400 + seed), "A") for seed in range(2)]
    wide = mean([*known, digested(run("mine", 2, 402), "A")], "mine", "clean")
    assert str(mean([*known, run("mine", 2, 402)], "mine", "clean")) == str(wide)
    others = [run("other", seed, 300 + seed) for seed in range(2)]
    dated = [digested(r, "A") for r in others]
    assert str(difference([*known, *others], "other", "mine", "clean")) == str(difference([*known, *dated], "other", "mine", "clean"))


def test_figures_of_one_name_with_different_options_are_not_pooled() -> None:
    def asked(recipe: str, seed: int, how: dict) -> Result:
        plain = run(recipe, seed, 400 + seed)
        return replace(plain, provenance={**plain.provenance, "asked": {"clean": how}})

    one, two = asked("mine", 0, {}), asked("mine", 1, {"steps": 1})
    for pooled in (mean, percents, column):
        with pytest.raises(ValueError, match=r"'clean' was measured in two ways, of 'mine', seed 0 \(with no options\) and of"):
            pooled([one, two], "mine", "clean")
    with pytest.raises(ValueError, match="measured in two ways"):
        difference([one, asked("other", 0, {"steps": 1})], "mine", "other", "clean", at_least=1)
    with pytest.raises(ValueError, match="measured in two ways"):
        leaderboard.rates([one, two], one.task)
    assert column([one, asked("mine", 1, {}), run("mine", 2, 402)], "mine", "clean") == [400, 401, 402]


def test_a_count_for_each_seed_and_one_number_of_the_same_examples() -> None:
    for call in (mean, percents, column):
        with pytest.raises(ValueError, match="recipe 'a' has two runs of one seed with 'clean'; expected one each"):
            call([*RUNS, run("a", 1, 3)], "a", "clean")
        apart = [digested(run("mine", 0, 10), "A"), replace(digested(run("mine", 1, 10), "A"), metrics={"clean": Score(300, 600)})]
        with pytest.raises(ValueError, match=r"share their test examples and have 'clean' on \[500, 600\] of them; expected one number"):
            call(apart, "mine", "clean")


def test_a_recipe_whose_name_no_file_can_have_is_not_the_librarys() -> None:
    runs = [run("x" * 300, seed, 400) for seed in (1, 2)]
    assert mean(runs, "x" * 300, "clean").mean == 80 and len(leaderboard.rates(runs, "digits").rows) == 1
