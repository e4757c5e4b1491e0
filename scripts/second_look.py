"""A second look at the claims of radius 1: what attacks made for it take from AutoAttack's survivors. book/results/second-look.yaml.

    python scripts/second_look.py RUNS [--seed N ...] [--out FILE]

RUNS holds <recipe>/seed-<N>/model.safetensors, as `pagkit run` leaves them.

Training that aligns gradients shapes what an attack follows, and shapes it at the data. So beside AutoAttack itself, and its two attacks
by gradients with five random starts, there are three attacks that do not begin at the data, or do not trust the gradient there:

- ``every class``: PGD of 100 steps towards each wrong class, ten random starts each;
- ``averaged``: the same towards each class, once, along the gradient of the mean log-probability over sixteen noisy copies, and then along
  its own from where that has led;
- ``strangers``: from where PGD has led on the other networks of the same seed, which have the same test digits.

Each is run on what those before it have spared, and a digit that any of them has broken counts as broken.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from pagkit import attacks, data, evaluation, models
from pagkit.attacks import Threat
from pagkit.attacks.autoattack import perturb
from pagkit.data import Split
from pagkit.data.files import write_atomically
from pagkit.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
FOUND = ROOT / "book" / "results" / "second-look.yaml"
ABOUT = "Made by scripts/second_look.py: at L2 1, how many digits AutoAttack leaves, and how many of those each further attack breaks.\n"
THREAT = Threat("l2", 1.0)
CLAIMED = ("digits-pag-sbg+weight=4", "digits-noise+noise=0.4", "digits-adversarial-l2+eps=1")  # who is compared at radius 1
STEPS, STARTS, COPIES, SIGMA = 100, 10, 16, 0.1


class Averaged(nn.Module):
    """The mean log-probabilities of a classifier over noisy copies of x, the same noise at every call."""

    def __init__(self, model: nn.Module, shape: torch.Size) -> None:
        super().__init__()
        self.model = model
        self.noise = SIGMA * torch.randn(COPIES, *shape, generator=torch.Generator().manual_seed(0))

    def forward(self, x: Tensor) -> Tensor:
        copies = (x + self.noise[:, None]).flatten(0, 1)
        return self.model(copies).log_softmax(1).view(COPIES, len(x), -1).mean(0)


def read(path: Path) -> tuple[Recipe, nn.Module, Split, str]:
    """Recipe, network, its own test digits and the commit that trained it."""
    state, about = models.load_weights(path)
    recipe = Recipe(**yaml.safe_load(about["recipe"]))
    task = data.load(recipe.task, **{"seed": recipe.seed, **recipe.data})
    model = models.build(recipe.model, task, **recipe.model_options)
    model.load_state_dict(state)
    return recipe, model.eval(), task.test, json.loads(about["provenance"])["commit"]


def wrong_classes(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Each class but the label, in turn, for all rows at once: y + 1, y + 2, ..."""
    for step in range(1, 10):
        yield (y + step) % 10


def every_class(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Tensor]:
    for goal in wrong_classes(x, y):
        yield attacks.pgd(model, x, y, THREAT, target=goal, steps=STEPS, restarts=STARTS, random_start=True)


def averaged(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Tensor]:
    smooth = Averaged(model, x.shape[1:])
    for goal in wrong_classes(x, y):
        there = attacks.pgd(smooth, x, y, THREAT, target=goal, steps=STEPS, keep="last")
        yield attacks.pgd(model, x, y, THREAT, target=goal, steps=STEPS, offsets=there - x)


def strangers(others: list[nn.Module]) -> Callable[[nn.Module, Tensor, Tensor], Iterator[Tensor]]:
    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        for other in others:
            for goal in (None, *wrong_classes(x, y)):
                there = attacks.pgd(other, x, y, THREAT, target=goal, steps=STEPS, keep="last")
                yield attacks.pgd(model, x, y, THREAT, target=goal, steps=STEPS, offsets=there - x)

    return attack


def look(model: nn.Module, test: Split, others: list[nn.Module]) -> dict[str, int]:
    """How many digits AutoAttack leaves, and how many of those each further attack breaks."""
    held = evaluation.correct(model, Split(perturb(model, test, THREAT, progress=False), test.y))
    found = {"digits": len(test), "AutoAttack leaves": int(held.sum())}

    def five_starts(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        yield perturb(model, Split(x, y), THREAT, attacks=["apgd-ce", "apgd-t"], restarts=5, progress=False)

    tried = {"APGD, five starts": five_starts, "every class": every_class, "averaged": averaged, "strangers": strangers(others)}
    for name, attack in tried.items():
        before = int(held.sum())
        rows = held.nonzero().flatten()
        for x_adv in attack(model, test.x[rows], test.y[rows]) if before else ():
            held[rows] &= evaluation.correct(model, Split(x_adv, test.y[rows]))
        found[name] = before - int(held.sum())
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seed", type=int, action="append", help="(default all)")
    parser.add_argument("--out", type=Path, default=FOUND, help="(default book/results/second-look.yaml)")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = [{path.parent.name for path in args.runs.glob(f"{name}/seed-*/model.safetensors")} for name in CLAIMED]
    seeds = {int(name.removeprefix("seed-")) for name in set.intersection(*found)}
    if args.seed:
        seeds &= set(args.seed)
    if not seeds:
        print(f"second_look: {args.runs} has no seed that was asked for with the weights of {', '.join(CLAIMED)}", file=sys.stderr)
        return 2
    kept = (yaml.safe_load(args.out.read_text()) if args.out.is_file() else None) or {}
    for seed in sorted(seeds):
        nets = {name: read(args.runs / name / f"seed-{seed}" / "model.safetensors") for name in CLAIMED}
        for name, (_, model, test, commit) in nets.items():
            if seed in kept.get(name, {}):
                continue
            others = [other for stranger, (_, other, *_) in nets.items() if stranger != name]
            kept.setdefault(name, {})[seed] = {**look(model, test, others), "commit": commit}
            shown = yaml.safe_dump(kept, sort_keys=False, default_flow_style=None, width=200)
            write_atomically(args.out, f"# {ABOUT}{shown}".encode())
            print(name, seed, kept[name][seed], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
