"""What is not a training step: PGD against other packages, directions against bare products, scores against U-Net passes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import torch
from torch import Tensor

from pagkit import models, targets
from pagkit.attacks import Threat, pgd
from pagkit.diffusion import DDPM

from ..helpers import make_task
from .compare import Benchmark, Side

EPS, SIZE, LEVEL = 0.5, 0.1, 150
PEERS = {"torchattacks": "torchattacks", "foolbox": "foolbox", "art": "ART"}


def absent() -> list[str]:
    """The packages that PGD would be compared with, if they were installed."""
    return [name for package, name in PEERS.items() if find_spec(package) is None]


def attacks(*, rows: int, side: int, width: int, steps: int) -> Iterator[Benchmark]:
    """The same steps from the image itself, whose last point counts; then what our default, the worst of all points, costs."""
    x = 0.1 + 0.8 * torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(0))
    y = torch.arange(rows) % 10
    net = models.build("cnn", make_task(x, y, 10, (0.0, 1.0)), seed=0, width=width).eval()
    how = {"steps": steps, "step_size": SIZE}

    def ours() -> list[Tensor]:
        return [pgd(net, x, y, Threat("l2", EPS), **how, keep="last") - x]

    def torchattacks() -> list[Tensor]:
        import torchattacks

        return [torchattacks.PGDL2(net, eps=EPS, alpha=SIZE, steps=steps, random_start=False)(x, y) - x]

    def foolbox() -> list[Tensor]:
        import foolbox

        attack = foolbox.attacks.L2PGD(abs_stepsize=SIZE, steps=steps, random_start=False)
        wrapped = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
        return [attack.run(wrapped, x, foolbox.criteria.Misclassification(y), epsilon=EPS) - x]

    def art() -> list[Tensor]:
        from art.attacks.evasion import ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        wrapped = PyTorchClassifier(net, torch.nn.CrossEntropyLoss(), x.shape[1:], 10, clip_values=(0.0, 1.0), device_type="cpu")
        how = {"norm": 2, "eps": EPS, "eps_step": SIZE, "max_iter": steps, "batch_size": rows, "verbose": False}
        return [torch.from_numpy(ProjectedGradientDescentPyTorch(wrapped, **how).generate(x.numpy(), y.numpy())) - x]

    known: dict[str, Side] = {"torchattacks": torchattacks, "foolbox": foolbox, "ART": art}
    for name in PEERS.values():
        if name not in absent():
            yield Benchmark(f"PGD, {steps} steps", name, ours, known[name], within=1e-3, items=rows)


def directions(*, pool: int, rows: int, side: int) -> Iterator[Benchmark]:
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.rand(pool, 3, side, side, generator=draw), torch.arange(pool) % 10
    x = torch.rand(rows, 3, side, side, generator=draw)
    index, classes = torch.full((rows,), -1), torch.arange(10).repeat(rows, 1)
    target = targets.nearest_neighbor(make_task(images, labels, 10, (0.0, 1.0)))
    flat = images.flatten(1)
    of_class = [(labels == label).nonzero()[:, 0] for label in range(10)]

    def bare() -> list[Tensor]:
        distance = flat.square().sum(1) - 2 * x.flatten(1) @ flat.T
        nearest = torch.stack([members[distance[:, members].argmin(1)] for members in of_class], 1)
        return [images[nearest] - x[:, None]]

    yield Benchmark(f"nearest neighbours among {pool:,}", "bare products", lambda: [target(index, x, classes)], bare, items=rows * 10)


def scores(*, rows: int, side: int, widths: tuple[int, ...]) -> Iterator[Benchmark]:
    """Directions are kept as int8, which the allowance is for: they are scaled alike and compared."""
    x = torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(0))
    index, classes = torch.full((rows,), -1), torch.arange(10).repeat(rows, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ddpm = DDPM((3, side, side), 10, (0.0, 1.0), widths=widths)
    target = targets.score_based(make_task(x, torch.arange(rows) % 10, 10, (0.0, 1.0)), ddpm, t=LEVEL, progress=False)
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(0)))

    def scaled(found: Tensor) -> list[Tensor]:
        return [found / found.flatten(2).norm(dim=2).view(*found.shape[:2], 1, 1, 1)]

    @torch.no_grad()
    def bare() -> list[Tensor]:
        x_t = ddpm.noised(x, LEVEL, generator=torch.Generator().manual_seed(seed))
        noise = [ddpm.unet(x_t, LEVEL, class_labels=torch.full((rows,), label)).sample for label in range(11)]
        return scaled(torch.stack([noise[10] - each for each in noise[:10]], 1))

    def ours() -> list[Tensor]:
        return scaled(target(index, x, classes))

    yield Benchmark("score-based directions", "11 U-Net passes an image", ours, bare, within=0.02, items=rows * 10)
