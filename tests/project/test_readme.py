"""What the README shows works as written: its Python, its commands, its links and its picture."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pagkit import cli
from tests.helpers import ROOT

README = (ROOT / "README.md").read_text()
sys.path.insert(0, str(ROOT / "scripts"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


def commands() -> list[list[str]]:
    return [line.removeprefix("$ ").split() for block in blocks("console") for line in block.splitlines()]


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert re.fullmatch(r"\d+/500 = \d+\.\d % \[\d+\.\d, \d+\.\d\]\n", capsys.readouterr().out)


def test_the_commands_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    asked = {words[1] for words in commands() if words[0] == "make"}
    assert asked == {"book", "test"} and asked <= targets
    calls = [words[1:] for words in commands() if words[0] == "pagkit"]
    assert [call[0] for call in calls] == ["recipes", "run"]
    for call in calls:
        assert cli.main(call) == 0
    assert (tmp_path / "runs" / "three-modes-standard-seed0" / "result.json").is_file()


def test_the_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_the_pictures_are_those_that_the_chapter_stores() -> None:
    import readme_picture

    for stored, path in ((readme_picture.figure(), readme_picture.PICTURE), (readme_picture.card(), readme_picture.CARD)):
        shown, again = Image.open(path).convert("RGB"), "run `python scripts/readme_picture.py`"
        assert stored.size == shown.size, again
        assert np.abs(np.asarray(stored, dtype=float) - np.asarray(shown, dtype=float)).mean() < 3, again
        assert path.stat().st_size <= 150_000
