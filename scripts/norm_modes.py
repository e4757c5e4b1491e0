"""What batch normalisation does to a network's alignment, in training mode and in evaluation mode: book/results/modes.yaml.

    python scripts/norm_modes.py RUN --data FOLDER [--out FILE]

RUN is what `pagkit train` left of a recipe with nearest neighbours, FOLDER the photographs as train/<class>/* and test/<class>/*. All test
photographs, and as many training ones, each in an order that seed 0 draws, go through the network in batches of the recipe's size, and
seed 0 draws a class for each, as a training with one class a step does. `evaluation` and `training`: the mean cosine of the gradient with
the direction to the nearest neighbour, in that mode. `between`: the mean cosine of the two gradients of one photograph.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pagkit import data, models, results, targets
from pagkit.data import Task
from pagkit.data.files import write_atomically
from pagkit.losses import cosine, input_gradients
from pagkit.recipe import Recipe

OUT = Path(__file__).resolve().parents[1] / "book" / "results" / "modes.yaml"
ABOUT = "# Made by scripts/norm_modes.py: mean cosines with nearest neighbours' directions, in evaluation and in training mode.\n"


def cosines(net: nn.Module, task: Task, rows: torch.Tensor, batch: int, *, of: str) -> dict[str, float]:
    """On test photographs (``of="test"``) or training photographs, at ``rows`` and in their order; what the net remembers stays."""
    nearest, split = targets.nearest_neighbor(task), getattr(task, of)
    draw = torch.Generator().manual_seed(0)
    found: dict[str, list[torch.Tensor]] = {"evaluation": [], "training": [], "between": []}
    for layer in net.modules():
        if isinstance(layer, _BatchNorm):
            layer.momentum = 0.0
    for part in rows.split(batch):
        x, classes = split.x[part], targets.sample_classes(len(part), len(task.classes), 1, draw)
        directions = nearest(part if of == "train" else torch.full_like(part, -1), x, classes)
        both = {}
        for mode in ("evaluation", "training"):
            with models.mode(net, training=mode == "training"):
                both[mode] = input_gradients(net, x, classes)[0].detach()
            found[mode].append(cosine(both[mode], directions).flatten())
        found["between"].append(cosine(*both.values()).flatten())
    return {name: round(torch.cat(values).mean().item(), 4) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="train/<class>/* and test/<class>/*")
    parser.add_argument("--out", type=Path, default=OUT, help="(default book/results/modes.yaml)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe.load(args.run / "recipe.yaml")
    task = data.load(f"folder:{args.data}", **recipe.data)
    net = models.build(recipe.model, task, **recipe.model_options)
    net.load_state_dict(models.load_weights(args.run / "model.safetensors")[0])
    draw = torch.Generator().manual_seed(0)
    drawn = {of: torch.randperm(len(getattr(task, of)), generator=draw)[: len(task.test)] for of in ("test", "train")}
    made = results.provenance(task, device="cpu", train_seconds=0, train_cpu_seconds=0, evaluate_seconds=0)
    kept = yaml.safe_load(args.out.read_text()) if args.out.is_file() else {}
    kept[recipe.name] = {key: made[key] for key in ("data", "data_digest", "commit")} | {
        "seed": recipe.seed,
        "batch": recipe.batch_size,
        **{of: cosines(net, task, rows, recipe.batch_size, of=of) for of, rows in drawn.items()},
    }
    text = ABOUT + yaml.safe_dump(kept, sort_keys=False)
    write_atomically(args.out, text.encode())
    print(text)


if __name__ == "__main__":
    main()
