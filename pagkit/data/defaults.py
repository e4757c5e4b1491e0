"""torch's own defaults, float32 on the CPU, whatever the caller's are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def plain_defaults() -> Iterator[None]:
    """Tensors made inside are float32 and on the CPU unless their dtype or device is named. The caller's defaults are put back."""
    dtype = torch.get_default_dtype()
    with nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu"):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
