"""Recipes as text: a file of YAML, and settings such as ``weight=0.1``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

SETTING = re.compile(r"\+(?=[\w.-]+=)")  # what comes before each changed setting in a recipe's name
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first only where PyYAML has libyaml


class Loader(LOADER):
    """YAML in which no key stands twice, and every number in the base that it seems to have."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        base = 60 if ":" in node.value else 8 if re.fullmatch(r"[-+]?0[0-7_]+", node.value) else 10
        if base != 10:
            what = f"{node.value} would be a number in base {base}; expected one in base 10, or quotes around a text"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
        return (self.construct_yaml_float if node.tag.endswith(":float") else self.construct_yaml_int)(node)


for _tag in ("int", "float"):
    Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", Loader.construct_number)


def _load(content: str, where: str) -> Any:
    """What YAML says; ``where`` it stands begins the ValueError of what cannot be read."""
    try:
        value = yaml.load(content, Loader=Loader)
        json.dumps(value, default=str, skipkeys=True)  # refuses what holds itself
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid YAML: {error}") from error
    return value


def read(path: Path) -> dict[str, Any]:
    """The entries of a recipe's file.

    Raises:
        ValueError: not a YAML mapping in UTF-8, a key that stands twice, a number in base 8 or 60, a value that holds itself.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from error
    entries = _load(content, path.name)
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


def metric(attack: str, norm: str, eps: float) -> str:
    """The one name of a metric, its radius in plain decimals: ``pgd-l2-0.5`` of an eps that is written 0.50, .5 or 5e-1, too."""
    radius = format(Decimal(repr(abs(eps))), "f").removesuffix(".0")
    return f"{attack}-{norm}-{radius}" if norm else attack


def change(entries: dict[str, Any], setting: str) -> None:
    """Apply one ``key=value`` or ``key.option=value`` to a recipe's entries, and add it to the name.

    A value in which the name would seem to go on with another setting, such as another recipe's name, stands there as JSON, with a code
    for the plus sign: ``ddpm="digits-ddpm\\u002bepochs=1"``. YAML reads that too.

    Raises:
        ValueError: an option inside what holds none, and those of :func:`read`.
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
    inside[last] = _load(text, f"setting {setting!r}")
    if SETTING.search(text):
        setting = f"{key}=" + SETTING.sub(r"\\u002b", json.dumps(inside[last], ensure_ascii=False, default=str))
    if key != "name":
        entries["name"] += f"+{setting}"
