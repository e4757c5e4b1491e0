"""Leave out sphinx-thebe, which Jupyter Book 1.x always loads.

No page runs its cells through it; and it declares one constant twice, which is an error in the console of every page.
"""

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    for listeners in app.events.listeners.values():
        listeners[:] = [x for x in listeners if not x.handler.__module__.startswith("sphinx_thebe")]
    styles = app.registry.css_files
    styles[:] = [(name, options) for name, options in styles if "thebe" not in name]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
