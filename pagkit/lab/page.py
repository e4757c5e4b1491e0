"""A lab as a piece of a page: plain HTML that is the same at every run, and the script that all labs of a page share."""

from __future__ import annotations

import hashlib
import html
import json
import re
from dataclasses import dataclass
from typing import Any

from .export import Packed
from .live import answers
from .script import code, style

_carrier: list[str] = []  # the id of the lab that brings the script where nobody answers: the first one that this process shows
ALONE = "globalThis.pagkitLabs = { mount };\nmount();\n"  # ends the one script of a page
AMONG = "globalThis.pagkitLabs ??= { mount };\npagkitLabs.mount();\n"  # ends one of several: the first that runs builds all labs


@dataclass(frozen=True)
class Lab:
    """What the functions of :mod:`pagkit.lab` make. As a cell's last value it is shown, and works, without a kernel.

    Attributes:
        kind: ``"plane"``, ``"digits"``, ``"dial"`` or ``"photo"``.
        id: the HTML id; depends on the name given, or on the content, and on nothing else.
        spec: all that the script needs, JSON-able.
        still: HTML that readers without JavaScript see, and the printed page.
        nets: packed networks that the page fetches when a reader asks for them; a widget brings them along.
    """

    kind: str
    id: str
    spec: dict[str, Any]
    still: str
    nets: dict[str, Packed] | None = None

    def __repr__(self) -> str:
        names = list(self.spec.get("nets") or self.spec["dials"])
        return f"<{self.kind} lab: {('; ' if any(',' in name for name in names) else ', ').join(names)}>"

    def _repr_html_(self) -> str:
        """One lab brings the script for all; in front of a reader each does, who may change, move or delete the cell of any other."""
        if answers():
            return self._with_script(AMONG)
        if not _carrier:
            _carrier.append(self.id)
        return self.html(script=self.id == _carrier[0])

    def html(self, *, script: bool = True) -> str:
        """The lab as HTML. With ``script``, the style and the script come along: once a page is enough."""
        return self._with_script(ALONE) if script else f"{self._bare()}<script>globalThis.pagkitLabs?.mount();</script>"

    def _with_script(self, end: str) -> str:
        return f'<style>{style()}</style>{self._bare()}<script type="module">\n{code()}{end}</script>'

    def _bare(self) -> str:
        data = to_json(self.spec).replace("</", "<\\/")
        return (
            f'<div class="pagkit-lab" id="{self.id}" data-lab="{self.kind}">'
            f'<div class="lab-still">{self.still}</div><script type="application/json">{data}</script></div>'
        )

    def widget(self) -> Any:
        """The same lab as an anywidget, for a notebook with a kernel: point, eps, radius and result are its traits.

        Raises:
            ImportError: anywidget is not installed.
        """
        from .widget import LabWidget

        return LabWidget(kind=self.kind, spec=self.spec if self.nets is None else {**self.spec, "nets": self.nets})


def document(*labs: Lab, title: str = "A lab", theme: str = "light") -> str:
    """A whole HTML page with these labs, which works from a file. ``theme`` is ``"light"`` or ``"dark"``."""
    body = "\n".join(lab.html(script=i == 0) for i, lab in enumerate(labs))
    page = (
        "body{margin:0 auto;max-width:780px;padding:8px;background:#fff;font-family:system-ui,sans-serif}h1{font-size:1.5em}"
        "html[data-theme=dark] body{background:#14181d;color:#e6edf3}"
    )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
    whole = f"<head>{head}<style>{page}</style></head><body><main><h1>{html.escape(title)}</h1>{body}</main></body>"
    return f'<!doctype html><html lang="en" data-theme="{theme}">{whole}</html>'


def make(kind: str, spec: dict[str, Any], still: str, name: str | None, nets: dict[str, Packed] | None = None) -> Lab:
    """A lab whose id is ``lab-<kind>-<name>``, or without a name ends in a digest of its content.

    Raises:
        ValueError: the name is not made of lower-case letters, digits and dashes.
    """
    if name is not None and not re.fullmatch(r"[a-z0-9-]+", name):
        raise ValueError(f"name is {name!r}; expected lower-case letters, digits and dashes, for it becomes an HTML id")
    digest = hashlib.sha256(to_json(spec).encode()).hexdigest()[:8]
    return Lab(kind, f"lab-{kind}-{name or digest}", spec, still, nets)


def to_json(value: object) -> str:
    """Compact JSON, the same text for the same value, keys in the order in which they were given."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
