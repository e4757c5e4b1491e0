"""Standard output and standard error of a command, also where one of them is closed or nobody reads it any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def tell(line: str) -> None:
    """Write a line to standard error, at once. No work stops because nobody reads it."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


@contextmanager
def settled() -> Iterator[None]:
    """Both streams are there within, and flushed at the end. What nobody takes is dropped, or Python would complain of it when it ends."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as by `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
