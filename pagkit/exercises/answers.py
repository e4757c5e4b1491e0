"""What an answer may be: of the type asked for, or an error that names what was found; a shape, or words that say which was expected."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..data.defaults import plain_defaults


@contextmanager
def as_usual() -> Iterator[None]:
    """Inside, torch has its own defaults and keeps gradients, whatever the reader's notebook is in: ``no_grad`` or inference mode."""
    with plain_defaults(), torch.inference_mode(False), torch.enable_grad():
        yield


def function(answer: object, call: str) -> Callable[..., Any]:
    """The answer, if it can be called. It gets copies of tensors and models, so what it writes into is not what it is judged by.

    Raises:
        TypeError: it cannot; the error shows ``call``, the call that was expected.
    """
    if not callable(answer) or isinstance(answer, type):
        raise TypeError(f"the answer is {described(answer)}; expected a function {call}")
    return lambda *given: answer(*map(_copied, given))


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    return copy.deepcopy(value) if isinstance(value, nn.Module) else value


def numbers(answer: object, what: str) -> list[float]:
    """The answer as floats, if it is a sequence of as many numbers as ``what`` has names, separated by commas.

    Raises:
        TypeError: it is no sequence of numbers.
        ValueError: it has another length, or a number is nan.
    """
    names = what.split(", ")
    if isinstance(answer, Tensor):
        answer = answer.tolist()
    if not isinstance(answer, Sequence) or isinstance(answer, str) or not all(map(is_number, answer)):
        raise TypeError(f"the answer is {described(answer)}; expected {len(names)} numbers: ({what})")
    if len(answer) != len(names):
        raise ValueError(f"the answer has {len(answer)} numbers; expected {len(names)}: ({what})")
    found = [float(value) for value in answer]
    if unknown := [name for name, value in zip(names, found, strict=True) if math.isnan(value)]:
        raise ValueError(f"the answer has nan for {', '.join(unknown)}; expected {len(names)} numbers: ({what})")
    return found


def table(answer: object, keys: Sequence[object], what: str) -> dict[Any, float]:
    """The answer as a dict from ``keys`` to floats.

    Raises:
        TypeError: it is no dict of numbers.
        ValueError: a key is missing, or has nan; others may stand beside those asked for.
    """
    if not isinstance(answer, Mapping) or not all(map(is_number, answer.values())):
        raise TypeError(f"the answer is {described(answer)}; expected a dict with the {what}")
    if missing := [key for key in keys if key not in answer]:
        raise ValueError(f"the answer has no entry for {', '.join(map(repr, missing))}; expected the {what}")
    found = {key: float(answer[key]) for key in keys}
    if unknown := [key for key, value in found.items() if math.isnan(value)]:
        raise ValueError(f"the answer has nan for {', '.join(map(repr, unknown))}; expected the {what}")
    return found


def is_number(value: object) -> bool:
    """A number, or a tensor or array of one number; no bool."""
    count = value.numel() if isinstance(value, Tensor) else getattr(value, "size", 1)
    return not isinstance(value, bool | str) and hasattr(value, "__float__") and count == 1


def described(value: object) -> str:
    """A type, with the types of what a tuple or list holds."""
    kind = type(value).__name__
    if isinstance(value, Tensor):
        return f"a Tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {kind} of {', '.join(sorted({type(part).__name__ for part in value})) or 'nothing'}"
    return f"a {kind}" if value is not None else "None"


def misshapen(value: object, shape: tuple[int, ...], what: str, dtype: torch.dtype | None = None) -> str | None:
    """What is wrong with a tensor that the reader's function returned; None if it has this shape, its dtype, and finite entries."""
    if not isinstance(value, Tensor):
        return f"your function returns {described(value)}; expected {what}, a Tensor of shape {shape}"
    if tuple(value.shape) != shape:
        return f"your function returns shape {tuple(value.shape)}; expected {what}, of shape {shape}"
    if dtype is not None and value.dtype != dtype:
        return f"your function returns dtype {value.dtype}; expected {what}, of dtype {dtype}"
    bad = int((~torch.isfinite(value)).sum()) if value.is_floating_point() else 0
    return f"{bad} of the {value.numel()} entries are nan or infinite" if bad else None
