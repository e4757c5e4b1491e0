"""What was measured before a failure is there, `pagkit evaluate` takes settings, and says what may be set."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pagkit import cli, data, evaluation, experiment, models, results
from pagkit.data import files
from pagkit.experiment import kept, measured, trained
from pagkit.recipe import Recipe

TOY = """
task: three-modes
data: {train_per_class: 30, test_per_class: 6}
model: mlp
model_options: {normalize: 40.0}
method: standard
epochs: 1
lr: 0.01
metrics:
  pgd-l2-15: {steps: 2}
  exact-l2-15: {}
alignment: {class_mean: {}}
"""


@pytest.fixture
def toy_recipe(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    return path


def stop_at(monkeypatch: pytest.MonkeyPatch, metric: str, error: BaseException) -> None:
    measure = evaluation.measure

    def broken(model: Any, task: Any, name: str, **how: Any) -> evaluation.Score:
        if name == metric:
            raise error
        return measure(model, task, name, **how)

    monkeypatch.setattr(evaluation, "measure", broken)


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no"), 2), (OSError("full"), 1), (FloatingPointError("nan"), 1), (KeyboardInterrupt(), 130)]
)
def test_what_was_measured_before_a_failure_is_written(error, status: int, toy_recipe, tmp_path, capsys, monkeypatch) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_at(patch, "exact-l2-15", error)
        assert cli.main(["run", str(toy_recipe), "--out", str(out)]) == status
    told = capsys.readouterr().err
    assert f"{out / 'result.json'} holds what was measured until then, without exact-l2-15, alignment.class_mean" in told
    assert f"pagkit evaluate {out}" in told and "no result" not in told
    part = results.load(out / "result.json")
    assert list(part.metrics) == ["clean", "pgd-l2-15"] and part.alignment == {}
    assert part.provenance["unfinished"] == ["exact-l2-15", "alignment.class_mean"]
    assert cli.main(["leaderboard", str(out)]) == 0 and "pgd" in capsys.readouterr().out
    assert cli.main(["evaluate", str(out)]) == 0
    whole = results.load(out / "result.json")
    assert "unfinished" not in whole.provenance and {**whole.metrics, **part.metrics} == whole.metrics
    assert list(whole.metrics) == ["clean", "pgd-l2-15", "exact-l2-15"] and list(whole.alignment) == ["class_mean"]


def test_an_evaluation_that_stops_takes_nothing_away(toy_recipe, tmp_path, capsys, monkeypatch) -> None:
    out = tmp_path / "out"
    assert cli.main(["run", str(toy_recipe), "--out", str(out)]) == 0
    before = results.load(out / "result.json")
    with monkeypatch.context() as patch:
        stop_at(patch, "clean", KeyboardInterrupt())
        assert cli.main(["evaluate", str(out)]) == 130
    assert results.load(out / "result.json") == before and "model.safetensors is kept" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        stop_at(patch, "pgd-l2-2", KeyboardInterrupt())
        assert cli.main(["evaluate", str(out), "--metric", "pgd-l2-1", "--metric", "pgd-l2-2"]) == 130
    part = results.load(out / "result.json")
    assert {**before.metrics, **part.metrics} == part.metrics and set(part.metrics) - set(before.metrics) == {"pgd-l2-1"}
    assert part.alignment == before.alignment and part.provenance["unfinished"] == ["pgd-l2-2", "alignment.class_mean"]


def test_one_evaluation_adds_to_another(toy_recipe, tmp_path) -> None:
    out = tmp_path / "out"
    first = experiment.run(Recipe.load(toy_recipe), out=out, progress=False)
    experiment.evaluate(out, metrics=["pgd-l2-1"], checklist="l2-7", progress=False)
    experiment.evaluate(out, metrics=["pgd-l2-2"], checklist="l2-15", progress=False)
    last = results.load(out / "result.json")
    assert list(last.metrics) == [*first.metrics, "pgd-l2-1", "pgd-l2-2"]
    assert [made.caption for made in last.checklists] == ["gradient masking, l2 eps 7", "gradient masking, l2 eps 15"]


def test_two_evaluations_at_once_take_nothing_from_one_another(toy_recipe, tmp_path, monkeypatch) -> None:
    out, measure = tmp_path / "out", evaluation.measure
    experiment.run(Recipe.load(toy_recipe, metrics={}, alignment={}), out=out, progress=False)

    def meanwhile(model: Any, task: Any, metric: str, **how: Any) -> evaluation.Score:
        if metric == "pgd-l2-1":
            experiment.evaluate(out, metrics=["pgd-l2-2"], progress=False)
        return measure(model, task, metric, **how)

    monkeypatch.setattr(evaluation, "measure", meanwhile)
    experiment.evaluate(out, metrics=["pgd-l2-1"], progress=False)
    assert set(results.load(out / "result.json").metrics) == {"clean", "pgd-l2-1", "pgd-l2-2"}


def test_two_trainings_into_one_folder_at_once_are_refused(toy_recipe, tmp_path) -> None:
    recipe = Recipe.load(toy_recipe, metrics={}, alignment={})
    for call in (partial(experiment.run, out=tmp_path / "out"), partial(experiment.train, run=tmp_path / "out")):
        with files.alone(tmp_path / "out" / "model.safetensors"), pytest.raises(ValueError, match="another process is at work on"):
            call(recipe, progress=False)
        assert not list((tmp_path / "out").iterdir())


def test_a_new_training_leaves_no_result_of_the_old_weights(toy_recipe, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    experiment.run(recipe := Recipe.load(toy_recipe), out=out, progress=False)
    experiment.evaluate(out, settings=["metrics.pgd-l2-15.steps=3"], progress=False)
    state, about = models.load_weights(out / "model.safetensors")  # as another version of PyTorch would have trained them
    models.save_weights(out / "model.safetensors", {key: value * 1.01 for key, value in state.items()}, about)
    monkeypatch.setattr(evaluation, "measure", lambda *a, **how: 1 / 0)
    with pytest.raises(ZeroDivisionError) as stop, pytest.warns(UserWarning, match="of other weights, .* it is kept as result.*.json.1"):
        experiment.run(recipe, out=out, progress=False)
    assert "is kept; `pagkit evaluate" in stop.value.__notes__[0]
    names = {"model.safetensors", "result.json.1", "result+metrics.pgd-l2-15.steps=3.json.1"}
    assert {path.name for path in out.iterdir()} == names, "nothing that a table reads"


def test_a_figure_does_not_stay_when_it_is_asked_for_otherwise(toy_recipe, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    first = experiment.run(Recipe.load(toy_recipe), out=out, progress=False)
    assert first.provenance["asked"] == {"clean": {}, "pgd-l2-15": {"steps": 2}, "exact-l2-15": {}, "alignment.class_mean": {}}
    stop_at(monkeypatch, "pgd-l2-15", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        experiment.run(Recipe.load(toy_recipe, metrics={"pgd-l2-15": {"steps": 9}, "exact-l2-7": {}}), out=out, progress=False)
    last = results.load(out / "result.json")
    assert last.provenance["unfinished"] == ["pgd-l2-15", "exact-l2-7", "alignment.class_mean"]
    assert set(last.metrics) == {"clean", "exact-l2-15"}, "this one is not asked for any more, and as good as before"
    assert last.alignment == pytest.approx(first.alignment, abs=1e-4) and last.provenance["asked"]["pgd-l2-15"] == {"steps": 9}


def test_two_that_write_at_once_lose_nothing(tmp_path, monkeypatch) -> None:
    origin = {"data": "", "hardware": "", "threads": 1, "train_seconds": 1.0, "evaluate_seconds": 1.0, "versions": {}, "commit": ""}
    origin |= {"weights_digest": "w", "data_digest": {"train": "a", "test": "b"}}
    path, read = tmp_path / "result.json", results.load
    monkeypatch.setattr(results, "load", lambda path: (read(path), time.sleep(0.1))[0])  # each reads before the other has written
    found = [results.Result("r", "t", 0, {name: evaluation.Score(1, 2)}, origin) for name in ("clean", "pgd-l2-1", "pgd-l2-2")]
    kept.ResultFile(path).write(found[0])
    both = [threading.Thread(target=kept.ResultFile(path).write, args=(one,)) for one in found[1:]]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert set(read(path).metrics) == {"clean", "pgd-l2-1", "pgd-l2-2"} and [one.name for one in tmp_path.iterdir()] == ["result.json"]


def test_a_file_that_is_no_result_of_these_weights_is_set_aside(toy_recipe, tmp_path) -> None:
    (tmp_path / "result.json").write_text("mine")
    with pytest.warns(UserWarning, match="it is kept as result.json.1"):
        experiment.run(Recipe.load(toy_recipe, metrics={}, alignment={}), out=tmp_path, progress=False)
    assert (tmp_path / "result.json.1").read_text() == "mine" and results.load(tmp_path / "result.json").recipe == "toy"


def test_a_recipe_of_ones_own_is_not_written_over(toy_recipe, tmp_path) -> None:
    mine = toy_recipe.rename(tmp_path / "recipe.yaml").read_bytes()
    with pytest.raises(ValueError, match="recipe.yaml is there already, and this training would overwrite it; name another folder"):
        experiment.train(Recipe.load(tmp_path / "recipe.yaml"), run=tmp_path, progress=False)
    assert (tmp_path / "recipe.yaml").read_bytes() == mine


def test_other_training_data_are_told(toy_recipe, tmp_path, monkeypatch) -> None:
    experiment.run(Recipe.load(toy_recipe, metrics={}, alignment={}), out=tmp_path / "out", progress=False)
    digest = results.data_digest
    monkeypatch.setattr(sys.modules["pagkit.results.provenance"], "data_digest", lambda task: {**digest(task), "train": "another"})
    with pytest.warns(UserWarning, match="the training data have the digest another, and had"):
        experiment.evaluate(tmp_path / "out", progress=False)


def test_evaluate_takes_settings_of_what_it_measures(toy_recipe, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert cli.main(["run", str(toy_recipe), "--set", "epochs=2", "--out", str(out)]) == 0
    first, _ = results.load(out / "result.json"), capsys.readouterr()
    settings = ["metrics.pgd-l2-15.steps=50", "metrics.pgd-l2-7={}", "alignment={}", "checklist={norm: l2, eps: 15, steps: 2}"]
    assert cli.main(["evaluate", str(out), *(part for setting in settings for part in ("--set", setting)), "--metric", "pgd-l2-1"]) == 0
    path = Path(capsys.readouterr().out.splitlines()[-1].removeprefix("wrote "))
    assert path.name.startswith("result+metrics.pgd-l2-15.steps=50+metrics.pgd-l2-7=%7B%7D+alignment=%7B%7D+checklist=%7Bnorm%3A%20l2,")
    result = results.load(path)
    assert result.recipe == "+".join(["toy", "epochs=2", *settings]) and results.load(out / "result.json") == first
    assert list(result.metrics) == [*first.metrics, "pgd-l2-7", "pgd-l2-1"] and result.alignment == {} and len(result.checklists) == 1
    assert cli.main(["leaderboard", str(out)]) == 0 and "steps=50" in capsys.readouterr().out, "a row under its recipe"
    kept = (out / "result.json").read_bytes()
    for setting, message in {
        "epochs=3": "setting 'epochs=3' changes what was trained; expected one of metrics, alignment, checklist, such as metrics.pgd",
        "model_options.hidden=[3]": "changes what was trained",
        "metric=3": "expected one of metrics",
        "metrics.pgd-l2-15.steps=x": "metrics.pgd-l2-15.steps is 'x'; expected int, at least 1",
        "metrics.pgd-l2-15=3": "metrics.pgd-l2-15 is 3; expected a mapping",
        "metrics.pgd-l2-15.target=5": "metrics.pgd-l2-15: targets range over",
        "alignment.nearest_neighbor.per_class=1": "alignment.nearest_neighbor: class 'class 0'",
        "checklist=[": "is not valid YAML",
        "metrics.square-l2-1={}": "metrics.square-l2-1: inputs have shape",
    }.items():
        assert cli.main(["evaluate", str(out), "--set", setting]) == 2
        assert message in capsys.readouterr().err and (out / "result.json").read_bytes() == kept
    with pytest.raises(SystemExit):
        cli.main(["evaluate", str(out), "--set", "seed=3"])
    assert "the seed is set with --seed" in capsys.readouterr().err


def test_the_batch_size_reaches_each_measurement(toy_recipe, tmp_path, capsys, monkeypatch) -> None:
    out, seen = tmp_path / "out", {}
    toy_recipe.write_text(TOY + "checklist: {norm: l2, eps: 15, steps: 2}\n")
    assert cli.main(["run", str(toy_recipe), "--out", str(out)]) == 0
    for name in ("measure", "alignment", "checklist"):
        real = getattr(evaluation, name)

        def noted(*a: Any, real=real, name=name, batch_size: Any = "none", **how: Any) -> Any:
            seen.setdefault(name, set()).add(batch_size)
            return real(*a, **how)

        monkeypatch.setattr(evaluation, name, noted)
    assert cli.main(["evaluate", str(out), "--batch-size", "7"]) == 0
    assert seen == {"measure": {7}, "alignment": {7}, "checklist": {7}}
    seen.clear()
    assert cli.main(["evaluate", str(out)]) == 0 and set.union(*seen.values()) == {"none"}
    for size in ("0", "-1", "many"):
        with pytest.raises(SystemExit):
            cli.main(["evaluate", str(out), "--batch-size", size])
        assert f"batch size is '{size}'; expected a whole number >= 1" in capsys.readouterr().err
    with pytest.raises(ValueError, match="batch_size is 0; expected at least 1"):
        experiment.evaluate(out, batch_size=0, progress=False)


def test_a_surrogate_may_be_aligned_with_a_diffusion_model(toy, monkeypatch) -> None:
    """It is trained as its own run would train it, with the directions that its recipe names."""
    asked = []
    monkeypatch.setattr(trained, "target", lambda name, *a, **how: asked.append(name))
    monkeypatch.setattr(trained.training, "fit", lambda *a, target, **how: asked.append(target))
    trained.trained("three-modes-pag-nn", toy, 1, "cpu", False)
    assert asked == ["nearest_neighbor", None]


@pytest.mark.parametrize("key", ["notes", "unfinished"])
def test_result_files_say_so_in_words(key: str, toy_recipe, tmp_path) -> None:
    experiment.run(Recipe.load(toy_recipe, metrics={}, alignment={}), out=tmp_path / "out", progress=False)
    path = tmp_path / "out" / "result.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "provenance": {**content["provenance"], key: "clean"}}))
    with pytest.raises(ValueError, match=f"provenance '{key}' is 'clean'; expected a list of words"):
        results.load(path)


def test_new_weights_leave_no_result_of_old_ones(toy_recipe, tmp_path) -> None:
    recipe = Recipe.load(toy_recipe, metrics={}, alignment={})
    experiment.train(recipe, run=tmp_path, progress=False)
    experiment.evaluate(tmp_path, progress=False)
    (tmp_path / "model.safetensors").unlink()
    with pytest.warns(UserWarning, match="of weights that are gone; it is kept as result.json.1"):
        experiment.train(recipe, run=tmp_path, resume=True, progress=False)
    assert (tmp_path / "model.safetensors").exists() and not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("kept", [True, False])
def test_weights_are_measured_in_the_order_they_were_trained_in_and_left_as_found(kept: bool, monkeypatch) -> None:
    split = data.Split(torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1] * 3))
    task = data.Task("few", ("a", "b"), (0.0, 1.0), split, split)
    model = models.build("resnet-small", task, seed=0, widths=[16])
    weights, seen, found = [p for p in model.parameters() if p.ndim == 4], [], evaluation.measure

    def look(*args: Any, **how: Any) -> evaluation.Score:
        seen.append(all(p.is_contiguous(memory_format=torch.channels_last) for p in weights if p.shape[1] > 1))
        return found(*args, **how)

    monkeypatch.setattr(evaluation, "measure", look)
    recipe = Recipe.load("cifar10-laptop-standard", channels_last=kept, metrics={}, alignment={})
    origin = results.provenance(task, device="cpu", train_seconds=0.0, train_cpu_seconds=0.0, evaluate_seconds=0.0)
    measured.measure(recipe, task, model, origin, progress=False)
    assert seen == [kept] and all(p.is_contiguous() for p in weights)


def test_a_training_towards_a_control_can_be_resumed(tmp_path) -> None:
    recipe = Recipe.load("digits-pag-control", epochs=1, data={"train_per_class": 20}, metrics={}, alignment={}, checklist={})
    origin = experiment.train(recipe, run=tmp_path, progress=False)
    assert experiment.train(recipe, run=tmp_path, resume=True, progress=False) == origin


def test_a_finished_training_that_is_resumed_keeps_what_was_measured(toy_recipe, tmp_path) -> None:
    recipe = Recipe.load(toy_recipe)
    origin = experiment.train(recipe, run=tmp_path, progress=False)
    experiment.evaluate(tmp_path, metrics=["pgd-l2-1"], progress=False)
    experiment.evaluate(tmp_path, settings=["metrics.pgd-l2-15.steps=3"], progress=False)
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("result*.json")}
    assert experiment.train(recipe, run=tmp_path, resume=True, progress=False) == origin
    assert {path.name: path.read_bytes() for path in tmp_path.glob("result*.json")} == kept and len(kept) == 2
    experiment.train(replace(recipe, name="toy2"), run=tmp_path, resume=True, progress=False)
    with pytest.warns(UserWarning, match=r"by another recipe or on other test examples; it is kept as result.json.1"):
        experiment.evaluate(tmp_path, progress=False)
    assert (tmp_path / "result.json.1").read_bytes() == kept["result.json"]


def test_weights_of_another_run_are_not_written_over(toy_recipe, tmp_path, monkeypatch) -> None:
    out, recipe = tmp_path / "out", Recipe.load(toy_recipe, seed=5)
    experiment.run(recipe, out=out, progress=False)
    experiment.evaluate(out, metrics=["pgd-l2-1"], progress=False)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    told = "holds a model of another training, of 'toy' and seed 5: {}; name another folder"
    with monkeypatch.context() as patch:
        patch.setattr(experiment.runs, "_train", lambda *a, **how: pytest.fail("it is trained"))
        for change, what in {
            "seed": "seed is 5 there and 3 here",
            "lr": "lr is 0.01 there and 3.0 here",
            "data": "the digest of the training data is .* there and .* here",
        }.items():
            other = Recipe.load(toy_recipe, **{"seed": 5, change: {"seed": 1} if change == "data" else 3})
            with pytest.raises(ValueError, match=told.format(what)):
                experiment.run(other, out=out, progress=False)
            with pytest.raises(ValueError, match=told.format(what)):
                experiment.train(other, run=out, resume=True, progress=False)
        with pytest.raises(ValueError, match="name is 'toy' there and 'mine' here"):
            experiment.run(replace(recipe, name="mine"), out=out, progress=False)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert "pgd-l2-1" in experiment.run(recipe, out=out, progress=False).metrics, "the same weights again"


def test_counts_on_other_images_are_not_merged(toy_recipe, tmp_path, monkeypatch) -> None:
    recipe = Recipe.load(toy_recipe, alignment={})
    experiment.run(recipe, out=tmp_path, progress=False)
    first = experiment.evaluate(tmp_path, metrics=["pgd-l2-1"], progress=False)
    assert "evaluated" not in first.provenance
    load = experiment.runs.load

    def moved(*how: Any) -> Any:  # as where a folder's images were replaced by as many others
        recipe, task = load(*how)
        return recipe, replace(task, test=data.Split(task.test.x + 1, task.test.y))

    monkeypatch.setattr(experiment.runs, "load", moved)
    with pytest.warns(UserWarning, match=r"on other test examples; it is kept as result.json.1"):
        second = experiment.evaluate(tmp_path, progress=False)
    assert "pgd-l2-1" not in second.metrics and list(second.provenance["evaluated"]) == ["data_digest"]
    assert "pgd-l2-2" in experiment.evaluate(tmp_path, metrics=["pgd-l2-2"], progress=False).metrics
    third = experiment.evaluate(tmp_path, progress=False)
    assert "pgd-l2-2" in third.metrics and results.load(tmp_path / "result.json") == third
    assert (tmp_path / "result.json.1").is_file() and not (tmp_path / "result.json.2").exists()


def test_a_result_from_before_there_were_digests_grows_too(toy_recipe, tmp_path) -> None:
    experiment.run(Recipe.load(toy_recipe, alignment={}), out=tmp_path, progress=False)
    experiment.evaluate(tmp_path, metrics=["pgd-l2-1"], progress=False)
    state, about = models.load_weights(tmp_path / "model.safetensors")
    result = results.load(tmp_path / "result.json")
    for origin in (told := json.loads(about["provenance"]), result.provenance):
        del origin["data_digest"], origin["device"]
    models.save_weights(tmp_path / "model.safetensors", state, {**about, "provenance": json.dumps(told)})
    results.save(tmp_path / "result.json", result)
    later = experiment.evaluate(tmp_path, progress=False)
    assert "pgd-l2-1" in later.metrics and set(later.provenance["evaluated"]) == {"data_digest", "device"}


def test_a_long_setting_has_a_name_that_fits() -> None:
    names = [experiment.result_name([f"metrics.pgd-l2-0.5.steps={n}", f"alignment={'x/' * 200}"]) for n in (1, 2)]
    assert all(len(name) <= 205 and "/" not in name for name in names) and len(set(names)) == 2
    assert experiment.result_name() == "result.json"


def test_a_folder_that_cannot_be_written_is_found_before_training(toy_recipe, tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(experiment.runs, "_train", lambda *a, **how: pytest.fail("it is trained"))
    assert cli.main(["run", str(toy_recipe), "--out", str(tmp_path / "file" / "out")]) == 2
    assert f"cannot write to the folder {tmp_path / 'file' / 'out'}: Not a directory; name another folder" in capsys.readouterr().err
    monkeypatch.setenv("PAGKIT_CACHE", str(tmp_path / "file"))
    small = [
        "digits-standard",
        "--set",
        "metrics={}",
        "--set",
        "checklist={}",
        "--set",
        "alignment={score_based: {ddpm: digits-ddpm, t: 5}}",
    ]
    assert cli.main(["run", *small, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert f"cannot write to the folder {tmp_path / 'file'}: File exists; the environment variable PAGKIT_CACHE names" in told
    assert not (tmp_path / "out").exists()
    full = OSError(30, "Read-only file system")
    monkeypatch.setattr("tempfile.NamedTemporaryFile", lambda **how: (_ for _ in ()).throw(full))
    assert cli.main(["run", str(toy_recipe), "--out", str(tmp_path / "out")]) == 2 and "Read-only file system" in capsys.readouterr().err


def test_a_checklist_of_few_examples_leaves_no_class_out(toy_recipe, tmp_path, monkeypatch) -> None:
    """The toy's test points are sorted by class, as those of a folder are."""
    seen = []

    def checklist(model: Any, split: data.Split, *_: Any, **how: Any) -> evaluation.Checklist:
        seen.append(split.y.tolist())
        return evaluation.Checklist((), "none")

    monkeypatch.setattr(evaluation, "checklist", checklist)
    experiment.run(Recipe.load(toy_recipe, checklist={"norm": "l2", "eps": 15, "examples": 6}), out=tmp_path / "out", progress=False)
    assert seen == [[0, 0, 0, 1, 1, 1]]
