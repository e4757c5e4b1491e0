"""The benchmarks at toy size: both sides agree, and where they do not, nothing is timed or written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.benchmarks import __main__ as bench
from tests.benchmarks import tried
from tests.benchmarks.compare import Benchmark, Differ, check


def test_both_sides_of_every_benchmark_agree_and_the_file_is_whole(tmp_path: Path, capsys) -> None:
    assert bench.run(bench.TOY, tmp_path / "b.json", seconds=0, memory=False) == 0
    found = json.loads((tmp_path / "b.json").read_text())
    names = [row["name"] for row in found["benchmarks"]]
    assert {"PAG step, 10 classes", "PAG step, 2 classes", "slope step", "score-based directions"} <= set(names)
    assert all(row["ours_ms"] > 0 and row["ratio_theirs"] > 0 and row["rounds"] >= 3 for row in found["benchmarks"])
    assert len(capsys.readouterr().out.splitlines()) >= len(names)


def test_other_ways_to_take_a_step_come_near_it() -> None:
    """The compiler's way apart, which takes a minute."""
    sides = {key: side for key, side in tried.ways(**bench.TOY["steps"]).items() if key[0] != "compiled with inductor"}
    rows = tried.timed(sides, rounds=1)
    assert len(rows) == len(sides) and all(row["cpu_ratio"] > 0 for row in rows)
    assert all((row["apart"] == 0) == (row["name"] == tried.AS_IT_IS) for row in rows)


@pytest.mark.parametrize("wrong", [torch.tensor([1.0, 2.1]), torch.tensor([1.0, torch.nan]), torch.ones(3)])
def test_two_sides_that_differ_are_refused(wrong: torch.Tensor, tmp_path: Path, monkeypatch, capsys) -> None:
    case = Benchmark("sums", "other sums", lambda: [wrong], lambda: [torch.tensor([1.0, 2.0])])
    with pytest.raises(Differ, match="sums: "):
        check(case)
    monkeypatch.setattr(bench, "benchmarks", lambda sizes: iter([case]))
    assert bench.run({}, tmp_path / "b.json", seconds=0) == 1
    assert "bench: sums: " in capsys.readouterr().err and not list(tmp_path.iterdir())
