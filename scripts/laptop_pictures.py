"""Draw book/_assets/cifar10-laptop.png: what models trained on photographs see, from folders that `pagkit run` left.

    python scripts/laptop_pictures.py DATA FOLDER ...

DATA is the folder of images that the models were trained on (see `pagkit run --data`), each FOLDER holds the
model.safetensors and the result.json of a run. The first cat,
horse and automobile of the test photographs are shown with, for each model, the gradient of the log-odds of another class, and below it
where a long targeted attack of a large radius leads. Photographs and classes were fixed before any picture was made.
"""

import argparse
import io
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from pagkit import attacks, data, losses, models, plots, recipe, results
from pagkit.data.files import write_atomically

PICTURE = Path(__file__).resolve().parents[1] / "book" / "_assets" / "cifar10-laptop.png"
PAIRS = (("cat", "dog"), ("horse", "frog"), ("automobile", "ship"))
EPS, STEPS = 6.0, 100


def load(name: str, folder: Path, task: data.Task) -> torch.nn.Module:
    made = recipe.Recipe.load(name)
    model = models.build(made.model, task, seed=0, **made.model_options)
    model.load_state_dict(models.load_weights(folder / "model.safetensors")[0])
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder with train/<class>/ and test/<class>/")
    parser.add_argument("models", nargs="+", metavar="FOLDER", type=Path)
    args = parser.parse_args()
    task = data.load(f"folder:{args.data}", seed=0, train_per_class=1000, test_per_class=100, test_skip_per_class=100)
    labels, wanted = (torch.tensor([task.classes.index(name) for name in side]) for side in zip(*PAIRS, strict=True))
    x = torch.stack([task.test.x[(task.test.y == label).nonzero()[0, 0]] for label in labels])
    threat = attacks.Threat("l2", EPS, task.bounds)
    plots.use_style()
    named = [(results.load(folder / "result.json").recipe, folder) for folder in args.models]
    figure, axes = plt.subplots(2 * len(PAIRS), 1 + len(named), figsize=(1.3 * (1 + len(named)), 2.6 * len(PAIRS)))
    for axis in axes.flat:
        axis.axis("off")
    for row, (_, goal) in enumerate(PAIRS):
        plots.show(axes[2 * row, 0], x[row])
        axes[2 * row, 0].set_title(f"towards {goal}", fontsize=9)
    for column, (name, folder) in enumerate(named, 1):
        model = load(name, folder, task)
        gradients = losses.input_gradients(model, x, wanted[:, None])[0][:, 0]
        ghosts = attacks.pgd(model, x, labels, threat, target=wanted, steps=STEPS, random_start=False, keep="last")
        axes[0, column].set_title(name.removeprefix("cifar10-laptop-").replace("+weight=", " "), fontsize=9)
        for row in range(len(PAIRS)):
            plots.show_signed(axes[2 * row, column], gradients[row])
            plots.show(axes[2 * row + 1, column], ghosts[row])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    write_atomically(PICTURE, buffer.getvalue())
    print(f"{PICTURE.name}: {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
