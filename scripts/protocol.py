"""Choose the settings of every method by one rule, on held-out training examples: the protocol of book/results/protocol.yaml.

    python scripts/protocol.py run digits [METHOD ...]     the trials that are not there yet, one result file for each seed
    python scripts/protocol.py choose digits               what the rule chooses
    python scripts/protocol.py measure digits [RECIPE ...] the runs of the frozen recipes that are not there yet

What was stopped leaves no result behind and is run again; the others are skipped. Each run works on one CPU thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from pagkit import experiment, results
from pagkit.evaluation import Score
from pagkit.recipe import Recipe
from pagkit.results import Result

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL, TRIALS = ROOT / "book" / "results" / "protocol.yaml", ROOT / "book" / "trials"
RESULTS, RUNS = ROOT / "book" / "results", ROOT / "runs"


@dataclass(frozen=True)
class Measured:
    """How a recipe is measured in the end: with each of the seeds, by these of its metrics (None: all), and by some on the first only."""

    seeds: tuple[int, ...]
    metrics: tuple[str, ...] | None = None
    first_seed_only: tuple[str, ...] = ()

    def recipe(self, name: str, seed: int, **changes: Any) -> Recipe:
        left = () if seed == self.seeds[0] else self.first_seed_only
        recipe = Recipe.load(name, seed=seed, **changes)
        metrics = {metric: recipe.metrics.get(metric, {}) for metric in self.metrics or recipe.metrics}
        if unknown := sorted({*self.first_seed_only} - {*metrics, "checklist"}):
            raise ValueError(f"{name} does not measure {unknown[0]}; expected some of {', '.join(metrics)}")
        kept = {metric: how for metric, how in metrics.items() if metric not in left}
        checklist = {} if self.metrics is not None or "checklist" in left else recipe.checklist
        return Recipe.load(name, seed=seed, metrics=kept, checklist=checklist, **changes)


@dataclass(frozen=True)
class Plan:
    """One section of the protocol: its rule, the recipes, settings in their names, that are the trials of each method, and those
    that are measured in the end."""

    by: tuple[str, ...]
    within: float
    seeds: tuple[int, ...]
    trials: dict[str, list[str]]
    measured: dict[str, Measured] = field(default_factory=dict)


def read(data: str, path: Path = PROTOCOL) -> Plan:
    """The plan of one section.

    Raises:
        ValueError: a section that the protocol does not have, methods with different numbers of trials.
    """
    protocol = yaml.safe_load(path.read_text())
    if data not in protocol:
        raise ValueError(f"{path.name} has no {data!r}; expected one of {', '.join(protocol)}")
    said = protocol[data]
    trials = {
        name: ["+".join([how["recipe"], f"{how['key']}={value}", *said["settings"]]) for value in how["values"]]
        for name, how in said["methods"].items()
    }
    if len({len(names) for names in trials.values()}) != 1:
        counts = ", ".join(f"{name} {len(names)}" for name, names in trials.items())
        raise ValueError(f"methods of {data} have different numbers of trials: {counts}; expected the same for each")
    measured: dict[str, Measured] = {}
    for group in said.get("measured", {}).values():
        how = Measured(**{key: tuple(values) for key, values in group.items() if key != "recipes"})
        if twice := [name for name in group["recipes"] if name in measured]:
            raise ValueError(f"{twice[0]} is to be measured twice; expected each recipe in one group")
        measured |= dict.fromkeys(group["recipes"], how)
    return Plan(tuple(said["by"]), said["within"], tuple(said["seeds"]), trials, measured)


def trial(name: str, plan: Plan, seed: int | None = None, **changes: Any) -> Recipe:
    """The recipe of a trial with one seed of the plan, by default the first. It is measured by what the rule asks for, as the recipe
    says, and by nothing else."""
    seed = plan.seeds[0] if seed is None else seed
    recipe = Recipe.load(name, seed=seed)
    metrics = {metric: recipe.metrics[metric] for metric in plan.by}
    return Recipe.load(name, seed=seed, metrics=metrics, alignment={}, checklist={}, **changes)


def files(folder: Path, name: str, plan: Plan) -> dict[int, Path]:
    """Where the results of a trial are stored, by seed: one file of its name, or a folder where there are several seeds."""
    return {seed: folder / (f"{name}/seed-{seed}.json" if len(plan.seeds) > 1 else f"{name}.json") for seed in plan.seeds}


def admitted(found: dict[str, Result], plan: Plan, method: str) -> list[str]:
    """The trials of a method that its choice is made of."""

    def clean(name: str) -> float:
        return found[name].metrics["clean"].rate

    names = plan.trials[method]
    good = [name for name in names if clean(name) >= max(map(clean, found)) - plan.within / 100 - 1e-9]
    return good or [name for name in names if clean(name) == max(map(clean, names))]


def choose(found: dict[str, Result], plan: Plan) -> dict[tuple[str, str], str]:
    """What the rule chooses: (method, attack) to the name of a trial.

    Raises:
        ValueError: a trial is missing.
    """
    if missing := [name for names in plan.trials.values() for name in names if name not in found]:
        raise ValueError(f"{len(missing)} trials have not been run, such as {missing[0]}; the rule compares all of them")

    def order(metric: str, name: str) -> list[int]:
        return [found[name].metrics[key].correct for key in (metric, *(other for other in plan.by if other != metric), "clean")]

    return {(m, metric): max(admitted(found, plan, m), key=lambda name: order(metric, name)) for m in plan.trials for metric in plan.by}


def load(folder: Path, plan: Plan) -> dict[str, Result]:
    """The trials that have been run, with all seeds; the counts and the seconds of several seeds are added up."""
    paths = {name: files(folder, name, plan).values() for names in plan.trials.values() for name in names}
    return {name: _sum([results.load(path) for path in of]) for name, of in paths.items() if all(path.is_file() for path in of)}


def _sum(of: list[Result]) -> Result:
    scores = {metric: [result.metrics[metric] for result in of] for metric in of[0].metrics}
    metrics = {metric: Score(sum(s.correct for s in found), sum(s.total for s in found)) for metric, found in scores.items()}
    spent = round(sum(result.provenance["train_cpu_seconds"] for result in of), 2)
    return replace(of[0], metrics=metrics, provenance=of[0].provenance | {"train_cpu_seconds": spent})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "choose", "measure"))
    parser.add_argument("data", help="a section of the protocol, such as digits")
    parser.add_argument("only", nargs="*", help="these methods or, for measure, these recipes only, in this order")
    parser.add_argument("--seed", type=int, help="for measure: this seed only")
    parser.add_argument("--out", type=Path, help="the folder of the trials (default book/trials) or results (default book/results)")
    parser.add_argument("--task", help="other data than the recipes', such as a folder's copy of CIFAR-10: folder:PATH")
    parser.add_argument("--protocol", type=Path, default=PROTOCOL, help="(default book/results/protocol.yaml)")
    args = parser.parse_args(arguments)
    try:
        plan = read(args.data, args.protocol)
        known = plan.measured if args.what == "measure" else plan.trials
        if unknown := [name for name in args.only if name not in known]:
            raise ValueError(f"{args.data} has no {unknown[0]!r} to {args.what}; expected some of {', '.join(known)}")
        changes = {"task": args.task} if args.task else {}
        if args.what == "measure":
            return _measure(plan, args.only or list(known), args.seed, args.out or RESULTS, changes)
        if args.what == "choose":
            return _choose(plan, args.out or TRIALS)
        return _run(plan, args.only or list(known), args.out or TRIALS, changes)
    except ValueError as error:
        print(f"protocol: {error}", file=sys.stderr)
        return 2


def _run(plan: Plan, methods: list[str], out: Path, changes: dict[str, Any]) -> int:
    torch.set_num_threads(1)
    names = [name for method in methods for name in plan.trials[method]]
    pairs = [(name, seed, path) for name in names for seed, path in files(out, name, plan).items()]
    work = [(path, trial(name, plan, seed, **changes)) for name, seed, path in pairs]  # a slip in any is found before the first is run
    for i, (path, recipe) in enumerate(work):
        started = time.perf_counter()
        if path.is_file():
            continue
        result = experiment.run(recipe, out=RUNS / "trials" / path.relative_to(out).with_suffix(""), device="cpu", progress=False)
        results.save(path, result)
        figures = ", ".join(f"{metric} {score.correct}/{score.total}" for metric, score in result.metrics.items())
        print(f"{i + 1}/{len(work)} {recipe.name} seed {recipe.seed}: {figures}, {time.perf_counter() - started:.0f} s", flush=True)
    return 0


def _measure(plan: Plan, names: list[str], only: int | None, out: Path, changes: dict[str, Any]) -> int:
    torch.set_num_threads(1)
    seeds = {name: [seed for seed in plan.measured[name].seeds if only in (None, seed)] for name in names}
    if nothing := [name for name, found in seeds.items() if not found]:
        raise ValueError(f"seed is {only}; expected one of {', '.join(map(str, plan.measured[nothing[0]].seeds))}, for {nothing[0]}")
    pairs = [(name, seed) for name in names for seed in seeds[name]]
    work = [(name, seed, plan.measured[name].recipe(name, seed, **changes)) for name, seed in pairs]  # a slip in any is found first
    for name, seed, recipe in work:
        path, started = out / name / f"seed-{seed}.json", time.perf_counter()
        if path.is_file():
            continue
        result = experiment.run(recipe, out=RUNS / name / f"seed-{seed}", device="cpu", progress=False)
        results.save(path, result)
        figures = ", ".join(f"{metric} {score.correct}/{score.total}" for metric, score in result.metrics.items())
        print(f"{name} seed {seed}: {figures}, {time.perf_counter() - started:.0f} s", flush=True)
    return 0


def _choose(plan: Plan, out: Path) -> int:
    found = load(out, plan)
    for method, names in plan.trials.items():
        print(method)
        for name in filter(found.get, names):
            figures = ", ".join(f"{metric} {score.correct}/{score.total}" for metric, score in found[name].metrics.items())
            print(f"  {name}: {figures}, {found[name].provenance['train_cpu_seconds']} CPU s")
    for (method, metric), name in choose(found, plan).items():
        print(f"{method}, {metric}: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
