"""A network as data that a page can run, and the same network, rounded alike, for PyTorch to measure.

The packed form is a dictionary that ``json`` can write: the shape of one input, the number of classes and a list of
layers. Numbers travel as base64 of little-endian arrays. Weights are float32, float16, or int8 with one float32 scale
for each output channel; biases and normalisation are always float32, for they are few.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.defaults import plain_defaults
from ..models import ACTIVATIONS, Normalize
from ..models.layers import ResidualBlock

WEIGHTS = ("int8", "float16", "float32")
Packed = dict[str, Any]


@plain_defaults()
def pack(model: nn.Module, shape: Sequence[int], *, weights: str = "int8") -> Packed:
    """``model`` as a JSON-able dictionary ``{"shape", "classes", "layers"}``.

    Args:
        model: what :func:`pagkit.models.build` makes as ``"mlp"``, ``"cnn"`` or ``"resnet-small"`` without norm layers; or any
            ``nn.Sequential`` of Normalize, Flatten, Unflatten, Linear, Conv2d, ResidualBlock, ReLU, SiLU and GELU.
        shape: of one input, ``task.shape``.
        weights: ``"int8"`` (a quarter of the bytes), ``"float16"`` or ``"float32"`` (nothing is rounded).

    Raises:
        ValueError: unknown ``weights``, a layer that the page cannot run, a weight that is not finite or too large for float16.
    """
    layers = _pack_all(_flat(model), weights)
    with torch.no_grad():
        copy = deepcopy(model).cpu().float().eval()
        classes = copy(torch.zeros(1, *shape)).shape[1]
    return {"shape": [int(side) for side in shape], "classes": int(classes), "layers": layers}


def rounded(model: nn.Module, *, weights: str = "int8") -> nn.Module:
    """A copy of ``model`` on the CPU, in eval mode, whose weights are exactly those that :func:`pack` writes.

    Raises:
        ValueError: as :func:`pack`.
    """
    copy = deepcopy(model).cpu().float().eval().requires_grad_(False)
    for module in copy.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            values, scale = round_weight(module.weight, weights)
            module.weight.copy_(restored(values, scale))
    return copy


@plain_defaults()
def sliced(model: nn.Module, origin: Tensor, axes: Tensor) -> nn.Module:
    """``model`` on the plane ``origin + u axes[0] + v axes[1]``, as a network of two inputs (u, v) in R^2.

    With orthonormal axes, an L2 ball of the plane is the slice of an L2 ball of the inputs.

    Args:
        model: takes inputs of the shape of ``origin``.
        origin: one input, (*shape).
        axes: two directions, (2, *shape) or (2, size).

    Raises:
        ValueError: the axes do not fit the origin.
    """
    if len(axes) != 2 or axes[0].numel() != origin.numel():
        raise ValueError(f"axes have shape {tuple(axes.shape)}; expected two directions of {origin.numel()} numbers each")
    place = nn.utils.skip_init(nn.Linear, 2, origin.numel())  # draws nothing
    with torch.no_grad():
        place.weight.copy_(axes.reshape(2, -1).T)
        place.bias.copy_(origin.flatten())
    return nn.Sequential(place, nn.Unflatten(1, tuple(origin.shape)), deepcopy(model)).eval()


def encode(values: Tensor | np.ndarray, dtype: str) -> str:
    """base64 of the numbers, flattened, as little-endian ``dtype``."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return base64.b64encode(np.ascontiguousarray(array, dtype=np.dtype(dtype).newbyteorder("<")).tobytes()).decode()


def _flat(model: nn.Module) -> list[nn.Module]:
    """The layers in the order in which they act, nested sequences opened and layers that do nothing left out."""
    if isinstance(model, nn.Sequential):
        return [layer for child in model for layer in _flat(child)]
    return [] if isinstance(model, (nn.Identity, nn.Dropout)) else [model]


def _pack_all(layers: Sequence[nn.Module], weights: str) -> list[Packed]:
    return [_pack(layer, weights) for layer in layers]


