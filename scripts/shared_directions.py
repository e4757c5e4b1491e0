"""What directions share, on photographs that the book does not carry: book/results/directions.yaml.

    python scripts/shared_directions.py RECIPE --data FOLDER [--out FILE]

FOLDER holds the photographs as train/<class>/* and test/<class>/*. Directions are taken at EXAMPLES training examples of the recipe's
data, drawn with seed 0. `between classes`: the mean cosine between an example's directions to two classes, for three heuristics and random
images. `with the neighbour's`: the mean cosine of each control's direction with the nearest neighbour's, same example and class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml

from pagkit import data, results, targets
from pagkit.data import Task
from pagkit.data.files import write_atomically
from pagkit.losses import cosine
from pagkit.recipe import Recipe

OUT = Path(__file__).resolve().parents[1] / "book" / "results" / "directions.yaml"
EXAMPLES, BATCH = 1000, 100
ABOUT = (
    "Made by scripts/shared_directions.py: mean cosines of directions, between two classes of one example, and between each control's\n"
    "direction and the nearest neighbour's, same example and class.\n"
)
CONTROLS = ("mean_image", "wrong_class", "random_image", "other_example", "smooth_field")


def shared(task: Task, examples: int = EXAMPLES) -> dict[str, dict[str, float]]:
    """Both tables, at ``examples`` training examples of ``task`` that seed 0 draws."""
    nearest, count = targets.nearest_neighbor(task), len(task.classes)
    controls = {change: targets.control(task, nearest, change=change) for change in CONTROLS}
    sources = {"one_image": targets.one_image(task), "class_mean": targets.class_mean(task), "nearest_neighbor": nearest}
    sources["random_image"] = controls["random_image"]
    drawn = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(0))[:examples]
    pairs, same = torch.triu_indices(count, count, 1), []
    between: dict[str, list[torch.Tensor]] = {name: [] for name in sources}
    for rows in drawn.split(BATCH):
        asked = rows, task.train.x[rows], torch.arange(count).expand(len(rows), count)
        for name, source in sources.items():
            found = source(*asked)
            between[name].append(cosine(found[:, pairs[0]], found[:, pairs[1]]).flatten())
        own = nearest(*asked)
        same.append(torch.stack([cosine(control(*asked), own).flatten() for control in controls.values()]))
    apart = torch.cat(same, dim=1).mean(1).tolist()
    return {
        "between classes": {name: round(torch.cat(found).mean().item(), 4) for name, found in between.items()},
        "with the neighbour's": dict(zip(CONTROLS, (round(value, 4) for value in apart), strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data", type=Path, required=True, help="train/<class>/* and test/<class>/*")
    parser.add_argument("--out", type=Path, default=OUT, help="(default book/results/directions.yaml)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = data.load(f"folder:{args.data}", **Recipe.load(args.recipe).data)
    kept = yaml.safe_load(args.out.read_text()) if args.out.is_file() else {}
    made = results.provenance(task, device="cpu", train_seconds=0, train_cpu_seconds=0, evaluate_seconds=0)
    about = {key: made[key] for key in ("data", "data_digest", "commit")}
    kept[args.recipe] = {**about, "examples": EXAMPLES, **shared(task)}
    text = "".join(f"# {line}\n" for line in ABOUT.splitlines()) + yaml.safe_dump(kept, sort_keys=False)
    write_atomically(args.out, text.encode())
    print(text)


if __name__ == "__main__":
    main()
