"""A network as data that a page can run, and the same network, rounded alike, for PyTorch to measure.

The packed form is a dictionary that ``json`` can write: the shape of one input, the number of classes and a list of
layers. Numbers travel as base64 of little-endian arrays. Weights are float32, float16, or int8 with one float32 scale
for each output channel; biases and normalisation are always float32, for they are few.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.defaults import plain_defaults
from ..models import ACTIVATIONS, Normalize, refuse_altered
from ..models.layers import ResidualBlock

WEIGHTS = ("int8", "float16", "float32")
Packed = dict[str, Any]


@plain_defaults()
def pack(model: nn.Module, shape: Sequence[int], *, weights: str = "int8") -> Packed:
    """``model`` as a JSON-able dictionary ``{"shape", "classes", "layers"}``.

    Args:
        model: what :func:`pagkit.models.build` makes as ``"mlp"``, ``"cnn"`` or ``"resnet-small"`` without norm layers; or any
            ``nn.Sequential`` of Normalize, Flatten, Unflatten, Linear, Conv2d, ResidualBlock, ReLU, SiLU and GELU themselves: a page
            knows nothing of a subclass's own ``forward``, of hooks and of parametrizations.
        shape: of one input, ``task.shape``.
        weights: ``"int8"`` (a quarter of the bytes), ``"float16"`` or ``"float32"`` (nothing is rounded).

    Raises:
        ValueError: unknown ``weights``, a layer that the page cannot run, also for the shape of what it is given, a hook, a
            parametrization, a number that is not finite or a weight too large for float16, outputs that are no logits (N, C).
    """
    _check(model)
    copy = deepcopy(model).cpu().float().eval().requires_grad_(False)
    layers, out = _pack_all(_flat(copy), tuple(int(side) for side in shape), weights)
    if len(out) != 1:
        raise ValueError(f"the model gives an output of shape {out} for each input; expected logits (C,)")
    return {"shape": [int(side) for side in shape], "classes": out[0], "layers": layers}


def rounded(model: nn.Module, *, weights: str = "int8") -> nn.Module:
    """A copy of ``model`` on the CPU, in eval mode, whose weights are exactly those that :func:`pack` writes.

    Raises:
        ValueError: unknown ``weights``, a hook, a parametrization, a number that is not finite or a weight too large for float16.
    """
    _check(model)
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


def _check(model: nn.Module) -> None:
    """Refuse what a page would not see, for it stands in no weight, and numbers that are not finite."""
    refuse_altered(model)
    for name, value in model.state_dict().items():
        if broken := int((~value.detach().float().isfinite()).sum()):
            raise ValueError(f"the model's {name} has {broken} of {value.numel()} numbers that are not finite; expected none")


def _flat(model: nn.Module) -> list[nn.Module]:
    """The layers in the order in which they act, nested sequences opened and layers that do nothing left out."""
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        return [layer for child in model for layer in _flat(child)]
    return [] if type(model) in (nn.Identity, nn.Dropout) else [model]


def _pack_all(layers: Sequence[nn.Module], shape: tuple[int, ...], weights: str) -> tuple[list[Packed], tuple[int, ...]]:
    """Layers that act one after the other on an input of this shape, and the shape of what they give."""
    packed = []
    for layer in layers:
        packed.append(_pack(layer, shape, weights))
        shape = tuple(layer(torch.zeros(1, *shape)).shape[1:])
    return packed, shape


def _pack(layer: nn.Module, shape: tuple[int, ...], weights: str) -> Packed:
    """One layer, for inputs of this shape; a layer counts as what it is, not as what it is derived from."""
    if type(layer) is Normalize:
        return {"kind": "normalize", **_normalization(layer, shape)}
    if type(layer) is nn.Flatten:
        if (layer.start_dim, layer.end_dim) != (1, -1):
            raise ValueError(f"cannot export {layer}; expected start_dim=1 and end_dim=-1, which flatten all of an input")
        return {"kind": "flatten"}
    if type(layer) is nn.Unflatten:
        if len(shape) != 1 or layer.dim not in (1, -1):
            raise ValueError(f"cannot export {layer} on inputs of shape {shape}; expected dim=1, and vectors")
        return {"kind": "reshape", "shape": list(layer(torch.zeros(1, *shape)).shape[1:])}
    if type(layer) is nn.Linear:
        if shape != (layer.in_features,):
            raise ValueError(f"cannot export {layer} on inputs of shape {shape}; expected vectors ({layer.in_features},)")
        return {"kind": "dense", "outputs": layer.out_features, **_parameters(layer, weights)}
    if type(layer) is nn.Conv2d:
        square = all(len({*pair}) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding) if not isinstance(pair, str))
        plain = layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"
        if not (square and plain) or isinstance(layer.padding, str):
            raise ValueError(f"cannot export {layer}; expected a square kernel, one group, no dilation, zeros as padding")
        if len(shape) != 3 or shape[0] != layer.in_channels:
            raise ValueError(f"cannot export {layer} on inputs of shape {shape}; expected images ({layer.in_channels}, H, W)")
        sizes = {"kernel": layer.kernel_size[0], "stride": layer.stride[0], "padding": layer.padding[0]}
        return {"kind": "conv", "outputs": layer.out_channels, **sizes, **_parameters(layer, weights)}
    if type(layer) is ResidualBlock:
        body, out = _pack_all(_flat(layer.body), shape, weights)
        (skip, _), (act, _) = _pack_all(_flat(layer.skip), shape, weights), _pack_all(_flat(layer.act), out, weights)
        return {"kind": "residual", "body": body, "skip": skip, "act": act}
    for name, kind in ACTIVATIONS.items():
        if type(layer) is kind and getattr(layer, "approximate", "none") == "none":
            return {"kind": "act", "name": name}
    raise ValueError(
        f"cannot export {type(layer).__name__}; a page runs Normalize, Flatten, Unflatten, Linear, Conv2d, ResidualBlock without "
        f"norm layers, {', '.join(ACTIVATIONS)}, and nothing derived from them"
    )


def _normalization(layer: Normalize, shape: tuple[int, ...]) -> Packed:
    """Mean and std: one number for all, or one a channel; what a page would not find its way in, as one number for each of the input."""
    values = {"mean": layer.mean, "std": layer.std}
    pixels = math.prod(shape[1:])
    alike = {(1,) if value.numel() == 1 else tuple(value.shape) for value in values.values()}
    exact = pixels & (pixels - 1) == 0  # a page divides an index by it: exact for powers of two
    if alike not in ({(1,)}, {shape}) and not (exact and alike == {(shape[0], *[1] * (len(shape) - 1))}):
        values = {name: value + torch.zeros(1, *shape) for name, value in values.items()}
    return {name: encode(value, "float32") for name, value in values.items()}


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


def as_bytes(x: Tensor, what: str, levels: int = 255) -> str:
    """base64 of numbers in [0, 1], a byte each, in ``levels`` steps.

    Raises:
        ValueError: a number outside [0, 1], for bytes would wrap round; ``what`` names them.
    """
    if x.numel() and not (0 <= x.min() and x.max() <= 1):
        raise ValueError(f"{what} range over [{x.min():g}, {x.max():g}]; expected values in [0, 1]")
    return encode((x * levels).round(), "uint8")


def few_classes(classes: Sequence[str]) -> None:
    """Refuse more classes than a label of one byte can tell apart."""
    if len(classes) > 256:
        raise ValueError(f"there are {len(classes)} classes; expected at most 256, for a label is stored as a byte")


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
