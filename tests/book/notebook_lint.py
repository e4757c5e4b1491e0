"""What a notebook of the book must look like. A rule takes a notebook and returns what is wrong with it."""

import itertools
import math
import re
from collections.abc import Iterator

import nbformat
from nbformat import NotebookNode

from .reading_time import reading

MAX_BYTES = 1_500_000
MAX_LINES, MAX_COLUMNS = 25, 88
HEADINGS = [
    "## The idea in words",
    "## The idea in mathematics",
    "## The idea in code",
    "## Take-aways",
    "## Exercises",
    "## What next",
]
CARD = ["**You will learn**", "**You need**", "**Time**"]
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<)\]$}-])/[A-Za-z][\w.-]*/[\w.-]+|\b[A-Z]:\\\w+")
DATA = re.compile(r'<script type="application/json">.*?</script>|;base64,[\w+/=]+', flags=re.S)  # a lab's: letters, not words
EXERCISE = re.compile(r"\{exercise\}[^\n]*\n(?::\w+:[^\n]*\n)*?:label: (\S+)")
LEVELS = ("warm-up", "practice", "research")
LEVEL_AND_HINT = rf"\n\n\*Level: (?:{'|'.join(LEVELS)})\.\* (?:(?!\n:::).)*\n:::\n\n:::{{hint}}\n:class: dropdown\n\n\S"
PREDICT = re.compile(r"^:::\{predict\}\n(?P<question>.*?)\n\n(?P<answers>- .*?)\n:::$", flags=re.M | re.S)
ANSWER = re.compile(r"\*\*(\S[^*]*)\*\*[^\n]*\S")  # the paragraph after a result begins with the answer, in bold, and goes on
SOLUTION = re.compile(r"\{solution-start\} (\S+)\n(?P<options>(?::\w+:[^\n]*\n)*)")


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def markdown(nb: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")


def outputs(nb: NotebookNode) -> Iterator[tuple[NotebookNode, NotebookNode]]:
    """Every (cell, output) of the notebook."""
    return ((cell, output) for cell in code_cells(nb) for output in cell.outputs)


def texts(output: NotebookNode) -> list[str]:
    """The texts of one output: a stream, or the text parts of a display."""
    return [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]


# Rules for every notebook.


def executed_in_order(nb: NotebookNode) -> list[str]:
    counts = [cell.execution_count for cell in code_cells(nb)]
    if counts == list(range(1, len(counts) + 1)):
        return []
    return [f"execution counts are {counts}, not 1 to {len(counts)}: run `make notebooks`"]


def python3_kernel(nb: NotebookNode) -> list[str]:
    name = nb.metadata.get("kernelspec", {}).get("name")
    return [] if name == "python3" else [f"the kernel is {name!r}, not 'python3'"]


def no_error_or_stderr(nb: NotebookNode) -> list[str]:
    bad = {cell.id for cell, o in outputs(nb) if o.output_type == "error" or o.get("name") == "stderr"}
    return [f"cell {name} stores an error or what it wrote to stderr" for name in sorted(bad)]


def no_svg(nb: NotebookNode) -> list[str]:
    return [f"cell {cell.id} stores an SVG: use PNG" for cell, o in outputs(nb) if "image/svg+xml" in o.get("data", {})]


def no_widgets(nb: NotebookNode) -> list[str]:
    """A widget's state belongs to a kernel that is gone: ``pagkit.lab.live`` stores a figure in its place."""
    bad = [cell.id for cell, o in outputs(nb) if any("widget" in kind for kind in o.get("data", {}))]
    return [f"cell {name} stores a widget" for name in bad] + ["the notebook stores widgets"] * ("widgets" in nb.metadata)


def small(nb: NotebookNode) -> list[str]:
    size = len(nbformat.writes(nb).encode())
    return [] if size <= MAX_BYTES else [f"{size} bytes; at most {MAX_BYTES}: draw fewer or smaller figures"]


def no_absolute_path(nb: NotebookNode) -> list[str]:
    found = [(cell, cell.source) for cell in nb.cells]
    found += [(cell, DATA.sub("", text)) for cell, output in outputs(nb) for text in texts(output)]
    return [f"cell {cell.id} names the path {m[0]!r}" for cell, text in found if (m := ABSOLUTE_PATH.search(text))]


def short_cells(nb: NotebookNode) -> list[str]:
    problems = []
    for cell in code_cells(nb):
        lines = cell.source.splitlines()
        if len(lines) > MAX_LINES:
            problems.append(f"cell {cell.id} has {len(lines)} lines; at most {MAX_LINES}")
        if (width := max(map(len, lines), default=0)) > MAX_COLUMNS:
            problems.append(f"cell {cell.id} has a line of {width} characters; at most {MAX_COLUMNS}")
        if cell.source.rstrip().endswith(";"):
            problems.append(f"cell {cell.id} ends in a semicolon; write _ = f() instead")
    return problems


def images_have_alt_text(nb: NotebookNode) -> list[str]:
    bare = {
        cell.id
        for cell, output in outputs(nb)
        if any(kind.startswith("image/") for kind in output.get("data", {}))
        and not cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip()
    }
    return [f'cell {name} draws without {{"mystnb": {{"image": {{"alt": ...}}}}}} in its metadata' for name in sorted(bare)]


def unique_ids(nb: NotebookNode) -> list[str]:
    ids = [cell.get("id") for cell in nb.cells]
    twice = sorted({str(name) for name in ids if ids.count(name) > 1 or not name})
    return [f"cell ids missing or used twice: {', '.join(twice)}"] if twice else []


# Rules for chapters: the template, scripts/chapter_template.ipynb.


def opens_with_card(nb: NotebookNode) -> list[str]:
    first = nb.cells[0].source
    wanted = [":class: chapter-card", *CARD]
    problems = [f"the first cell has no {text!r}" for text in wanted if text not in first]
    if not re.search(r"^# \d+\. \S", first, flags=re.M):
        problems.append("the first cell has no title of the form '# 3. Name'")
    return problems


def card_tells_the_time(nb: NotebookNode) -> list[str]:
    """The time to read as reading_time.py counts it, exercises and labs apart, in steps of five minutes, rounded up."""
    said, counted = re.search(r"^\*\*Time\*\* (\d+) minutes to read", nb.cells[0].source, flags=re.M), reading(nb)
    wanted = 5 * math.ceil(counted.minutes / 5)
    return [] if said and int(said[1]) == wanted else [f"the card does not say '{wanted} minutes to read' ({counted})"]


def headings_in_order(nb: NotebookNode) -> list[str]:
    found = re.findall(r"^## .*$", markdown(nb), flags=re.M)
    places = [next((i for i, line in enumerate(found) if line.startswith(name)), None) for name in HEADINGS]
    problems = [f"no heading {name!r}" for name, place in zip(HEADINGS, places, strict=True) if place is None]
    if not problems and places != sorted(places):
        problems.append(f"the headings stand in another order than {', '.join(HEADINGS)}")
    return problems


def asks_before_it_shows(nb: NotebookNode) -> list[str]:
    asks = [i for i, cell in enumerate(nb.cells) if cell.cell_type == "markdown" and ":::{predict}" in cell.source]
    if not asks:
        return ["no 'Predict, then look' question (:::{predict})"]
    answered = [i for i in asks if i + 1 < len(nb.cells) and nb.cells[i + 1].cell_type == "code"]
    return [f"no code cell follows the question in cell {nb.cells[i].id}" for i in asks if i not in answered]


def shows(cell: NotebookNode) -> bool:
    """Whether a code cell puts something on the page."""
    left_out = {"remove-cell", "remove-output"} & set(cell.metadata.get("tags", ()))
    kinds = [kind for output in cell.outputs for kind in output.get("data", {"text": ""})]
    return not left_out and any(not kind.startswith("application/papermill") for kind in kinds)


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().lower()


def questions_are_answered(nb: NotebookNode) -> list[str]:
    """Two to four answers to choose from; then code that shows something; then a paragraph that begins with one of the answers."""
    problems = []
    for i, cell in enumerate(nb.cells):
        if cell.cell_type != "markdown":
            continue
        if ":class: predict" in cell.source:
            problems.append(f"cell {cell.id} asks in an admonition: write :::{{predict}} with a list of answers")
        if ":::{predict}" not in cell.source:
            continue
        asked = PREDICT.findall(cell.source)
        answers = re.split(r"^- ", asked[0][1], flags=re.M)[1:] if len(asked) == 1 else []
        if not 2 <= len(answers) <= 4 or not cell.source.rstrip().endswith(":::"):
            problems.append(f"cell {cell.id} does not end in one question with a list of two to four answers")
        following = list(itertools.takewhile(lambda cell: cell.cell_type == "code", nb.cells[i + 1 :]))
        if not any(map(shows, following)):
            problems.append(f"nothing is shown under the question in cell {cell.id}")
        after = nb.cells[i + 1 + len(following)] if i + 1 + len(following) < len(nb.cells) else None
        said = after and ANSWER.match(after.source.split("\n\n")[0].replace("\n", " "))
        if not said or not any(words(answer) in words(said[1]) for answer in answers):
            problems.append(f"the text after the result of cell {cell.id} does not begin with one of its answers, **in bold**, and go on")
    return problems


def exercises_have_a_level_and_a_hint(nb: NotebookNode) -> list[str]:
    text, bare = markdown(nb), []
    for label in EXERCISE.findall(text):
        start = text.index(f":label: {label}\n") + len(f":label: {label}")
        if not re.match(r"(?:\n:\w+:[^\n]*)*" + LEVEL_AND_HINT, text[start:], flags=re.S):
            bare.append(label)
    wanted = f"'*Level: {', '.join(LEVELS[:-1])} or {LEVELS[-1]}.*' first, and a folded hint behind it"
    return [f"exercise {label} lacks {wanted}" for label in bare]


def three_exercises_with_folded_solutions(nb: NotebookNode) -> list[str]:
    exercises, problems, solved = EXERCISE.findall(markdown(nb)), [], []
    if len(exercises) != 3:
        problems.append(f"{len(exercises)} exercises with a label ({', '.join(exercises)}); expected 3")
    for i, cell in enumerate(nb.cells):
        if cell.cell_type != "markdown" or not (match := SOLUTION.search(cell.source)):
            continue
        solved.append(match[1])
        if ":class: dropdown" not in match["options"]:
            problems.append(f"the solution of {match[1]} is not folded (:class: dropdown)")
        kinds = []
        for following in nb.cells[i + 1 :]:
            if "{solution-end}" in following.source:
                break
            kinds.append(following.cell_type)
        if "code" not in kinds:
            problems.append(f"the solution of {match[1]} has no code cell before its {{solution-end}}")
    if sorted(solved) != sorted(exercises):
        problems.append(f"exercises {sorted(exercises)}, but solutions of {sorted(solved)}")
    return problems


NOTEBOOK_RULES = [
    executed_in_order,
    python3_kernel,
    no_error_or_stderr,
    no_svg,
    no_widgets,
    small,
    no_absolute_path,
    short_cells,
    images_have_alt_text,
    unique_ids,
]
CHAPTER_RULES = [opens_with_card, card_tells_the_time, headings_in_order, asks_before_it_shows, three_exercises_with_folded_solutions]
CHAPTER_RULES += [questions_are_answered, exercises_have_a_level_and_a_hint]
