"""Weights on disk: safetensors, whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ..data.files import write_atomically

DIGEST = "tensors_sha256"  # its key in the header


def save_weights(path: str | Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a state dict as safetensors, with ``metadata`` and a digest of the tensors in its header, whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomically(Path(path), to_bytes(tensors, {**(metadata or {}), DIGEST: _digest(tensors)}))


def round_weights(model: nn.Module) -> None:
    """Round the parameters, in place, to numbers that float16 holds; one with a number too large for it stays as it is.

    What is measured then is what a file of half the size keeps: see :func:`halved`. Buffers are small and stay.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            half = parameter.half()
            if half.isfinite().all():
                parameter.copy_(half)


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with each tensor of floating-point numbers in float16 where that changes none of them."""

    def fits(value: Tensor) -> bool:
        return value.is_floating_point() and torch.equal(value.half().to(value.dtype), value)

    return {name: value.half() if fits(value) else value for name, value in state.items()}


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What :func:`save_weights` wrote: the state dict, on the CPU, and the metadata.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole safetensors file, or tensors that are not those of the digest in its header, where there is one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    written = metadata.pop(DIGEST, None)
    if written is not None and written != (found := _digest(state)):
        raise ValueError(f"{path} is damaged: its tensors have the digest {found[:12]}; expected {written[:12]}, as its header says")
    return state, metadata


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and numbers, whatever the order of the tensors."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
