"""Draw book/_assets/cifar10-evening.png: what networks of chapter 11's evening see, from their weights in book/results.

    python scripts/photo_pictures.py

For three photographs: the gradient of the log-odds of another class in the photograph, and where a long targeted attack of a large radius
leads. The photographs and classes are the first of their kind in the lab's file; they were fixed before any picture was made.
"""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import yaml
from matplotlib.figure import Figure
from torch import Tensor, nn

from pagkit import attacks, data, lab, losses, models, plots, recipe
from pagkit.data.files import write_atomically

BOOK = Path(__file__).resolve().parents[1] / "book"
PHOTOGRAPHS = BOOK / "labs" / "photographs.safetensors"
NETWORKS = {
    "standard": "cifar10-evening-standard",
    "slope": "cifar10-evening-slope",
    "adversarial": "cifar10-evening-adversarial",
}
PAIRS = (("horse", "frog"), ("cat", "dog"), ("automobile", "ship"))
PICTURE = BOOK / "_assets" / "cifar10-evening.png"
EPS, STEPS = 6.0, 100


def networks(task: data.Task) -> dict[str, nn.Module]:
    """The networks, in eval mode, by the names that the picture gives them."""
    found = {}
    for name, run in NETWORKS.items():
        state, about = models.load_weights(BOOK / "results" / run / "seed-1.safetensors")
        made = recipe.Recipe(**yaml.safe_load(about["recipe"]))
        found[name] = models.build(made.model, task, **made.model_options).eval()
        found[name].load_state_dict(state)
    return found


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
    figure, axes = plt.subplots(2 * len(x), 1 + len(nets), figsize=(1.55 * (1 + len(nets)), 3.2 * len(x)))
    for axis in axes.flat:
        axis.axis("off")
    for row, (name, goal) in enumerate(PAIRS):
        plots.show(axes[2 * row, 0], x[row])
        axes[2 * row, 0].set_title(f"{name} → {goal}", fontsize=10)
    for column, (name, net) in enumerate(nets.items(), 1):
        for row, (gradient, ghost) in enumerate(zip(*seen(net, x, labels, wanted, task.bounds), strict=True)):
            plots.show_signed(axes[2 * row, column], gradient)
            plots.show(axes[2 * row + 1, column], ghost)
        axes[0, column].set_title(name, fontsize=10)
    return figure


def picture(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def main() -> None:
    torch.set_num_threads(1)
    task = lab.photographs(PHOTOGRAPHS).task
    write_atomically(PICTURE, picture(draw(task, networks(task))))
    print(f"{PICTURE.name}: {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
