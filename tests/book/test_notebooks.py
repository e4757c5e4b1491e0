"""The notebooks keep to the house rules; nbval compares their numbers as conftest.py promises; executing twice changes nothing."""

import base64
import copy
import io
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tests.helpers import BOOK, ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from execute_notebooks import smaller  # noqa: E402

from . import notebook_lint as lint
from .reading_time import reading

TEMPLATE = ROOT / "scripts" / "chapter_template.ipynb"
EXECUTE = ROOT / "scripts" / "execute_notebooks.py"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


# The book's notebooks


@pytest.mark.parametrize("path", [*NOTEBOOKS, TEMPLATE], ids=lambda path: path.name)
def test_notebook_keeps_the_rules(path: Path) -> None:
    is_chapter = path == TEMPLATE or re.match(r"\d\d-", path.name)
    rules = lint.NOTEBOOK_RULES + (lint.CHAPTER_RULES if is_chapter else [])
    nb = nbformat.read(path, as_version=4)
    problems = [problem for rule in rules for problem in rule(nb)]
    assert not problems, "\n".join([path.name, *problems])


def toc_files() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


def test_the_table_of_contents_lists_every_page_once() -> None:
    pages = [path.relative_to(ROOT).with_suffix("").as_posix() for path in [*NOTEBOOKS, *BOOK.glob("*.md")]]
    assert sorted(toc_files()) == sorted(pages)


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if re.match(r"\d\d-", p.name)], ids=lambda path: path.name)
def test_the_title_has_the_number_of_the_file(path: Path) -> None:
    first = nbformat.read(path, as_version=4).cells[0].source
    assert re.search(rf"^# {int(path.name[:2])}\. ", first, flags=re.M)


def test_the_first_eight_chapters_stay_short() -> None:
    """As first read closely they took 380 minutes, with up to 378 visible lines of code in one of them."""
    read = [reading(nbformat.read(path, as_version=4)) for path in NOTEBOOKS if re.match(r"0[1-8]-", path.name)]
    assert len(read) == 8
    assert sum(chapter.minutes for chapter in read) < 300
    assert max(chapter.lines for chapter in read) <= 150


# Each rule can fail


def cell(nb, text: str):
    """The first cell whose source holds `text`."""
    return next(c for c in nb.cells if text in c.source)


def code(nb, i: int = 0):
    return lint.code_cells(nb)[i]


def swap(nb, text: str, new: str) -> None:
    target = cell(nb, text)
    target.source = target.source.replace(text, new)


BREAKS = [
    (lint.executed_in_order, lambda nb: code(nb).update(execution_count=7)),
    (lint.executed_in_order, lambda nb: code(nb).update(execution_count=None)),
    (lint.python3_kernel, lambda nb: nb.metadata.kernelspec.update(name="my-env")),
    (lint.no_error_or_stderr, lambda nb: code(nb).outputs.append(new_output("stream", name="stderr", text="x"))),
    (lint.no_error_or_stderr, lambda nb: code(nb).outputs.append(new_output("error", ename="E", evalue="", traceback=[]))),
    (lint.no_svg, lambda nb: code(nb).outputs.append(new_output("display_data", {"image/svg+xml": "<svg/>"}))),
    (lint.no_widgets, lambda nb: code(nb).outputs.append(new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}}))),
    (lint.no_widgets, lambda nb: nb.metadata.update(widgets={})),
    (lint.small, lambda nb: code(nb).update(source="#" * lint.MAX_BYTES)),
    (lint.no_absolute_path, lambda nb: code(nb).update(source="open('/data/x.csv')")),
    (lint.no_absolute_path, lambda nb: code(nb).outputs.append(new_output("stream", text="saved C:\\Users\\me"))),
    (lint.short_cells, lambda nb: code(nb).update(source="x = 1\n" * 26)),
    (lint.short_cells, lambda nb: code(nb).update(source="x" * 89)),
    (lint.short_cells, lambda nb: code(nb).update(source="plot();")),
    (lint.images_have_alt_text, lambda nb: cell(nb, "plt.show()").metadata.clear()),
    (lint.unique_ids, lambda nb: nb.cells[1].update(id=nb.cells[0].id)),
    (lint.opens_with_card, lambda nb: swap(nb, "**Time**", "Time")),
    (lint.opens_with_card, lambda nb: swap(nb, "# 0. Title", "# Title")),
    (lint.card_tells_the_time, lambda nb: swap(nb, "**Time**", "**Time** 90 minutes to read,")),
    (lint.card_tells_the_time, lambda nb: nb.cells.insert(2, new_markdown_cell("word " * 900))),
    (lint.headings_in_order, lambda nb: swap(nb, "## Take-aways", "## Summary")),
    (lint.headings_in_order, lambda nb: (swap(nb, "## What next", "## X"), swap(nb, "## The idea in words", "## What next"))),
    (lint.asks_before_it_shows, lambda nb: swap(nb, ":::{predict}", ":::{note}")),
    (lint.asks_before_it_shows, lambda nb: nb.cells.insert(nb.cells.index(cell(nb, "plt.show()")), new_markdown_cell("x"))),
    (lint.questions_are_answered, lambda nb: swap(nb, ":::{predict}", ":::{admonition} Predict\n:class: predict")),
    (lint.questions_are_answered, lambda nb: swap(nb, "- about 0.1\n- about 1\n", "")),
    (lint.questions_are_answered, lambda nb: swap(nb, "- about 60", "\n".join(["- about 60"] * 4))),
    (lint.questions_are_answered, lambda nb: cell(nb, "plt.show()").outputs.clear()),
    (lint.questions_are_answered, lambda nb: cell(nb, "plt.show()").metadata.update(tags=["remove-cell"])),
    (lint.questions_are_answered, lambda nb: swap(nb, "**About 60.**", "About 60.")),
    (lint.questions_are_answered, lambda nb: swap(nb, "**About 60.**", "**Far more.**")),
    (
        lint.questions_are_answered,
        lambda nb: swap(nb, "**About 60.** A number in prose", "**About 60.**\n\nA number in prose"),
    ),
    (lint.exercises_have_a_level_and_a_hint, lambda nb: swap(nb, "*Level: research.* ", "")),
    (lint.exercises_have_a_level_and_a_hint, lambda nb: swap(nb, "*Level: research.* ", "*Level: hard.* ")),
    (lint.exercises_have_a_level_and_a_hint, lambda nb: swap(nb, ":::{hint}\n:class: dropdown\n\nA hint", ":::{hint}\n\nA hint")),
    (lint.three_exercises_with_folded_solutions, lambda nb: swap(nb, ":label: ex-template-2", ":label: ex-other")),
    (lint.three_exercises_with_folded_solutions, lambda nb: swap(nb, "ex-template-1\n:class: dropdown", "ex-template-1\n:class: open")),
    (lint.three_exercises_with_folded_solutions, lambda nb: nb.cells.remove(cell(nb, "w.shape"))),
]


