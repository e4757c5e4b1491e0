"""Pages that weigh less: what no page uses stays out of the theme, of the search and of MathJax; pictures become lossless WebP.

Of Font Awesome, which the theme brings as a script and again as fonts, a page gets one font with the icons in use. MathJax comes
without its menu. Search tools and index, which only the page of results runs, come with that page only.
"""

import re
from pathlib import Path

from fontTools import subset
from PIL import Image
from sphinx.application import Sphinx
from sphinx.config import Config

MATHJAX = ["input/tex", "output/chtml", "a11y/assistive-mml"]
STYLE = Path("_static", "styles", "pydata-sphinx-theme.css")
FONTS = Path("_static", "vendor", "fontawesome", "webfonts")
USED = re.compile(r"\bfa-([a-z0-9-]+)")
ICON = re.compile(r'(?<=[{}])((?:\.fa-[\w-]+:before,?)+)\{content:"[^"]*"\}')
CODE = re.compile(r"\\([ef][0-9a-f]{3})\b|([\ue000-\uf8ff])")
SOURCE = re.compile(r'url\([^)]*/(fa-[\w-]+)\.woff2\) format\("woff2"\),url\([^)]*\.ttf\) format\("truetype"\)')
IDLE = re.compile(r'\s*<script[^>]* src="[^"]*(?:fontawesome|searchtools|language_data|searchindex)\.js[^"]*"></script>')
DESIGN = re.compile(r"\s*<(?:link|script)[^>]*(?:sphinx-design\.min\.css|design-tabs\.js)[^>]*>(?:</script>)?")
PICTURE = re.compile(r'(?<=_images/)([\w-]+)\.png(?=")')


def parts(app: Sphinx, config: Config) -> None:
    """MathJax in parts, which it loads as it starts, in place of one file with all of them."""
    config.mathjax_path = "mathjax/startup.js"
    config.mathjax3_config = {**(config.mathjax3_config or {}), "loader": {"load": MATHJAX}}


def lighter(page: str, *, search: bool = False) -> str:
    """A page's HTML without the scripts that it does not run (the page of search results runs some), and with the new pictures.

    Cards and tabs bring a style sheet, which goes where there are none.
    """
    if not re.search(r'class="[^"]*\bsd-', page):
        page = DESIGN.sub("", page)
    page = IDLE.sub(lambda found: found[0] if search and "fontawesome" not in found[0] else "", page)
    page = re.sub(r'<i class="(fa[^"]*|[^"]* fa-[^"]*)">', r'<i class="\1" aria-hidden="true">', page)
    return PICTURE.sub(r"\1.webp", page)


def used(folder: Path) -> set[str]:
    """Names of icons in the pages and in the scripts."""
    texts = [path.read_text() for path in folder.rglob("*.html")]
    texts += [path.read_text() for path in folder.glob("_static/**/*.js") if not {"mathjax", "labs"} & {*path.parts}]
    return {name for text in texts for name in USED.findall(text)}


def few(style: str, names: set[str]) -> str:
    """The style sheet with the rules of these icons only, each of which may have several names, and with small fonts."""
    style = ICON.sub(lambda rule: rule[0] if names & {*USED.findall(rule[1])} else "", style)
    return SOURCE.sub(r'url(../vendor/fontawesome/webfonts/\1.woff) format("woff")', style)


def codes(style: str) -> set[int]:
    """The icons' characters in a style sheet, written as escapes or as they are."""
    return {int(escape, 16) if escape else ord(itself) for escape, itself in CODE.findall(style)}


def shrink(font: Path, shown: set[int]) -> None:
    """Write the font with these characters only beside it, as WOFF."""
    options = subset.Options(flavor="woff", notdef_outline=True)
    loaded = subset.load_font(font, options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=shown)
    cutter.subset(loaded)
    subset.save_font(loaded, font.with_suffix(".woff"), options)


def trim(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    for path in folder.rglob("*.html"):
        text = path.read_text()
        light = lighter(text, search=path.name == "search.html")
        if light != text:
            path.write_text(light)
    for path in folder.glob("_images/*.png"):
        with Image.open(path) as image:
            image.save(light := path.with_suffix(".webp"), lossless=True, quality=70)
            if light.stat().st_size > 80_000:
                image.save(light, lossless=True, quality=100, method=6)  # smaller and slow
        path.unlink()
    if (folder / STYLE).is_file():
        (folder / "_static" / "scripts" / "fontawesome.js").unlink(missing_ok=True)
        (folder / STYLE).write_text(few((folder / STYLE).read_text(), used(folder)))
        shown = codes("".join(path.read_text() for path in folder.glob("_static/**/*.css")))
        for font in (folder / FONTS).glob("*.ttf"):
            shrink(font, shown)
            font.unlink()
            font.with_suffix(".woff2").unlink(missing_ok=True)
    for path in folder.glob("_static/**/*.map"):
        path.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", parts)
    app.add_js_file("formulas.js", loading_method="defer")  # what the menu did as well
    app.add_js_file("origin.js", loading_method="defer")
    app.connect("build-finished", trim)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
