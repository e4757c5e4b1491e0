"""Every figure that the page with every result shows, worked out again from the files, and every published one looked up."""

from __future__ import annotations

import json
import math
import re
import statistics
from html.parser import HTMLParser
from typing import Any

import nbformat
import pytest
import yaml

from tests.helpers import BOOK

FILES = [json.loads(path.read_text()) for path in sorted((BOOK / "results").rglob("*.json"))]
PUBLISHED = yaml.safe_load((BOOK / "results" / "published.yaml").read_text())
PAGE = nbformat.read(BOOK / "results.ipynb", as_version=4)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Tables(HTMLParser):
    """Captions and rows of cells, without what a number says of itself; a line break in a cell is a newline."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[tuple[str, list[list[str]]]] = []
        self.caption = self.cell = ""
        self.feed(re.sub(r'<span class="origin-told".*?</span>', "", text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "figcaption":
            self.cell = ""
        elif tag == "table":
            self.tables.append((self.caption, []))
        elif tag == "tr":
            self.tables[-1][1].append([])
        elif tag in ("td", "th"):
            self.cell = ""
        elif tag == "br":
            self.cell += "\n"

    def handle_data(self, data: str) -> None:
        self.cell += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "figcaption":
            self.caption = self.cell
        elif tag in ("td", "th"):
            self.tables[-1][1][-1].append(self.cell)


def stored(cell_id: str) -> list[tuple[str, list[list[str]]]]:
    (cell,) = (cell for cell in PAGE.cells if cell.id == cell_id)
    return [table for output in cell.outputs for table in Tables(output["data"]["text/html"]).tables]


def cells(cell_id: str) -> dict[tuple[str, str, str], str]:
    """What each table of a cell says, by caption, full name of the recipe and column; a bare heading of a group is left out."""
    found, base = {}, ""
    for caption, (header, *rows) in stored(cell_id):
        for name, *row in rows:
            name = name.removesuffix(" *")
            base = base if name.startswith("+") else name
            if any(row):
                full = base + name if name.startswith("+") else name
                found |= {(caption, full, "-".join(head.split("\n"))): text for head, text in zip(header[1:], row, strict=True)}
    return found


def wilson(p: float, n: int) -> list[float]:
    """The two roots of ``n (p - q)^2 = z^2 q (1 - q)`` in q."""
    z2 = statistics.NormalDist().inv_cdf(0.975) ** 2
    a, b, c = n + z2, -(2 * n * p + z2), n * p * p
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return [(-b - root) / (2 * a), (-b + root) / (2 * a)]


def runs(recipe: str, task: str) -> list[dict[str, Any]]:
    return [run for run in FILES if (run["recipe"], run["task"]) == (recipe, task)]


def rate(recipe: str, task: str, metric: str) -> list[float]:
    """The numbers of a cell of rates: median, interval, and with several seeds the range, in per cent; none without a run."""
    scores = [run["metrics"][metric] for run in runs(recipe, task) if metric in run["metrics"]]
    if not scores:
        return []
    shares, (total,) = [s["correct"] / s["total"] for s in scores], {s["total"] for s in scores}
    middle = statistics.median(shares)
    ends = [min(shares), max(shares)] if len(shares) > 1 else []
    return [100 * value for value in (middle, *wilson(middle, total), *ends)]


def same(text: str, expected: list[float], digits: int) -> bool:
    shown = [float(number) for number in NUMBER.findall(text)]
    return len(shown) == len(expected) and all(abs(a - b) <= 0.5 * 10**-digits + 1e-9 for a, b in zip(shown, expected, strict=True))


TITLES = {
    "three-modes": "The toy",
    "digits": "Digits",
    "folder:CIFAR-10, JPEG q75 copy": "CIFAR-10 from a lossy copy",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "stl10": "STL-10",
}


def test_the_sums_of_the_protocol_bear_a_star_and_nothing_else_does() -> None:
    plans = yaml.safe_load((BOOK / "results" / "protocol.yaml").read_text())
    sums = {name for section in ("digits-sums", "cifar10-laptop-sums") for name in plans[section]["measured"]["sums"]["recipes"]}
    sums |= {name.replace("-laptop-", "-evening-") for name in sums}  # the one of them that was trained on all photographs
    for cell_id in ("scores", "counts", "aligned"):
        found, base = set(), ""
        for caption, (_, *rows) in stored(cell_id):
            for name, *_ in rows:
                base = base if name.startswith("+") else name.removesuffix(" *")
                if name.endswith(" *"):
                    found.add((base + name if name.startswith("+") else name).removesuffix(" *"))
                    assert "* a sum of two methods" in caption
        kept = {run["recipe"] for run in FILES if cell_id != "aligned" or run.get("alignment")}
        assert found == sums & kept


def task_of(caption: str, recipe: str) -> str:
    (task,) = {run["task"] for run in FILES if run["recipe"] == recipe and TITLES[run["task"]] == caption.split(":")[0]}
    return task


@pytest.mark.parametrize("cell_id", ["scores", "counts", "samples", "aligned"])
def test_every_figure_follows_from_the_files(cell_id: str) -> None:
    shown, covered = cells(cell_id), set()
    for (caption, recipe, column), text in shown.items():
        task = task_of(caption, recipe)
        of = runs(recipe, task)
        kept = [set(run["metrics"]) | {name.replace("_", "-") for name in run.get("alignment", {})} for run in of]
        have = sum(column in names for names in kept)
        text, _, note = text.partition(f"\n{have} of ")
        assert note == (f"{len(of)} seeds" if 0 < have < len(of) else ""), (recipe, column, note)
        if column == "seeds":
            assert text == str(len(of))
        elif column == "examples":
            assert text == "/".join(map(str, sorted({score["total"] for run in of for score in run["metrics"].values()})))
        elif cell_id == "aligned":
            cosines = [run["alignment"][name] for run in of if (name := column.replace("-", "_")) in run["alignment"]]
            expected = [statistics.median(cosines), *([min(cosines), max(cosines)] if len(cosines) > 1 else [])] if cosines else []
            assert same(text.replace(" to ", " "), expected, 2), (recipe, column, text, expected)
        elif cell_id == "counts":
            counts = [run["metrics"][column]["correct"] for run in of if column in run["metrics"]]
            expected = [statistics.median(counts), *([min(counts), max(counts)] if len(counts) > 1 else [])] if counts else []
            assert same(re.sub(r"(?<=\d)-", " ", text), expected, 1), (recipe, column, text, expected)
        else:
            assert same(text, rate(recipe, task, column), 1), (recipe, column, text)
        covered |= {(recipe, task, column)} if text else set()
    kind = {"samples": lambda m: m == "samples", "aligned": lambda m: True}.get(cell_id, lambda m: m != "samples")
    source = "alignment" if cell_id == "aligned" else "metrics"
    wanted = {(run["recipe"], run["task"], m.replace("_", "-")) for run in FILES for m in run.get(source, {}) if kind(m)}
    assert {entry for entry in covered if entry[2] not in ("seeds", "examples")} == wanted, "every measured figure is shown"


def test_rows_of_a_table_fall_in_the_order_that_its_heading_names() -> None:
    for caption, (header, *rows) in stored("scores"):
        judge = [head.replace("\n", "-") for head in header].index(caption.rpartition("ordered by ")[2]) if "ordered by" in caption else 0
        shown = [float(row[judge].split("\n")[0]) for row in rows if judge and row[judge] and not row[0].startswith("+")]
        assert shown == sorted(shown, reverse=True)


def test_every_published_figure_is_the_one_of_its_source_and_is_cited() -> None:
    keys = re.findall(r"^@\w+\{(\S+),", (BOOK / "references.bib").read_text(), flags=re.M)
    prose = "\n".join(cell.source for cell in PAGE.cells if cell.cell_type == "markdown")
    tables = stored("published")
    assert len(tables) == len(PUBLISHED)
    for source, (caption, (header, *rows)) in zip(PUBLISHED, tables, strict=True):
        assert source["key"] in keys and f"{{cite:t}}`{source['key']}`" in prose
        assert all(source[key] in caption for key in ("source", "where", "model", "data", "attack"))
        assert header == ["setting\nour recipe", "our metric", "ours", "published"] and len(rows) == len(source["figures"])
        for figure, (name, metric, ours, theirs) in zip(source["figures"], rows, strict=True):
            assert (name, metric) == (f"{figure['name']}\n{figure['recipe']}", figure["metric"])
            assert same(ours, rate(figure["recipe"], source["task"], metric), 1), (name, metric, ours)
            if "percent" in figure:
                assert theirs == f"{figure['percent']:.2f}"
            else:
                assert same(theirs, [100 * figure["correct"] / figure["total"], figure["correct"], figure["total"]], 1)


def test_the_published_counts_of_the_toy_are_among_ours() -> None:
    """As the page says in words."""
    (source,) = (source for source in PUBLISHED if source["key"] == "zerbib2024robustness")
    for figure in source["figures"]:
        counts = [run["metrics"][figure["metric"]]["correct"] for run in runs(figure["recipe"], "three-modes")]
        assert min(counts) <= figure["correct"] <= max(counts)


def test_one_image_beats_nearest_neighbours_in_the_paper_and_not_on_our_digits() -> None:
    """As the page says in words."""
    figures = [figure for source in PUBLISHED if source["task"] == "cifar10" for figure in source["figures"]]
    for metric in ("autoattack-l2-0.5", "autoattack-linf-0.0314"):
        theirs = {figure["name"]: figure["percent"] for figure in figures if figure["metric"] == metric}
        assert theirs["one image"] > theirs["nearest neighbour"] and theirs["score-based"] == theirs["lambda 2"]
    one, nearest = (rate(f"digits-pag-{source}", "digits", "autoattack-l2-0.5")[0] for source in ("oi", "nn"))
    assert one < nearest


def test_every_run_has_its_provenance_and_its_file_on_the_page() -> None:
    (cell,) = (cell for cell in PAGE.cells if cell.id == "provenance")
    linked = re.findall(r'href="results/([^"]+)"', cell.outputs[0]["data"]["text/html"])
    assert sorted(linked) == sorted(f"{run['recipe']}/seed-{run['seed']}.json" for run in FILES)
    ((_, (header, *rows)),) = stored("provenance")
    told = {(row[0], row[header.index("data")]): dict(zip(header, row, strict=True)) for row in rows}
    assert set(told) == {(run["recipe"], run["provenance"]["data"]) for run in FILES}
    for run in FILES:
        origin = run["provenance"]
        row = told[run["recipe"], origin["data"]]
        assert origin["commit"] in row["commit"] and origin["hardware"] in row["hardware"] and str(origin["threads"]) in row["threads"]
        assert all(f"{name} {version}" in row["versions"] for name, version in origin["versions"].items())
        for part in ("train", "evaluate"):
            times = [other["provenance"][f"{part}_seconds"] for other in runs(run["recipe"], run["task"])]
            assert same(row[f"{part} (s)"], [statistics.median(times)], 1)
        spans = [list(map(int, span.split("-"))) for span in row["seeds"].split(", ")]
        assert any(span[0] <= run["seed"] <= span[-1] for span in spans)
