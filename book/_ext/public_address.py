"""What a public address brings: a button that opens a chapter on Binder, links to the source, a card for those who share a page.

Both addresses are set in one place, `sphinx: config:` of `_config.yml`. While they are empty, as in a copy on somebody's disk, no page
shows a button that leads nowhere.
"""

import html

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

CARD = "_static/card.png"


def buttons(app: Sphinx, config: Config) -> None:
    for name in ("public_repository", "public_site"):
        if getattr(config, name) and not getattr(config, name).startswith("https://"):
            raise ValueError(f"{name} is {getattr(config, name)!r}; expected an address such as https://github.com/owner/name, or nothing")
    if config.public_repository:
        config.html_theme_options |= {
            "repository_url": config.public_repository.rstrip("/"),
            "repository_branch": "main",
            "use_repository_button": True,
            "use_issues_button": True,
            # not Colab, which opens a notebook without the library and the results that it reads
            "launch_buttons": {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"},
        }
    if config.public_site:
        config.html_baseurl = config.public_site.rstrip("/") + "/"


def card(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    if not app.config.public_site or doctree is None:
        return
    first = next(iter(doctree.findall(nodes.paragraph)), None)
    told = {
        "og:title": context["title"],
        "og:type": "article",
        "og:description": " ".join(first.astext().split())[:200] if first else app.config.project,
        "og:url": f"{app.config.html_baseurl}{page}.html",
        "og:image": app.config.html_baseurl + CARD,
        "twitter:card": "summary_large_image",
    }
    tags = (f'<meta property="{name}" content="{html.escape(text, quote=True)}">' for name, text in told.items())
    context["metatags"] = context.get("metatags", "") + "\n".join(tags)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("public_repository", "", "html")
    app.add_config_value("public_site", "", "html")
    app.connect("config-inited", buttons)
    app.connect("html-page-context", card)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
