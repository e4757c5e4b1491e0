"""Every figure of the book: one look, colours that colour-blind readers can tell apart, white backgrounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor, nn

from . import exact
from .data import Split
from .data.defaults import plain_defaults
from .evaluation import Score
from .models import mode, seeded
from .results import Estimate

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")  # Okabe & Ito, 2008
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def use_style() -> None:
    """The book's matplotlib settings. Call it once, in a notebook's first cell."""
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10.5,
            "axes.grid": True,
            "grid.color": "#e4e4e4",
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=COLORS),
            "legend.frameon": False,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )


def images(
    x: Tensor,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 8,
    size: float = 1.15,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Figure:
    """A grid of images (N, C, H, W), each with its title.

    Raises:
        ValueError: no image, or titles that are not as many; what :func:`show` refuses.
    """
    if len(x) == 0:
        raise ValueError("no image is given; expected at least one")
    if titles and len(titles) != len(x):
        raise ValueError(f"{len(titles)} titles for {len(x)} images; expected one each")
    rows = -(-len(x) // columns)
    height = size * (1.25 if titles else 1.0)
    figure, axes = plt.subplots(rows, min(columns, len(x)), figsize=(size * min(columns, len(x)), height * rows), squeeze=False)
    for i, axis in enumerate(axes.flat):
        axis.axis("off")
        if i < len(x):
            show(axis, x[i], bounds=bounds)
            if titles:
                axis.set_title(titles[i], fontsize=8.5)
    return figure


def show(axis: Axes, image: Tensor, *, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
    """One image (C, H, W): grey for one channel, colour for three.

    Raises:
        ValueError: another shape.
    """
    if image.ndim != 3 or len(image) not in (1, 3):
        raise ValueError(f"the image has shape {tuple(image.shape)}; expected (1, H, W) or (3, H, W)")
    array = image.detach().cpu().permute(1, 2, 0).numpy()
    if array.shape[-1] == 1:
        axis.imshow(array[..., 0], cmap="gray", vmin=bounds[0], vmax=bounds[1])
    else:
        axis.imshow(((array - bounds[0]) / (bounds[1] - bounds[0])).clip(0, 1))
    axis.axis("off")


def show_signed(axis: Axes, image: Tensor, *, limit: float | None = None) -> None:
    """A signed image (C, H, W), a gradient or a perturbation, summed over channels: orange up, purple down, white zero."""
    array = image.detach().cpu().sum(0).numpy()
    limit = limit or float(np.abs(array).max()) or 1.0
    axis.imshow(array, cmap=plt.cm.PuOr_r, vmin=-limit, vmax=limit)
    axis.axis("off")


def robustness(
    eps: Sequence[float],
    scores: Mapping[str, Sequence[Score]],
    *,
    axis: Axes | None = None,
    xlabel: str = "eps",
    chance: float | None = None,
) -> Axes:
    """Accuracy under attack against eps, one line a model, with 95 % Wilson intervals as bands."""
    axis = axis or plt.subplots(figsize=(5.4, 3.4))[1]
    for i, (name, row) in enumerate(scores.items()):
        color = COLORS[i % len(COLORS)]
        axis.plot(eps, [100 * s.rate for s in row], color=color, marker=MARKERS[i % len(MARKERS)], markersize=4, label=name)
        axis.fill_between(eps, [100 * s.low for s in row], [100 * s.high for s in row], color=color, alpha=0.15, linewidth=0)
    if chance is not None:
        axis.axhline(100 * chance, color="#888888", linestyle=":", linewidth=1)
        axis.text(eps[-1], 100 * chance, "chance", color="#666666", fontsize=8, ha="right", va="bottom")
    axis.set(xlabel=xlabel, ylabel="correct under attack (%)", ylim=(-3, 103))
    axis.legend()
    return axis


def bars(names: Sequence[str], scores: Mapping[str, Sequence[Score]], *, axis: Axes | None = None) -> Axes:
    """Accuracies side by side: a place for each name, a bar for each series, 95 % Wilson intervals as whiskers."""
    axis = axis or plt.subplots(figsize=(5.6, 3.2))[1]
    width = 0.75 / len(scores)
    for i, (series, row) in enumerate(scores.items()):
        whiskers = [[100 * (s.rate - s.low) for s in row], [100 * (s.high - s.rate) for s in row]]
        places = np.arange(len(names)) + (i - (len(scores) - 1) / 2) * width
        axis.bar(places, [100 * s.rate for s in row], 0.92 * width, yerr=whiskers, capsize=3, color=COLORS[i % len(COLORS)], label=series)
    axis.set_xticks(range(len(names)), names)
    axis.set(ylabel="correct under attack (%)", ylim=(0, 103))
    axis.grid(axis="x")
    axis.figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=len(scores))
    return axis


def intervals(names: Sequence[str], estimates: Sequence[Estimate], *, axis: Axes | None = None, xlabel: str = "points") -> Axes:
    """A forest plot: a line a name, the first on top, a dot at the mean, a bar for the 95 % interval. Hollow: zero lies within."""
    axis = axis or plt.subplots(figsize=(5.4, 0.6 + 0.28 * len(names)))[1]
    for place, (_, found) in enumerate(zip(names, estimates, strict=True)):
        color = COLORS[0] if found.sign else COLORS[6]
        axis.plot([found.low, found.high], [place, place], color=color, linewidth=1.4)
        axis.plot(found.mean, place, "o", color=color, markersize=5, markerfacecolor=color if found.sign else "white")
    axis.axvline(0, color="#888888", linewidth=1)
    axis.set(xlabel=xlabel, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    axis.grid(axis="y", visible=False)
    return axis


@plain_defaults()
def decision_map(
    model: nn.Module,
    split: Split,
    box: tuple[float, float, float, float],
    *,
    axis: Axes | None = None,
    boundary: bool = True,
    resolution: int = 300,
) -> Axes:
    """Which class the model gives at every point of the plane, the exact boundary (ReLU, one hidden layer) and some data.

    ``box`` is (x1_low, x1_high, x2_low, x2_high). Shading is the probability of class 1.
    """
    axis = axis or plt.subplots(figsize=(4.2, 4.2))[1]
    x1, x2 = torch.linspace(box[0], box[1], resolution), torch.linspace(box[2], box[3], resolution)
    grid = torch.stack(torch.meshgrid(x1, x2, indexing="xy"), -1).reshape(-1, 2)
    with torch.no_grad(), mode(model, training=False), seeded(0):
        share = model(grid).softmax(1)[:, 1].reshape(resolution, resolution).cpu().numpy()
    colors = LinearSegmentedColormap.from_list("two", ["#9ecae1", "#ffffff", "#f6b48f"])
    axis.imshow(share, extent=box, origin="lower", cmap=colors, vmin=0, vmax=1, aspect="auto", interpolation="bilinear")
    if boundary:
        for segment in exact.boundary(model, box).tolist():
            axis.plot([segment[0][0], segment[1][0]], [segment[0][1], segment[1][1]], color="black", linewidth=1.2)
    points(axis, split)
    axis.set(xlim=box[:2], ylim=box[2:], xlabel="$x_1$", ylabel="$x_2$")
    axis.grid(False)
    return axis


def points(axis: Axes, split: Split, *, size: float = 9) -> None:
    """A two-dimensional split as dots: class 0 blue circles, class 1 orange squares."""
    for label in (0, 1):
        x = split.x[split.y == label]
        look: dict[str, Any] = {"color": COLORS[label], "marker": MARKERS[label], "edgecolor": "white", "linewidth": 0.3, "zorder": 3}
        axis.scatter(x[:, 0], x[:, 1], s=size, label=f"class {label}", **look)
