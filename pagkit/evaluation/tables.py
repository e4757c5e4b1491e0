"""Tables of text: printed as columns, shown by Jupyter as HTML."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Cells under a header; printed as columns of text, shown by Jupyter as an HTML table.

    A cell is text, or whatever prints as text and may show itself to Jupyter as HTML, such as :class:`pagkit.results.Estimate`.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __str__(self) -> str:
        lines = [[str(cell) for cell in line] for line in (self.header, *self.rows)]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([self.caption, *texts])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        header, *rows = ([_shown(cell) for cell in line] for line in (self.header, *self.rows))
        head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
        body = [f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>\n" for row in rows]
        return (
            '<table style="white-space: nowrap; font-size: 0.85em; margin-bottom: 1em">\n'
            f'<caption style="color: inherit; text-align: left">{html.escape(self.caption)}</caption>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(body)}</tbody>\n</table>"
        )


def _shown(cell: Any) -> str:
    return cell._repr_html_() if hasattr(cell, "_repr_html_") else html.escape(str(cell))


@dataclass(frozen=True)
class Board:
    """Cells under a header, as in a :class:`Table`; text may have several lines.

    Two blanks before a row's name set it under the one above.

    Attributes:
        caption, header, rows: what is shown; each row begins with its name, a text.
        align: ``"right"`` or ``"left"``, all columns but the first.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    align: str = "right"

    def __str__(self) -> str:
        lines = [[str(cell).split("\n") for cell in row] for row in (self.header, *self.rows)]
        widths = [max(len(text) for row in lines for text in row[i]) for i in range(len(self.header))]
        texts = [self.caption]
        for row in lines:
            for k in range(max(map(len, row))):
                cells = [cell[k] if k < len(cell) else "" for cell in row]
                rest = [f"{cell:{'>' if self.align == 'right' else '<'}{width}}" for cell, width in zip(cells, widths, strict=True)]
                texts.append("  ".join([f"{cells[0]:<{widths[0]}}", *rest[1:]]).rstrip())
        return "\n".join(texts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def show(cell: Any) -> str:
            if not isinstance(cell, str):
                return _shown(cell)
            first, *more = html.escape(cell.strip()).split("\n")
            return first + "".join(f"<br><small>{line}</small>" for line in more)

        head = "".join(f'<th scope="col">{html.escape(cell).replace(chr(10), "<br>")}</th>' for cell in self.header)
        body = []
        for name, *cells in self.rows:
            under = ' class="under"' if name.startswith("  ") else ""
            shown = re.sub(r"(?<=[^ ])(?=\+)|(?<==)", "<wbr>", show(name))  # a long name breaks between its settings, not in a number
            body.append(f'<tr><th scope="row"{under}>{shown}</th>' + "".join(f"<td>{show(cell)}</td>" for cell in cells) + "</tr>\n")
        return (
            f'<figure class="leaderboard {self.align}">\n<figcaption>{html.escape(self.caption)}</figcaption>\n'
            f'<div style="overflow-x: auto">\n<table class="dataframe" style="text-align: {self.align}">\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(body)}</tbody>\n</table>\n</div>\n</figure>"
        )
