"""Train the networks of the book's labs and store them in book/labs, rounded to float16.

    python scripts/lab_networks.py [NAME ...]

Each file is a safetensors file whose header holds the recipe, the provenance, a note where the recipe does not say all, and what was
measured: clean and attacked counts of the very weights that are stored. The toy's four are those of chapter 9 (its seed, its recipes).
The digits' four are narrow, so that a page can carry them. One of them learnt on digits with fresh Gaussian noise at every step.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pagkit import data, evaluation, lab, models, results, training
from pagkit.lab import stored

FOLDER = Path(__file__).resolve().parents[1] / "book" / "labs"
TOY_SEED = 3  # of chapter 9
WIDTH = 12
NOISE = 0.3  # standard deviation, pixels from 0 to 1
TOY = {
    "toy-standard": "three-modes-standard",
    "toy-pag": "three-modes-pag-nn",
    "toy-scaled-standard": "three-modes-scaled-standard",
    "toy-scaled-pag": "three-modes-scaled-pag-nn",
}
DIGITS = {
    "digits-standard": "digits-standard",
    "digits-noise": "digits-standard",
    "digits-pag": "digits-pag-nn",
    "digits-adversarial": "digits-adversarial-l2",
}
METRICS: dict[str, dict[str, Any]] = {
    "three-modes": {
        "pgd-l2-15": {"target": "next", "step_size": 2, "steps": 10, "random_start": False},
        "exact-l2-15": {},
        "exact-l2-20": {},
    },
    "digits": {"pgd-l2-0.5": {"steps": 40, "likeliest": 4}, "autoattack-l2-0.5": {}, "autoattack-l2-1": {}},
}


class Noise(nn.Module):
    """Adds fresh Gaussian noise while its network is trained, and nothing afterwards."""

    def forward(self, x: Tensor) -> Tensor:
        return x + NOISE * torch.randn_like(x) if self.training else x


def make(name: str) -> None:
    """Train, round, measure and store one network."""
    is_toy = name in TOY
    changes = {} if is_toy else {"model_options": {**training.Recipe.load(DIGITS[name]).model_options, "width": WIDTH}}
    recipe = training.Recipe.load((TOY | DIGITS)[name], seed=TOY_SEED if is_toy else 0, **changes)
    task = data.load(recipe.task, **{"seed": recipe.seed, **recipe.data})
    model = models.build(recipe.model, task, seed=recipe.seed, **recipe.model_options)
    noisy = name == "digits-noise"
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        history = training.fit(nn.Sequential(Noise(), model) if noisy else model, task, recipe, progress=False)
    stored.halved(model)
    counts = {"clean": evaluation.accuracy(model, task.test)}
    for metric, options in METRICS[task.name].items():
        counts[metric] = evaluation.measure(model, task, metric, progress=False, **options)
    spent = {"train_seconds": history.seconds, "train_cpu_seconds": history.cpu_seconds}
    about: dict[str, Any] = {"measured": {key: [score.correct, score.total] for key, score in counts.items()}}
    if noisy:
        about["note"] = f"trained with Gaussian noise of standard deviation {NOISE} on every input"
    path = FOLDER / f"{name}.safetensors"
    stored.save(path, model, recipe, results.provenance(task, device="cpu", **spent, evaluate_seconds=0.0), **about)
    again = lab.load(path, task).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())
    print(f"{name:20s} {path.stat().st_size / 1000:5.1f} kB  " + "  ".join(f"{key} {s.correct}/{s.total}" for key, s in counts.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*TOY, *DIGITS, []], metavar="NAME", help="default: all of them")
    torch.set_num_threads(1)
    for name in parser.parse_args().names or [*TOY, *DIGITS]:
        make(name)


if __name__ == "__main__":
    main()
