"""Write book/_assets/readme.png, the picture of the README, from a figure that chapter 9 stores.

The figure is taken as it is, with fewer colours so that it stays small. Run this after the chapter was executed anew.
"""

import base64
import io
import os
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = ROOT / "book" / "09-toy-exactly.ipynb"
LAST_LINE = "compare(published)"  # of the cell that draws the figure
PICTURE = ROOT / "book" / "_assets" / "readme.png"


def figure() -> Image.Image:
    """The figure as the notebook stores it. Raises ValueError if it is not there."""
    for cell in nbformat.read(CHAPTER, as_version=4).cells:
        if cell.cell_type == "code" and cell.source.endswith(LAST_LINE):
            for output in cell.outputs:
                if png := output.get("data", {}).get("image/png"):
                    return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    raise ValueError(f"{CHAPTER.name} stores no figure of a cell that ends in {LAST_LINE!r}")


def main() -> None:
    temporary = PICTURE.with_suffix(".tmp")
    figure().quantize(256, method=Image.Quantize.MAXCOVERAGE).save(temporary, format="PNG", optimize=True)
    os.replace(temporary, PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
