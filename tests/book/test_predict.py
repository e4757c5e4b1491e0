"""A small page with two questions, as Sphinx makes it and as a reader meets it: by keyboard, without JavaScript, on paper."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from pagkit import data, lab, models
from tests.helpers import BOOK

QUESTION = ":::{predict}\nHow much is $1 + 1$?\n\n- one\n- two\n:::"
KERNEL = {
    "kernelspec": {"name": "python3", "display_name": "Python 3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
CONF = """import sys
sys.path.insert(0, {ext!r})
extensions = ["myst_nb", "predict"]
nb_execution_mode, myst_enable_extensions = "off", ["colon_fence"]
html_theme, html_static_path, master_doc = "basic", ["assets"], "page"
"""


def page(folder: Path, *cells, expect: int = 0) -> str:
    """The page that Sphinx makes of a notebook, or what it says against it."""
    folder.mkdir(exist_ok=True)
    (folder / "conf.py").write_text(CONF.format(ext=str(BOOK / "_ext")))
    (folder / "assets").mkdir()
    for name in ("predict.js", "predict.css"):
        shutil.copy(BOOK / "_assets" / name, folder / "assets")
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), folder / "page.ipynb")
    run = subprocess.run([sys.executable, "-m", "sphinx", "-W", "-q", folder, folder / "html"], capture_output=True, text=True)
    assert run.returncode == expect, run.stderr
    return run.stderr if expect else (folder / "html" / "page.html").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    toy = data.load("three-modes", train_per_class=60, test_per_class=60)
    plane = lab.plane({"one": models.build("mlp", toy, hidden=[8], normalize=40)}, toy.test, name="p").html()
    folder = tmp_path_factory.mktemp("predict")
    page(
        folder,
        new_markdown_cell("# A page\n\n" + QUESTION),
        new_code_cell("x = 1", id="quiet"),
        new_code_cell("print(1 + x)", id="sum", outputs=[new_output("stream", text="the sum is 2\n")]),
        new_markdown_cell("**Two.** One and one.\n\nMore.\n\n" + QUESTION.replace("How", "Play: how")),
        new_code_cell("lab", id="lab", outputs=[new_output("display_data", {"text/html": plane, "text/plain": "lab"})]),
        new_markdown_cell("**Two** again."),
    )
    return folder / "html" / "page.html"


def test_the_page_holds_plain_folds_with_fixed_names(built: Path) -> None:
    html = built.read_text()
    folds = re.findall(r'<div class="cell_output docutils container">\s*<details class="predict-fold" data-question="(.*?)"', html)
    assert folds == ["predict-1", "predict-2"], "the cell without an output has no fold"
    assert html.index('<details class="predict-fold"') < html.index("the sum is 2")
    assert re.search(r'<p class="predict-answer" id="predict-1-answer"><strong>Two.</strong>', html)
    assert html.count('<ul class="predict-answers') == 2 and "<details open" not in html


def test_a_question_without_answers_is_an_error(tmp_path: Path) -> None:
    said = page(tmp_path, new_markdown_cell("# A page\n\n:::{predict}\nHow much?\n\n- one\n:::"), expect=2)
    assert "a {predict} asks, and ends in a list of two to four answers" in said


def test_a_reader_predicts_then_looks(browser, built: Path) -> None:
    tab = browser.new_page()
    tab.set_default_timeout(20_000)
    tab.goto(built.as_uri())
    first, fold, answer = (tab.locator(s) for s in ("#predict-1", "details.predict-fold", "#predict-1-answer"))
    assert not tab.get_by_text("the sum is 2").is_visible() and answer.get_attribute("hidden") == "until-found"
    assert tab.get_by_text("More.").is_visible() and tab.get_by_text("print").is_visible(), "the code is not folded"
    assert first.get_by_role("group", name="Your prediction").get_by_role("button").all_inner_texts() == ["one", "two"]
    first.get_by_role("button", name="one").focus()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert tab.get_by_text("the sum is 2").is_visible() and answer.get_attribute("hidden") is None
    assert first.get_by_role("status").inner_text().startswith("You said: two. The result below is open")
    assert first.get_by_role("button", pressed=True).inner_text() == "two"
    first.get_by_role("button", name="one").click(force=True)  # a prediction stands
    assert first.get_by_role("status").inner_text().startswith("You said: two.")
    assert not fold.nth(1).evaluate("fold => fold.open"), "the other question is still asked"
    assert tab.locator("[data-lab]").get_attribute("data-ready") is None
    tab.locator("#predict-2").get_by_role("button", name="two").click()
    tab.wait_for_function("document.querySelector('[data-lab]').dataset.ready")
    tab.reload()
    assert not tab.get_by_text("the sum is 2").is_visible(), "a prediction is kept for the visit only"
    tab.locator("summary").first.click()  # who will not guess may look
    tab.wait_for_function("!document.getElementById('predict-1-answer').hidden")
    assert first.get_by_role("status").inner_text() == ""
    tab.close()


def test_without_javascript_it_is_a_plain_fold_and_on_paper_it_is_open(browser, built: Path) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        tab = context.new_page()
        tab.goto(built.as_uri())
        assert tab.locator("#predict-1 li").all_inner_texts() == ["one", "two"]
        assert not tab.get_by_text("the sum is 2").is_visible() and tab.locator("#predict-1-answer").is_visible()
        tab.locator("summary").first.click()
        assert tab.get_by_text("the sum is 2").is_visible()
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(built.as_uri())
        tab.emulate_media(media="print")
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert tab.get_by_text("the sum is 2").is_visible() and tab.get_by_text("One and one.").is_visible()
        tab.evaluate("dispatchEvent(new Event('afterprint'))")
        tab.emulate_media(media="screen")
        assert (
            not tab.get_by_text("the sum is 2").is_visible() and tab.locator("#predict-1-answer").get_attribute("hidden") == "until-found"
        )
