"""The protocol: as many trials for each method, one rule that chooses, a run that goes on where it stopped."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pagkit import experiment, results
from pagkit.evaluation import Score
from pagkit.recipe import Recipe
from pagkit.results import Result
from tests.helpers import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import protocol  # noqa: E402


@pytest.mark.parametrize("name", yaml.safe_load(protocol.PROTOCOL.read_text()))
def test_each_method_has_as_many_trials_and_all_else_in_common(name: str) -> None:
    plan = protocol.read(name)
    recipes = {method: [protocol.trial(trial, plan) for trial in names] for method, names in plan.trials.items()}
    trials = {"cifar10-laptop": 3, "cifar10-laptop-sums": 3, "three-modes": 6}.get(name, 8)
    assert {len(set(names)) for names in plan.trials.values()} == {trials}
    common = ("task", "data", "model", "model_options", "epochs", "batch_size", "optimizer", "lr", "schedule", "weight_decay", "metrics")
    assert len({str([getattr(recipe, key) for key in common]) for found in recipes.values() for recipe in found}) == 1
    for method, found in recipes.items():
        assert found[0].data["holdout"] and set(found[0].metrics) == set(plan.by) and found[0].seed == plan.seeds[0]
        (key,) = {k for k in vars(found[0]) if k != "name" and len({str(getattr(recipe, k)) for recipe in found}) > 1}
        values = [getattr(recipe, key) for recipe in found]
        assert values == sorted(set(values)), f"{method}: from little to much, as ties go to the first"


def made(name: str, *counts: int) -> Result:
    origin = {
        "data": "",
        "hardware": "",
        "threads": 1,
        "train_seconds": 1.0,
        "train_cpu_seconds": 2.0,
        "evaluate_seconds": 1.0,
        "versions": {},
        "commit": "",
    }
    scores = {metric: Score(n, 200) for metric, n in zip(("clean", "pgd-l2-0.5", "pgd-l2-1"), counts, strict=True)}
    return Result(name, "digits+holdout=200", 0, scores, origin)


PLAN = protocol.Plan(("pgd-l2-0.5", "pgd-l2-1"), 1.5, (0,), {"one": ["a", "b", "c"], "two": ["d", "e", "f"], "three": ["g", "h", "i"]})
COUNTS = {
    "a": (198, 100, 20),  # the highest clean count is 199, so 196 is admitted and 195 is not
    "b": (196, 120, 10),
    "c": (195, 150, 90),
    "d": (199, 110, 30),  # a tie at 0.5, which the other attack decides
    "e": (197, 110, 31),
    "f": (199, 110, 30),
    "g": (190, 150, 60),  # none is admitted: those with the method's own best
    "h": (194, 140, 50),
    "i": (194, 140, 50),  # and a tie in everything goes to the first
}


def test_the_rule() -> None:
    found = {name: made(name, *counts) for name, counts in COUNTS.items()}
    chosen = protocol.choose(found, PLAN)
    assert "".join(chosen[m, metric] for m in PLAN.trials for metric in PLAN.by) == "baeehh"
    with pytest.raises(ValueError, match="1 trials have not been run, such as d; the rule compares all of them"):
        protocol.choose({name: result for name, result in found.items() if name != "d"}, PLAN)


SMALL = """
digits:
  settings: [data.holdout=60, data.train_per_class=8, epochs=1, metrics.pgd-l2-0.5.steps=1]
  seeds: [0]
  by: [pgd-l2-0.5]
  within: 1.5
  methods:
    noise: {recipe: digits-noise, key: noise, values: [0.1, 0.2]}
    slope: {recipe: digits-slope, key: slope, values: [0.1, 1]}
