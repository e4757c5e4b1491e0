"""One answer, one verdict."""

from __future__ import annotations

from dataclasses import dataclass

from . import aligning, attacking, defences, judging
from .answers import as_usual

CHECKS = attacking.CHECKS | aligning.CHECKS | judging.CHECKS | defences.CHECKS
KEYS = tuple(CHECKS)


@dataclass(frozen=True)
class Verdict:
    """What was found. It is true where the answer is right, and reads as a sentence.

    Attributes:
        key: the exercise, ``"2.3"``.
        right: whether the answer passes.
        says: what is wrong with it, or for a defence what is left of it.
    """

    key: str
    right: bool
    says: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{self.key}: {'right' if self.right else 'not yet'}{': ' if self.says else ''}{self.says}."


def check(key: str, answer: object) -> Verdict:
    """Check an answer to an exercise of the book.

    Args:
        key: the exercise's number, ``"2.3"``.
        answer: what the exercise asks for: a function, numbers, a dict, or for a defence attacked images. The exercise says which.
            A function is called on copies of small made-up inputs whose answer is known, in float32 and with gradients, as torch
            is at first: a ``no_grad`` or another default around this call counts for nothing.

    Raises:
        TypeError: the key is no string, or the answer has another type than the exercise asks for.
        ValueError: no exercise with a check has this number, or the answer lacks an entry or has nan for one.
    """
    if not isinstance(key, str):
        raise TypeError(f"key is {key!r}; expected the number of an exercise as text, such as '2.3'")
    if key not in CHECKS:
        raise ValueError(f"no check for exercise {key!r}; expected one of {', '.join(KEYS)}")
    with as_usual():
        right, says = CHECKS[key](answer)
    return Verdict(key, right, says)
