"""Weights on disk: safetensors, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from ..data.files import write_atomically


def save_weights(path: str | Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a state dict as safetensors, with ``metadata`` in its header, whole or not at all."""
    write_atomically(Path(path), to_bytes({name: value.detach().cpu().contiguous() for name, value in state.items()}, metadata))


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What :func:`save_weights` wrote: the state dict, on the CPU, and the metadata.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
