"""404.html, which a web server shows for an address that does not exist: where to go from there, at any depth of that address.

The browser resolves the page's links against the lost address, so the page says where the book begins: at ``public_site`` where that is
set, otherwise at the top of the server, or on github.io one folder below.
"""

import html
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx

GUESS = (
    'if (!location.pathname.endsWith("/404.html") && location.protocol !== "file:") { const base = document.createElement("base"); '
    'base.href = location.hostname.endsWith(".github.io") ? `/${location.pathname.split("/")[1]}/` : "/"; document.head.append(base); }'
)
BODY = """<section id="lost">
<h1>This page is not here</h1>
<p>The address may have a slip in it, or the page has moved. Nothing is wrong with your machine.</p>
<ul>
<li><a href="{front}">The front page</a> has the answer in short, and every chapter.</li>
<li><a href="{glossary}">The glossary</a> explains the words, <a href="{notation}">the notation</a> the symbols.</li>
<li><a href="{results}">Every result</a> stands on one page, each with its file.</li>
</ul>
<form class="lost-search" action="search.html" method="get" role="search">
<label for="lost-q">Or search the book:</label>
<input type="search" id="lost-q" name="q" required> <button type="submit">Search</button>
</form>
</section>
"""
WAYS = {"front": "book/index.html", "glossary": "book/glossary.html", "notation": "book/notation.html", "results": "book/results.html"}


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, str], str]]:
    known = app.config.html_baseurl
    base = f'<base href="{html.escape(known, quote=True)}">' if known else f"<script>{GUESS}</script>"
    yield "404", {"title": "Not found", "body": BODY.format(**WAYS), "metatags": base}, "page.html"


def places(app: Sphinx, error: Exception | None) -> None:
    """With a base, a link to a place in the page needs the page's name."""
    path = Path(app.outdir) / "404.html"
    if error is None and app.builder.format == "html":
        path.write_text(path.read_text().replace('href="#', 'href="404.html#'))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-collect-pages", pages)
    app.connect("build-finished", places)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