"""


def test_trials_are_run_once_and_kept(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    ran, run = [], experiment.run

    def count(recipe, **how):
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(recipe.name)
        return run(recipe, **how)

    monkeypatch.setattr(experiment, "run", count)
    monkeypatch.setattr(protocol, "RUNS", tmp_path / "runs")
    call = ["run", "digits", "--protocol", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "trials")]
    with pytest.raises(KeyboardInterrupt):
        protocol.main(call)
    files = sorted((tmp_path / "trials").glob("*.json"))
    assert len(files) == 2
    before, first = [file.read_bytes() for file in files], ran.copy()
    assert protocol.main(["choose", *call[1:]]) == 2 and "2 trials have not been run" in capsys.readouterr().err
    ran.clear()
    assert protocol.main(call) == 0 and not set(ran) & set(first)
    assert [file.read_bytes() for file in files] == before
    found = [results.load(file) for file in (tmp_path / "trials").glob("*.json")]
    assert len(found) == 4 and all(set(r.metrics) == {"clean", "pgd-l2-0.5"} and r.metrics["clean"].total == 60 for r in found)
    assert all(r.task == "digits+holdout=60" and r.provenance["data"].startswith("digits+holdout=60, 80 train / 60 test") for r in found)
    assert protocol.main(["choose", *call[1:]]) == 0 and "noise, pgd-l2-0.5: digits-noise+noise=0." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "call", "message"),
    [
        (SMALL, ["run", "cifar"], "small.yaml has no 'cifar'; expected one of digits"),
        (SMALL, ["run", "digits", "pag"], "digits has no 'pag' to run; expected some of noise, slope"),
        (SMALL.replace("[0.1, 1]", "[1]"), ["run", "digits"], "different numbers of trials: noise 2, slope 1; expected the same for each"),
        (SMALL.replace("key: noise", "key: nois"), ["run", "digits"], "unknown key 'nois'"),
    ],
)
def test_bad_calls(text: str, call: list[str], message: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "small.yaml").write_text(text)
    assert protocol.main([*call, "--protocol", str(tmp_path / "small.yaml"), "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


MEASURED = """
small:
  settings: [epochs=1]
  seeds: [0]
  by: [pgd-l2-0.5, pgd-l2-1]
  within: 1.5
  measured:
    all: {seeds: [1, 2], first_seed_only: [autoattack-linf-0.1, checklist], recipes: [digits-noise]}
    some: {seeds: [3], metrics: [pgd-l2-1], recipes: [digits-slope+slope=3]}
  methods:
    noise: {recipe: digits-noise, key: noise, values: [0.1]}
