"""Convolutions whose input gradients are quick to differentiate.

A term in the input gradient needs, for each convolution, the derivative of v -> W^T v in W. PyTorch takes it as a convolution whose kernel
is as large as the image. It is an ordinary weight gradient with the two inputs exchanged, for which there are quick kernels:

    d/dW <u, W^T v> = d/dW <W u, v> .

On the book's machine a PAG step of ten classes takes a quarter less with it (``tests/benchmarks/tried.py``). Sums come in another order, so
the last digits of a training change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class QuickDoubleBackward(TorchFunctionMode):
    """Within it, ``torch.nn.functional.conv2d`` gives values and derivatives as ever, by a quicker way where a derivative is
    differentiated::

        with losses.QuickDoubleBackward():
            training.fit(model, task, recipe)

    For two derivatives, the first in the input and the second in the weights: any other order of two gives wrong numbers. Other
    convolutions and ``torch.compile`` are not touched.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        asked = {"input", "weight", "bias", "stride", "padding", "dilation", "groups"} >= set(kwargs or {})
        return (_convolution if func is F.conv2d and asked else func)(*args, **(kwargs or {}))


def _convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """The value and the gradients in the weights come from the first summand, the gradient in x from the second, which is zero."""
    if isinstance(padding, str) or input.dim() != 4:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    if torch.is_autocast_enabled(kind := input.device.type):
        half = torch.get_autocast_dtype(kind)
        input, weight, bias = input.to(half), weight.to(half), None if bias is None else bias.to(half)
    value = F.conv2d(input.detach(), weight, bias, stride, padding, dilation, groups)
    pairs = [[n, n] if isinstance(n, int) else list(n) for n in (stride, padding, dilation)]
    return value + _ThroughInput.apply(input, weight, value.shape, (*pairs, groups))


class _ThroughInput(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, shape: torch.Size, how: tuple[Any, ...]) -> Tensor:
        ctx.shape, ctx.how = x.shape, how
        ctx.save_for_backward(w)
        return x.new_zeros(1).expand(shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return _InputGradient.apply(grad, *ctx.saved_tensors, ctx.shape, ctx.how), None, None, None


class _InputGradient(Function):
    """Linear in ``grad`` and in w, so its derivatives are a convolution and the gradient of one in its weights."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, w: Tensor, shape: torch.Size, how: tuple[Any, ...]) -> Tensor:
        ctx.how = how
        ctx.save_for_backward(grad, w)
        return _backward(grad, grad.new_empty(1).expand(shape), w, how, 0)

    @staticmethod
    def backward(ctx: Any, along: Tensor) -> tuple[Any, ...]:
        grad, w = ctx.saved_tensors
        return F.conv2d(along, w, None, *ctx.how), _backward(grad, along, w, ctx.how, 1), None, None


def _backward(grad: Tensor, x: Tensor, w: Tensor, how: tuple[Any, ...], which: int) -> Tensor:
    """The gradient in x (``which`` 0) or in w (1) of a convolution whose output has the gradient ``grad``."""
    stride, padding, dilation, groups = how
    wanted = [which == i for i in range(3)]
    return torch.ops.aten.convolution_backward(grad, x, w, None, stride, padding, dilation, False, [0, 0], groups, wanted)[which]
