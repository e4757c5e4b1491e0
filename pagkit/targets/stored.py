"""A large tensor in a file that is mapped into memory: only the rows that are asked for are read."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..data.files import alone, whole


def int8(path: Path, shape: Sequence[int], fill: Callable[[Tensor], None]) -> Tensor:
    """The tensor of int8 in the file ``path``.

    Where there is no such file, ``fill`` is given a tensor of this shape to write to, in a file that gets its name when it is whole. Of
    the processes of one machine the first does this, and the others wait.

    Raises:
        OSError: the file cannot be written, or the disk has too little room for it.
        ValueError: the file is of another size.
    """
    size = math.prod(shape)
    if not path.is_file():
        with alone(path):
            if not path.is_file():  # nobody made it meanwhile
                with whole(path) as (handle, temporary):
                    if hasattr(os, "posix_fallocate"):
                        os.posix_fallocate(handle, 0, size)  # a full disk says so here, not while the memory is written
                    fill(torch.from_file(str(temporary), shared=True, size=size, dtype=torch.int8).view(*shape))
    if path.stat().st_size != size:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; expected {size}; delete it, and it is made anew")
    return torch.from_file(str(path), shared=False, size=size, dtype=torch.int8).view(*shape)
