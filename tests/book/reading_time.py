"""How long a chapter takes to read, exercises apart: 180 words or 12 visible lines of code a minute, 40 seconds an equation or figure."""

import re
from dataclasses import dataclass

from nbformat import NotebookNode

HIDDEN = {"remove-cell", "remove-input", "hide-input", "hide-cell"}
EQUATION = re.compile(r"\$\$.*?\$\$|^(:{3,}|`{3,})\{math\}.*?^\1$", flags=re.M | re.S)
FIGURE = re.compile(r"^(?::{3,}|`{3,})\{(?:figure|image)\}|!\[", flags=re.M)
MARKUP = re.compile(
    r"^(?::{3,}|`{3,}).*$"  # the first and last line of a directive
    r"|^:[\w-]+:.*$"  # its options
    r"|^\([\w-]+\)=$"  # a label
    r"|\]\([^)]*\)"  # where a link leads
    r"|\{[\w:-]+\}`"  # the name of a role
    r"|<[^>\s][^>]*>",  # HTML, and the target of a role
    flags=re.M,
)


@dataclass(frozen=True)
class Reading:
    """What a page shows: words, lines of code, equations set apart, figures."""

    words: int
    lines: int
    equations: int
    figures: int

    @property
    def minutes(self) -> float:
        return self.words / 180 + self.lines / 12 + (self.equations + self.figures) * 40 / 60


def reading(nb: NotebookNode) -> Reading:
    words = lines = equations = figures = 0
    exercises = False
    for cell in nb.cells:
        tags = set(cell.metadata.get("tags", ()))
        if cell.cell_type == "code" and not exercises:
            lines += 0 if tags & HIDDEN else sum(bool(line.strip()) for line in cell.source.splitlines())
            if not tags & {"remove-cell", "remove-output"}:
                figures += sum(kind.startswith("image/") for output in cell.outputs for kind in output.get("data", {}))
        elif cell.cell_type == "markdown":
            for part in re.split(r"^(?=## )", cell.source, flags=re.M):
                exercises = part.startswith("## Exercises") if part.startswith("## ") else exercises
                if not exercises:
                    equations += len(EQUATION.findall(part))
                    figures += len(FIGURE.findall(part))
                    words += count_words(part)
    return Reading(words, lines, equations, figures)


def count_words(text: str) -> int:
    """Words of markdown without its markup; a formula within a line counts as one."""
    return len(re.findall(r"\w[\w'.,-]*", re.sub(r"\$[^$]+\$", " x ", MARKUP.sub(" ", EQUATION.sub(" ", text)))))
