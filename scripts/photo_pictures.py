"""Draw what networks that were trained on photographs see: the two pictures of chapter 11, one of which opens chapter 5.

    python scripts/photo_pictures.py                    book/_assets/cifar10-evening.png, from the weights in book/results
    python scripts/photo_pictures.py DATA FOLDER ...    book/_assets/cifar10-laptop.png, from folders that `pagkit run` left

For three photographs: the gradient of the log-odds of another class in the photograph, and where a long targeted attack of a large radius
leads. The photographs are the first of their class, in the lab's file or, of DATA, the folder of images that the networks were trained on,
among the test photographs that were measured.
"""

import argparse
import io
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import yaml
from matplotlib.figure import Figure
from torch import Tensor, nn

from pagkit import attacks, data, lab, losses, models, plots, recipe, results
from pagkit.data.files import write_atomically

BOOK = Path(__file__).resolve().parents[1] / "book"
PHOTOGRAPHS = BOOK / "labs" / "photographs.safetensors"
NETWORKS = {
    "standard": "cifar10-evening-standard",
    "neighbours": "cifar10-evening-pag-nn",
    "scores": "cifar10-evening-pag-sbg",
    "slope": "cifar10-evening-slope",
    "adversarial": "cifar10-evening-adversarial",
}
PAIRS = (("horse", "frog"), ("cat", "dog"), ("automobile", "ship"))
PICTURES = BOOK / "_assets"
EVENING, LAPTOP = PICTURES / "cifar10-evening.png", PICTURES / "cifar10-laptop.png"
EPS, STEPS = 6.0, 100


def load(path: Path, task: data.Task) -> nn.Module:
    """The network of a run's weights, in eval mode."""
    state, about = models.load_weights(path)
    made = recipe.Recipe(**yaml.safe_load(about["recipe"]))
    model = models.build(made.model, task, **made.model_options).eval()
    model.load_state_dict(state)
    return model


def networks(task: data.Task) -> dict[str, nn.Module]:
    """The evening's, by the names that the picture gives them."""
    return {name: load(BOOK / "results" / run / "seed-1.safetensors", task) for name, run in NETWORKS.items()}


def rows(task: data.Task) -> tuple[Tensor, Tensor, Tensor]:
    """Photographs, their labels and the classes to go towards."""
    labels, wanted = (torch.tensor([task.classes.index(name) for name in side]) for side in zip(*PAIRS, strict=True))
    return torch.stack([task.test.x[(task.test.y == label).nonzero()[0, 0]] for label in labels]), labels, wanted


def seen(net: nn.Module, x: Tensor, labels: Tensor, wanted: Tensor, bounds: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Gradients of the log-odds of the wanted classes, and the images where the attack ends; both like ``x``."""
    gradients = losses.input_gradients(net, x, wanted[:, None])[0][:, 0]
    threat = attacks.Threat("l2", EPS, bounds)
    return gradients, attacks.pgd(net, x, labels, threat, target=wanted, steps=STEPS, random_start=False, keep="last")


def draw(task: data.Task, nets: dict[str, nn.Module]) -> Figure:
    x, labels, wanted = rows(task)
    plots.use_style()
    width = max(len(nets), len(x))
    figure, axes = plt.subplots(1 + 2 * len(x), width, figsize=(1.6 * width, 1.68 * (1 + 2 * len(x))))
    for axis in axes.flat:
        axis.axis("off")
    for row, (name, goal) in enumerate(PAIRS):
        plots.show(axes[0, row], x[row])
        axes[0, row].set_title(name, fontsize=10)
        for axis, told in zip(axes[1 + 2 * row :, 0], (f"towards {goal}", "reached"), strict=False):
            axis.text(-0.04, 0.5, told, rotation=90, ha="right", va="center", transform=axis.transAxes, fontsize=10)
    for column, (name, net) in enumerate(nets.items()):
        for row, (gradient, ghost) in enumerate(zip(*seen(net, x, labels, wanted, task.bounds), strict=True)):
            plots.show_signed(axes[1 + 2 * row, column], gradient)
            plots.show(axes[2 + 2 * row, column], ghost)
        axes[1, column].set_title(name, fontsize=10)
    return figure


def short(name: str) -> str:
    return name.removeprefix("cifar10-laptop-").replace("+weight=", " ")


def picture(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", help="folder with train/<class>/ and test/<class>/")
    parser.add_argument("folders", nargs="*", metavar="FOLDER", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.data:
        subset = {**recipe.Recipe.load("cifar10-laptop-standard").data, "train_per_class": 1}
        path, task = LAPTOP, data.load(f"folder:{args.data}", **subset)
        named = {results.load(folder / "result.json").recipe: folder for folder in args.folders}
        nets = {short(name): load(folder / "model.safetensors", task) for name, folder in named.items()}
    else:
        path, task = EVENING, lab.photographs(PHOTOGRAPHS).task
        nets = networks(task)
    write_atomically(path, picture(draw(task, nets)))
    print(f"{path.name}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
