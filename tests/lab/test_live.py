"""Live cells: widgets where somebody can move them, a figure elsewhere, and what they refuse."""

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from pagkit import lab
from pagkit.lab.live import answers

SETTINGS = {"eps": (0.0, 2.0, 0.05), "steps": (1, 40, 1), "norm": ["l2", "linf"]}


@pytest.fixture
def drawn():
    """A ``draw`` that notes with what it was called."""
    calls = []

    def draw(eps=0.5, steps=10, norm="l2"):
        calls.append((eps, steps, norm))
        print(f"eps {eps}, {steps} steps, {norm}")

    return draw, calls


def test_outside_a_front_end_the_defaults_are_drawn_once(drawn, capsys):
    draw, calls = drawn
    assert not answers() and lab.live(draw, **SETTINGS) is None
    assert calls == [(0.5, 10, "l2")] and capsys.readouterr().out == "eps 0.5, 10 steps, l2\n"


def test_sliders_and_menus_call_it(drawn):
    widgets = pytest.importorskip("ipywidgets", reason="ipywidgets is not installed: live cells are not tried")
    draw, calls = drawn
    eps, steps, norm, out = lab.live(draw, widgets=True, **SETTINGS).children
    assert isinstance(eps, widgets.FloatSlider) and isinstance(steps, widgets.IntSlider) and isinstance(norm, widgets.Dropdown)
    assert isinstance(out, widgets.Output) and calls == [(0.5, 10, "l2")]
    eps.value, steps.value, norm.value = 1.25, 20, "linf"
    assert calls[1:] == [(1.25, 10, "l2"), (1.25, 20, "l2"), (1.25, 20, "linf")]
    assert eps.continuous_update is False and (eps.min, eps.max, eps.step) == (0.0, 2.0, 0.05)


def test_what_takes_long_waits_for_a_click(drawn):
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed: live cells are not tried")
    draw, calls = drawn
    eps, *_, button, _ = lab.live(draw, button="Train", widgets=True, **SETTINGS).children
    eps.value = 1.0
    assert calls == [] and button.description == "Train"
    button.click()
    assert calls == [(1.0, 10, "l2")]


def test_a_notebook_stores_widgets_only_for_a_front_end_that_answers():
    source = "from pagkit import lab\nlab.live(lambda eps=0.5: print('eps', eps), eps=(0.0, 1.0, 0.1))"
    notebook = new_notebook(cells=[new_code_cell(source), new_code_cell(source)])
    # An answer that came was once noticed only when this time was over: short, so that it costs half a minute at most.
    client = NotebookClient(notebook, kernel_name="python3", timeout=30)
    client.create_kernel_manager()
    with client.setup_kernel():
        for cell, asked in enumerate((False, True)):
            client.kc.allow_stdin = asked  # what a front end says, and a program that executes notebooks does not
            client.execute_cell(notebook.cells[cell], cell)
    still, moving = (cell.outputs for cell in notebook.cells)
    assert [output.get("text") for output in still] == ["eps 0.5\n"]
    assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in moving)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": (0, 1, 1)}, "'radius' is on one side only"),
        ({"norm": ["l1"]}, r"the control 'norm' is \['l1'\]; expected \(lowest, highest, step\), or a list with 'l2' in it"),
        ({"norm": "l2"}, "the control 'norm' is 'l2'; expected"),
        ({"eps": (0.0, 2.0)}, r"the control 'eps' is \(0.0, 2.0\); expected \(lowest, highest, step\)"),
        ({"eps": (2.0, 0.0, 0.1)}, "with lowest < highest and step > 0"),
        ({"eps": (0.0, 2.0, 0.0)}, "with lowest < highest and step > 0"),
        ({"eps": (0, "two", 1)}, "expected"),
        ({"steps": (20, 40, 1)}, "steps starts at 10; expected a number from 20 to 40"),
    ],
)
def test_it_refuses_what_does_not_fit(drawn, change, message):
    draw, calls = drawn
    with pytest.raises(ValueError, match=message):
        lab.live(draw, **{**SETTINGS, **change})
    assert calls == []


def test_it_refuses_a_draw_that_does_not_say_where_to_start():
    with pytest.raises(ValueError, match="the parameter 'eps' of draw has no default"):
        lab.live(lambda eps: None, eps=(0, 1, 1))
