"""Diffusion models (DDPM: Ho, Jain & Abbeel, 2020) of small images with classes: built and trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..attacks import checks
from ..data import Task
from ..data.defaults import plain_defaults
from ..data.numbers import wholes
from ..exact import ALPHA_BAR, STEPS
from ..models import ordinary
from ..recipe import Recipe
from ..recipes import keys
from ..training import checkpoints
from ..training.loop import Loop
from ..training.state import History, warm_average
from .denoiser import Denoiser

NETWORK = ("widths", "patch")  # options of a recipe that the network has
SHARES = {name: key.default for name, key in keys.MODELS["ddpm"].items() if name not in NETWORK}  # that training has
WEIGHT_DECAY = 0.01  # torch's own for AdamW


class DDPM(Denoiser):
    """A denoiser that can be trained. Make one with :meth:`fit` or :meth:`load`; arguments and errors as of the base class."""

    @classmethod
    @torch.inference_mode(False)
    def fit(
        cls,
        task: Task,
        *,
        epochs: int = 60,
        batch_size: int = 64,
        lr: float = 2e-3,
        drop: float = 0.15,
        ema: float = 0.999,
        widths: Sequence[int] = (32, 64),
        patch: int = 1,
        flip: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
        run_dir: str | Path | None = None,
        resume: bool = False,
        progress: bool = True,
    ) -> DDPM:
        """Train on ``task.train``: guess the noise in x_t, squared error, t uniform (Ho et al., equation 14), AdamW.

        Args:
            task: images with finite bounds.
            epochs: passes over the training split, at least 1.
            batch_size: images a step, at least 1; the last batch of an epoch may be smaller.
            lr: learning rate of AdamW, above 0, the same in every step.
            drop: share of the training examples whose label is replaced by "any", in [0, 1).
            ema: decay a step of the running average of the weights, in [0, 1), which is what the returned model holds; 0: no average.
            widths, patch: of the U-Net, see :class:`DDPM`.
            flip: train on each image and on its mirror image; an epoch is then twice as long.
            seed: of weights, batches, noise and dropped labels. Same seed and thread count: the same weights,
                bit for bit. The global random state is left as found.
            device: to train on; the model stays there.
            run_dir, resume: checkpoints, as in :func:`pagkit.training.fit`.
            progress: show a bar, once training has taken two seconds.

        Returns:
            The trained model, on ``device``.

        Raises:
            TypeError: training inputs that are not floating point, labels that are not int64, widths that are no whole numbers.
            ValueError: an empty training split; labels that are not (N,) or out of range; epochs or a batch size that is no whole number
                or below 1; a learning rate that is no finite number above 0; a share outside [0, 1); a seed outside [0, 2**32); those of
                :class:`DDPM`; ``resume`` without ``run_dir``, and checkpoints that do not fit.
            OSError: a checkpoint cannot be written, as in :func:`pagkit.training.fit`.
            pagkit.training.TrainingDiverged: a loss that is not finite, or weights that are not; says at which step.
        """
        options = {"widths": list(wholes("widths", widths)), "patch": patch, "drop": drop, "ema": ema}
        recipe = Recipe(
            name="DDPM",
            task=task.name,
            model="ddpm",
            method="ddpm",
            epochs=epochs,
            lr=lr,
            batch_size=batch_size,
            flip=flip,
            seed=seed,
            model_options=options,
        )
        ddpm = build(recipe, task).to(device)
        train(ddpm, task, recipe, run_dir=run_dir, resume=resume, progress=progress)
        return ddpm


@plain_defaults()
def build(recipe: Recipe, task: Task) -> DDPM:
    """The untrained model of a recipe of method ``"ddpm"``; its ``model_options`` are widths and patch of the network, drop and ema of
    :func:`train`. The global random state is left as found.

    Raises:
        ValueError: a recipe of another method, and those of :class:`DDPM`.
    """
    if recipe.method != "ddpm":
        raise ValueError(f"recipe {recipe.name!r} has method {recipe.method!r}; expected 'ddpm'")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)  # of the CPU alone, where weights are drawn
        network = {key: value for key, value in recipe.model_options.items() if key in NETWORK}
        return DDPM(task.shape, len(task.classes), task.bounds, **network)


@plain_defaults()
@torch.inference_mode(False)
def train(
    ddpm: DDPM,
    task: Task,
    recipe: Recipe,
    *,
    tell: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
    progress: bool = True,
    **keep: Any,
) -> History:
    """Train what :func:`build` made, in place: the work behind :meth:`DDPM.fit`, with the recipe's settings.

    AdamW, a constant learning rate; ``keep`` are run_dir, resume, checkpoint_seconds and log. These, the other arguments, result and
    errors as in :func:`pagkit.training.fit`.
    """
    checks.training(task)
    x, y = ordinary(task.train.x.detach(), task.train.y)
    z = ddpm.encode(x)
    if recipe.flip:
        z, y = torch.cat([z, z.flip(-1)]), y.repeat(2)
    options = {**SHARES, **recipe.model_options}
    drop = options["drop"]

    def draw(rows: Tensor, weight: float, generator: torch.Generator) -> dict[str, Tensor]:
        t = torch.randint(STEPS, (len(rows),), generator=generator)
        noise = torch.randn(len(rows), *task.shape, generator=generator)
        dropped = torch.rand(len(rows), generator=generator) < drop
        return {"z": z[rows], "t": t, "noise": noise, "y": y[rows].masked_fill(dropped, ddpm.classes)}

    def loss(z: Tensor, t: Tensor, noise: Tensor, y: Tensor, weight: float) -> Tensor:
        a = ALPHA_BAR[t].float().view(-1, 1, 1, 1)
        guess = ddpm.guess(a.sqrt() * z + (1 - a).sqrt() * noise, t, y)
        return F.mse_loss(guess.float(), noise.to(guess.device))

    loop = Loop(
        ddpm.unet,
        replace(recipe, optimizer="adamw", weight_decay=WEIGHT_DECAY, schedule="constant", weight=0.0),
        averaged=warm_average(ddpm.unet, options["ema"]),
        about=lambda: checkpoints.about(ddpm.unet, task, recipe),
        **keep,
    )
    if recipe.compile:
        ddpm.unet.compile(dynamic=False)  # it stays so, which its weights do not show
    return loop.run(len(z), draw, loss, tell=tell, stop=stop, progress=progress)
