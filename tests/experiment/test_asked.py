"""What a recipe asks for, held against its data before any work: fitted to the classes, or refused by name with nothing written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pagkit import cli, data, diffusion, experiment, results, targets
from pagkit.data import Split, Task
from pagkit.diffusion import pretrained
from pagkit.experiment import asked, rehearsed
from pagkit.experiment.rehearsed import rehearse
from pagkit.recipe import Recipe, recipe_names
from tests.helpers import make_task

CPU = torch.device("cpu")


def pictures(classes: int = 2, side: int = 32, each: int = 2, channels: int = 3) -> Task:
    y = torch.arange(classes).repeat(each)
    x = torch.rand(len(y), channels, side, side, generator=torch.Generator().manual_seed(0))
    return replace(make_task(x, y, classes, bounds=(0.0, 1.0)), name="folder:pets")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("pets")
    for i, file in enumerate(f"{part}/{name}/{k}.png" for part in ("train", "test") for name in ("cat", "dog") for k in range(3)):
        (where / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (10, 10, 3), np.uint8)).save(where / file)
    return where


IMAGES = [name for name in recipe_names() if not name.startswith("three-modes")]
SLIM = {"resnet18": {}, "vit": {"dim": 24, "depth": 1, "heads": 2}, "ddpm": {"widths": [16]}}


@pytest.mark.filterwarnings("ignore:recipe")
@pytest.mark.parametrize("name", IMAGES)
def test_two_classes_of_images_are_enough_for_any_recipe(name: str, monkeypatch) -> None:
    """Only the networks are made smaller; the real runs are minutes."""

    def slim(build: Callable) -> Callable:
        return lambda recipe, task: build(replace(recipe, model_options={**recipe.model_options, **SLIM.get(recipe.model, {})}), task)

    for module, part in ((asked, "build"), (experiment.rehearsed, "build"), (experiment.rehearsed, "denoiser")):
        monkeypatch.setattr(module, part, slim(getattr(module, part)))
    task = pictures()
    recipe, notes = asked.fitted(Recipe.load(name), task)
    rehearse(recipe, task, CPU)
    assert recipe.name == name and all(options.get("likeliest", 0) <= 1 for options in recipe.metrics.values())
    assert len([note for note in notes if "likeliest" in note]) == sum("likeliest" in options for options in recipe.metrics.values())


def test_what_the_classes_do_not_allow_is_lowered_with_a_note(folder: Path, tmp_path: Path, capsys) -> None:
    slow = ["--set", "epochs=2", "--set", "alignment={}", "--set", "checklist={}", "--set", "model_options.width=4"]
    more = ["--set", "classes_per_image=5", "--set", "metrics={pgd-l2-1: {steps: 2, likeliest: 7}, pgd-linf-0.1: {steps: 2, likeliest: 1}}"]
    call = ["digits-pag-nn", *slow, *more, "--data", str(folder)]
    assert cli.main(["run", *call, "--out", str(tmp_path / "out")]) == 0
    result = results.load(tmp_path / "out" / "result.json")
    notes = result.provenance["notes"]
    assert [note.split("': ", 1)[1] for note in notes] == [
        f"metrics.pgd-l2-1.likeliest is 7; folder:{folder.name} has 2 classes, so it is 1",
        f"classes_per_image is 5; folder:{folder.name} has 2 classes, so it is all of them",
    ]
    assert [f"pagkit: warning: {note}" for note in notes] == capsys.readouterr().err.splitlines()
    assert "likeliest: 7" in result.recipe and "unfinished" not in result.provenance
    assert cli.main(["train", *call, "--run", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().err
    assert printed.count("pagkit: warning: ") == 2 and notes[0] in printed
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0 and "warning" not in capsys.readouterr().err
    later = results.load(tmp_path / "run" / "result.json")
    assert (later.metrics, later.provenance["notes"]) == (result.metrics, notes)
    assert cli.main(["evaluate", str(tmp_path / "run"), "--set", "metrics.pgd-l2-1.likeliest=3"]) == 0
    again = results.load(tmp_path / "run" / "result+metrics.pgd-l2-1.likeliest=3.json")
    assert again.recipe == f"{result.recipe}+metrics.pgd-l2-1.likeliest=3" and len(again.provenance["notes"]) == 3


def test_a_folder_with_too_few_images_to_skip_is_taken_whole_with_a_note(folder: Path, tmp_path: Path, capsys) -> None:
    quick = ["--set", "epochs=2", "--set", "model_options.widths=[8,8]", "--set", "metrics={}", "--set", "alignment={}"]
    assert cli.main(["train", "cifar10-laptop-standard", *quick, "--data", str(folder), "--run", str(tmp_path / "run")]) == 0
    assert "data.test_skip_per_class is 100; " in (printed := capsys.readouterr().err) and printed.count("warning") == 1
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0 and "warning" not in capsys.readouterr().err
    result, there = results.load(tmp_path / "run" / "result.json"), len([*folder.glob("test/*/*.png")])
    assert result.metrics["clean"].total == there and result.provenance["notes"][0].endswith("so none are left out")
    some = Recipe.load("cifar10-laptop-standard", data={"test_skip_per_class": 1})
    assert asked.unskipped(some, folder) == (some, []) and asked.unskipped(some, None) == (some, [])


def test_a_recipe_that_fits_gets_no_note(recwarn) -> None:
    recipe = Recipe.load("digits-pag-nn")
    assert asked.fitted(recipe, pictures(classes=10, side=8, channels=1)) == (recipe, []) and not recwarn.list


def test_a_batch_of_one_and_batch_norm_come_to_an_end_too() -> None:
    recipe = Recipe.load("cifar10-rn18-standard", batch_size=4, metrics={})
    with pytest.warns(UserWarning, match="batch_size is 4; of 5 training examples that leaves a single row"):
        fit, notes = asked.fitted(recipe, pictures(classes=5, each=1))
    assert fit.batch_size == 3 and len(notes) == 1
    group = replace(recipe, model_options={"norm": "group"})
    assert asked.fitted(group, pictures(classes=5, each=1)) == (group, [])


SMALL = {"train_per_class": 30, "test_per_class": 6}
TOY = "three-modes-standard"


def judged(judge: str) -> dict:
    return {"metrics": {"samples": {"judge": judge, "per_class": 1, "guidance": 0}}}


@pytest.mark.parametrize(
    ("name", "changes", "task", "message"),
    [
        (TOY, {}, pictures(), r"metrics.exact-l2-15: .*\(N, 2\): exact radii are for two inputs only"),
        (TOY, {"model_options": {"hidden": [4, 4]}}, "toy", "metrics.exact-l2-15: "),
        (TOY, {"metrics": {"square-l2-1": {}}}, "toy", r"metrics.square-l2-1: inputs have shape \(2,\)"),
        (TOY, {"metrics": {"autoattack-l2-1": {"attacks": ["apgd-t"]}}}, "toy", "attack 'apgd-t' needs at least 4"),
        (TOY, {"metrics": {"autoattack-l2-1": {"attacks": ["cw"]}}}, "toy", "unknown attack 'cw'"),
        (TOY, {"metrics": {"autoattack-l2-1": {"attacks": []}}}, "toy", "no attack is given"),
        (TOY, {"metrics": {"pgd-l2-1": {"target": 2}}}, "toy", "metrics.pgd-l2-1: targets range over"),
        (TOY, {"metrics": {"pgd-l2-1": {"target": 1, "likeliest": 1}}}, "toy", "likeliest is 1 with a target"),
        (TOY, {"crop": 2}, "toy", "training: crop and flip need images"),
        (TOY, {"method": "adversarial", "norm": "l7", "eps": 1}, "toy", "training: unknown norm 'l7'"),
        (TOY, {"alignment": {"score_based": {"ddpm": "digits-ddpm", "t": 5}}}, "toy", "alignment.score_based: .*ddpm"),
        (TOY, {"checklist": {"norm": "l2", "eps": 1, "surrogate": "digits-standard"}}, "toy", "surrogate: .*cnn takes"),
        (TOY, {"checklist": {"norm": "l2", "eps": 1, "surrogate": "digits-ddpm"}}, "toy", "expected the .* classifier"),
        ("digits-standard", {}, "toy", "model cnn: cnn takes images"),
        ("digits-pag-nn", {}, pictures(each=1), "target nearest_neighbor: class '0' of folder:pets has 1 training example"),
        ("digits-pag-nn", {"target_options": {"per_class": 1}}, pictures(), "target nearest_neighbor: class '0' of folder:pets has 1"),
        ("digits-standard", {}, pictures(each=1), "alignment.nearest_neighbor: class '0'"),
        ("digits-pag-sbg", {}, pictures(side=9), "target score_based: recipe 'digits-ddpm': .* 9 x 9; .*divisible by 2"),
        ("digits-ddpm", {}, pictures(side=9), "model ddpm: images are 9 x 9"),
        ("digits-ddpm", {}, "toy", "model ddpm: inputs have shape"),
        ("digits-ddpm", judged("three-modes-standard+crop=1"), pictures(), None),
        ("digits-ddpm", judged("cifar10-vit-standard"), pictures(side=10), "vit: patch"),
        ("cifar10-vit-standard", {}, pictures(side=30), "model vit: patch is 4"),
        ("cifar10-rn18-standard", {"accumulate": 3}, pictures(), "training: batch_size is 64 with 4 .*a smaller accumulate"),
    ],
)
def test_what_these_data_rule_out_is_refused_by_name(name: str, changes: dict, task: Task | str, message: str | None, toy) -> None:
    task = toy if task == "toy" else task
    recipe, _ = asked.lowered(Recipe.load(name, **changes), task)
    if message is None:
        return rehearse(recipe, task, CPU)
    with pytest.raises(ValueError, match=message) as refused:
        rehearse(recipe, task, CPU)
    assert str(refused.value).startswith(f"recipe {name!r}: ") and str(refused.value).count(f"recipe {name!r}") == 1


def test_a_target_class_without_examples_is_refused(toy) -> None:
    rows = (toy.train.y == 0).nonzero().flatten()
    lacking = replace(toy, train=Split(toy.train.x[rows], toy.train.y[rows]))
    for name in ("one_image", "class_mean", "nearest_neighbor"):
        recipe = Recipe.load("three-modes-pag-nn", target=name, metrics={}, checklist={})
        with pytest.raises(ValueError, match=f"target {name}: class 'class 1' of three-modes has 0 training"):
            rehearse(recipe, lacking, CPU)


def test_one_class_left_to_test_is_enough_unless_it_is_the_target(toy) -> None:
    rows = (toy.test.y == 1).nonzero().flatten()
    one = replace(toy, test=Split(toy.test.x[rows], toy.test.y[rows]))
    recipe = Recipe.load("three-modes-standard", checklist={}, metrics={"pgd-l2-1": {"target": 0}, "pgd-l2-2": {"target": "next"}})
    rehearse(recipe, one, CPU)
    with pytest.raises(ValueError, match="metrics.pgd-l2-3: target equals the true label on every row"):
        rehearse(replace(recipe, metrics={"pgd-l2-3": {"target": 1}}), one, CPU)


def test_the_file_of_a_diffusion_model_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    diffusion.DDPM((3, 8, 8), 3, (0.0, 1.0), widths=[16]).save(path)
    recipe = Recipe.load("digits-standard", metrics={}, checklist={}, alignment={"score_based": {"ddpm": str(path), "t": 5, "draws": 50}})
    for task in (pictures(side=8), pictures(side=16, classes=3), pictures(side=8, classes=3, channels=1)):
        with pytest.raises(ValueError, match="alignment.score_based: the diffusion model knows 3 classes of inputs"):
            rehearse(recipe, task, CPU)
    rehearse(recipe, pictures(side=8, classes=3), CPU)
    path.write_bytes(b"cut")
    with pytest.raises(ValueError, match="alignment.score_based: .*other.safetensors"):
        rehearse(recipe, pictures(side=8, classes=3), CPU)


def test_a_kept_diffusion_model_that_is_not_whole_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PAGKIT_CACHE", "~/kept")
    task, how = data.load("digits", seed=1), {"ddpm": "digits-ddpm", "t": 5}
    recipe = Recipe.load("digits-standard", metrics={}, checklist={}, alignment={"score_based": how})
    rehearse(recipe, task, CPU)
    path = pretrained._place(Recipe.load("digits-ddpm"), task)
    assert path.parent == tmp_path / "kept"
    path.write_bytes(b"cut")
    with pytest.raises(ValueError, match=f"alignment.score_based: .*{path.name}.*; delete it, and it is trained anew"):
        rehearse(recipe, task, CPU)


def test_a_folder_for_directions_must_be_writable_or_hold_them(tmp_path: Path, monkeypatch, digits) -> None:
    monkeypatch.setenv("PAGKIT_CACHE", str(tmp_path / "file" / "kept"))
    (tmp_path / "file").touch()
    ddpm, path = diffusion.DDPM(digits.shape, 10, digits.bounds, widths=[16]), tmp_path / "ddpm.safetensors"
    ddpm.save(path)
    scored, control = (Recipe.load(f"digits-pag-sbg{end}", metrics={}, alignment={}, checklist={}) for end in ("", "-control"))
    for recipe, options, refused in (
        (scored, {}, True),
        (scored, {"folder": None}, False),
        (scored, {"folder": str(tmp_path / "file")}, True),
        (control, {"change": "blurred"}, True),
        (control, {"change": "smooth_field"}, False),
    ):
        asks = replace(recipe, target_options={"ddpm": str(path), "t": 150, **options})
        with pytest.raises(PermissionError, match="cannot write to .*; set target_options.folder") if refused else nullcontext():
            rehearse(asks, digits, CPU)
    folder = tmp_path / "full"
    target = experiment.target("score_based", digits, progress=False, ddpm=str(path), t=150, folder=str(folder))
    monkeypatch.setattr(targets.scores, "_int8", lambda found: found.to(torch.int8))
    monkeypatch.setattr(targets.scores, "difference", lambda ddpm, x, classes, *_: torch.zeros(*classes.shape, *x.shape[1:]))
    target(torch.tensor([0]), digits.train.x[:1], torch.tensor([[1]]))
    monkeypatch.setattr(rehearsed, "writable", lambda *_: 1 / 0)
    rehearse(replace(scored, target_options={"ddpm": str(path), "t": 150, "folder": str(folder)}), digits, CPU)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"change": "other_example"}, "change is 'other_example', drawn for training examples only"),
        ({"change": "blurred", "t": 5}, "has t and no ddpm"),
        ({"change": "blurred", "ddpm": "digits-ddpm"}, "has a ddpm and no t"),
    ],
)
def test_a_control_that_cannot_be_measured_is_refused(options: dict[str, object], message: str, digits) -> None:
    recipe = Recipe.load("digits-standard", metrics={}, checklist={}, alignment={"control": options})
    with pytest.raises(ValueError, match=f"alignment.control: .*{message}"):
        rehearse(recipe, digits, CPU)


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_empty_split_is_refused(part: str, toy, tmp_path: Path, monkeypatch) -> None:
    empty = Split(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    monkeypatch.setattr(asked.data, "load", lambda *a, **k: replace(toy, **{part: empty}))
    with pytest.raises(ValueError, match=f"the {part}(ing)? split of three-modes is empty; expected at least one"):
        experiment.run(Recipe.load("three-modes-standard"), out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("recipe", "setting", "message"),
    [
        ("three-modes-standard", "metrics.exact-l2-15={}", "metrics.exact-l2-15: "),
        ("digits-standard", "metrics={pgd-l2-1: {target: 9}}", "metrics.pgd-l2-1: targets range over"),
        ("digits-standard", "metrics.pgd-l2-1.steps=many", "metrics.pgd-l2-1.steps is 'many'; expected int, at least 1"),
        ("digits-standard", "metrics.pgd-l2--1={}", "unknown metric 'pgd-l2--1'"),
        ("digits-standard+model=vit", "model_options={patch: 4}", "patch is 4"),
        ("digits-standard", "alignment.score_based.t=1000", "alignment.score_based.t is 1000; expected int, at least 0, at most 999"),
        ("digits-standard", "alignment.score_based.ddpm=cifar10-ddpm", "10 x 10; 3 widths and patch 1 need sides"),
        ("digits-standard", "checklist.surrogate=digits-standard+crop=-1", "'digits-standard+crop=-1': crop is -1"),
        ("digits-standard", "data.seed=99999999999", "data.seed is 99999999999; expected int"),
        ("digits-ddpm", "model_options={widths: [8, 8, 8, 8]}", "need sides divisible by 8"),
    ],
)
def test_a_refused_call_writes_nothing(recipe: str, setting: str, message: str, folder: Path, tmp_path: Path, capsys) -> None:
    for call in (["run", recipe, "--out"], ["train", recipe, "--run"]):
        assert cli.main([*call, str(tmp_path / "out"), "--data", str(folder), "--set", setting]) == 2
        printed = capsys.readouterr().err
        assert message in printed and f"recipe '{recipe}" in printed.replace('"', "'") and not (tmp_path / "out").exists()


@pytest.mark.parametrize("call", [["r", "--set", "seed=5"], ["r", "--set", "seed.x=1"], ["r+epochs=1+seed=5"], ["r", "--set", "name=x"]])
def test_the_seed_and_the_name_are_no_settings(call: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", *call])
    assert stop.value.code == 2 and "the seed is set with --seed" in capsys.readouterr().err


def test_the_seed_of_a_file_holds_unless_another_is_given(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: three-modes\nmodel: mlp\nmethod: standard\nepochs: 1\nlr: 0.1\nseed: 5\ndata: " + str(SMALL))
    seeds = []
    for more in ([], ["--seed", "0"]):
        assert cli.main(["run", str(tmp_path / "mine.yaml"), *more, "--out", str(out := tmp_path / f"out{len(seeds)}")]) == 0
        seeds.append(results.load(out / "result.json").seed)
    assert seeds == [5, 0]
    with pytest.raises(ValueError, match="setting 'seed=3' stands beside seed 1; expected one of them"):
        Recipe.load("digits-standard+seed=3", seed=1)
    assert Recipe.load("digits-standard+seed=3").seed == 3
