"""Checkpoints: the whole state of a training, from which it goes on to the weights that it would have reached uninterrupted.

A checkpoint is a file of ``torch.save`` with its SHA-256 at the end. It holds tensors and plain values only, and is read as such
(``weights_only=True``): a file that would run code is refused. It is written to a temporary name and renamed, so a process that is
killed leaves whole files; the checksum finds those that were cut or changed since. ``torch.load`` reads one too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import Task
from ..data.files import write_atomically
from ..recipe import Recipe

FORMAT = 1
KEEP = 3  # checkpoints in a folder; older ones are deleted
NAME = re.compile(r"checkpoint-\d{9,}\.pt")
DIGEST = hashlib.sha256().digest_size
FREE = ("name", "description", "task", "data", "metrics", "alignment", "checklist")  # keys of a recipe that may change on resuming


class BrokenCheckpoint(ValueError):
    """The file is cut, changed, or was never a checkpoint. None of it was read but its bytes."""


def save(folder: str | Path, step: int, content: dict[str, Any]) -> Path:
    """Write ``folder``/checkpoint-<step>.pt, whole or not at all; of the checkpoints up to ``step`` the last three stay.

    Checkpoints of later steps are deleted: a training that has come to ``step`` was resumed because they cannot be read.

    Args:
        folder: made if missing.
        step: training steps done.
        content: tensors, numbers, strings, None, and dicts, lists and tuples of them.

    Raises:
        OSError: the folder or file cannot be written, or the disk is full. The checkpoints before it are as they were.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    payload, path = buffer.getvalue(), Path(folder) / f"checkpoint-{step:09d}.pt"
    try:
        write_atomically(path, payload + hashlib.sha256(payload).digest())
    except OSError as error:
        before = paths(folder)
        kept = f"the last one, {before[-1].name}, is intact" if before else "there is none before it"
        raise OSError(f"cannot write checkpoint {path}: {error.strerror or error}; {kept}") from error
    found = paths(folder)
    here = found.index(path)
    for other in found[: max(0, here + 1 - KEEP)] + found[here + 1 :]:
        other.unlink()
    return path


def load(path: str | Path) -> dict[str, Any]:
    """Read what :func:`save` wrote, tensors onto the CPU.

    Raises:
        FileNotFoundError: no such file.
        BrokenCheckpoint: the checksum at the end does not fit.
        ValueError: the file is whole, but holds more than tensors and plain values, or is of another format.
    """
    content = Path(path).read_bytes()
    payload, digest = content[:-DIGEST], content[-DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        raise BrokenCheckpoint(f"{path} is broken or is no checkpoint: its {len(content)} bytes do not fit the checksum at their end")
    try:
        made = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is refused: expected tensors and plain values only; nothing in it was run") from error
    if not isinstance(made, dict) or made.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this version of pagkit; expected format {FORMAT}")
    return made


def latest(folder: str | Path) -> dict[str, Any] | None:
    """The last checkpoint that can be read, None where there is none; each broken one is named in a warning and passed over.

    Raises:
        ValueError: there are checkpoints, and all are broken; and those of :func:`load`.
    """
    found = paths(folder)
    for path in reversed(found):
        try:
            return load(path)
        except BrokenCheckpoint as error:
            warnings.warn(f"{error}; it is passed over for the one before", RuntimeWarning, stacklevel=2)
    if found:
        raise ValueError(f"none of the {len(found)} checkpoints in {folder} can be read; name another folder to start anew")
    return None


def paths(folder: str | Path) -> list[Path]:
    """The checkpoints in ``folder``, the last one last; not what somebody keeps beside them, such as a checkpoint-best.pt."""
    return sorted(path for path in Path(folder).glob("checkpoint-*.pt") if NAME.fullmatch(path.name))


def about(model: nn.Module, task: Task, recipe: Recipe, target: str | None = None) -> dict[str, Any]:
    """What a training belongs to: the recipe, the training data by content, the model's layers and shapes, the target's name."""
    entries = json.loads(json.dumps(dataclasses.asdict(recipe), default=lambda value: type(value).__name__))
    digest = hashlib.sha256()
    for tensor in (task.train.x, task.train.y):
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    data = {"examples": len(task.train), "shape": list(task.shape), "bounds": list(task.bounds), "classes": len(task.classes)}
    layers = {name: f"{type(module).__name__}({module.extra_repr()})" for name, module in model.named_modules()}
    shapes = {name: f"{value.dtype} {tuple(value.shape)}" for name, value in model.state_dict().items()}
    return {
        "recipe": {**entries, "target": target or recipe.target},
        "data set": {**data, "content": digest.hexdigest()[:16]},
        "model": {**layers, **shapes},
    }


def claim(folder: str | Path, expected: dict[str, Any], *, resume: bool) -> dict[str, Any] | None:
    """What a training that is :func:`about` ``expected`` starts from in ``folder``: a checkpoint, or None for the beginning.

    A recipe may change in what does not touch the weights: its name, its description, what is measured, and where the data lie,
    since the data themselves are compared.

    Raises:
        ValueError: the folder holds checkpoints and ``resume`` is False; they belong to another recipe, data set or model;
            none of them can be read.
    """
    if not resume:
        if found := paths(folder):
            raise ValueError(
                f"{folder} holds checkpoints, the last one {found[-1].name}; resume (--resume, resume=True) or name another folder"
            )
        return None
    content, unset = latest(folder), {key.name: key.default for key in dataclasses.fields(Recipe)}
    theirs = content["about"] if content else {}
    for part, wanted in expected.items() if content else ():
        held = theirs[part]
        if part == "recipe":  # keys that recipes did not have yet
            held = {**{key: unset[key] for key in set(wanted) - set(held)}, **held}
        for key in {**held, **wanted}:
            if held.get(key) != wanted.get(key) and (part, key) not in {("recipe", free) for free in FREE}:
                raise ValueError(
                    f"the checkpoints in {folder} belong to another {part}: {key or 'it'} is {held.get(key)!r} there and "
                    f"{wanted.get(key)!r} here; name another folder, or resume with what they were made with"
                )
    for left in Path(folder).glob(".checkpoint-*"):  # by a process that was killed while it wrote
        left.unlink(missing_ok=True)
    return content
