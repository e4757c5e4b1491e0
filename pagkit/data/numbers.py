"""Whole numbers as arguments: Python's and NumPy's alike, and anything else refused in words."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any


def whole(name: str, value: Any, at_least: int | None = None, at_most: int | None = None) -> int:
    """The argument ``name``, a whole number of Python, NumPy or torch, as Python's own.

    Raises:
        TypeError: something else, such as 10.0, True or "10".
        ValueError: below ``at_least`` or above ``at_most``.
    """
    limits = "" if at_least is None else f"at least {at_least}" if at_most is None else f"{at_least} to {at_most}"
    try:
        if isinstance(value, bool):
            raise TypeError
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected a whole number{limits and ', '}{limits}") from None
    if (at_least is not None and found < at_least) or (at_most is not None and found > at_most):
        raise ValueError(f"{name} is {value}; expected {limits}")
    return found


def wholes(name: str, values: Any) -> tuple[int, ...]:
    """The argument ``name``, a list, tuple or array of whole numbers, as a tuple of Python's own.

    Raises:
        TypeError: a single number, a text, or items that are no whole numbers.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} is {values!r}; expected several whole numbers, such as [32] or [32, 64]")
    return tuple(whole(f"{name}[{i}]", value) for i, value in enumerate(values))
