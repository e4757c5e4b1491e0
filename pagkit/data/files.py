"""Files that are whole or not there: written to a temporary name beside their own, then renamed."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[tuple[int, Path]]:
    """A new empty file beside ``path``, open, as (descriptor, its path); on leaving it is on disk under the name ``path``.

    Where the block raises, ``path`` is as it was before, and nothing else is left; an OSError then names it. The folder is made if it is
    missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:  # with the permissions that any new file gets
            yield file.fileno(), temporary
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and str(error.filename) in ("None", str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all: a reader sees the old file or the new one, never half.

    Raises:
        OSError: the folder or file cannot be written, or the disk is full; names it.
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


@contextmanager
def alone(path: Path, *, wait: bool = True) -> Iterator[None]:
    """One process of the machine at a time makes ``path``; a lock that its holder's end gives back, however it ends.

    Raises:
        ValueError: another process holds it, and this one is not to ``wait``.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on Windows: two processes may then do the same work, and the last one's file stays
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    held = False
    while not held:
        with open(lock, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise ValueError(f"another process is at work on {path}; wait for its end, or name another folder") from None
            try:
                held = os.path.samestat(os.fstat(file.fileno()), os.stat(lock))
            except FileNotFoundError:  # the holder that this one waited for took the file away
                continue
            if held:  # else it did, and another process has made a new one
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
