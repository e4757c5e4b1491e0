"""The role {measured}: a number of a Markdown page with where it comes from, ``54.8 [53.0, 56.6] <digits-standard autoattack-l2-0.5>``.

In the brackets stand a recipe and a metric for a mean over seeds, or two recipes for the second's lead over the first, and ``seeds=20-29``
where not all seeds count; with ``seed=1`` it is the count of that run alone, or the lead within that seed. The page says what a notebook's
:class:`pagkit.results.Estimate` or :func:`pagkit.results.count` says; another number than that of the results is an error of the build.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from pagkit import results

ASKED = re.compile(r"(?P<shown>.+?)\s*<(?P<asked>[^<>]+)>", re.DOTALL)


def number(asked: str, runs: Sequence[results.Result]) -> results.Estimate | results.Figure:
    """The number that the words in the brackets ask for."""
    *recipes, metric = (word for word in asked.split() if not word.startswith(("seed=", "seeds=")))
    if seed := re.search(r"\bseed=(\d+)\b", asked):
        if len(recipes) == 2:
            return results.difference([run for run in runs if run.seed == int(seed[1])], *recipes, metric, at_least=1)
        found = [run for run in runs if recipes == [run.recipe] and run.seed == int(seed[1])]
        if len(found) != 1:
            raise ValueError(f"{asked!r} fits {len(found)} results; expected one recipe and a seed with which it was run")
        return results.count(found[0], metric)
    if seeds := re.search(r"\bseeds=(\d+)-(\d+)\b", asked):
        runs = [run for run in runs if int(seeds[1]) <= run.seed <= int(seeds[2])]
    if len(recipes) not in (1, 2):
        raise ValueError(f"{asked!r} names {len(recipes)} recipes and a metric; expected one or two recipes")
    return results.mean(runs, *recipes, metric) if len(recipes) == 1 else results.difference(runs, *recipes, metric)


class Measured(SphinxRole):
    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        runs = results.load_all(Path(self.env.srcdir, "book", "results"))
        try:
            found = ASKED.fullmatch(self.text)
            if found is None:
                raise ValueError(f"{self.text!r} is not of the form: number <recipe metric>")
            value = number(found["asked"], runs)
            if str(value) != " ".join(found["shown"].split()):
                raise ValueError(f"the page says {found['shown']}, the results {value}")
        except ValueError as error:
            return [], [self.inliner.reporter.error(f"measured: {error}", line=self.lineno)]
        return [nodes.raw("", value._repr_html_(), format="html")], []


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role("measured", Measured())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
