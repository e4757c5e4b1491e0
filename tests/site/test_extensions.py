"""The book's own Sphinx extensions, each against what its first line says."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils import nodes
from fontTools.ttLib import TTFont
from matplotlib import get_data_path

from pagkit import results
from tests.helpers import BOOK

sys.path.insert(0, str(BOOK / "_ext"))
import light_pages  # noqa: E402
import lost_page  # noqa: E402
import measured  # noqa: E402
import numbered_equations  # noqa: E402
import public_address  # noqa: E402


def test_an_equation_carries_the_number_of_its_chapter() -> None:
    for page, expected in (("book/10-digits", "10.2"), ("book/03-pgd", "3.2"), ("book/notation", 2)):
        known: dict[str, tuple[str, object]] = {"eq-one": (page, 2)}
        env = SimpleNamespace(docname=page, get_domain=lambda name, known=known: SimpleNamespace(data={"objects": known}))
        doctree = nodes.container("", nodes.math_block("", "", number=2, label="eq-one"), nodes.math_block("", "", number=None))
        numbered_equations.number(SimpleNamespace(env=env), doctree)
        assert doctree[0]["number"] == expected and known["eq-one"] == (page, expected) and doctree[1]["number"] is None


def test_icons_in_use_stay_and_others_go(tmp_path: Path) -> None:
    moon, glass = '.fa-moon:before{content:"\\f186"}', '.fa-magnifying-glass:before,.fa-search:before{content:"\\f002"}'
    font = 'src:url(../fonts/fa-solid-900.woff2) format("woff2"),url(../fonts/fa-solid-900.ttf) format("truetype")'
    style = f'.fa-3x{{font-size:3em}}{moon}{glass}.fa-music:before{{content:"\\f001"}}@font-face{{{font}}}'
    kept = light_pages.few(style, {"moon", "search"})
    assert kept.startswith(f".fa-3x{{font-size:3em}}{moon}{glass}@font-face") and kept.endswith('fa-solid-900.woff) format("woff")}')
    (tmp_path / "_static" / "scripts").mkdir(parents=True)
    (tmp_path / "page.html").write_text('<i class="fa-solid fa-moon"></i>')
    (tmp_path / "_static" / "scripts" / "theme.js").write_text('"fa-bars"')
    assert light_pages.used(tmp_path) == {"solid", "moon", "bars"}


def test_a_font_keeps_the_characters_in_use(tmp_path: Path) -> None:
    shutil.copyfile(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), tmp_path / "sans.ttf")
    light_pages.shrink(tmp_path / "sans.ttf", {ord("a"), ord("b"), 0xE000})
    assert {*TTFont(tmp_path / "sans.woff").getBestCmap()} == {ord("a"), ord("b")}
    assert (tmp_path / "sans.woff").stat().st_size < 10_000
    assert light_pages.codes('a{content:"\\f002"}b{--icon:"\uf059";content:"\u2295#"}') == {0xF002, 0xF059}


def test_a_page_asks_for_what_it_runs() -> None:
    tools = '<script src="../_static/searchtools.js"></script>\n<script src="../searchindex.js"></script>'
    script = '<script defer src="../_static/scripts/fontawesome.js?digest=5"></script>'
    page = f'{script}{tools}<script src="../doctools.js"></script><i class="fa-solid fa-bars"></i><img src="../_images/a-1.png" />'
    rest = '<script src="../doctools.js"></script><i class="fa-solid fa-bars" aria-hidden="true"></i><img src="../_images/a-1.webp" />'
    assert light_pages.lighter(page) == rest == light_pages.lighter(rest)
    assert light_pages.lighter(page, search=True) == tools + rest
    design = '<link rel="stylesheet" href="../sphinx-design.min.css?v=6" />\n<script src="../design-tabs.js?v=1"></script>'
    assert light_pages.lighter(design + rest) == rest
    cards = f'{design}<div class="docutils sd-card"></div>'
    assert light_pages.lighter(cards) == cards


def config(**addresses: str) -> SimpleNamespace:
    return SimpleNamespace(**{"public_repository": "", "public_site": "", "html_baseurl": "", "html_theme_options": {}, **addresses})


def test_without_an_address_there_are_no_buttons_and_no_card() -> None:
    bare = config()
    public_address.buttons(None, bare)
    assert bare.html_theme_options == {} and bare.html_baseurl == ""
    context: dict[str, str] = {"title": "Chapter"}
    public_address.card(SimpleNamespace(config=bare), "book/10-digits", "page.html", context, nodes.container())
    assert context == {"title": "Chapter"}


def test_an_address_brings_them() -> None:
    told = config(public_repository="https://github.com/owner/name/", public_site="https://owner.github.io/name")
    public_address.buttons(None, told)
    assert told.html_theme_options["repository_url"] == "https://github.com/owner/name"
    assert told.html_theme_options["repository_branch"] == "main"
    assert "binderhub_url" in told.html_theme_options["launch_buttons"]
    context: dict[str, str] = {"title": 'A "title"'}
    doctree = nodes.container("", nodes.paragraph(text="What it\nis about."))
    public_address.card(SimpleNamespace(config=told), "book/10-digits", "page.html", context, doctree)
    assert 'property="og:url" content="https://owner.github.io/name/book/10-digits.html"' in context["metatags"]
    assert "&quot;title&quot;" in context["metatags"] and "What it is about." in context["metatags"]
    with pytest.raises(ValueError, match="public_site is 'owner.github.io'; expected an address such as"):
        public_address.buttons(None, config(public_site="owner.github.io"))


def test_the_lost_page_knows_where_the_book_begins() -> None:
    ((name, context, _),) = lost_page.pages(SimpleNamespace(config=config(html_baseurl="https://owner.github.io/name/")))
    assert name == "404" and context["metatags"] == '<base href="https://owner.github.io/name/">'
    assert 'href="book/index.html"' in context["body"] and 'action="search.html"' in context["body"]
    ((_, context, _),) = lost_page.pages(SimpleNamespace(config=config()))
    assert "<script>" in context["metatags"] and "createElement" in context["metatags"]


def test_a_measured_number_is_that_of_the_results() -> None:
    runs = results.load_all(BOOK / "results")
    value = measured.number("digits-noise digits-pag-sbg autoattack-l2-0.5", runs)
    assert value == results.difference(runs, "digits-noise", "digits-pag-sbg", "autoattack-l2-0.5")
    half = measured.number("digits-standard autoattack-l2-0.5 seeds=1-2", runs)
    one = measured.number("cifar10-laptop-slope clean seed=1", runs)
    assert str(one).endswith("]") and "cifar10-laptop-slope, seed 1" in one.told
    assert half.seeds == (1, 2) and measured.ASKED.fullmatch("54.8 [53.0, 56.6] <a b>")["shown"] == "54.8 [53.0, 56.6]"
    with pytest.raises(ValueError, match="names 0 recipes and a metric; expected one or two recipes"):
        measured.number("autoattack-l2-0.5", runs)
    with pytest.raises(ValueError, match="fits 0 results; expected one recipe and a seed with which it was run"):
        measured.number("digits-standart clean seed=1", runs)