def _pack(layer: nn.Module, weights: str) -> Packed:
    if isinstance(layer, Normalize):
        return {"kind": "normalize", "mean": encode(layer.mean, "float32"), "std": encode(layer.std, "float32")}
    if isinstance(layer, nn.Flatten):
        return {"kind": "flatten"}
    if isinstance(layer, nn.Unflatten):
        return {"kind": "reshape", "shape": [int(side) for side in layer.unflattened_size]}
    if isinstance(layer, nn.Linear):
        return {"kind": "dense", "outputs": layer.out_features, **_parameters(layer, weights)}
    if isinstance(layer, nn.Conv2d):
        square = all(len({*pair}) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding) if not isinstance(pair, str))
        plain = layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"
        if not (square and plain) or isinstance(layer.padding, str):
            raise ValueError(f"cannot export {layer}; expected a square kernel, one group, no dilation, zeros as padding")
        sizes = {"kernel": layer.kernel_size[0], "stride": layer.stride[0], "padding": layer.padding[0]}
        return {"kind": "conv", "outputs": layer.out_channels, **sizes, **_parameters(layer, weights)}
    if isinstance(layer, ResidualBlock):
        parts = {name: _pack_all(_flat(getattr(layer, name)), weights) for name in ("body", "skip", "act")}
        return {"kind": "residual", **parts}
    for name, kind in ACTIVATIONS.items():
        if type(layer) is kind and getattr(layer, "approximate", "none") == "none":
            return {"kind": "act", "name": name}
    raise ValueError(
        f"cannot export {type(layer).__name__}; a page runs Normalize, Flatten, Unflatten, Linear, Conv2d, ResidualBlock without "
        f"norm layers, {', '.join(ACTIVATIONS)}"
    )


def _parameters(layer: nn.Linear | nn.Conv2d, weights: str) -> Packed:
    values, scale = round_weight(layer.weight, weights)
    packed: Packed = {"weight": {"dtype": weights, "data": encode(values, weights)}}
    if scale is not None:
        packed["weight"] |= {"scale": encode(scale, "float32")}
    return packed if layer.bias is None else packed | {"bias": encode(layer.bias, "float32")}


def round_weight(weight: Tensor, weights: str) -> tuple[Tensor, Tensor | None]:
    """The weight (O, ...) in the type of ``weights``, and for int8 one scale a row (O,): the largest entry becomes 127."""
    weight = weight.detach().cpu().float()
    if weights not in WEIGHTS:
        raise ValueError(f"unknown weights {weights!r}; expected one of {', '.join(WEIGHTS)}")
    if not weight.isfinite().all():
        raise ValueError("a weight is not finite")
    if weights == "int8":
        scale = weight.flatten(1).abs().amax(1).clamp_min(1e-30) / 127
        return (weight / _column(scale, weight)).round().clamp(-127, 127).to(torch.int8), scale
    values = weight.to(torch.float16 if weights == "float16" else torch.float32)
    if not values.isfinite().all():
        raise ValueError(f"a weight of {weight.abs().max():g} is too large for float16; pass weights='float32'")
    return values, None


def restored(values: Tensor, scale: Tensor | None) -> Tensor:
    return values.float() if scale is None else values.float() * _column(scale, values)


def _column(scale: Tensor, like: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (like.ndim - 1))


def size_in_bytes(packed: Packed) -> int:
    """What a packed network weighs in a page, in bytes."""
    return len(_text(packed))


def to_script(packed: Packed) -> tuple[str, str]:
    """A packed network as a classic script that a page loads when it is asked to, also a page that was opened from a file.

    Returns:
        Its key, a digest of the content, and the text, which keeps the network under that key. :func:`pagkit.lab.photo` with ``folder``
        looks for ``<folder>/<key>.js``.
    """
    text = _text(packed)
    key = f"net-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return key, f'(globalThis.pagkitNets ??= {{}})["{key}"] = {text};\n'


def _text(packed: Packed) -> str:
    return json.dumps(packed, separators=(",", ":"))
