"""How a model is run: in training or eval mode, with gradients where they are needed, and put back as found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or eval mode inside the block; on leaving, each submodule is in the mode it was in.

    A model has one mode for all threads, and torch one random state, so give each thread that trains, attacks or measures a copy of its
    own (``copy.deepcopy``), or let them take turns.

    Raises:
        TypeError: not a module.
    """
    refuse_function(model)
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Eval mode and :func:`gradients_on`."""
    with gradients_on(model), mode(model, training=False):
        yield


@contextmanager
def gradients_on(model: nn.Module) -> Iterator[None]:
    """Gradients on whatever the caller has switched off: inside ``no_grad`` and ``inference_mode`` too.

    Raises:
        ValueError: the model's parameters were made inside ``inference_mode``, where nothing can be differentiated.
    """
    refuse_inference(model)
    with torch.inference_mode(False), torch.enable_grad():
        yield


def refuse_function(model: nn.Module) -> None:
    """Refuse what is no ``torch.nn.Module``, such as a function, with a TypeError."""
    if not isinstance(model, nn.Module):
        found = getattr(model, "__name__", type(model).__name__)
        raise TypeError(f"the model is {found!r}; expected a torch.nn.Module: wrap a function in one whose forward calls it")


def refuse_inference(model: nn.Module) -> None:
    """Refuse a model whose parameters were made inside ``inference_mode``, with a ValueError."""
    if isinstance(model, nn.Module) and made_in_inference(model):
        raise ValueError("the model's parameters were made inside torch.inference_mode; expected one built or loaded outside it")


def made_in_inference(model: nn.Module) -> bool:
    """Whether a parameter was made inside ``inference_mode``."""
    return any(p.is_inference() for p in model.parameters())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's global random state, from which a model may draw, as ``seed`` makes it; on leaving it is as it was."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []  # no GPU is woken for a model on the CPU
    with torch.random.fork_rng(devices=devices):
        for generator in (torch.default_generator, *(torch.cuda.default_generators[device] for device in devices)):
            generator.manual_seed(seed)
        yield


def ordinary(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors themselves, or copies of those that were made inside ``inference_mode``. Call it outside that mode."""
    return tuple(tensor.clone() if tensor.is_inference() else tensor for tensor in tensors)
