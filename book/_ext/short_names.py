"""Docstrings call a thing by the name that is imported; this links it to where it is written: `attacks.pgd` is `attacks.pgd.pgd`."""

import importlib

from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx


def written(name: str) -> str | None:
    """The full name of what a wing hands on under `name`; None if there is no such thing."""
    wing, _, attributes = name.removeprefix("pagkit.").partition(".")
    try:
        found = importlib.import_module(f"pagkit.{wing}")
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
        return f"{found.__module__}.{found.__qualname__}"
    except (ImportError, AttributeError):
        return None


def resolve(app: Sphinx, env, node: pending_xref, text: Element) -> Element | None:
    """Look a reference up again under its full name."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("pagkit.") or (full := written(target)) in (None, target):
        return None
    again = node.deepcopy()
    again["reftarget"] = full
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, node["reftype"], full, again, text)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
