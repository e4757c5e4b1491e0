"""Mend what Sphinx and Jupyter write into the pages that a reader without a mouse, or without eyes, would stumble over."""

import re
from typing import Any

from sphinx.application import Sphinx

WIDE = re.compile(r'(<figcaption>(.*?)</figcaption>\s*<div style="overflow-x: auto")>')
CITATIONS = '<div role="list" class="citation-list">'


def mend(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Give keyboards a way into wide tables and the bibliography a sound list; write the front page's title once in its tab."""
    if pagename == app.config.root_doc:
        context["theme_logo"] = {**context.get("theme_logo", {}), "text": context["docstitle"]}
        context["docstitle"] = ""
    body = WIDE.sub(r'\1 tabindex="0" role="region" aria-label="\2">', context.get("body", ""))
    if CITATIONS in body:
        body = body.replace('role="doc-biblioentry"', 'role="listitem"')  # the only children that a list may have
    if pagename.startswith("_modules/"):  # a module's long name may break after a dot
        body = re.sub(r"<h1>.*?</h1>", lambda heading: heading[0].replace(".", ".<wbr>"), body, count=1)
    context["body"] = body


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
