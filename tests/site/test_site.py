"""Every page of the built book in Chromium, on a phone's width and a desk's, light and dark. Skipped where there is no Chromium.

No page may ask for anything outside the book or missing from it, log an error, scroll sideways, fail an axe-core check of
serious or critical impact that EXCEPTIONS does not name, or weigh more than HEAVIEST with all that it loads before a click.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from fontTools.ttLib import TTFont

playwright = pytest.importorskip("playwright.sync_api")
axe = find_spec("axe_playwright_python") or pytest.skip("no axe-core: pip install axe-playwright-python", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
AXE = Path(axe.origin).with_name("axe.min.js")
WIDTHS = (360, 1280)
# all pictures are there, or ten seconds are over: a browser may never say so
DECODED = """Promise.race([Promise.all([...document.images].map(image => image.decode().catch(() => 0))),
  new Promise(done => setTimeout(done, 10_000))])"""
HEAVIEST = 2_500_000  # bytes
COLOUR = ["color-contrast", "link-in-text-block"]  # what depends on the scheme and not on the width
EXCEPTIONS: dict[tuple[str, str], str] = {}  # (rule, part of the element's HTML): why it stands

SCROLL = """async () => {  // what is loaded late is loaded when it comes into view
  for (let y = 0; y < document.body.scrollHeight; y += innerHeight) {
    scrollTo(0, y);
    await new Promise(requestAnimationFrame);
  }
}"""

# Code, formulas and tables repeat a few kinds of element thousands of times, which would take axe-core minutes. The first of
# each kind, by the looks of the element and of all around it, answers for all: of the given parts the others become plain text,
# or, without parts, every other element loses its own text and keeps its place, by which a style sheet may know it.
ONE_OF_A_KIND = """(parts) => {
  const kinds = new Map(), kind = new Map([[null, ""]]), first = new Set(), again = [];
  for (const element of document.querySelectorAll("*")) {  // parents come before their children
    const {color, backgroundColor, backgroundImage, fontSize, fontWeight, opacity, display, visibility} = getComputedStyle(element);
    const looks = [kind.get(element.parentElement), element.localName, element.className.baseVal ?? element.className,
      color, backgroundColor, backgroundImage, fontSize, fontWeight, opacity, display, visibility].join();
    if (!kinds.has(looks)) kinds.set(looks, kinds.size), first.add(element);
    else if (!element.matches("head *, style, script")) again.push(element);
    kind.set(element, kinds.get(looks));
  }
  for (const element of again.reverse())
    if (!parts) [...element.children].some(child => first.has(child)) || [...element.childNodes].forEach(
      node => node.nodeType === Node.TEXT_NODE && node.remove());
    else if (!element.matches(parts)) continue;
    else if (element.matches("mjx-container")) element.replaceChildren();
    else if (!element.children.length) element.replaceWith(...element.childNodes);
}"""
INSIDE = "pre span, code span, .sig span, .sig em, mjx-container"  # of code and formulas: all that no rule but those of COLOUR looks at


def sources() -> Iterator[Path]:
    """The files that the book is built from."""
    yield from (ROOT / "_config.yml", ROOT / "_toc.yml", *(ROOT / "pagkit").rglob("*.py"), *(ROOT / "pagkit" / "lab" / "js").iterdir())
    yield from (path for path in (ROOT / "book").rglob("*") if path.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & {*path.parts})


PAGES = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if "_static" not in path.parts)
PAGES = [page for page in PAGES if page != "index.html"]  # which only leads to book/index.html
if not PAGES or max(map(os.path.getmtime, sources())) > (HTML / "searchindex.js").stat().st_mtime:
    pytest.skip("no built book, or one older than its sources: make book", allow_module_level=True)

MODULES = sorted((page for page in PAGES if page.startswith("_modules/")), key=lambda page: (HTML / page).stat().st_size)
VISITED = [page for page in PAGES if page not in MODULES[:-3]]  # pages of source code are alike: the longest have all that the others have


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Write nothing to stderr."""

    def send_error(self, code: int, *_: object) -> None:
        """What is not there gets 404.html, as on the web."""
        body = (HTML / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The book's address, served as a web server would: a browser lets a page from a file do less."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=HTML)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def context(browser: playwright.Browser) -> Iterator[playwright.BrowserContext]:
    with browser.new_context(reduced_motion="reduce") as context:
        yield context


def findings(tab: playwright.Page, options: dict) -> list[str]:
    """What axe-core finds serious or critical under its options, exceptions left out."""
    result = tab.evaluate("options => axe.run({resultTypes: ['violations'], preload: false, ...options})", options)
    return [
        f"{rule['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for rule in result["violations"]
        for node in rule["nodes"]
        if rule["impact"] in ("serious", "critical") and not any(rule["id"] == name and part in node["html"] for name, part in EXCEPTIONS)
    ]


def test_every_icon_is_in_a_font() -> None:
    style = "".join(path.read_text() for path in HTML.glob("_static/**/*.css"))
    shown = {int(code, 16) if code else ord(char) for code, char in re.findall(r"\\([ef][0-9a-f]{3})\b|([\ue000-\uf8ff])", style)}
    fonts = [TTFont(path) for path in HTML.glob("_static/vendor/fontawesome/webfonts/*.woff")]
    assert len(shown) > 20 and shown <= {code for font in fonts for code in font.getBestCmap()}


@pytest.mark.parametrize("page", [page for page in PAGES if re.match(r"book/\d\d-", page)])
def test_equations_carry_the_number_of_their_chapter(page: str) -> None:
    shown = re.findall(r'class="eqno">\(([^<)]*)\)', (HTML / page).read_text())
    assert shown == [f"{int(page[5:7])}.{i}" for i in range(1, len(shown) + 1)]


def test_figures_link_to_result_files_that_are_there() -> None:
    links = {(page, link) for page in PAGES for link in re.findall(r'href="(results/[^"]+\.(?:json|yaml))"', (HTML / page).read_text())}
    assert len(links) > 50
    assert [link for page, link in sorted(links) if not ((HTML / page).parent / link).is_file()] == []


def test_a_number_says_where_it_comes_from_by_mouse_keyboard_and_touch(address: str, browser: playwright.Browser) -> None:
    with browser.new_context(has_touch=True) as context, context.new_page() as tab:
        for reach in ("hover", "focus", "tap"):
            tab.goto(address + "book/index.html")
            standard = tab.locator('a[href$="digits-standard/seed-1.json"]')
            number = tab.locator("#the-answer-in-five-lines .origin", has=standard).first
            told = number.get_by_role("tooltip")
            assert not told.is_visible()
            getattr(number, reach)()
            assert told.is_visible() and "Mean of seeds 1, 2, 3, 95 % interval" in told.inner_text()
        told.get_by_role("link").first.click()
        tab.wait_for_url(address + "book/results/digits-standard/seed-1.json")


def test_a_table_of_figures_is_one_stop_and_arrow_keys_go_through_it(address: str, browser: playwright.Browser) -> None:
    with browser.new_page() as tab:
        tab.goto(address + "book/10-digits.html")
        table = tab.locator("table:has(.origin)").first
        row = table.locator("tr:has(.origin)").first.locator(".origin").count()
        figure = table.locator(".origin").nth(row + 1)
        table.locator(".origin").first.focus()
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("ArrowDown")
        assert figure.evaluate("figure => figure === document.activeElement") and figure.get_by_role("tooltip").is_visible()
        for _ in range(figure.get_by_role("link").count() + 1):  # its links, and out
            tab.keyboard.press("Tab")
        assert not table.evaluate("table => table.contains(document.activeElement)")
        figure.focus()
        tab.keyboard.press("Escape")
        assert not figure.get_by_role("tooltip").is_visible()


STORED = {"07-three-heuristics": 4, "08-principled-source": 1, "09-toy-exactly": 9, "10-digits": 8, "11-cifar10-laptop": 8}
STORED |= {"13-more-lambda": 30, "14-trust-no-number": 4, "15-further": 24, "index": 8}  # page: figures in its sentences


@pytest.mark.parametrize("page, least", STORED.items())
def test_numbers_in_sentences_say_where_they_come_from(page: str, least: int) -> None:
    sentences = re.findall(r"<p\b.*?</p>", (HTML / f"book/{page}.html").read_text(), flags=re.DOTALL)
    assert sum(sentence.count('class="origin"') for sentence in sentences) >= least


@pytest.mark.parametrize("lost", ["lost.html", "book/lost.html", "a/deep/and/lost/address"])
def test_an_address_that_does_not_exist_leads_back(lost: str, address: str, browser: playwright.Browser) -> None:
    with browser.new_page() as tab:
        tab.goto(address + lost)
        sheets = "[...document.styleSheets].filter(sheet => sheet.href).map(sheet => [sheet.href, sheet.cssRules.length])"
        found = tab.evaluate(sheets)
        assert len(found) > 5 and all(href.startswith(address + "_static/") and rules for href, rules in found)
        assert tab.evaluate("typeof DOCUMENTATION_OPTIONS") == "object"
        assert tab.locator("h1").filter(visible=True).inner_text() == "This page is not here"
        tab.get_by_label("Or search the book").fill("gradient")
        tab.locator("#lost button").click()
        tab.wait_for_url(address + "search.html?q=gradient")
        tab.go_back()
        tab.locator("#lost a").first.click()
        tab.wait_for_url(address + "book/index.html")


@pytest.mark.parametrize("page", VISITED)
def test_page(page: str, address: str, context: playwright.BrowserContext) -> None:
    found, asked = [], set()
    with context.new_page() as tab:
        tab.on("console", lambda message: message.type == "error" and found.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: found.append(f"error: {error}"))
        tab.on("request", lambda request: asked.add(request.url.split("?")[0]))
        tab.on("response", lambda response: response.ok or response.status == 304 or found.append(f"{response.status}: {response.url}"))
        tab.emulate_media(color_scheme="light")
        for width in WIDTHS:
            tab.set_viewport_size({"width": width, "height": 900})
            tab.goto(address + page)
            tab.evaluate("window.MathJax?.startup?.promise")
            beyond = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if beyond > 0:
                found.append(f"scrolls sideways by {beyond} pixels at {width}")
            if width == min(WIDTHS):
                tab.evaluate(SCROLL)
                tab.evaluate(DECODED)
            tab.evaluate(ONE_OF_A_KIND, INSIDE)
            tab.evaluate(AXE.read_text())
            found += findings(tab, {"rules": {rule: {"enabled": False} for rule in COLOUR}})
        tab.evaluate(ONE_OF_A_KIND)
        tab.add_style_tag(content="* {transition: none !important}")
        for scheme in ("light", "dark"):  # it changes colours only, and the width does not change them
            tab.emulate_media(color_scheme=scheme)
            tab.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
            found += [f"{scheme}: {finding}" for finding in findings(tab, {"runOnly": COLOUR})]
    found += [f"external request: {url}" for url in sorted(asked) if not url.startswith((address, "data:", "blob:"))]
    found += too_heavy(page, {unquote(urlparse(url).path)[1:] for url in asked if url.startswith(address)})
    assert not found, "\n".join([f"{page}:", *found])


def too_heavy(page: str, files: set[str]) -> list[str]:
    """What there is to say of a page that loads these files."""
    weights = {name: (HTML / name).stat().st_size for name in files if (HTML / name).is_file()}
    assert page in weights and "_static/doctools.js" in weights
    heavy = sorted(weights.items(), key=lambda item: -item[1])[:8]
    return [f"loads {sum(weights.values()):,} bytes; most weigh {heavy}"] if sum(weights.values()) > HEAVIEST else []
