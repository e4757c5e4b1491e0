"""One process at a time makes a file, however many want it."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from pagkit.data.files import alone

pytest.importorskip("fcntl")


def stay(path: Path, after: float, during: float, told: Queue) -> None:
    time.sleep(after)
    with alone(path):
        entered = time.monotonic()
        time.sleep(during)
        told.put((entered, time.monotonic()))


def test_one_that_does_not_wait_is_refused(tmp_path: Path) -> None:
    with alone(tmp_path / "made"), pytest.raises(ValueError, match="another process is at work on .*made; wait for its end, or name"):
        with alone(tmp_path / "made", wait=False):
            pass
    with alone(tmp_path / "made", wait=False):
        pass
    assert not list(tmp_path.iterdir())


def test_one_that_waited_is_alone_too(tmp_path: Path) -> None:
    """The second waits for the first, whose end takes the lock's file away; the third comes after that, while the second is inside."""
    start = multiprocessing.get_context("fork")
    told = start.Queue()
    plan = ((0.0, 0.3), (0.1, 0.6), (0.5, 0.1))
    started = [start.Process(target=stay, args=(tmp_path / "made", *when, told)) for when in plan]
    for process in started:
        process.start()
    spans = sorted(told.get(timeout=30) for _ in started)
    for process in started:
        process.join()
    assert all(left <= entered for (_, left), (entered, _) in zip(spans, spans[1:], strict=False))
    assert not list(tmp_path.iterdir())
