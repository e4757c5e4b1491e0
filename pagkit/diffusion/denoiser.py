"""A network that guesses the noise in a noised image (Ho, Jain & Abbeel, 2020), and what can be asked of it: scores and samples.

Inside, images live in model space: ``task.bounds`` are mapped to [-1, 1]. With z an image there, the noised
image at level t = 0, ..., 999 is

    x_t = sqrt(abar_t) z + sqrt(1 - abar_t) noise,

with the ``abar_t`` of :mod:`pagkit.exact`; level 0 is the first that has noise. The network guesses the noise, and a
guess of the noise is a guess of the score (Song et al., 2021):

    grad log p_t(x_t | y) = -noise_theta(x_t, t, y) / sqrt(1 - abar_t).

One network serves p_t(x_t | y) and p_t(x_t): it knows C + 1 labels, the last of which stands for "any" and takes
the true label's place in a share of the training examples (Ho & Salimans, 2022).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.defaults import plain_defaults
from ..data.numbers import whole
from ..exact import BETAS, STEPS, alpha_bar
from ..models import load_weights, save_weights
from . import checks
from .checks import GROUPS

if TYPE_CHECKING:
    from diffusers.models import UNet2DModel


class Denoiser:
    """Noise-predicting U-Net for images of one shape and a number of classes, with random weights at first.

    Args:
        shape: (channels, side, side) of an image.
        classes: their number, C.
        bounds: finite lowest and highest value of an input.
        widths: channels at each resolution, multiples of 8 and one of them 16 or more; the image is halved between one and the next,
            and the last one has attention.
        patch: side of the squares of pixels that the network takes as one pixel with ``patch**2`` times the channels: 2 makes a
            step about four times cheaper, and the finest detail coarser.

    Raises:
        TypeError, ValueError: as of :func:`pagkit.diffusion.checks.network`.
    """

    def __init__(
        self, shape: Sequence[int], classes: int, bounds: Sequence[float], *, widths: Sequence[int] = (32, 64), patch: int = 1
    ) -> None:
        widths, patch = checks.network(shape, bounds, widths, patch)
        self.shape, self.classes, self.bounds, self.patch = tuple(shape), classes, tuple(bounds), patch
        self.widths: tuple[int, ...] | None = tuple(widths)
        plain = len(widths) - 1
        from diffusers.models import UNet2DModel  # here, because it takes a second to import; by this path type checkers find it

        self.unet = UNet2DModel(
            in_channels=shape[0] * patch**2,
            out_channels=shape[0] * patch**2,
            block_out_channels=tuple(widths),
            down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
            layers_per_block=1,
            norm_num_groups=GROUPS,
            num_class_embeds=classes + 1,
        )

    @classmethod
    def around(cls, unet: UNet2DModel, shape: Sequence[int], classes: int, bounds: Sequence[float]) -> Self:
        """A network of another make, whose last label, number ``classes``, stands for any class. It cannot be saved."""
        model = cls.__new__(cls)
        model.shape, model.classes, model.bounds, model.widths, model.patch = tuple(shape), classes, tuple(bounds), None, 1
        model.unet = unet
        return model

    def to(self, device: torch.device | str) -> Self:
        """Move the network to ``device``; returns the model itself."""
        self.unet.to(device)
        return self

    def encode(self, x: Tensor) -> Tensor:
        """Images x (N, *shape) inside the bounds -> model space [-1, 1].

        Raises:
            ValueError: another shape, or x outside the bounds or not finite.
        """
        self._check_shape(x)
        low, high = self.bounds
        if not (low <= x.min().item() and x.max().item() <= high):
            raise ValueError(f"x ranges over [{x.min():g}, {x.max():g}]; expected finite values inside {self.bounds}")
        return 2 * (x - low) / (high - low) - 1

    def decode(self, z: Tensor) -> Tensor:
        """Model space -> images inside the bounds; values beyond [-1, 1] are clipped."""
        low, high = self.bounds
        return (low + (z + 1) / 2 * (high - low)).clamp(low, high)

    @plain_defaults()
    def noised(self, x: Tensor, t: int, *, generator: torch.Generator) -> Tensor:
        """x_t in model space (N, *shape) for images x inside the bounds. Errors as in :meth:`encode` and :meth:`score`."""
        a, z = alpha_bar(whole("t", t)), self.encode(x)
        noise = torch.randn(z.shape, generator=generator, device=generator.device).to(z)
        return math.sqrt(a) * z + math.sqrt(1 - a) * noise

    @plain_defaults()
    @torch.no_grad()
    def score(self, x_t: Tensor, t: int, y: Tensor | int | None = None) -> Tensor:
        """The model's ``grad log p_t(x_t | y)``, or ``grad log p_t(x_t)`` without a y, in model space.

        Args:
            x_t: noised images in model space (N, *shape), as from :meth:`noised`; unbounded.
            t: noise level, 0 to 999.
            y: a class, or one a row (N,); None for all classes together.

        Returns:
            ``-noise_theta(x_t, t, y) / sqrt(1 - abar_t)``, (N, *shape), on the device of x_t.

        Raises:
            TypeError: x_t that is not floating point, a t that is no whole number.
            ValueError: another shape, t or y out of range.
        """
        a = alpha_bar(t := whole("t", t))
        self._check_shape(x_t)
        checks.noised(x_t)
        return (-self.guess(x_t, torch.tensor(t), self._labels(y, len(x_t))) / math.sqrt(1 - a)).to(x_t)

    @plain_defaults()
    @torch.no_grad()
    def sample(
        self,
        labels: Tensor | int,
        *,
        guidance: float = 1.0,
        steps: int = 50,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Draw images: start from noise and undo it step by step (Ho et al., algorithm 2, on ``steps`` of the 1000 levels).

        Args:
            labels: a class for each image (N,), int64; or how many images to draw of no class in particular.
            guidance: w in ``(1 + w) noise(x_t, t, y) - w noise(x_t, t)`` (Ho & Salimans, equation 6). 0 draws from the model
                of the class; more gives images that are more typical of it, and more alike. Without labels it has no effect.
            steps: 1 to 1000.
            generator: source of the noise; default: a fresh one with seed 0.
            batch_size: how many images the network is shown at a time, for those that do not fit at once; the noise is the same.

        Returns:
            Images (N, *shape) float32 inside the bounds, on the CPU.

        Raises:
            TypeError, ValueError: as of :func:`pagkit.diffusion.checks.sampling`, and a label out of range.
        """
        count, classes = checks.sampling(labels, guidance, steps, batch_size)
        generator = generator or torch.Generator().manual_seed(0)
        anyone = self._labels(None, count)
        wanted = self._labels(labels, count) if classes else None
        from diffusers import DDPMScheduler

        scheduler: Any = DDPMScheduler(STEPS, trained_betas=BETAS.tolist(), timestep_spacing="trailing")
        scheduler.set_timesteps(steps)
        x = torch.randn(count, *self.shape, generator=generator, device=generator.device).to(self.unet.device)

        def guessed(t: Tensor, labels: Tensor) -> Tensor:
            parts = [part.split(batch_size or count) for part in (x, labels)]
            return torch.cat([self.guess(x_t, t, own) for x_t, own in zip(*parts, strict=True)])

        for t in scheduler.timesteps:
            noise = guessed(t, anyone)
            if wanted is not None:
                noise = (1 + guidance) * guessed(t, wanted) - guidance * noise
            x = scheduler.step(noise, t, x, generator=generator).prev_sample
        return self.decode(x).cpu()

    def save(self, path: str | Path) -> None:
        """Write the weights as safetensors, whole or not at all; the header says what model they belong to."""
        save_weights(path, *self.state())

    def state(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The weights, and the header that says what model they belong to."""
        if self.widths is None:
            raise ValueError("the network was not made here; keep the files that it came from")
        about = {"shape": self.shape, "classes": self.classes, "bounds": self.bounds, "widths": self.widths, "patch": self.patch}
        return self.unet.state_dict(), {"ddpm": json.dumps(about)}

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote, onto the CPU.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a folder, or a file that :meth:`save` did not write.
        """
        if Path(path).is_dir():
            raise ValueError(f"{path} is a folder; expected a .safetensors file that DDPM.save wrote")
        try:
            state, metadata = load_weights(path)
            with plain_defaults(), torch.random.fork_rng(devices=[]):
                model = cls(**json.loads(metadata["ddpm"]))
            model.unet.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} does not hold a DDPM: {type(error).__name__} {error}") from error
        return model

    def guess(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The network's guess of the noise in x_t, on its own device."""
        device = self.unet.device
        folded = F.pixel_unshuffle(x_t.to(device, torch.float32), self.patch)
        return F.pixel_shuffle(self.unet(folded, t.to(device), class_labels=labels.to(device)).sample, self.patch)

    def _labels(self, y: Tensor | int | None, rows: int) -> Tensor:
        """One label a row; without a y the one that stands for any class."""
        if y is None:
            return torch.full((rows,), self.classes)
        y = torch.as_tensor(y)
        if y.dtype != torch.int64 or y.shape not in (torch.Size([]), torch.Size([rows])):
            raise ValueError(f"labels have dtype {y.dtype} and shape {tuple(y.shape)}; expected int64, a class or ({rows},)")
        if y.min() < 0 or y.max() >= self.classes:
            raise ValueError(f"labels range over [{y.min()}, {y.max()}]; expected values in [0, {self.classes})")
        return y.expand(rows)

    def _check_shape(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.shape or len(x) == 0:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (N, {', '.join(map(str, self.shape))}) with N at least 1")
