"""Classifiers. Normalisation is the first layer, so every model takes inputs in the task's own bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..data import Task
from ..data.defaults import plain_defaults
from ..data.numbers import whole, wholes
from .layers import GROUPS, Mean, Normalize, Patches, ResidualBlock, TransformerBlock

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


@plain_defaults()
def build(name: str, task: Task, *, seed: int = 0, **options: object) -> nn.Module:
    """Build a classifier for ``task``: inputs in ``task.bounds``, logits (B, len(task.classes)) out.

    Args:
        name: ``"mlp"`` (any input), ``"cnn"`` or ``"resnet-small"`` (images, at least 4 x 4 pixels; made for a laptop),
            ``"resnet18"`` (images, at least 8 x 8) or ``"vit"`` (images whose sides the patch divides).
        seed: of the initial weights. The global random state is left as found.
        options: those of :func:`mlp`, :func:`cnn`, :func:`resnet_small`, :func:`resnet18` and :func:`vit`.

    Raises:
        TypeError: a seed or an option that is no whole number where one is expected.
        ValueError: unknown name, unknown option, an option out of range, or a task of the wrong shape.
    """
    if name not in BUILDERS:
        raise ValueError(f"unknown model {name!r}; expected one of {', '.join(BUILDERS)}")
    builder = BUILDERS[name]
    known = builder.__kwdefaults__ or {}
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"unknown option {unknown[0]!r} for model {name!r}; expected some of {', '.join(known)}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(whole("seed", seed))  # of the CPU alone, where weights are drawn
        return builder(task, **options)


def mlp(task: Task, *, hidden: Sequence[int] = (32,), activation: str = "relu", normalize: str | float = "none") -> nn.Module:
    """Fully connected network: normalisation, flatten, then ``hidden`` layers and a linear read-out."""
    act = _activation(activation)
    if not (hidden := wholes("hidden", hidden)) or min(hidden) < 1:
        raise ValueError(f"hidden is {list(hidden)}; expected at least one layer of at least one unit")
    widths = [int(torch.Size(task.shape).numel()), *hidden]
    layers = [layer for a, b in zip(widths[:-1], widths[1:], strict=True) for layer in (nn.Linear(a, b), act())]
    return nn.Sequential(_normalize(task, normalize), nn.Flatten(), *layers, nn.Linear(widths[-1], len(task.classes)))


def cnn(task: Task, *, width: int = 32, activation: str = "silu", normalize: str | float = "standardize") -> nn.Module:
    """Three 3 x 3 convolutions (the second one halves the image), then two linear layers."""
    act = _activation(activation)
    width = whole("width", width, 1)
    channels, height, side = _image_shape(task, "cnn", at_least=4)
    flat = 2 * width * ((height + 1) // 2) * ((side + 1) // 2)
    return nn.Sequential(
        _normalize(task, normalize),
        nn.Conv2d(channels, width, 3, padding=1), act(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), act(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1), act(),
        nn.Flatten(),
        nn.Linear(flat, 4 * width), act(),
        nn.Linear(4 * width, len(task.classes)),
    )  # fmt: skip


def resnet18(
    task: Task, *, activation: str = "relu", norm: str = "batch", stem: str | None = None, normalize: str | float = "standardize"
) -> nn.Module:
    """torchvision's ResNet-18 (He et al., 2016).

    ``norm`` is ``"batch"`` or ``"group"``. ``stem`` is ``"small"``, a 3 x 3 convolution at full resolution, as is usual for 32 x 32
    pixels; or ``"large"``, the published 7 x 7 convolution of stride 2 and a max-pooling, which together quarter the side. Default:
    small below 64 pixels (the shorter side), large from there on, so that STL-10 at 96 or CIFAR at 32 both end in a few pixels.
    """
    from torchvision.models import resnet18 as torchvision_resnet18

    act = _activation(activation)
    channels, *sides = _image_shape(task, "resnet18", at_least=8)
    make = _norm(norm, batch=nn.BatchNorm2d, group=lambda c: nn.GroupNorm(GROUPS, c))
    if stem not in (None, "small", "large"):
        raise ValueError(f"unknown stem {stem!r}; expected 'small', 'large' or None (by the image's side)")
    net = torchvision_resnet18(num_classes=len(task.classes), norm_layer=make)
    if (stem or ("small" if min(sides) < 64 else "large")) == "small":
        net.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    else:
        net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    for module in list(net.modules()):
        if isinstance(getattr(module, "relu", None), nn.ReLU):
            module.relu = act()  # not in place: the double backward needs the value before
    return nn.Sequential(_normalize(task, normalize), net)


def resnet_small(
    task: Task,
    *,
    widths: Sequence[int] = (32, 64, 128),
    activation: str = "silu",
    norm: str = "none",
    normalize: str | float = "standardize",
) -> nn.Module:
    """A ResNet for a laptop: a 3 x 3 convolution, one residual block a width, each of which halves the image, and a read-out.

    ``norm`` is ``"none"``, enough for so few layers, ``"batch"`` or ``"group"``. The read-out sees where things are.
    """
    act = _activation(activation)
    if not (widths := wholes("widths", widths)) or min(widths) < 1 or any(width % GROUPS for width in widths):
        raise ValueError(f"widths are {list(widths)}; expected positive multiples of {GROUPS}, the number of groups that are normalised")
    channels, *sides = _image_shape(task, "resnet-small", at_least=4)
    make = _norm(norm, none=lambda c: nn.Identity(), batch=nn.BatchNorm2d, group=lambda c: nn.GroupNorm(GROUPS, c))
    blocks = [ResidualBlock(a, b, 2, act, make) for a, b in zip([widths[0], *widths], widths, strict=False)]
    pixels = math.prod(-(-side // 2 ** len(widths)) for side in sides)
    return nn.Sequential(
        _normalize(task, normalize),
        nn.Conv2d(channels, widths[0], 3, padding=1), make(widths[0]), act(),
        *blocks,
        nn.Flatten(),
        nn.Linear(widths[-1] * pixels, len(task.classes)),
    )  # fmt: skip


def vit(
    task: Task,
    *,
    patch: int = 4,
    dim: int = 192,
    depth: int = 6,
    heads: int = 3,
    activation: str = "gelu",
    normalize: str | float = "standardize",
) -> nn.Module:
    """A small vision transformer (Dosovitskiy et al., 2021): learned positions, LayerNorm first, the mean of the tokens read out.

    ``patch`` is the side of a patch in pixels and divides the image's; ``dim`` the width of a token, a multiple of ``heads``;
    ``depth`` the number of blocks. Attention costs the square of the number of patches: 64 at 32 x 32 pixels, 576 at 96 x 96
    (144 with ``patch=8``).
    """
    act = _activation(activation)
    patch, dim, depth, heads = (whole(*own, 1) for own in (("patch", patch), ("dim", dim), ("depth", depth), ("heads", heads)))
    if dim % heads:
        raise ValueError(f"dim is {dim} and heads {heads}; expected a dim that heads divides")
    channels, height, width = _image_shape(task, "vit", at_least=patch)
    if height % patch or width % patch:
        raise ValueError(f"patch is {patch}; expected a number that divides both sides of images of {height} x {width} pixels")
    return nn.Sequential(
        _normalize(task, normalize),
        Patches(channels, height, width, patch, dim),
        *(TransformerBlock(dim, heads, act) for _ in range(depth)),
        nn.LayerNorm(dim),
        Mean(1),
        nn.Linear(dim, len(task.classes)),
    )


BUILDERS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn, "resnet-small": resnet_small, "resnet18": resnet18, "vit": vit}


def _activation(name: str) -> type[nn.Module]:
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; expected one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _norm(name: str, **known: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
    if name not in known:
        raise ValueError(f"unknown norm layer {name!r}; expected one of {', '.join(known)}")
    return known[name]


def _image_shape(task: Task, model: str, at_least: int) -> tuple[int, int, int]:
    if len(task.shape) != 3 or min(task.shape[1:]) < at_least:
        need = f"images (C, H, W) of at least {at_least} x {at_least}"
        raise ValueError(f"{model} takes {need}; {task.name} has inputs of shape {task.shape}")
    return task.shape[0], task.shape[1], task.shape[2]


def _normalize(task: Task, how: str | float) -> Normalize:
    """``"none"``, ``"standardize"`` (training mean and standard deviation a channel), or a number to divide by."""
    if how == "none":
        return Normalize(torch.zeros(1), torch.ones(1))
    if how == "standardize":
        dims = [0, *range(2, task.train.x.ndim)]
        many = task.train.x[:, 0].numel() > 1  # values of a channel
        x = task.train.x.detach()
        mean, std = x.mean(dims, keepdim=True)[0], x.std(dims, keepdim=True, correction=int(many))[0]
        if not (many and std.isfinite().all()):
            found = f"the {len(task.train)} training example(s) of {task.name} have no finite deviation"
            raise ValueError(f"normalize is 'standardize' and {found}; expected finite values, two or more of each channel")
        return Normalize(mean, torch.where(std > 1e-6, std, 1))  # what is constant is only centred
    if isinstance(how, (int, float)) and not isinstance(how, bool) and 0 < (scale := torch.tensor([float(how)])) < math.inf:
        return Normalize(torch.zeros(1), scale)
    raise ValueError(f"normalize is {how!r}; expected 'none', 'standardize' or a positive number to divide by")