"""


def test_what_is_measured_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(MEASURED)
    plan = protocol.read("small", path)
    first, second = (plan.measured["digits-noise"].recipe("digits-noise", seed) for seed in (1, 2))
    assert first.checklist and set(first.metrics) - set(second.metrics) == {"autoattack-linf-0.1"} and not second.checklist
    (metric,) = plan.measured["digits-slope+slope=3"].recipe("digits-slope+slope=3", 3).metrics
    assert metric == "pgd-l2-1"
    for text, message in (
        (MEASURED.replace("[digits-slope+slope=3]", "[digits-noise]"), "digits-noise is to be measured twice"),
        (
            MEASURED.replace("metrics: [pgd-l2-1]", "metrics: [pgd-l2-1], first_seed_only: [pgd-l2-9]"),
            "digits-slope.slope=3 does not measure pgd-l2-9",
        ),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            plan = protocol.read("small", path)
            plan.measured["digits-slope+slope=3"].recipe("digits-slope+slope=3", 3)


@pytest.mark.parametrize("data", yaml.safe_load(protocol.PROTOCOL.read_text()))
def test_all_that_is_to_be_measured_can_be(data: str) -> None:
    plan = protocol.read(data)
    assert plan.measured or len(protocol.load(protocol.TRIALS, plan)) < sum(map(len, plan.trials.values())), "the trials have been run"
    for name, how in plan.measured.items():
        for seed in how.seeds:
            assert how.recipe(name, seed).seed == seed


def test_a_seed_that_is_not_planned_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert protocol.main(["measure", "digits", "digits-noise", "--seed", "9"]) == 2
    assert "seed is 9; expected one of 1, 2, 3, for digits-noise" in capsys.readouterr().err


CHOSEN = {  # by the first attack of the rule, which a recipe's own setting is: method, recipe, key
    "noise": ("digits-noise", "noise"),
    "slope": ("digits-slope", "slope"),
    "slope-log-odds": ("digits-slope-log-odds", "slope"),
    "adversarial-7": ("digits-adversarial-l2", "eps"),
    "pag-oi": ("digits-pag-oi", "weight"),
    "pag-cm": ("digits-pag-cm", "weight"),
    "pag-nn": ("digits-pag-nn", "weight"),
    "pag-sbg": ("digits-pag-sbg", "weight"),
    "slope-noise": ("digits-slope-noise", "slope"),
    "slope-adversarial": ("digits-slope-adversarial", "slope"),
    "pag-nn-noise": ("digits-pag-nn-noise", "weight"),
    "pag-sbg-noise": ("digits-pag-sbg-noise", "weight"),
}


PHOTOGRAPHS = {method: (f"cifar10-laptop-{method}", key) for method, key in (("noise", "noise"), ("slope", "slope"))}
PHOTOGRAPHS |= {method: (f"cifar10-laptop-{method}", "weight") for method in ("pag-oi", "pag-cm", "pag-nn", "pag-sbg")}
PHOTOGRAPHS["adversarial-3"] = ("cifar10-laptop-adversarial", "eps")

TOY = {method: (f"three-modes-scaled-{method}", key) for method, key in (("noise", "noise"), ("slope", "slope"))}


@pytest.mark.parametrize(
    ("sections", "known", "apart"),
    [
        (("digits", "digits-sums"), CHOSEN, {"adversarial-1"}),
        (("cifar10-laptop",), PHOTOGRAPHS, {"adversarial-1"}),
        (("three-modes",), TOY, {"pag-nn"}),
    ],
)
def test_the_recipes_hold_what_the_committed_trials_choose(sections: tuple[str, ...], known: dict, apart: set) -> None:
    held = {}
    for section in sections:
        plan = protocol.read(section)
        chosen = protocol.choose(protocol.load(protocol.TRIALS, plan), plan)
        for method in plan.trials:
            held[method] = protocol.trial(chosen[method, plan.by[0]], plan)
        for name in chosen.values():  # what either attack chooses is measured in the end
            measured = [found for found in plan.measured if _same(protocol.trial(name, plan), found)]
            assert measured, f"{name} is chosen and not measured"
    assert set(held) == {*known, *apart}
    for method, (recipe, key) in known.items():
        assert getattr(Recipe.load(recipe), key) == getattr(held[method], key), method


def _same(trial: Recipe, name: str) -> bool:
    """Whether a recipe trains as the trial does, its held-out part apart."""
    keys = ("method", "target", "weight", "slope", "slope_of", "noise", "eps", "steps", "epochs", "ramp", "target_options")
    return all(getattr(trial, key) == getattr(Recipe.load(name), key) for key in keys)


def test_the_counts_of_several_seeds_are_added(tmp_path: Path) -> None:
    plan = protocol.Plan(("pgd-l2-0.5", "pgd-l2-1"), 1.5, (0, 1), {"one": ["a"], "two": ["b"]})
    for name, seed, counts in (("a", 0, (198, 100, 20)), ("a", 1, (196, 50, 0)), ("b", 0, (199, 90, 10))):
        results.save(protocol.files(tmp_path, name, plan)[seed], replace(made(name, *counts), seed=seed))
    found = protocol.load(tmp_path, plan)
    assert set(found) == {"a"}, "a trial counts when all its seeds have been run"
    assert {metric: (score.correct, score.total) for metric, score in found["a"].metrics.items()} == {
        "clean": (394, 400),
        "pgd-l2-0.5": (150, 400),
        "pgd-l2-1": (20, 400),
    }
    assert found["a"].provenance["train_cpu_seconds"] == 4.0
