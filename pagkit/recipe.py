"""Recipes: one YAML file holds everything that defines an experiment of the book."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

KINDS = {"int": int, "float": float, "str": str, "bool": bool, "None": type(None), "dict[str, Any]": dict}
SETTING = re.compile(r"\+(?=[\w.-]+=)")  # what comes before each changed setting in a recipe's name
METHODS = ("standard", "adversarial", "pag", "pag-adversarial", "ddpm")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES: dict[str, Callable[[float], float]] = {  # share of training done -> share of the learning rate
    "constant": lambda p: 1.0,
    "linear": lambda p: 1.0 - p,
    "cosine": lambda p: 0.5 * (1 + math.cos(math.pi * p)),
    "one-cycle": lambda p: min(p / 0.2, (1 - p) / 0.8),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that defines an experiment, one YAML file each in ``pagkit/recipes``.

    Attributes:
        name: the file's, unless given.
        task, data: name and options of :func:`pagkit.data.load`. Without a ``seed`` in ``data`` the run's
            seed is taken: the toy is then drawn anew for each run.
        model, model_options: name and options of :func:`pagkit.models.build`.
        method: ``"standard"``, ``"adversarial"`` (Madry et al., 2018), ``"pag"`` (Ganz et al., 2023), ``"pag-adversarial"``
            (cross-entropy on attacked inputs, alignment on the inputs as they are), or ``"ddpm"``, which trains no classifier but
            a :class:`pagkit.diffusion.DDPM`, to which ``model_options`` then belong.
        epochs, batch_size: passes over the training split; examples a step, of all processes together.
        accumulate: work on the examples of a step in so many parts, one after the other, which takes less memory; the step is the same,
            except that BatchNorm sees each part on its own.
        precision: ``"float32"``, or ``"bf16"``: forward and plain backward passes in bfloat16 where torch holds that to be safe. What
            alignment takes the gradient of stays in float32, so ``"pag"`` gains little and ``"pag-adversarial"`` its attack.
        channels_last: keep convolutions' weights in the order that tensor cores want. Same numbers but for rounding.
        compile: run model and loss through torch.compile. With a target the model must be without BatchNorm.
        optimizer: ``"adam"``, ``"adamw"`` or ``"sgd"`` (momentum 0.9), with ``lr`` and ``weight_decay``.
        schedule: of the learning rate, a step at a time: ``"constant"``, ``"linear"`` or ``"cosine"`` to zero,
            or ``"one-cycle"`` (up for a fifth of training, then down).
        description: one line, for ``pagkit recipes``.
        ema: decay a step of a running average of the weights, which is what the trained model then holds; 0: no average. It
            remembers about ``1 / (1 - ema)`` steps. Classifiers only: a diffusion model's is in ``model_options``.
        seed: of the weights, the order of the batches and all other draws.
        crop, flip: random shift in pixels, random horizontal flip; images only.
        target, target_options: name and options of :func:`pagkit.targets.build`; for the methods with ``pag``.
        weight: lambda of the PAG objective.
        of: whose input gradient is aligned, ``"log_prob"`` or ``"logit"``.
        classes_per_image: how many classes a step are aligned for each image; None: all.
        ramp: lambda is 0 before the first share of training, full after the second, linear between.
        norm, eps, steps: threat and steps of the attack trained against; for the methods with ``adversarial``.
        metrics: what :func:`pagkit.evaluation.measure` measures: names such as ``pgd-l2-0.5`` to options.
        alignment: gradient targets to hold the test gradients against, as ``target`` spells them, to their options.
        checklist: ``norm``, ``eps`` and options of :func:`pagkit.evaluation.checklist`; ``examples``, to use only so many of the test
            split; ``surrogate``, a recipe's name. Empty: no checklist is made.

    Raises:
        ValueError: a value of the wrong type or out of range; names the recipe, the key and what was expected.
    """

    name: str
    task: str
    model: str
    method: str
    epochs: int
    lr: float
    description: str = ""
    seed: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    model_options: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 128
    accumulate: int = 1
    precision: str = "float32"
    channels_last: bool = False
    compile: bool = False
    optimizer: str = "adam"
    schedule: str = "constant"
    weight_decay: float = 0.0
    ema: float = 0.0
    crop: int = 0
    flip: bool = False
    target: str | None = None
    target_options: dict[str, Any] = field(default_factory=dict)
    weight: float = 0.0
    of: str = "log_prob"
    classes_per_image: int | None = None
    ramp: tuple[float, float] = (0.0, 0.0)
    norm: str = "l2"
    eps: float = 0.0
    steps: int = 7
    metrics: dict[str, Any] = field(default_factory=dict)
    alignment: dict[str, Any] = field(default_factory=dict)
    checklist: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value, kinds = getattr(self, f.name), [KINDS[kind] for kind in str(f.type).split(" | ") if kind in KINDS]
            if float in kinds and type(value) is int:
                object.__setattr__(self, f.name, value := float(value))
            if kinds and (not isinstance(value, tuple(kinds)) or isinstance(value, bool) != (bool in kinds)):
                hint = "; YAML reads 1.0e-3 as a number, and 1e-3 as text" if float in kinds else ""
                raise ValueError(f"recipe {self.name!r}: {f.name} is {value!r}; expected {f.type}{hint}")
        for key, value, known in (
            ("method", self.method, METHODS),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("precision", self.precision, ("float32", "bf16")),
        ):
            if value not in known:
                raise ValueError(f"recipe {self.name!r}: unknown {key} {value!r}; expected one of {', '.join(known)}")
        at_least = {"epochs": 1, "batch_size": 1, "accumulate": 1, "steps": 1, "crop": 0, "weight": 0, "eps": 0, "weight_decay": 0}
        for key, low in at_least.items():
            if not getattr(self, key) >= low:
                raise ValueError(f"recipe {self.name!r}: {key} is {getattr(self, key)}; expected at least {low}")
        if not self.lr > 0:
            raise ValueError(f"recipe {self.name!r}: lr is {self.lr}; expected a positive number")
        if not 0 <= self.ema < 1:
            raise ValueError(f"recipe {self.name!r}: ema is {self.ema}; expected 0 <= ema < 1")
        object.__setattr__(self, "ramp", tuple(self.ramp))
        if len(self.ramp) != 2 or not 0 <= self.ramp[0] <= self.ramp[1] <= 1:
            raise ValueError(f"recipe {self.name!r}: ramp is {self.ramp}; expected two shares 0 <= start <= end <= 1")
        if ("pag" in self.method) != (self.target is not None):
            found = f"method {self.method!r} with target {self.target!r}"
            raise ValueError(f"recipe {self.name!r}: {found}; the methods 'pag' and 'pag-adversarial' have a target, others none")
        for key in ("metrics", "alignment"):
            if bad := [name for name, options in getattr(self, key).items() if not isinstance(options, dict)]:
                raise ValueError(f"recipe {self.name!r}: {key} gives {bad[0]!r} no mapping of options; expected one, {{}} for none")
        if self.checklist and not {"norm", "eps"} <= set(self.checklist):
            raise ValueError(f"recipe {self.name!r}: checklist has {', '.join(self.checklist)}; expected at least norm and eps")

    @classmethod
    def load(cls, name: str | Path, **changes: Any) -> Recipe:
        """A recipe by name, or from a YAML file when ``name`` ends in .yaml; ``changes`` replace single keys.

        A name may carry settings: ``digits-pag-nn+weight=0.1+model_options.activation=relu`` is the recipe ``digits-pag-nn`` with
        two keys changed, and that is its name from then on. Values are read as YAML. A dot leads into a mapping, unless a digit
        follows it, as in ``metrics.pgd-l2-0.5.steps=100``.

        Raises:
            ValueError: unknown name, key or value; a required key missing; not a YAML mapping.
        """
        is_file = str(name).endswith(".yaml") and Path(name).is_file()  # whose folder may carry settings in its name
        base, *settings = [str(name)] if is_file else SETTING.split(str(name))
        path = Path(base) if base.endswith(".yaml") else Path(str(resources.files("pagkit"))) / "recipes" / f"{base}.yaml"
        if not path.is_file():
            raise ValueError(f"unknown recipe {base!r}; expected a .yaml file or one of {', '.join(recipe_names())}")
        try:
            entries = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise ValueError(f"{path.name} is not valid YAML: {error}") from error
        if not isinstance(entries, dict):
            raise ValueError(f"{path.name} holds {type(entries).__name__}; expected a mapping of recipe keys")
        entries = {"name": path.stem, **entries}
        for setting in settings:
            _change(entries, setting)
        entries |= changes
        known = {f.name: f for f in dataclasses.fields(cls)}
        if unknown := sorted(set(entries) - set(known)):
            raise ValueError(f"{path.name}: unknown key {unknown[0]!r}; expected some of {', '.join(known)}")
        required = [key for key, f in known.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
        if missing := [key for key in required if key not in entries]:
            raise ValueError(f"{path.name}: key {missing[0]!r} is missing")
        return cls(**entries)

    def to_yaml(self) -> str:
        """Every key, as :meth:`load` reads it from a file."""
        return yaml.safe_dump({**dataclasses.asdict(self), "ramp": list(self.ramp)}, sort_keys=False)


def recipe_names() -> list[str]:
    """Names of the recipes that come with the library."""
    return sorted(p.stem for p in (Path(str(resources.files("pagkit"))) / "recipes").glob("*.yaml"))


def _change(entries: dict[str, Any], setting: str) -> None:
    """Apply one ``key=value`` or ``key.option=value`` to a recipe's entries, and add it to the name."""
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
    if key != "name":
        entries["name"] += f"+{setting}"
