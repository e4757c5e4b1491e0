"""Equations carry the number of their chapter: the second one of chapter 10 is (10.2)."""

import re

from docutils import nodes
from sphinx.application import Sphinx

CHAPTER = re.compile(r"(?:^|/)(\d+)-[^/]+$")


def number(app: Sphinx, doctree: nodes.document) -> None:
    chapter = CHAPTER.search(app.env.docname)
    if chapter is None:
        return
    known = app.env.get_domain("math").data["objects"]
    for block in doctree.findall(nodes.math_block):
        if block.get("number") is not None:
            block["number"] = f"{int(chapter[1])}.{block['number']}"
            known[block["label"]] = (app.env.docname, block["number"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", number)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}
