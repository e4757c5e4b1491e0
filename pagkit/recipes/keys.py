"""What a recipe may say inside its mappings: every option with its type, range, default and meaning.

The keys of a recipe itself are those of :class:`pagkit.recipe.Recipe`, each a :class:`Key` too. Nothing heavy is imported here, so that
a slip in a recipe is found at once. The options of a function of the library have the function's own names and defaults; a test
compares the two.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

REQUIRED = "required"  # in place of a default
SEEDS, LARGEST = 2**32, 2**63  # how many seeds there are, in all libraries alike; what whole numbers are below
CHANGES = ("wrong_class", "other_example", "random_image", "mean_image", "smooth_field", "blurred", "high_pass")  # of a control
KINDS: dict[str, tuple[type[Any], ...]] = {
    "int": (int,),
    "float": (float, int),
    "str": (str, os.PathLike),
    "bool": (bool,),
    "None": (type(None),),
    "list": (list, tuple),
    "tuple": (list, tuple),
    "dict": (dict,),
}


@dataclass(frozen=True)
class Key:
    """One thing that a recipe may say.

    Attributes:
        kind: its type as Python writes it, such as ``"int | None"`` or ``"list[float]"``; a range is that of each item.
        means: what it does, in a few words.
        default: what holds where a recipe does not say it.
        at_least, at_most, above, below: limits of a number.
        choices: the words that are known; empty: any.
        parts: words that are known alone and, several of them, joined by ``-``.
    """

    kind: str
    means: str
    default: Any = REQUIRED
    at_least: float = -math.inf
    at_most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    choices: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """Type and range in words."""
        if self.choices:
            joined = f", or some of {', '.join(self.parts)}, joined by '-'" if self.parts else ""
            words = (f"one of {', '.join(self.choices)}" if len(self.choices) > 1 else self.choices[0]) + joined
            return " or ".join([words, *(self._limited(kind) for kind in self.kind.split(" | ") if kind != "str")])
        return self._limited(self.kind)

    def _limited(self, kind: str) -> str:
        limits = {"at least": self.at_least, "at most": self.at_most, "above": self.above, "below": self.below}
        said = [f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit) and kind != "None"]
        return ", ".join([kind, *said])

    def check(self, name: str, value: Any) -> None:
        """Refuse a value of the wrong type or out of range.

        Raises:
            ValueError: says ``name``, the value found and what was expected.
        """
        kinds = self.kind.split(" | ")
        nothing = value == "None" and "None" in kinds
        if nothing or not any(self._fits(value, kind) for kind in kinds):
            hint = "; YAML writes None as null" if nothing else "; below 2**63" if type(value) is int and value >= LARGEST else ""
            if "float" in kinds and isinstance(value, str) and _is_number(value):
                hint = "; YAML reads 1.0e-3 as a number, and 1e-3 as text"
            raise ValueError(f"{name} is {value!r}; expected {self.expected}{hint}")

    def _fits(self, value: Any, kind: str) -> bool:
        outer, _, inner = kind.rstrip("]").partition("[")
        if not isinstance(value, KINDS[outer]) or isinstance(value, bool) != (outer == "bool"):
            return False
        if outer in ("list", "tuple"):
            return all(self._fits(item, inner.split(",")[0]) for item in value)
        if outer in ("int", "float"):
            finite = abs(value) < (LARGEST if isinstance(value, int) else math.inf)
            return finite and self.at_least <= value <= self.at_most and self.above < value < self.below
        words = value.split("-") if outer == "str" and self.parts else []
        return not (outer == "str" and self.choices) or value in self.choices or len(set(words) & set(self.parts)) == len(words) > 0


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def check(where: str, options: Mapping[str, Any], known: Mapping[str, Key]) -> None:
    """Refuse options that are not ``known``, that lack one which is required, or whose value cannot be meant.

    Raises:
        ValueError: says ``where``, the option, what was found and what was expected.
    """
    if not isinstance(options, Mapping):
        raise ValueError(f"{where} is {options!r}; expected a mapping of options, {{}} for none")
    if unknown := sorted(set(options) - set(known), key=str):
        expected = f"some of {', '.join(sorted(known))}" if known else "none"
        raise ValueError(f"unknown option {unknown[0]!r} of {where}; expected {expected}")
    if missing := [name for name, key in known.items() if key.default is REQUIRED and name not in options]:
        raise ValueError(f"{where} has no {missing[0]} ({known[missing[0]].means}); expected {known[missing[0]].expected}")
    for name, value in options.items():
        known[name].check(f"{where}.{name}", value)


def one_of(where: str, name: str, known: Mapping[str, Mapping[str, Key]]) -> Mapping[str, Key]:
    """The options of ``name``, or a ValueError that lists the names that are known."""
    if name not in known:
        raise ValueError(f"unknown {where} {name!r}; expected one of {', '.join(known)}")
    return known[name]


def split_metric(metric: str) -> tuple[str, str, float]:
    """``"pgd-l2-0.5"`` -> ``("pgd", "l2", 0.5)``; ``"clean"`` -> ``("clean", "", 0.0)``, and so for ``"samples"`` of a diffusion model.

    Raises:
        ValueError: another attack, no norm, or a radius that is no finite number >= 0.
    """
    if metric in ("clean", "samples"):
        return metric, "", 0.0
    attack, _, rest = str(metric).partition("-")
    norm, _, eps = rest.partition("-")
    try:
        radius = float(eps)
    except ValueError:
        radius = math.nan
    if attack not in ATTACKS or not norm or not 0 <= radius < math.inf:
        raise ValueError(f"unknown metric {metric!r}; expected 'clean', " + ", ".join(f"'{name}-<norm>-<eps>'" for name in ATTACKS))
    return attack, norm, radius


SEED = Key("int", "of all that is random", 0, at_least=0, at_most=SEEDS - 1)
ACTIVATION = Key("str", "relu, silu or gelu", "silu", choices=("relu", "silu", "gelu"))
NORMALIZE = Key("str | float", "none, standardize, or a number to divide by", "standardize", above=0, choices=("none", "standardize"))

DATA = {
    "seed": Key("int", "draws the toy, the digits' split, a subset; without it the run's seed", None, at_least=0, at_most=SEEDS - 1),
    "root": Key("str | None", "the folder of CIFAR and STL", None),
    "train_per_class": Key("int | None", "keep so many training examples a class", None, at_least=1),
    "test_per_class": Key("int | None", "keep so many test examples a class", None, at_least=1),
    "size": Key("int | None", "resize images to so many pixels a side", None, at_least=1),
    "test_skip_per_class": Key("int | None", "so many of each class of the test split are left out first", None, at_least=1),
    "holdout": Key("int | None", "so many training examples in place of the test split, to choose settings on", None, at_least=1),
}
MODELS = {
    "mlp": {
        "hidden": Key("list[int]", "units of each hidden layer", (32,), at_least=1),
        "activation": Key("str", "relu, silu or gelu", "relu", choices=("relu", "silu", "gelu")),
        "normalize": Key("str | float", "none, standardize, or a number to divide by", "none", above=0, choices=("none", "standardize")),
    },
    "cnn": {"width": Key("int", "channels of the first layer", 32, at_least=1), "activation": ACTIVATION, "normalize": NORMALIZE},
    "resnet-small": {
        "widths": Key("list[int]", "channels of each block", (32, 64, 128), at_least=1),
        "activation": ACTIVATION,
        "norm": Key("str", "none, batch or group", "none", choices=("none", "batch", "group")),
        "normalize": NORMALIZE,
    },
    "resnet18": {
        "activation": Key("str", "relu, silu or gelu", "relu", choices=("relu", "silu", "gelu")),
        "norm": Key("str", "batch or group", "batch", choices=("batch", "group")),
        "stem": Key("str | None", "small or large; None: by the image's side", None, choices=("small", "large")),
        "normalize": NORMALIZE,
    },
    "vit": {
        "patch": Key("int", "side of a patch in pixels", 4, at_least=1),
        "dim": Key("int", "width of a token", 192, at_least=1),
        "depth": Key("int", "number of blocks", 6, at_least=1),
        "heads": Key("int", "attention heads", 3, at_least=1),
        "activation": Key("str", "relu, silu or gelu", "gelu", choices=("relu", "silu", "gelu")),
        "normalize": NORMALIZE,
    },
    "ddpm": {
        "widths": Key("list[int]", "channels at each resolution of the U-Net", (32, 64), at_least=1),
        "patch": Key("int", "side of the squares that the U-Net takes as one pixel", 1, at_least=1),
        "drop": Key("float", "share of the examples that lose their label", 0.15, at_least=0, below=1),
        "ema": Key("float", "decay of the running average of the weights", 0.999, at_least=0, below=1),
    },
}
TARGETS = {
    "one_image": {"seed": SEED},
    "class_mean": {"scale": Key("float", "factor of the mean", 1.0, above=0)},
    "nearest_neighbor": {"per_class": Key("int | None", "look among so many training examples of each class", None, at_least=1)},
    "score_based": {
        "ddpm": Key("str", "the diffusion model: a recipe's name, a file or a folder"),
        "t": Key("int", "noise level", at_least=0, at_most=999),
        "draws": Key("int", "noises to average over", 1, at_least=1),
        "seed": SEED,
        "folder": Key("str | None", "where directions are kept; None: in memory only", None),
    },
    "control": {
        "change": Key("str", "what is changed in the directions of the nearest neighbour or, with a ddpm, of its scores", choices=CHANGES),
        "ddpm": Key("str | None", "the diffusion model of the scores", None),
        "t": Key("int | None", "noise level of the scores", None, at_least=0, at_most=999),
        "draws": Key("int", "noises to average the scores over", 1, at_least=1),
        "seed": SEED,
        "folder": Key("str | None", "where the scores' directions are kept; None: in memory only", None),
    },
    "teacher": {"teacher": Key("str", "the recipe of the classifier whose gradients they are"), "seed": SEED},
}
ATTACKS = {
    "pgd": {
        "steps": Key("int", "gradient steps", 40, at_least=1),
        "step_size": Key("float | None", "length of a step; None: the attack's own", None, above=0),
        "restarts": Key("int", "independent starts", 1, at_least=1),
        "random_start": Key("bool", "let the first run too start at a random point of the ball", False),
        "keep": Key("str", "worst: the first point that succeeds; last: the last one", "worst", choices=("worst", "last")),
        "target": Key("str | int | None", "a class, or next: the one after the label", None, at_least=0, choices=("next",)),
        "likeliest": Key("int", "then attack towards so many of the likeliest other classes", 0, at_least=0),
    },
    "autoattack": {
        "attacks": Key("list[str] | None", "which to run; None: the standard ones", None),
        "queries": Key("int", "that Square makes for each example", 5000, at_least=1),
        "restarts": Key("int", "of the attacks by gradients", 1, at_least=1),
        "seed": SEED,
    },
    "apgd": {"seed": SEED},
    "square": {"queries": Key("int", "for each example", 5000, at_least=1), "seed": SEED},
    "exact": {},
}
METRICS = {
    **ATTACKS,
    "clean": {},
    "samples": {
        "judge": Key("str", "the recipe of the classifier that reads the samples"),
        "per_class": Key("int", "samples of each class", at_least=1),
        "guidance": Key("float", "how typical of its class a sample is to be", at_least=0),
    },
}
CHECKLIST = {
    "norm": Key("str", "of the ball"),
    "eps": Key("float", "its radius", above=0),
    "examples": Key("int", "use so many of the test split", None, at_least=1),
    "surrogate": Key("str", "the recipe of the model that transfer attacks come from", None),
    "steps": Key("int", "of PGD", 40, at_least=1),
    "queries": Key("int", "of Square", 1000, at_least=1),
    "seed": SEED,
}
