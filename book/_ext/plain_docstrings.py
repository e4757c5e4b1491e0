"""Read the library's docstrings as plain text, in which `(N, *shape)` holds no emphasis."""

import re

from sphinx.application import Sphinx

CODE_OR_MARK = re.compile(r"(`+[^`]*`+)|(?<![\w\\*])(\*+(?=\S)|\|(?=\S))|(?<=\w)(_)(?!\w)")


def escape(app, what, name, obj, options, lines: list[str]) -> None:
    """Put a backslash before each mark that would start emphasis, a substitution or a link."""
    for i, line in enumerate(lines):
        lines[i] = CODE_OR_MARK.sub(lambda m: m[1] or "".join("\\" + mark for mark in m[2] or m[3]), line)


def shorten(app, what, name, obj, options, signature: str | None, annotation: str | None) -> tuple[str | None, str | None]:
    """Write a default that a factory makes as `...`: Sphinx can read the rest of the signature only then."""
    return signature and signature.replace("<factory>", "..."), annotation


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", escape, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
