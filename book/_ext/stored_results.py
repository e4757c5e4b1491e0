"""The result files lie beside the pages that quote them, so that a figure can link to its file."""

import shutil
from pathlib import Path

from sphinx.application import Sphinx


def copy(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    source, target = Path(app.srcdir) / "book" / "results", Path(app.outdir) / "book" / "results"
    for path in (*source.rglob("*.json"), *source.glob("*.yaml")):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
