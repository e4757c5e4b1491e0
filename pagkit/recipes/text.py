"""Recipes as text: a file of YAML, and settings such as ``weight=0.1``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

SETTING = re.compile(r"\+(?=[\w.-]+=)")  # what comes before each changed setting in a recipe's name
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first only where PyYAML has libyaml


class _Loader(LOADER):
    """YAML in which no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read(path: Path) -> dict[str, Any]:
    """The entries of a recipe's file.

    Raises:
        ValueError: not a YAML mapping in UTF-8, or a key stands twice.
    """
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{path.name} holds {type(entries).__name__}; expected a mapping of recipe keys")
    return entries


def plain(value: Any) -> Any:
    """A value as YAML writes it: a scalar of NumPy or torch as Python's own, a path as text, and so inside mappings, lists and tuples."""
    if isinstance(value, Mapping):
        return {plain(key): plain(inside) for key, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return (tuple if isinstance(value, tuple) else list)(plain(inside) for inside in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value


def change(entries: dict[str, Any], setting: str) -> None:
    """Apply one ``key=value`` or ``key.option=value`` to a recipe's entries, and add it to the name.

    A value in which the name would seem to go on with another setting, such as another recipe's name, stands there as JSON, with a code
    for the plus sign: ``ddpm="digits-ddpm\\u002bepochs=1"``. YAML reads that too.
    """
    key, _, text = setting.partition("=")
    *above, last = re.split(r"\.(?!\d)", key)
    inside = entries
    for part in above:
        held = inside.get(part) or {}
        if not isinstance(held, dict):
            raise ValueError(f"setting {setting!r} asks for an option inside {part}, which is {held!r}; expected one that holds a mapping")
        inside[part] = dict(held)
        inside = inside[part]
    try:
        inside[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"setting {setting!r} is not valid YAML: {error}") from error
    if SETTING.search(text):
        setting = f"{key}=" + SETTING.sub(r"\\u002b", json.dumps(inside[last], ensure_ascii=False, default=str))
    if key != "name":
        entries["name"] += f"+{setting}"
