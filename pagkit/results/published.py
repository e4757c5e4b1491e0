"""Figures that others have published, to set ours beside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..evaluation import Score, parse_metric
from ..recipes.text import Loader


@dataclass(frozen=True)
class Published:
    """Figures of one source, as ``book/results/published.yaml`` holds them.

    Attributes:
        key: of the source in ``book/references.bib``.
        task: ours that corresponds.
        source, where: its name in words, and the place in it.
        model, data, attack: what was measured, as far as the source says.
        figures: mappings with ``name`` (the source's), ``recipe`` and ``metric`` (ours that corresponds), and either
            ``correct`` and ``total`` or ``percent``, as the source gives it.

    Raises:
        ValueError: a figure that lacks a key or has one too many, an unknown metric, counts that :class:`Score` refuses, or a per cent
            that is no number from 0 to 100.
    """

    key: str
    task: str
    source: str
    where: str
    model: str
    data: str
    attack: str
    figures: list[dict[str, Any]]

    def __post_init__(self) -> None:
        for figure in self.figures:
            given = set(figure) - {"name", "recipe", "metric"}
            if given not in ({"correct", "total"}, {"percent"}) or len(figure) != len(given) + 3:
                raise ValueError(f"figure {figure} of {self.key}; expected name, recipe, metric and percent, or correct and total")
            parse_metric(figure["metric"])
            if "percent" not in figure:
                Score(figure["correct"], figure["total"])  # refuses counts that are none
            elif not isinstance(value := figure["percent"], int | float) or isinstance(value, bool) or not 0 <= value <= 100:
                raise ValueError(f"figure {figure} of {self.key} has percent {value!r}; expected a number from 0 to 100")


def load_published(path: str | Path) -> list[Published]:
    """Read a file of published figures.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, a key that stands twice, a source that lacks a key or has one too many, and what :class:`Published`
            refuses; names the file.
    """
    try:
        return [Published(**source) for source in yaml.load(Path(path).read_text(), Loader=Loader)]  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a file of published figures: {error}") from error
