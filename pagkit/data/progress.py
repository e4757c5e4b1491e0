"""One kind of progress bar, for everything that takes long."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")


def progress_bar(items: Iterable[T], what: str, unit: str, *, show: bool = True) -> tqdm[T]:
    """A bar over ``items`` that appears after two seconds; never when ``show`` is False or TQDM_DISABLE is set to 1."""
    return tqdm(items, desc=what, unit=unit, delay=2, disable=not show or os.environ.get("TQDM_DISABLE") == "1")
