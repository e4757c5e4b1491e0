"""Recipes: one YAML file holds everything that defines an experiment of the book.

What a recipe may say is checked here, before anything heavy is imported: its own keys below, the options inside its mappings in
:mod:`pagkit.recipes.keys`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .recipes import keys, text
from .recipes.keys import REQUIRED, Key
from .recipes.text import SETTING

FOLDER = Path(__file__).with_name("recipes")
METHODS = ("standard", "ddpm")
PARTS = {  # of a method, in the order in which its name has them: the key that each needs, and that no method without it takes
    "pag": "target",
    "slope": "slope",
    "noise": "noise",
    "adversarial": "eps",
}
READ_BY = {  # keys that only a method with this part reads
    "pag": ("target_options", "weight", "of", "classes_per_image", "ramp"),
    "slope": ("slope_of",),
    "adversarial": ("norm", "steps"),
}
UNSAID = "unsaid"  # in place of a weight: 0, but a method with pag has to say it
FIXED_BY_DDPM = ("optimizer", "schedule", "weight_decay", "ema", "crop")  # see pagkit.diffusion.train


def _key(means: str, default: Any = REQUIRED, **limits: Any) -> Any:
    """A field of :class:`Recipe`; the arguments are those of :class:`pagkit.recipes.keys.Key`."""
    about = {"means": means, **limits}
    if default is REQUIRED:
        return field(metadata=about)
    return field(default_factory=dict, metadata=about) if default == {} else field(default=default, metadata=about)


@dataclass(frozen=True)
class Recipe:
    """Everything that defines an experiment, one YAML file each in ``pagkit/recipes``.

    ``pagkit recipes NAME`` shows a recipe with what its keys mean. NumPy's numbers, paths and the like become plain values, see
    :func:`pagkit.recipes.text.plain`.

    Raises:
        ValueError: a value of the wrong type or out of range, a method with pag without a weight; names the recipe, the key and what was
            expected.
    """

    name: str = _key("the file's, unless given; changed settings are part of it")
    task: str = _key("the data set, see pagkit.data.load")
    model: str = _key("the network, see pagkit.models.build; ddpm for a diffusion model")
    method: str = _key("what is trained", choices=METHODS, parts=tuple(PARTS))
    epochs: int = _key("passes over the training split", at_least=1)
    lr: float = _key("learning rate at its highest", above=0)
    description: str = _key("one line, for pagkit recipes", "")
    seed: int = _key(
        "of the weights, the batches and all other draws; of the data too, unless data says another", 0, at_least=0, at_most=keys.SEEDS - 1
    )
    data: dict[str, Any] = _key("options of the data set", {})
    model_options: dict[str, Any] = _key("options of the network; of its training too for a diffusion model", {})
    batch_size: int = _key("examples a step, of all processes together", 128, at_least=1)
    accumulate: int = _key("work on a step in so many parts, one after the other; the step is the same, BatchNorm apart", 1, at_least=1)
    precision: str = _key(
        "bf16: bfloat16, but for passes of input gradients; bf16-gradients: for these too, and what a term measures of them in float32",
        "float32",
        choices=("float32", "bf16", "bf16-gradients"),
    )
    channels_last: bool = _key("keep convolutions' weights in the order that tensor cores want", False)
    compile: bool = _key("run model and loss through torch.compile; with a target or slope the model must be without BatchNorm", False)
    optimizer: str = _key("sgd has momentum 0.9", "adam", choices=("adam", "adamw", "sgd"))
    schedule: str = _key(
        "of the learning rate; one-cycle: up for a fifth of training, then down",
        "constant",
        choices=("constant", "linear", "cosine", "one-cycle"),
    )
    weight_decay: float = _key("of the optimizer", 0.0, at_least=0)
    ema: float = _key("decay a step of an average of the weights, which the trained model then holds; 0: none", 0.0, at_least=0, below=1)
    crop: int = _key("random shift of an image, in pixels", 0, at_least=0)
    flip: bool = _key("mirror images at random", False)
    target: str | None = _key("where the directions of the methods with pag come from", None, choices=tuple(keys.TARGETS))
    target_options: dict[str, Any] = _key("options of the target", {})
    weight: float = _key("lambda of the PAG objective", UNSAID, at_least=0)
    of: str = _key("whose input gradient is aligned", "log_prob", choices=("log_prob", "logit"))
    classes_per_image: int | None = _key("how many classes a step are aligned for each image; None: all", None, at_least=1)
    ramp: tuple[float, float] = _key(
        "lambda is 0 before the first share of training, full after the second", (0.0, 0.0), at_least=0, at_most=1
    )
    slope: float = _key("weight of the squared length of an input gradient, for the methods with slope", 0.0, at_least=0)
    slope_of: str = _key("whose input gradient that is: the loss's, or that of the label's log-odds", "loss", choices=("loss", "log_odds"))
    noise: float = _key(
        "standard deviation of Gaussian noise on what the model sees, not clipped, for the methods with noise", 0.0, at_least=0
    )
    norm: str = _key("of the attack trained against, for the methods with adversarial", "l2")
    eps: float = _key("radius of that attack", 0.0, at_least=0)
    steps: int = _key("steps of that attack", 7, at_least=1)
    metrics: dict[str, Any] = _key("what is measured: names such as pgd-l2-0.5 with their options", {})
    alignment: dict[str, Any] = _key("targets to hold the test gradients against, with their options", {})
    checklist: dict[str, Any] = _key("the gradient-masking checklist; empty: none", {})

    def __post_init__(self) -> None:
        weighted = self.weight is not UNSAID
        object.__setattr__(self, "weight", self.weight if weighted else KEYS["weight"].default)
        for name, key in KEYS.items():
            value = text.plain(getattr(self, name))
            decimal = key.kind == "float" and type(value) is int and abs(value) < 2**63  # else refused below
            object.__setattr__(self, name, float(value) if decimal else value)
        try:
            self._check()
            if not (weighted or "weight" in self.unread()):
                raise ValueError(f"key 'weight' is missing ({KEYS['weight'].means}); method {self.method!r} needs it")
        except ValueError as error:
            raise ValueError(f"recipe {self.name!r}: {error}") from None

    def _check(self) -> None:
        for name, key in KEYS.items():
            key.check(name, getattr(self, name))
        object.__setattr__(self, "ramp", tuple(self.ramp))
        if len(self.ramp) != 2 or self.ramp[0] > self.ramp[1]:
            raise ValueError(f"ramp is {self.ramp}; expected two shares 0 <= start <= end <= 1")
        parts = self.method.split("-")
        object.__setattr__(self, "method", "-".join(sorted(parts, key=[*METHODS, *PARTS].index)))
        for part, name in PARTS.items():
            if (part in parts) != bool(value := getattr(self, name)):
                wanted, unset = ("one", "None") if name == "target" else ("a number above 0", "0")
                raise ValueError(
                    f"method is {self.method!r} with {name} {value!r}; expected {wanted} for a method with {part!r}, {unset} for others"
                )
        if self.precision == "bf16" and {"pag", "slope"} & {*parts} and not {"noise", "adversarial"} & {*parts}:
            raise ValueError(
                f"precision is 'bf16' with method {self.method!r}, of which all passes are those of input gradients; "
                "expected 'bf16-gradients', or 'float32'"
            )
        for name in ("alignment", "checklist"):
            if self.method == "ddpm" and getattr(self, name):
                raise ValueError(f"method is 'ddpm' with {name} {getattr(self, name)!r}; a diffusion model has 'samples' and nothing else")
        for where, options, known in self.mappings():
            keys.check(where, options, known)

    def mappings(self) -> Iterator[tuple[str, Any, Mapping[str, Key]]]:
        """Each mapping inside the recipe: where it stands, what it says, and what it may say.

        Raises:
            ValueError: a model, target or metric that is not known, or that does not go with the method; another name of a metric.
        """
        yield "data", self.data, keys.DATA
        yield "model_options", self.model_options, keys.one_of("model", self.model, keys.MODELS)
        if self.target is not None:
            yield "target_options", self.target_options, keys.TARGETS[self.target]
        for metric, options in self.metrics.items():
            attack, norm, eps = keys.split_metric(metric)
            if metric != (written := text.metric(attack, norm, eps)):
                raise ValueError(f"metric {metric!r} is the same as {written!r}; expected that name")
            if (attack == "samples") != (self.method == "ddpm"):
                raise ValueError(f"method is {self.method!r} with metric {metric!r}; a diffusion model has 'samples' and nothing else")
            yield f"metrics.{metric}", options, keys.METRICS[attack]
        for name, options in self.alignment.items():
            yield f"alignment.{name}", options, keys.one_of("target in alignment", name, keys.TARGETS)
        if self.checklist:
            yield "checklist", self.checklist, keys.CHECKLIST

    def unread(self) -> tuple[str, ...]:
        """Keys that this method does not read."""
        parts = self.method.split("-")
        names = [name for part, names in READ_BY.items() if part not in parts for name in names]
        return (*names, *(FIXED_BY_DDPM if self.method == "ddpm" else ()))

    @classmethod
    def load(cls, name: str | Path, *settings: str, **changes: Any) -> Recipe:
        """A recipe by name, or from a YAML file when ``name`` ends in .yaml; ``changes`` replace single keys.

        A name may carry settings: ``digits-pag-nn+weight=0.1+model_options.activation=relu`` is the recipe ``digits-pag-nn`` with
        two keys changed, and that is its name from then on. Values are read as YAML. A dot leads into a mapping, unless a digit
        follows it, as in ``metrics.pgd-l2-0.5.steps=100``. More ``settings`` may follow the name, each whole, whatever its value holds.

        Raises:
            ValueError: unknown name, key or value; a required key missing, among them the weight of a method with pag; in a file or
                setting a value for a key that the method does not read; a key that stands twice; not a YAML mapping.
        """
        is_file = str(name).endswith(".yaml") and Path(name).is_file()  # whose folder may carry settings in its name
        base, *carried = [str(name)] if is_file else SETTING.split(str(name))
        settings = (*carried, *settings)
        path = Path(base) if base.endswith(".yaml") else FOLDER / f"{base}.yaml"
        if not path.is_file():
            what = f"no file {base}" if base.endswith(".yaml") else f"unknown recipe {base!r}"
            raise ValueError(f"{what}; expected a .yaml file or one of {', '.join(recipe_names())}")
        entries = {"name": path.stem, **text.read(path)}
        KEYS["name"].check(f"{path.name}: name", entries["name"])
        for setting in settings:
            text.change(entries, setting)
        if twice := [setting for setting in settings if "seed" in changes and re.split(r"[.=]", setting)[0] == "seed"]:
            raise ValueError(f"setting {twice[0]!r} stands beside seed {changes['seed']}; expected one of them")
        entries |= changes
        if unknown := sorted(set(entries) - set(KEYS), key=str):
            raise ValueError(f"{path.name}: unknown key {unknown[0]!r}; expected some of {', '.join(KEYS)}")
        if missing := [name for name, key in KEYS.items() if key.default is REQUIRED and name not in entries]:
            raise ValueError(f"{path.name}: key {missing[0]!r} is missing ({KEYS[missing[0]].means})")
        return cls(**entries)._all_read(changes)

    def changed(self, *settings: str) -> Recipe:
        """The recipe with some ``key=value``, which become part of its name, as in :meth:`load`.

        Raises:
            ValueError: as there.
        """
        entries = dataclasses.asdict(self)
        for setting in settings:
            text.change(entries, setting)
        if unknown := sorted(set(entries) - set(KEYS)):
            raise ValueError(f"unknown key {unknown[0]!r}; expected some of {', '.join(KEYS)}")
        return Recipe(**entries)._all_read({})

    def _all_read(self, changes: Mapping[str, Any]) -> Recipe:
        """The recipe itself, where no file and no setting, apart from ``changes``, says what would change nothing but a name."""
        for name in self.unread():
            if name not in changes and (value := getattr(self, name)) != KEYS[name].default:
                expected = f"expected {KEYS[name].default!r}, since method {self.method!r} does not read it"
                raise ValueError(f"recipe {self.name!r}: {name} is {value!r}; {expected}")
        return self

    def to_yaml(self) -> str:
        """Every key, as :meth:`load` reads it from a file."""
        return yaml.safe_dump({**dataclasses.asdict(self), "ramp": list(self.ramp)}, sort_keys=False)


def _default(f: dataclasses.Field[Any]) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return {dataclasses.MISSING: REQUIRED, UNSAID: 0.0}.get(f.default, f.default)


KEYS = {f.name: Key(str(f.type), default=_default(f), **f.metadata) for f in dataclasses.fields(Recipe)}
Recipe.__doc__ = f"{(Recipe.__doc__ or '').rstrip()}\n\n    Attributes:\n" + "".join(
    f"        {name}: {key.means} ({key.expected}).\n" for name, key in KEYS.items()
)


def recipe_names() -> list[str]:
    """Names of the recipes that come with the library."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))
