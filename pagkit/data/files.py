"""Files that are whole or not there: written to a temporary name beside their own, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[tuple[int, Path]]:
    """A new empty file beside ``path``, open, as (descriptor, its path); on leaving it is on disk under the name ``path``.

    Where the block raises, ``path`` is as it was before, and nothing else is left. The folder is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        try:
            yield handle, Path(name)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all: a reader sees the old file or the new one, never half.

    Raises:
        OSError: the folder or file cannot be written, or the disk is full.
    """
    with whole(path) as (handle, _):
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(content)


def writable(folder: Path, remedy: str = "name another folder") -> None:
    """Make a folder if it is missing, and try to write in it; nothing else is left.

    Raises:
        PermissionError: that cannot be done; says why, and the ``remedy``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable-") as file:
            file.write(b"yes")
    except OSError as error:
        raise PermissionError(f"cannot write to the folder {folder}: {error.strerror or error}; {remedy}") from error
