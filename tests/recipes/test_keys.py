"""What a recipe may say: the options are those of the functions that take them, and each slip is refused by the name of its key."""

from __future__ import annotations

import inspect
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pagkit import attacks, data, evaluation, models, targets
from pagkit.attacks.autoattack import perturb
from pagkit.diffusion import DDPM
from pagkit.recipe import KEYS, Recipe
from pagkit.recipes import keys, text
from pagkit.training import SCHEDULES
from pagkit.training.loop import OPTIMIZERS

MORE = defaultdict(set, control={"t", "draws", "folder"})  # options that another function takes
RUN = {"progress", "generator", "batch_size"}  # how something is run, which no recipe says


def options(*functions: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only arguments of some functions, with their defaults."""
    found: dict[str, Any] = {}
    for function in functions:
        found |= {p.name: p.default for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    return {name: default for name, default in found.items() if name not in RUN}


CASES = [
    *((f"model {name}", keys.MODELS[name], build, set()) for name, build in models.BUILDERS.items()),
    *((f"target {name}", keys.TARGETS[name], make, {"seed", "ddpm", "teacher", *MORE[name]}) for name, make in targets.TARGETS.items()),
    ("pgd", keys.ATTACKS["pgd"], (attacks.pgd, evaluation.robust_accuracy), {"offsets"}),
    ("autoattack", keys.ATTACKS["autoattack"], perturb, set()),
    ("checklist", keys.CHECKLIST, evaluation.checklist, {"norm", "eps", "examples"}),
    ("data", keys.DATA, data.load, set()),
]


@pytest.mark.parametrize(("listed", "functions", "apart"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_options_are_those_of_the_functions(listed: dict[str, keys.Key], functions: Any, apart: set[str]) -> None:
    taken = options(*(functions if isinstance(functions, tuple) else (functions,)))
    assert set(listed) - apart == set(taken) - apart
    for name in set(listed) & set(taken):
        default = keys.REQUIRED if taken[name] is inspect.Parameter.empty else taken[name]
        assert listed[name].default == default or (name, default) == ("seed", 0), name


def test_every_model_target_schedule_and_optimizer_is_listed() -> None:
    assert set(keys.MODELS) == {*models.BUILDERS, "ddpm"} and set(keys.TARGETS) == set(targets.TARGETS)
    assert KEYS["schedule"].choices == tuple(SCHEDULES) and KEYS["optimizer"].choices == tuple(OPTIMIZERS)
    network = options(DDPM.fit)
    assert {name: key.default for name, key in keys.MODELS["ddpm"].items()} == {name: network[name] for name in keys.MODELS["ddpm"]}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs=abc", "epochs is 'abc'; expected int, at least 1"),
        ("epochs=2.0", "epochs is 2.0; expected int"),
        ("model_options.normalize=-1", "normalize is -1; expected one of none, standardize or float, above 0"),
        ("metrics={pgd-l2-0.5: {target: -3}}", "target is -3; expected next or int, at least 0 or None"),
        ("precision=bf16", "precision is 'bf16' with method 'pag', .* expected 'bf16-gradients', or 'float32'"),
        ("epochs=true", "epochs is True; expected int"),
        ("lr=1e-3", "lr is '1e-3'; expected float, above 0; YAML reads 1.0e-3 as a number"),
        ("lr=.nan", "lr is nan; expected float, above 0"),
        ("weight=.inf", "weight is inf; expected float, at least 0"),
        ("ramp=0.3", "ramp is 0.3; expected tuple"),
        ("ramp=[0.6, 0.3]", r"ramp is \(0.6, 0.3\); expected two shares"),
        ("ramp=[0, 0.5, 1]", "ramp is .*expected two shares"),
        ("ramp=[a, b]", "ramp is .* expected tuple"),
        ("metrics=3", "metrics is 3; expected dict"),
        ("metrics={pgd-l2-0.5: {steps: 0}}", "metrics.pgd-l2-0.5.steps is 0; expected int, at least 1"),
        ("metrics={pgd-l2-0.5: 3}", "metrics.pgd-l2-0.5 is 3; expected a mapping"),
        ("metrics={pgd-l2-inf: {}}", "unknown metric 'pgd-l2-inf'"),
        *((f"metrics={{pgd-l2-{eps}: {{}}}}", f"metric 'pgd-l2-{eps}' is the same as 'pgd-l2-0.5'") for eps in ("0.50", ".5", "5e-1")),
        *((f"metrics={{pgd-l2-{eps}: {{}}}}", f"metric 'pgd-l2-{eps}' is the same as 'pgd-l2-10'") for eps in ("1_0", "10.0", "1e1")),
        ("epochs=99999999999999999999999", "epochs is 99999999999999999999999; expected int, at least 1; below 2"),
        (f"lr={'9' * 400}", "lr is 9+; expected float, above 0; below 2"),
        ("metrics={pgd-l2-0.5: {target: nxt}}", "metrics.pgd-l2-0.5.target is 'nxt'; expected next or int"),
        ("metrics={autoattack-l2-1: {queries: 0}}", "metrics.autoattack-l2-1.queries is 0"),
        ("alignment={class_mean: {scale: -1}}", "alignment.class_mean.scale is -1; expected float, above 0"),
        ("alignment={three_images: {}}", "unknown target in alignment 'three_images'; expected one of one_image"),
        ("alignment={score_based: {ddpm: digits-ddpm}}", "alignment.score_based has no t"),
        ("alignment={score_based: {ddpm: digits-ddpm, t: 1000}}", "alignment.score_based.t is 1000; expected int, at least 0, at most 999"),
        ("checklist={norm: l2}", "checklist has no eps"),
        ("checklist={norm: l2, eps: 0}", "checklist.eps is 0; expected float, above 0"),
        ("target_options={per_class: 0}", "target_options.per_class is 0"),
        ("model_options={width: 0}", "model_options.width is 0; expected int, at least 1"),
        ("model_options={activation: tanh}", "model_options.activation is 'tanh'; expected one of relu, silu, gelu"),
        ("model=resnet50", "unknown model 'resnet50'; expected one of mlp"),
        ("data.size=0", "data.size is 0; expected int | None, at least 1"),
        ("data={sized: 3}", "unknown option 'sized' of data; expected some of holdout, root, seed"),
    ],
)
def test_a_slip_is_refused_by_the_name_of_its_key(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        Recipe.load(f"digits-pag-nn+{setting}")
    assert str(refused.value).startswith("recipe 'digits-pag-nn+") and str(refused.value).count(";") <= 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs=010", "010 would be a number in base 8; expected one in base 10, or quotes around a text"),
        ("data.seed=-01_0", "-01_0 would be a number in base 8"),
        ("epochs=1:30", "1:30 would be a number in base 60"),
        ("lr=1:30.5", "1:30.5 would be a number in base 60"),
        ("metrics={pgd-l2-1: {}, pgd-l2-1: {steps: 5}}", "key 'pgd-l2-1' stands twice"),
        ("data=&a [*a]", "Circular reference"),
        ("metrics=&a {clean: *a}", "Circular reference"),
        ("data=" + "[" * 3000, ""),
    ],
)
def test_what_yaml_reads_otherwise_than_people_is_refused(setting: str, message: str, tmp_path: Path) -> None:
    name, _, value = setting.partition("=")
    (tmp_path / "mine.yaml").write_text(f"{name.split('.')[0]}: {value}\n")
    for call in (("digits-pag-nn", setting), (tmp_path / "mine.yaml",)):
        with pytest.raises(ValueError, match="is not valid YAML: ") as refused:
            Recipe.load(*call)
        assert message in str(refused.value)


@pytest.mark.parametrize("eps", ["0", "0.5", "1", "20", "0.0157", "0.00001", "0.03137254901960784"])
def test_a_radius_in_its_one_spelling_is_taken(eps: str) -> None:
    metric = f"pgd-l2-{eps}"
    assert metric in Recipe.load("digits-pag-nn", f"metrics={{{metric}: {{}}}}").metrics
    assert text.metric(*keys.split_metric(metric)) == metric and text.metric(*keys.split_metric("clean")) == "clean"


def test_values_of_other_libraries_become_plain_and_are_stored(tmp_path: Path) -> None:
    how = {"lr": np.float64(0.002), "epochs": np.int64(2), "crop": torch.tensor(1), "flip": np.bool_(True)}
    how |= {"metrics": {"pgd-l2-0.5": OrderedDict(steps=np.int32(5))}, "target_options": {"per_class": np.int64(3)}}
    recipe = Recipe.load("digits-pag-nn", **how, data={"root": tmp_path})
    assert recipe.data == {"root": str(tmp_path)} and type(recipe.lr) is float and type(recipe.epochs) is int and recipe.flip is True
    (tmp_path / "mine.yaml").write_text(recipe.to_yaml())
    assert Recipe.load(tmp_path / "mine.yaml") == recipe
    with pytest.raises(ValueError, match="lr is array"):
        Recipe.load("digits-pag-nn", lr=np.array([0.1]))


def test_unknown_keys_of_any_type_are_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"{PLAIN}method: standard\n5: 1\nlamda: 2\n")
    with pytest.raises(ValueError, match="mine.yaml: unknown key 5; expected some of name"):
        Recipe.load(tmp_path / "mine.yaml")


def test_the_docstring_explains_every_key() -> None:
    assert all(f"\n        {name}: " in Recipe.__doc__ for name in KEYS)


@pytest.mark.parametrize(
    ("said", "method"),
    [
        ("adversarial-pag", "pag-adversarial"),
        ("pag-adversarial", "pag-adversarial"),
        ("noise-slope", "slope-noise"),
        ("adversarial-noise-slope-pag", "pag-slope-noise-adversarial"),
    ],
)
def test_the_parts_of_a_method_have_one_order(said: str, method: str) -> None:
    given = {"pag": {"target": "class_mean", "weight": 1}, "slope": {"slope": 1}, "noise": {"noise": 0.1}, "adversarial": {"eps": 0.5}}
    options = {key: value for part in said.split("-") for key, value in given[part].items()}
    recipe = Recipe("made", "digits", "cnn", said, epochs=1, lr=0.1, **options)
    assert recipe.method == method == Recipe(**{**vars(recipe), "method": method}).method


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("method=slope", "method is 'slope' with slope 0.0; expected a number above 0 for a method with 'slope', 0 for others"),
        ("slope=1", "method is 'standard' with slope 1.0; expected a number above 0 for a method with 'slope', 0 for others"),
        ("method=noise", "method is 'noise' with noise 0.0; expected a number above 0"),
        ("method=slope+slope=1+noise=0.1", "method is 'slope' with noise 0.1; expected a number above 0 for a method with 'noise'"),
        ("method=adversarial", "method is 'adversarial' with eps 0.0; expected a number above 0"),
        ("eps=0.5", "method is 'standard' with eps 0.5; expected a number above 0 for a method with 'adversarial', 0 for others"),
        ("method=pag", "method is 'pag' with target None; expected one for a method with 'pag', None for others"),
        ("target=class_mean", "method is 'standard' with target 'class_mean'; expected one for a method with 'pag', None for others"),
        ("slope=-1", "slope is -1.0; expected float, at least 0"),
        ("noise=.inf", "noise is inf; expected float, at least 0"),
        ("slope_of=logit", "slope_of is 'logit'; expected one of loss, log_odds"),
        ("method=slop", "method is 'slop'; expected one of standard, ddpm, or some of pag, slope, noise, adversarial, joined by '-'"),
        ("method=slope-slope+slope=1", "method is 'slope-slope'; expected one of standard"),
        ("method=slope-standard+slope=1", "method is 'slope-standard'; expected one of standard"),
        ("method=slope-+slope=1", "method is 'slope-'; expected one of standard"),
        ("method=''", "method is ''; expected one of standard"),
        ("data.holdout=0", "data.holdout is 0; expected int | None, at least 1"),
    ],
)
def test_each_part_of_a_method_has_its_key_and_no_other(setting: str, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        Recipe.load(f"digits-standard+{setting}")
    assert message in str(refused.value)


def test_a_method_with_pag_says_its_weight() -> None:
    """It may say 0, the end of a row of weights; the other methods have that unsaid."""
    plain = {"name": "made", "task": "digits", "model": "cnn", "epochs": 1, "lr": 0.1}
    how = {**plain, "method": "noise-pag", "noise": 0.1, "target": "class_mean"}
    message = "recipe 'made': key 'weight' is missing (lambda of the PAG objective); method 'pag-noise' needs it"
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe(**how)
    assert Recipe(**how, weight=0).weight == Recipe(**plain, method="standard").weight == KEYS["weight"].default == 0


PLAIN = "task: three-modes\nmodel: mlp\nepochs: 1\nlr: 0.1\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("method: pag\ntarget: class_mean", "key 'weight' is missing (lambda of the PAG objective); method 'pag' needs it"),
        ("method: standard\nweight: 3", "weight is 3.0; expected 0.0, since method 'standard' does not read it"),
        ("method: pag\ntarget: class_mean\nweight: 1\nsteps: 3", "steps is 3; expected 7, since method 'pag' does not read it"),
        ("method: standard\nlr: 0.001", "key 'lr' stands twice"),
        ("name: 5\nmethod: standard", "mine.yaml: name is 5; expected str"),
    ],
)
def test_a_file_says_nothing_in_vain(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(PLAIN + content)
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe.load(path, seed=1)
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe.load(f"{path}+epochs=2")


def test_what_a_diffusion_model_fixes_is_no_setting_of_it(tmp_path: Path) -> None:
    for setting in ("optimizer=sgd", "schedule=cosine", "weight_decay=0.5", "ema=0.9", "crop=3"):
        with pytest.raises(ValueError, match="since method 'ddpm' does not read it"):
            Recipe.load("digits-ddpm").changed(setting)
    (tmp_path / "mine.yaml").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="mine.yaml is not valid YAML: 'utf-8'"):
        Recipe.load(tmp_path / "mine.yaml")
