"""Pages that weigh less: of the theme's Font Awesome only the icons in use, of MathJax only what typesets TeX, without its menu."""

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

ICONS = Path("_static", "scripts", "fontawesome.js")
ICON = re.compile(r'"?([\w-]+)"?:\[\d+,\d+,(\[[^\]]*\]),"[0-9a-f]+",(?:"[^"]*"|\["[^"]*"(?:,"[^"]*")*\])\],?')
USED = re.compile(r"\bfa-([a-z0-9-]+)")
MATHJAX = ["input/tex", "output/chtml", "a11y/assistive-mml"]


def used(folder: Path) -> set[str]:
    """Names of icons in the pages and in the theme's other scripts."""
    texts = [path.read_text() for path in folder.rglob("*.html")]
    texts += [path.read_text() for path in (folder / ICONS).parent.glob("*.js") if path.name != ICONS.name]
    return {name for text in texts for name in USED.findall(text)}


def few(script: str, names: set[str]) -> str:
    """The script with the icons of these names or aliases only."""

    def keep(found: re.Match[str]) -> str:
        known = {found[1], *re.findall(r'"([\w-]+)"', found[2])}
        return found[0] if known & names else ""

    return ICON.sub(keep, script).replace("],}", "]}")


def parts(app: Sphinx, config: Config) -> None:
    """MathJax in parts, which it loads as it starts, in place of one file with all of them."""
    config.mathjax_path = "mathjax/startup.js"
    config.mathjax3_config = {**(config.mathjax3_config or {}), "loader": {"load": MATHJAX}}


def trim(app: Sphinx, error: Exception | None) -> None:
    path = Path(app.outdir) / ICONS
    if error is None and app.builder.format == "html" and path.is_file():
        path.write_text(few(path.read_text(), used(Path(app.outdir))))
        path.with_suffix(".js.map").unlink(missing_ok=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", parts)
    app.add_js_file("formulas.js", loading_method="defer")  # what the menu did as well
    app.connect("build-finished", trim)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