@pytest.mark.parametrize(("rule", "break_it"), BREAKS, ids=[f"{rule.__name__}-{i}" for i, (rule, _) in enumerate(BREAKS)])
def test_rule_can_fail(rule, break_it) -> None:
    good = nbformat.read(TEMPLATE, as_version=4)
    bad = copy.deepcopy(good)
    break_it(bad)
    assert rule(good) == []
    assert rule(bad)


def test_every_rule_is_seen_to_fail() -> None:
    assert {rule for rule, _ in BREAKS} == {*lint.NOTEBOOK_RULES, *lint.CHAPTER_RULES}


# Numbers within tolerance: (name, source, stored output, tolerance, whether nbval accepts it)


def stream(text: str) -> list:
    return [new_output("stream", name="stdout", text=text + "\n")]


def html(text: str) -> list:
    return [new_output("display_data", {"text/html": text, "text/plain": "<IPython.core.display.HTML object>"})]


def frames(*pixels: int) -> str:
    return f'{{"frames":"{base64.b64encode(bytes(pixels)).decode()}","n":2}}'


HTML_CELL = "from IPython.display import HTML, display\ndisplay(HTML('<td>0.4250</td>'))"
LAB_CELL = f"from IPython.display import HTML, display\ndisplay(HTML({frames(7, 200)!r}))"
STDERR_CELL = "import sys\nprint('noise', file=sys.stderr)\nprint('gain 0.5')"
NBVAL_CASES = [
    ("equal", "print('acc 0.4250')", stream("acc 0.4250"), None, True),
    ("close", "print('acc 0.4250')", stream("acc 0.4249"), None, True),
    ("far", "print('acc 0.55')", stream("acc 0.42"), None, False),
    ("other-word", "print('acc 0.42')", stream("accuracy 0.42"), None, False),
    ("padding", "print('a  9.98 b')", stream("a 10.02 b"), None, True),
    ("more-numbers", "print('1.0 2.0')", stream("1.0"), None, False),
    ("sign", "print('cos -0.42')", stream("cos 0.42"), None, False),
    ("nan", "print('loss nan')", stream("loss 0.42"), None, False),
    ("count", "print('499 of 500')", stream("498 of 500"), None, False),
    ("count-within", "print('496 of 500')", stream("500 of 500"), {"abs": 5}, True),
    ("count-beyond", "print('494 of 500')", stream("500 of 500"), {"abs": 5}, False),
    ("rate-within", "print('rate 0.46')", stream("rate 0.42"), {"rel": 0.1}, True),
    ("result", "0.4250", [new_output("execute_result", {"text/plain": "0.4249"}, execution_count=1)], None, True),
    ("html-close", HTML_CELL, html("<td>0.4249</td>"), None, True),
    ("html-far", HTML_CELL, html("<td>0.55</td>"), None, False),
    ("frames-close", LAB_CELL, html(frames(9, 197)), None, True),
    ("frames-far", LAB_CELL, html(frames(7, 190)), None, False),
    ("frames-more", LAB_CELL, html(frames(7, 200, 0)), None, False),
    ("output-lost", "pass", stream("gain 0.5"), None, False),
    ("output-new", "print('gain 0.5')", [], None, False),
    ("stderr", STDERR_CELL, stream("gain 0.5"), None, True),
]


