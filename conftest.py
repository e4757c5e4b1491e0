"""Compare the notebooks' numbers with tolerance when pytest runs them through nbval.

The text between two numbers must be equal. A number written with a decimal point or an
exponent may move by REL or ABS, whichever is larger; a whole number (a count, a shape, a
seed) may not move. A cell whose numbers depend on the processor says in its metadata how far
all of them may move, whole ones included: {"tolerance": {"rel": 0.1, "abs": 5}}.
Pictures inside HTML, a lab's, may move by LEVELS of 255 a pixel.
"""

import base64
import io
import os
import re

REL, ABS, LEVELS = 2e-2, 2e-3, 4
# Blanks beside a number belong to it: a column's padding changes with the digits.
NUMBER = re.compile(r" *([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|[-+]?\.\d+(?:[eE][-+]?\d+)?) *")
PICTURE = re.compile(r'(?<="frames":")[\w+/=]+|(?<=data:image/png;base64,)[\w+/=]+')  # pixels of a dial, or a PNG

# The stored outputs were made on one thread (scripts/execute_notebooks.py).
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # progress bars are for people


def pixels(picture: str):
    """The pixels of a PNG, or of frames without one, from base64."""
    import numpy as np
    from PIL import Image

    data = base64.b64decode(picture)
    array = np.asarray(Image.open(io.BytesIO(data))) if data.startswith(b"\x89PNG") else np.frombuffer(data, np.uint8)
    return array.astype(int)


def alike(new: str, stored: str) -> bool:
    """Whether two pictures agree, each pixel within LEVELS."""
    if new == stored:
        return True
    a, b = pixels(new), pixels(stored)
    return a.shape == b.shape and abs(a - b).max() <= LEVELS


def close(new: str, stored: str, tolerance: dict | None) -> bool:
    """Whether two texts agree, each number and each picture within the tolerance."""
    seen, known = PICTURE.findall(new), PICTURE.findall(stored)
    if len(seen) != len(known) or not all(map(alike, seen, known)):
        return False
    new, stored = PICTURE.sub("", new), PICTURE.sub("", stored)
    if NUMBER.split(new)[::2] != NUMBER.split(stored)[::2]:
        return False
    for a, b in zip(NUMBER.findall(new), NUMBER.findall(stored), strict=True):
        whole = not re.search(r"[.eE]", a + b)
        allowed = {"rel": 0, "abs": 0} if whole else {"rel": REL, "abs": ABS}
        allowed |= tolerance or {}
        if abs(float(a) - float(b)) > max(allowed["abs"], allowed["rel"] * abs(float(b))):
            return False
    return True


def snap(new, stored, tolerance: dict | None):
    """`new`, with every text that agrees with its stored counterpart replaced by it."""
    if isinstance(new, str) and isinstance(stored, str):
        return stored if close(new, stored, tolerance) else new
    if isinstance(new, dict) and isinstance(stored, dict):
        return type(new)({k: snap(v, stored.get(k), tolerance) for k, v in new.items()})
    return new


def pytest_itemcollected(item) -> None:
    """Wrap the output comparison of every notebook cell; what a cell wrote to stderr is not compared."""
    if type(item).__name__ != "IPyNbCell":
        return
    compare, tolerance = item.compare_outputs, item.cell.metadata.get("tolerance")

    def compare_with_tolerance(new, stored, skip_compare=None) -> bool:
        new, stored = ([o for o in outputs if o.get("name") != "stderr"] for outputs in (new, stored))
        snapped = [snap(a, b, tolerance) for a, b in zip(new, stored, strict=False)]
        return compare(snapped + new[len(stored) :], stored, skip_compare)

    item.compare_outputs = compare_with_tolerance


def pytest_collection_modifyitems(items: list) -> None:
    """The pages of the built book first: they are one file, which one worker takes while the other begins with the chapters."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/site/"))
