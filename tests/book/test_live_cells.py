"""The chapters' cells with sliders: each slider and menu calls the library, and what is drawn follows."""

from __future__ import annotations

import json
import re
from typing import Any

import matplotlib
import pytest
import torch

from pagkit import data, lab, training
from pagkit.diffusion import DDPM
from tests.helpers import BOOK, run_cells


@pytest.fixture(autouse=True)
def in_the_book(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed: live cells are not tried")
    monkeypatch.chdir(BOOK)
    matplotlib.use("Agg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: matplotlib.pyplot.close("all"))


def source(notebook: str, cell: str) -> str:
    cells = json.loads((BOOK / notebook).read_text())["cells"]
    return next("".join(c["source"]) for c in cells if c["id"] == cell)


def opened(notebook: str, cell: str, namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The controls of a live cell by name, as in front of a reader."""
    boxes, live = [], lab.live
    monkeypatch.setattr(lab, "live", lambda draw, **controls: boxes.append(live(draw, widgets=True, **controls)))
    exec(compile(source(notebook, cell), cell, "exec"), namespace)
    return {control.description: control for control in boxes[0].children if hasattr(control, "description")}


def test_chapter_3_attacks_the_toy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = run_cells("03-pgd.ipynb", "setup") | {"lab": lab}
    controls = opened("03-pgd.ipynb", "live-pgd", names, monkeypatch)
    controls["eps"].value = 5.0
    controls["norm"].value = "linf"
    said = capsys.readouterr().out
    assert "l2, eps 15: the attack leaves" in said and "l2, eps 5: the attack leaves" in said and "linf, eps 5: the attack" in said
    assert said.count("out of reach of any") == 2 and set(controls) == {"norm", "eps", "steps", "step size"}


def test_chapter_5_paints_a_ghost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = run_cells("05-aligned-gradients.ipynb", "setup", "reader") | {"lab": lab}
    names["nets"] = {n: lab.load(f"labs/digits-{n}.safetensors", names["task"]) for n in ("standard", "adversarial")}
    controls = opened("05-aligned-gradients.ipynb", "live-paint", names, monkeypatch)
    controls["network"].value = "standard"
    controls["to"].value = 3
    controls["eps"].value = 2.5
    lines = [line for line in capsys.readouterr().out.splitlines() if " reads " in line]
    assert len(lines) == 4 and lines[0].startswith("adversarial reads") and lines[3].startswith("standard reads 3, the reader")


def test_chapter_8_asks_for_a_direction(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = run_cells("08-principled-source.ipynb", "setup", "score-difference")
    names["task"] = data.load("digits", train_per_class=20)
    torch.manual_seed(0)
    names["ddpm"] = DDPM((1, 8, 8), 10, (0.0, 1.0), widths=(16,))
    exec(compile(source("08-principled-source.ipynb", "averaged"), "averaged", "exec"), names)
    controls = opened("08-principled-source.ipynb", "live-direction", names, monkeypatch)
    controls["t"].value = 300
    controls["draws"].value = 1
    assert capsys.readouterr().out.count("cosine of the two directions:") == 3


def test_chapter_10_attacks_what_it_trained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = run_cells("10-digits.ipynb", "37a31cbc")
    names["trained"] = {n: lab.load(f"labs/digits-{n}.safetensors", names["task"]) for n in ("standard", "adversarial")}
    names["trained"]["SBG"] = names["trained"]["standard"]
    capsys.readouterr()
    controls = opened("10-digits.ipynb", "live-attack", names, monkeypatch)
    assert set(controls) == {"network", "digit", "towards", "norm", "eps", "steps"}
    controls["network"].value = "adversarial"
    controls["towards"].value = 9
    controls["norm"].value = "linf"
    lines = [line for line in capsys.readouterr().out.splitlines() if " reads " in line]
    kept = [int(re.search(r"keeps (\d+)/500", line)[1]) for line in lines]
    assert [line.split()[0] for line in lines] == ["SBG", "adversarial", "adversarial", "adversarial"]
    assert kept[0] < kept[1] == kept[2] and kept[3] == 0 and "reads 9;" in lines[3]  # 1.0 in L-infinity is the whole range


def test_chapter_13_trains_at_the_readers_price(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = run_cells("13-more-lambda.ipynb", "setup", "terms", "judge")
    with monkeypatch.context() as patch:
        load = training.Recipe.load
        patch.setattr(training.Recipe, "load", lambda *named, **changes: load(*named, **changes | {"epochs": 2}))
        model, history = names["train"](0.1, (0.0, 1.0))
    names |= {"live": {0.1: (model, history)}, "paid": {0.1: names["terms"](model)}}
    boxes, live = [], lab.live
    monkeypatch.setattr(lab, "live", lambda draw, **controls: boxes.append(live(draw, widgets=True, **controls)))
    exec(compile(source("13-more-lambda.ipynb", "live-price"), "live-price", "exec"), names)
    controls = {control.description: control for control in boxes[0].children if hasattr(control, "description")}
    assert "lambda" not in capsys.readouterr().out  # nothing is trained before the click
    controls["price"].value, controls["epochs"].value = 2.0, 2
    controls["Train"].click()
    said = capsys.readouterr().out
    assert "lambda 2: A " in said and "the best of the four has" in said and "it keeps" in said


@pytest.mark.parametrize("notebook", sorted(path.name for path in BOOK.glob("[0-9]*.ipynb")))
def test_no_widget_state_is_stored(notebook: str) -> None:
    stored = (BOOK / notebook).read_text()
    assert "application/vnd.jupyter.widget" not in stored and '"widgets"' not in stored
    cells = json.loads(stored)["cells"]
    live = [c for c in cells if c["id"].startswith("live-")]
    assert bool(live) >= (notebook[:2] in ("03", "05", "08", "10", "13"))
    assert all(any("image/png" in output.get("data", {}) for output in cell["outputs"]) for cell in live)
