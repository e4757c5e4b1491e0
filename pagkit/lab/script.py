"""The script and the style sheet of all labs, made of the files in ``js/``."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent / "js"
MODULES = (
    "engine",
    "attack",
    "geometry",
    "ui",
    "planeview",
    "curve",
    "verdict",
    "planecontrols",
    "plane",
    "draw",
    "panel",
    "game",
    "digits",
    "dial",
    "main",
)


@cache
def style() -> str:
    """The style sheet of all labs."""
    return (SOURCES / "lab.css").read_text(encoding="utf-8").strip()


@cache
def code() -> str:
    """The ES modules as one module without imports: each a function that keeps its private names and gives what it exports.

    Ends with ``export default {render}``, what anywidget asks for, and exports every other exported name too.
    """
    parts, names = [], []
    for name in MODULES:
        text = (SOURCES / f"{name}.js").read_text(encoding="utf-8")
        own = re.findall(r"^export (?:const|function\*?) (\w+)", text, flags=re.MULTILINE)
        text = re.sub(r"^(import .*\n|export (?=const|function))", "", text, flags=re.MULTILINE)
        parts.append(f"const {{ {', '.join(own)} }} = (() => {{\n{text}return {{ {', '.join(own)} }};\n}})();\n")
        names += own
    return "".join(parts) + f"export {{ {', '.join(names)} }};\nexport default {{ render }};\n"