@pytest.fixture(scope="module")
def nbval_verdicts(tmp_path_factory) -> dict[str, bool]:
    """Whether nbval, with this project's conftest.py, accepts each case."""
    folder = tmp_path_factory.mktemp("nbval")
    shutil.copy(ROOT / "conftest.py", folder)
    cells = [
        new_code_cell(source, outputs=outputs, execution_count=i, metadata={"tolerance": tolerance} if tolerance else {})
        for i, (_, source, outputs, tolerance, _) in enumerate(NBVAL_CASES, 1)
    ]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), folder / "cases.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "-c", "/dev/null"]
    run = subprocess.run([*command, "--rootdir=.", "--junitxml=out.xml", "cases.ipynb"], cwd=folder, capture_output=True, text=True)
    results = ET.parse(folder / "out.xml").findall(".//testcase")
    assert len(results) == len(NBVAL_CASES), run.stdout + run.stderr
    return {case[0]: len(result) == 0 for case, result in zip(NBVAL_CASES, results, strict=True)}


@pytest.mark.parametrize(("name", "accepted"), [(case[0], case[-1]) for case in NBVAL_CASES])
def test_nbval_tolerance(nbval_verdicts: dict[str, bool], name: str, accepted: bool) -> None:
    assert nbval_verdicts[name] == accepted


# scripts/execute_notebooks.py


def execute(*paths: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, EXECUTE, "-j", "2", *paths], capture_output=True, text=True)


def test_executing_twice_changes_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "plot.ipynb"
    sources = ["import matplotlib.pyplot as plt", "plt.plot([0, 1])\nplt.show()", "print('a', flush=True)\nprint('b')"]
    cells = [new_code_cell(source, id=f"c{i}", metadata={"keep": 1}) for i, source in enumerate(sources)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": {"name": "mine", "display_name": "x"}}), path)
    assert execute(path).returncode == 0
    first = path.read_bytes()
    run = execute(path)
    assert "unchanged" in run.stdout
    assert path.read_bytes() == first
    nb = nbformat.reads(first.decode(), as_version=4)
    assert nb.metadata.kernelspec.name == "python3"
    assert [c.id for c in nb.cells] == ["c0", "c1", "c2"]
    assert [c.metadata for c in nb.cells] == [{"keep": 1}] * 3
    assert [o.output_type for c in nb.cells for o in c.outputs] == ["display_data", "stream"]
    png = nb.cells[1].outputs[0].data["image/png"]
    assert smaller(png) == png  # packed, and packing it again changes nothing


@pytest.mark.parametrize("lowest_alpha", [255, 254])
def test_a_stored_picture_keeps_its_pixels_in_fewer_bytes(lowest_alpha: int) -> None:
    image = Image.new("RGBA", (60, 40), (10, 200, 30, 255))
    image.putpixel((7, 5), (1, 2, 3, lowest_alpha))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    before = base64.b64encode(file.getvalue()).decode()
    after = smaller(before)
    kept = Image.open(io.BytesIO(base64.b64decode(after)))
    assert len(after) < len(before) and kept.mode == ("RGB" if lowest_alpha == 255 else "RGBA")
    assert kept.convert("RGBA").tobytes() == image.tobytes()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "cell 2 (id c1): ZeroDivisionError: division by zero"),
        ("import sys; print('careful', file=sys.stderr)", "cell 2 (id c1) wrote to stderr: careful"),
    ],
)
def test_a_failing_notebook_is_named_and_left_alone(tmp_path: Path, source: str, message: str) -> None:
    path = tmp_path / "bad.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print(1)", id="c0"), new_code_cell(source, id="c1")], metadata=KERNEL), path)
    before = path.read_bytes()
    run = execute(path)
    assert run.returncode == 1
    assert f"bad.ipynb: {message}" in run.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_notebook_is_refused() -> None:
    run = execute(Path("nowhere.ipynb"))
    assert run.returncode == 2
    assert "no such notebook: nowhere.ipynb" in run.stderr
