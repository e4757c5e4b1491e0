"""The parts of the classifiers. All of them can be differentiated twice, which the PAG objective needs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

GROUPS = 8  # of every GroupNorm
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def refuse_altered(model: nn.Module) -> None:
    """Refuse a model whose layers do not tell what it computes, for those who read it by its layers.

    Raises:
        ValueError: a hook, a parametrization, or a ``forward`` that was put there after the module was made.
    """
    for name, module in model.named_modules():
        what = f"the model's {name} ({type(module).__name__})" if name else f"the model ({type(module).__name__})"
        if any(getattr(module, hooks) for hooks in HOOKS):
            raise ValueError(f"{what} has a hook, which may change what it computes; expected none")
        if is_parametrized(module):
            found = ", ".join(module.parametrizations)
            raise ValueError(f"{what} has a parametrization of its {found}; expected none: see torch's remove_parametrizations")
        if "forward" in vars(module):
            raise ValueError(f"{what} was given another forward; expected that of its class")


class Normalize(nn.Module):
    """``(x - mean) / std`` with ``mean`` and ``std`` of shape (C, 1, 1) for images or (1,) for vectors."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class ResidualBlock(nn.Module):
    """``act(x + f(x))``, f two 3 x 3 convolutions (He et al., 2016); x through 1 x 1 where the shape changes.

    (B, inputs, H, W) -> (B, outputs, H / stride, W / stride), rounded up. ``norm`` makes a layer for a number of channels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, act: type[nn.Module], norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1), norm(outputs), act(),
            nn.Conv2d(outputs, outputs, 3, padding=1), norm(outputs),
        )  # fmt: skip
        self.skip = nn.Identity() if (inputs, stride) == (outputs, 1) else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.skip(x) + self.body(x))


class Attention(nn.Module):
    """Self-attention over (B, tokens, dim), written out: torch's fused kernels have no second derivative (Vaswani et al., 2017)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, tokens, dim / heads)
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention, then a two-layer network four times as wide, each behind a LayerNorm and added to what came in."""

    def __init__(self, dim: int, heads: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(dim), Attention(dim, heads))
        self.think = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), act(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(x)
        return x + self.think(x)


class Patches(nn.Module):
    """Images (B, channels, H, W) to (B, tokens, dim): each patch through one linear map, plus a learned position."""

    def __init__(self, channels: int, height: int, width: int, patch: int, dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(channels * patch**2, dim)
        self.position = nn.Parameter(0.02 * torch.randn((height // patch) * (width // patch), dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)) + self.position


class Mean(nn.Module):
    """The mean over one axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.axis)
