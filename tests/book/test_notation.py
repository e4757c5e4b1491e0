"""The notation: each symbol of its tables stands in one row, and so has one meaning there."""

import re
from collections import Counter

import pytest

from tests.helpers import BOOK

TEXT = (BOOK / "notation.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| *(?P<cell>[^|]*[^|\s-][^|]*?) *\|", flags=re.M)  # the first column, but for the rules under the heads
RELATION = re.compile(r"=|\\(?:in|ne|ge|le)\b")


def symbols(cell: str) -> list[str]:
    """What a first column introduces: what stands left of a relation, several with commas between them; without blanks and braces."""
    found = []
    for formula in re.findall(r"\$([^$]+)\$", cell) or [cell]:
        found += re.split(r",\\ ", RELATION.split(formula)[0])
    return [re.sub(r"[\s{}]", "", symbol) for symbol in found]


def listed(text: str) -> Counter[str]:
    cells = (match["cell"] for match in ROW.finditer(text))
    return Counter(symbol for cell in cells if cell != "symbol" for symbol in symbols(cell))


def test_each_symbol_stands_in_one_row() -> None:
    found = listed(TEXT)
    assert {r"\varepsilon", "x", "y_t", r"\haty(x)", "r(x)", "r_c", r"\bar\alpha_t", "PGD"} <= set(found)
    assert [symbol for symbol, rows in found.items() if rows > 1] == []


@pytest.mark.parametrize(
    "row", [r"| $r(x)$ | a ratio | |", r"| $\lambda = 1$ | a length | |", r"| $a$, $r_{c}$ | a row | |", "| AT | a time |"]
)
def test_a_second_meaning_would_be_found(row: str) -> None:
    assert max(listed(f"{TEXT}\n{row}\n").values()) == 2
