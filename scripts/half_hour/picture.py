"""The one picture: for some photographs what each network's gradient shows, and where a long targeted attack of a large radius leads."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from safetensors.torch import save
from torch import Tensor

from pagkit import attacks, losses, plots
from pagkit.data.files import write_atomically

from . import plan
from .plan import Job

if TYPE_CHECKING:
    from .jobs import Work

FILE, PANELS = "picture.png", "panels.safetensors"  # what is shown, and what is in it, for one photograph of each class
EPS, INCHES = 6.0, 1.15  # radius of the attack; side of a panel, at 110 dots an inch


def draw(job: Job, work: Work, deadline: float) -> str:
    """The first photographs, one a class, each towards the next class: nothing is chosen by how it looks."""
    x, y = (part[: len(work.task.classes)].to(work.device) for part in (work.photographs.x, work.photographs.y))
    shown, wanted, panels = work.scale.shown, (y + 1) % len(work.task.classes), {"photographs": x, "classes": y}
    names = [name for name in plan.SHOWN if name in work.state.done]
    plots.use_style()
    figure, axes = plt.subplots(2 * shown, 1 + len(names), figsize=(INCHES * (1 + len(names)), 2 * INCHES * shown), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for row, (own, other) in enumerate(zip(y[:shown].cpu().tolist(), wanted[:shown].cpu().tolist(), strict=True)):
        plots.show(axes[2 * row, 0], x[row], bounds=work.task.bounds)
        axes[2 * row + 1, 0].text(0.5, 0.5, f"{work.task.classes[own]}\nto {work.task.classes[other]}", ha="center", va="center")
    threat = attacks.Threat("l2", EPS, work.task.bounds)
    for column, name in enumerate(names, 1):
        model = work.network(name)
        gradients = losses.input_gradients(model, x, wanted[:, None])[0][:, 0]
        moved = attacks.pgd(model, x, y, threat, target=wanted, steps=work.scale.steps, keep="last")
        axes[0, column].set_title(name, fontsize=9)
        panels |= {f"{name} gradient": gradients.detach().half(), f"{name} moved": moved.half()}
        for row in range(shown):
            plots.show(axes[2 * row, column], coloured(gradients[row]))
            plots.show(axes[2 * row + 1, column], moved[row], bounds=work.task.bounds)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    write_atomically(work.out / FILE, buffer.getvalue())
    write_atomically(work.out / PANELS, save({key: value.cpu().contiguous() for key, value in panels.items()}))
    return f"{FILE}: {len(names)} networks, {shown} photographs, targeted L2 {EPS:g}"


def coloured(gradient: Tensor) -> Tensor:
    """A gradient (C, H, W) as an image: grey is zero, and its 99th percentile fills the range."""
    scale = gradient.abs().flatten().quantile(0.99).clamp_min(1e-30)
    return (0.5 + 0.5 * gradient / scale).clamp(0, 1)
