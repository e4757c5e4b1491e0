"""Store the networks and the photographs of chapter 11's lab in book/labs.

    for RECIPE in cifar10-laptop-standard ...; do pagkit train $RECIPE --seed 1 --data FOLDER --run RUNS/$RECIPE/seed-1; done
    python scripts/lab_photographs.py --data FOLDER --runs RUNS

FOLDER holds CIFAR-10 as train/<class>/* and test/<class>/*. The networks are those of the chapter's table, its rows standard, slope, SBG*
and adversarial. They are stored in int8 with a scale an output channel, and measured as they are stored. Other networks of the same input
take their place when NETS names their recipes and RUNS holds them.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from pagkit import attacks, data, evaluation, lab, models, training
from pagkit.attacks import Threat
from pagkit.lab import stored

FOLDER = Path(__file__).resolve().parents[1] / "book" / "labs"
NETS = {
    "standard": "cifar10-laptop-standard",
    "slope": "cifar10-laptop-slope",
    "pag": "cifar10-laptop-pag-sbg+weight=0.3",
    "adversarial": "cifar10-laptop-adversarial",
}
SEED = "seed-1"
METRIC, OPTIONS, MEASURED = "pgd-l2-0.5", {"steps": 20, "likeliest": 2}, 200
RULE = "of each class the first test photograph, in the order of the files, that every network reads right; then the second one of {}"
TWICE = ("cat", "horse")
ATTACK: dict[str, Any] = {"class": "horse", "target": "frog", "norm": "l2", "eps": 5.0, "steps": 30}


def network(name: str, runs: Path, task: data.Task) -> nn.Module:
    """Read what `pagkit train` left, round it, measure it and store it; what was stored."""
    state, about = models.load_weights(runs / NETS[name] / SEED / "model.safetensors")
    recipe = training.Recipe(**yaml.safe_load(about["recipe"]))
    test = data.load(recipe.task, **recipe.data)
    recipe = replace(recipe, task=task.name)
    model = models.build(recipe.model, test, **recipe.model_options)
    model.load_state_dict(state)
    model = lab.rounded(model)
    counts = {"clean": evaluation.accuracy(model, test.test)}
    order = torch.randperm(len(test.test), generator=torch.Generator().manual_seed(0))[:MEASURED]  # the test split is sorted by class
    few = replace(test, test=data.Split(test.test.x[order], test.test.y[order]))
    counts[METRIC] = evaluation.measure(model, few, METRIC, progress=False, **OPTIONS)
    told: dict[str, Any] = {"measured": {key: [score.correct, score.total] for key, score in counts.items()}}
    told["note"] = f"int8; clean on the recipe's {len(test.test)} test photographs, {METRIC} on {MEASURED} of them, {OPTIONS}"
    path = FOLDER / f"photo-{name}.safetensors"
    stored.save(path, model, recipe, json.loads(about["provenance"]), weights="int8", **told)
    print(
        f"{path.name:28s} {path.stat().st_size / 1000:5.0f} kB  " + "  ".join(f"{key} {s.correct}/{s.total}" for key, s in counts.items())
    )
    return lab.load(path, task)


def chosen(nets: dict[str, nn.Module], task: data.Task) -> list[int]:
    """Rows of the test split, by RULE."""
    right = torch.ones(len(task.test), dtype=torch.bool)
    with torch.no_grad():
        for net in nets.values():
            right &= torch.cat([net(x).argmax(1) for x in task.test.x.split(500)]) == task.test.y
    rows = [(right & (task.test.y == c)).nonzero().flatten().tolist() for c in range(len(task.classes))]
    second = [rows[task.classes.index(name)][1] for name in TWICE]
    return sorted([row[0] for row in rows] + second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="train/<class>/* and test/<class>/*")
    parser.add_argument("--runs", type=Path, required=True, help="a folder a recipe, as `pagkit train` leaves it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    whole = data.load(f"folder:{args.data}", train_per_class=1)
    nets = {name: network(name, args.runs, whole) for name in NETS}
    rows = chosen(nets, whole)
    photographs = data.Split(whole.test.x[rows], whole.test.y[rows])
    task = replace(whole, train=photographs, test=photographs)
    start = [task.classes[c] for c in photographs.y.tolist()].index(ATTACK["class"])
    goal = torch.tensor([task.classes.index(ATTACK["target"])])
    x, y = photographs.x[start : start + 1], photographs.y[start : start + 1]
    threat = Threat(ATTACK["norm"], ATTACK["eps"], task.bounds)
    how: dict[str, Any] = {"target": goal, "steps": ATTACK["steps"], "random_start": False, "keep": "last"}
    frames = {name: attacks.pgd(net, x, y, threat, **how)[0] for name, net in nets.items()}
    first = [(whole.test.y == c).nonzero()[0].item() for c in range(len(task.classes))]
    files = [f"test/{task.classes[c]}/{row - first[c]:04d}" for row, c in zip(rows, photographs.y.tolist(), strict=True)]
    about = {"files": files, "rule": RULE.format(" and ".join(TWICE)), "source": "CIFAR-10 (Krizhevsky, 2009), saved as JPEG of quality 75"}
    attack = {"start": start, **{key: ATTACK[key] for key in ("target", "norm", "eps", "steps")}}
    stored.save_photographs(FOLDER / "photographs.safetensors", stored.Photographs(task, frames, attack, about))
    print(*files)


if __name__ == "__main__":
    main()
