"""The networks of chapter 11's lab as files that its page loads on a click: _static/labs/<key>.js, made of book/labs."""

from pathlib import Path

from sphinx.application import Sphinx

from pagkit import lab


def write(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    source = Path(app.srcdir) / "book" / "labs"
    task = lab.photographs(source / "photographs.safetensors").task
    folder = Path(app.outdir) / "_static" / "labs"
    folder.mkdir(parents=True, exist_ok=True)
    made = dict(lab.to_script(lab.pack(lab.load(path, task), task.shape)) for path in sorted(source.glob("photo-*.safetensors")))
    for old in folder.glob("net-*.js"):
        if old.stem not in made:
            old.unlink()
    for key, text in made.items():
        (folder / f"{key}.js").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
