"""Execute notebooks and store their outputs so that a second run changes no byte.

Each notebook runs from top to bottom in a fresh `python3` kernel, in its own folder, on one CPU
thread. What differs between runs but says nothing (timings, versions, transient metadata) is
not stored; pictures are packed tightly, pixel by pixel the same. A notebook is replaced only
when all its cells ran and none wrote to stderr; otherwise it stays as it was and the exit
status is 1.
"""

import argparse
import base64
import io
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONHASHSEED": "0",
    "COLUMNS": "80",
    "TZ": "UTC",
    "TQDM_DISABLE": "1",
    "JUPYTER_PREFER_ENV_PATH": "1",  # the python3 kernel of this environment, not the user's
}
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}


class NotebookFailed(Exception):
    """A cell raised, timed out or wrote to stderr; the message says which and why."""


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run every cell of `notebook` in `folder`, in place. Raises NotebookFailed at the first bad cell."""
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
    )
    client.reset_execution_trackers()
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            where = f"cell {index + 1} (id {cell.id})"
            try:
                client.execute_cell(cell, index)
            except CellExecutionError as error:
                raise NotebookFailed(f"{where}: {error.ename}: {error.evalue}") from error
            except Exception as error:
                raise NotebookFailed(f"{where}: {type(error).__name__}: {error}") from error
            for output in cell.get("outputs", []):
                if output.get("name") == "stderr":
                    raise NotebookFailed(f"{where} wrote to stderr: {output.text.strip()}")


def smaller(png: str) -> str:
    """A picture (PNG in base64) with the same pixels in fewer bytes: no alpha channel where all is opaque, and packed slowly."""
    image: Image.Image = Image.open(io.BytesIO(base64.b64decode(png)))
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    packed = io.BytesIO()
    image.save(packed, "PNG", optimize=True)
    return min(base64.b64encode(packed.getvalue()).decode(), png.replace("\n", ""), key=len)


def normalise(notebook: nbformat.NotebookNode) -> str:
    """The notebook as text, without what changes from run to run or from editor to editor."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        for key in ("execution", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", []):
            output.pop("transient", None)
            if png := output.get("data", {}).get("image/png"):
                output["data"]["image/png"] = smaller(png)
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def process(path: Path) -> str | None:
    """Execute and store one notebook. Prints one line; returns the reason if it failed."""
    start = time.perf_counter()
    before = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(before, as_version=4)
    for index, cell in enumerate(notebook.cells, 1):
        cell.setdefault("id", f"c{index:02d}")  # some editors drop ids
    try:
        execute(notebook, path.resolve().parent)
    except NotebookFailed as error:
        return re.sub(r"\x1b\[[0-9;]*m", "", f"{path}: {error}")
    after = normalise(notebook)
    if after != before:
        temporary = path.with_suffix(".ipynb.tmp")
        temporary.write_text(after, encoding="utf-8")
        os.replace(temporary, path)
    state = "stored" if after != before else "unchanged"
    print(f"{path}: {state}, {time.perf_counter() - start:.0f} s", flush=True)
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: every notebook under book/")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="notebooks to run at once (default 1)")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {options.jobs}")
    if missing := [str(path) for path in options.notebooks if not path.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    notebooks = options.notebooks or sorted((ROOT / "book").glob("*.ipynb"))
    os.environ.update(ENVIRONMENT)
    with ProcessPoolExecutor(options.jobs) as pool:
        failures = [reason for reason in pool.map(process, notebooks) if reason]
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
