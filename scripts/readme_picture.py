"""Write book/_assets/readme.png, the picture of the README, and card.png, for those who share a page, from a figure of chapter 9.

The figure is taken as it is, with fewer colours so that it stays small. Run this after the chapter was executed anew.
"""

import base64
import io
import os
from pathlib import Path

import nbformat
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = ROOT / "book" / "09-toy-exactly.ipynb"
LAST_LINE = "compare(published)"  # of the cell that draws the figure
PICTURE, CARD = ROOT / "book" / "_assets" / "readme.png", ROOT / "book" / "_assets" / "card.png"
TITLE = ("Do perceptually aligned gradients", "imply robustness?")


def figure() -> Image.Image:
    """The figure as the notebook stores it. Raises ValueError if it is not there."""
    for cell in nbformat.read(CHAPTER, as_version=4).cells:
        if cell.cell_type == "code" and cell.source.endswith(LAST_LINE):
            for output in cell.outputs:
                if png := output.get("data", {}).get("image/png"):
                    return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    raise ValueError(f"{CHAPTER.name} stores no figure of a cell that ends in {LAST_LINE!r}")


def card() -> Image.Image:
    """The book's title above the figure, 1200 x 630 pixels."""
    canvas, shown = Image.new("RGB", (1200, 630), "white"), figure()
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=54)
    for line, top in zip(TITLE, (28, 92), strict=True):
        draw.text((600, top), line, "black", font, anchor="ma")
    shown.thumbnail((1120, 440))
    canvas.paste(shown, ((1200 - shown.width) // 2, 175 + (440 - shown.height) // 2))
    return canvas


def main() -> None:
    for path, picture in ((PICTURE, figure()), (CARD, card())):
        temporary = path.with_suffix(".tmp")
        picture.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(temporary, format="PNG", optimize=True)
        os.replace(temporary, path)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
