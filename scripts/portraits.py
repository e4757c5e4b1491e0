"""Margins, slopes, linear radii, and the terms of the objective, of the networks whose runs are stored: book/results/portraits.yaml, from
their kept weights.

    python scripts/portraits.py RUNS [--out FILE]      RUNS holds <recipe>/seed-<N>/model.safetensors, as `pagkit run` leaves them

A network is measured on its own test examples (see pagkit.evaluation.portrait). One that was trained with one of the four sources of
directions and nothing else is also measured on its training examples: the mean cross-entropy, and the misalignment with those
directions, the sum over the classes of one minus cosine. Networks that the file has already are kept as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
import yaml
from torch import nn
from torch.nn import functional as F

from pagkit import data, evaluation, experiment, models, results
from pagkit.data import Task
from pagkit.data.files import write_atomically
from pagkit.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
PORTRAITS = ROOT / "book" / "results" / "portraits.yaml"
ABOUT = (
    "Made by scripts/portraits.py from the weights of the runs: medians over the test examples that a network reads right. Cross-entropy\n"
    "and misalignment with the directions trained for: means over the training examples.\n"
)
SOURCES = ("one_image", "class_mean", "nearest_neighbor", "score_based")


def portrait(path: Path) -> tuple[str, int, dict[str, float | str]]:
    """Recipe, seed and figures of one network, with the commit that trained it."""
    state, about = models.load_weights(path)
    recipe = Recipe(**yaml.safe_load(about["recipe"]))
    task = data.load(recipe.task, **{"seed": recipe.seed, **recipe.data})
    model = models.build(recipe.model, task, **recipe.model_options)
    model.load_state_dict(state)
    alone = recipe.method == "pag" and recipe.target in SOURCES
    figures = evaluation.portrait(model, task).figures() | (paid(model, task, recipe) if alone else {})
    found = {name: float(f"{value:.4g}") for name, value in figures.items()}
    return recipe.name, recipe.seed, {**found, "commit": json.loads(about["provenance"])["commit"]}


def paid(model: nn.Module, task: Task, recipe: Recipe) -> dict[str, float]:
    """The two terms of the PAG objective on the training split, the second without its weight."""
    target = experiment.target(str(recipe.target), task, progress=False, **recipe.target_options)
    with torch.no_grad():
        cross_entropy = F.cross_entropy(models.logits_of(model.eval(), task.train.x), task.train.y).item()
    cosine = evaluation.alignment(model, task, target, split="train")
    return {"cross_entropy": cross_entropy, "misalignment": len(task.classes) * (1 - cosine)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path, default=PORTRAITS, help="(default book/results/portraits.yaml)")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    paths = sorted(args.runs.glob("*/seed-*/model.safetensors"))
    if not paths:
        print(f"portraits: no <recipe>/seed-<N>/model.safetensors in {args.runs}", file=sys.stderr)
        return 2
    kept = yaml.safe_load(args.out.read_text()) if args.out.is_file() else {}
    stored = {(r.recipe, r.seed) for r in results.load_all(args.out.parent)}
    for path in paths:
        name, seed = path.parent.parent.name, int(path.parent.name.removeprefix("seed-"))
        if (name, seed) in stored and seed not in kept.get(name, {}):
            recipe, seed, figures = portrait(path)
            kept.setdefault(recipe, {})[seed] = figures
    ordered = {name: dict(sorted(kept[name].items())) for name in sorted(kept)}
    shown = yaml.safe_dump(ordered, sort_keys=False, default_flow_style=None, width=200)
    text = "".join(f"# {line}\n" for line in ABOUT.splitlines()) + shown
    write_atomically(args.out, text.encode())
    print(f"{args.out}: {sum(map(len, ordered.values()))} networks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
