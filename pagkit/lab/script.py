"""The script and the style sheet of all labs, made of the files in ``js/``."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent / "js"
MODULES = (
    "kernels",
    "engine",
    "attack",
    "serve",
    "walker",
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
    "photoload",
    "photolog",
    "photoview",
    "photo",
    "dial",
    "main",
)
WORKER = MODULES[:4]  # what attacks, and serves attacks; it needs no page


@cache
def style() -> str:
    """The style sheet of all labs."""
    return (SOURCES / "lab.css").read_text(encoding="utf-8").strip()


@cache
def code() -> str:
    """The ES modules as one module without imports: each a function that keeps its private names and gives what it exports.

    Those of ``WORKER`` are there as text, too, for a web worker. Ends with ``export default {render}``, what anywidget asks for, and
    exports every other exported name too.
    """
    parts, names, worker = [], [], []
    for name in MODULES:
        text = (SOURCES / f"{name}.js").read_text(encoding="utf-8")
        own = re.findall(r"^export (?:const|function\*?) (\w+)", text, flags=re.MULTILINE)
        text = re.sub(r"^(import .*\n|export (?=const|function))", "", text, flags=re.MULTILINE)
        taken = f"{{ {', '.join(own)} }}"
        parts.append(f"const in_{name} = () => {{\n{text}return {taken};\n}};\nconst {taken} = in_{name}();\n")
        names += own
        if name in WORKER:
            worker.append(f"const {taken} = (${{in_{name}}})();")
        if name == WORKER[-1]:
            parts.append(f"const WORKER = `{{ {' '.join(worker)} serve(globalThis); }}`;\n")
    names.remove("render")  # by name anywidget takes it too, and warns that it will not for long
    return "".join(parts) + f"export {{ {', '.join(names)} }};\nexport default {{ render }};\n"
