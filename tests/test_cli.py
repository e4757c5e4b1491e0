"""pagkit run and result files: written whole, read back, and bad calls answered in one helpful line."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pagkit import cli, diffusion, evaluation, experiment, models, results, training
from pagkit.data import load
from pagkit.data.files import write_atomically
from pagkit.diffusion import pretrained
from pagkit.evaluation import Score, accuracy
from pagkit.results.schema import PROVENANCE
from tests.helpers import BOOK, ROOT, stop_after

sys.path.insert(0, str(ROOT / "scripts"))
import protocol  # noqa: E402

QUICK = """
description: two epochs
task: three-modes
data: {train_per_class: 300, test_per_class: 60}
model: mlp
model_options: {normalize: 40.0}
method: standard
epochs: 2
lr: 0.01
metrics:
  pgd-l2-15: {target: next, step_size: 2, steps: 10, random_start: false}
  exact-l2-15: {}
"""


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    path = tmp_path / "quick.yaml"
    path.write_text(QUICK)
    return path


def test_run_writes_result_and_weights(quick: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert cli.main(["run", str(quick), "--seed", "3", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "quick, seed 3, on three-modes, 600 train / 120 test" in printed and "exact-l2-15" in printed
    content = json.loads((out / "result.json").read_text())
    assert list(content) == ["recipe", "task", "seed", "metrics", "provenance"]
    assert (content["recipe"], content["task"], content["seed"]) == ("quick", "three-modes", 3)
    assert list(content["metrics"]) == ["clean", "pgd-l2-15", "exact-l2-15"]
    clean = content["metrics"]["clean"]
    assert set(clean) == {"correct", "total", "held"} and clean["total"] == 120
    assert set(PROVENANCE) <= set(content["provenance"])
    task = load("three-modes", seed=3, train_per_class=300, test_per_class=60)
    model = models.build("mlp", task, normalize=40.0)
    model.load_state_dict(load_file(out / "model.safetensors"))
    assert accuracy(model, task.test).correct == content["metrics"]["clean"]["correct"]
    assert sorted(p.name for p in out.iterdir()) == ["model.safetensors", "result.json"], "no temporary file is left"


def test_set_changes_the_recipe_and_its_name(quick: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert cli.main(["run", str(quick), "--set", "epochs=1", "--set", "model_options.hidden=[4]", "--out", str(out)]) == 0
    assert json.loads((out / "result.json").read_text())["recipe"] == "quick+epochs=1+model_options.hidden=[4]"
    assert load_file(out / "model.safetensors")["2.weight"].shape == (4, 2)
    assert cli.main(["run", "digits-pag-sbg", "--set", f"target_options.ddpm={tmp_path}/digits-ddpm+epochs=1-seed0/model.safetensors"]) == 2
    assert "epochs=1-seed0/model.safetensors; expected" in capsys.readouterr().err
    assert cli.main(["run", str(quick), "--set", "epoch=1", "--out", str(tmp_path / "no")]) == 2
    assert "unknown key 'epoch'" in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_alignment_and_checklist_are_written_and_read_back(quick: Path, tmp_path: Path, capsys) -> None:
    checks = "{norm: l2, eps: 15, examples: 30, steps: 5, surrogate: three-modes-scaled-standard}"
    quick.write_text(QUICK + f"alignment:\n  nearest_neighbor: {{}}\nchecklist: {checks}\n")
    assert cli.main(["run", str(quick), "--out", str(tmp_path / "out")]) == 0
    result = results.load(tmp_path / "out" / "result.json")
    assert -1 <= result.alignment["nearest_neighbor"] <= 1
    (checklist,) = result.checklists
    assert len(checklist.checks) == 10 and checklist.caption == "gradient masking, l2 eps 15"
    assert "transfer" in checklist.checks[4].figure and "of 30" in checklist.checks[3].figure
    assert str(checklist) in capsys.readouterr().out
    results.save(tmp_path / "again.json", result)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "out" / "result.json").read_bytes()


def test_a_diffusion_model_is_a_recipe_and_is_kept(tmp_path: Path, monkeypatch, digits) -> None:
    monkeypatch.setenv("PAGKIT_CACHE", str(tmp_path / "cache"))
    text = (ROOT / "pagkit" / "recipes" / "digits-ddpm.yaml").read_text()
    tiny = tmp_path / "tiny.yaml"
    text = text.replace("epochs: 60", "epochs: 1\nmodel_options: {widths: [16]}")
    tiny.write_text(text.replace("judge: digits-standard", "judge: digits-standard+epochs=1"))
    result = experiment.run(training.Recipe.load(tiny), out=tmp_path / "out", progress=False)
    assert list(result.metrics) == ["samples"] and result.metrics["samples"].total == 200
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 3)
        patch.setattr(pretrained, "train", partial(diffusion.train, checkpoint_seconds=0))
        diffusion.find(str(tiny), digits, progress=False)
    (unfinished,) = (tmp_path / "cache").iterdir()
    assert training.checkpoints.paths(unfinished)[-1].name == "checkpoint-000000002.pt"
    kept = diffusion.find(str(tiny), digits)
    (path,) = (tmp_path / "cache").iterdir()
    before = path.stat().st_mtime_ns
    again = diffusion.find(str(tiny), digits)
    assert path.stat().st_mtime_ns == before, "trained once, then read"
    made = diffusion.DDPM.load(tmp_path / "out" / "model.safetensors")
    for one, two in zip(kept.unet.parameters(), made.unet.parameters(), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(again.unet.conv_in.weight, made.unet.conv_in.weight)
    how = {"target": "score_based", "target_options": {"ddpm": str(tiny), "t": 300}}
    recipe = training.Recipe.load("digits-pag-nn", **how, epochs=1, metrics={}, alignment={}, checklist={})
    result = experiment.run(recipe, out=tmp_path / "pag", progress=False)
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".int8", ".safetensors"], "its directions are kept too"


def test_same_seed_same_result(quick: Path, tmp_path: Path) -> None:
    weights = []
    for name in ("a", "b"):
        cli.main(["run", str(quick), "--out", str(tmp_path / name)])
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    assert results.load(tmp_path / "a" / "result.json").metrics == results.load(tmp_path / "b" / "result.json").metrics


def test_data_takes_a_folder(digits, tmp_path: Path) -> None:
    from PIL import Image

    for part, split in (("train", digits.train), ("test", digits.test)):
        for i in range(60):
            where = tmp_path / "images" / part / str(int(split.y[i]))
            where.mkdir(parents=True, exist_ok=True)
            Image.fromarray((split.x[i, 0] * 255).byte().numpy()).save(where / f"{i}.png")
    few = {"seed": 0, "test_per_class": 3}
    recipe = training.Recipe.load("digits-standard", data=few, epochs=2, metrics={}, alignment={}, checklist={})
    result = experiment.run(recipe, out=tmp_path / "out", folder=tmp_path / "images", progress=False)
    assert result.task == "folder:images" and result.metrics["clean"].total == 30  # as many a class as the recipe says


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nope"], "unknown recipe 'nope'; expected a .yaml file or one of"),
        (["run", "digits-standard", "--data", "missing"], "no folder missing"),
        (["run", "digits-standard", "--seed", "-1"], "seed is '-1'; expected a whole number >= 0"),
        (["run"], "required: RECIPE"),
        (["train", "digits-standard"], "required: --run"),
        (["train", "digits-standard", "--run", f"{__file__}/run"], "Not a directory"),
        (["run", "three-modes-standard", "--device", "cuba"], "device is 'cuba'; expected auto, cpu, cuda"),
        (["evaluate", "missing"], "no folder missing"),
        (["evaluate", str(Path(__file__).parent)], "; `pagkit run` and `pagkit train` write it"),
        (["leaderboard", "missing"], "no folder missing"),
        (["leaderboard", str(Path(__file__).parent)], "no result.json below"),
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
    ],
)
def test_bad_calls(arguments: list[str], message: str, capsys) -> None:
    try:
        status = cli.main(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2 and message in capsys.readouterr().err


def test_a_bad_metric_is_found_before_training(quick: Path, tmp_path: Path, capsys) -> None:
    quick.write_text(QUICK + "  cw-l2-1: {}\n")
    assert cli.main(["run", str(quick), "--out", str(tmp_path / "out")]) == 2
    assert "unknown metric 'cw-l2-1'" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("  pgd-l2-1: {step: 3}", "unknown option 'step' of metrics.pgd-l2-1; expected some of keep, likeliest"),
        ("  samples: {judge: three-modes-standard, per_class: 2, guidance: 1.0}", "method is 'standard' with metric 'samples'"),
        ("alignment: {class_mean: {scal: 2}}", "unknown option 'scal' of alignment.class_mean; expected some of scale"),
        ("alignment: {score_based: {ddpm: digits-standard, t: 5}}", "recipe 'digits-standard' has method 'standard'; expected 'ddpm'"),
        ("alignment: {score_based: {ddpm: no.safetensors, t: 5}}", "no file no.safetensors"),
        ("checklist: {norm: l2, eps: 15, step: 5}", "unknown option 'step' of checklist; expected some of eps, examples, norm, queries"),
        ("checklist: {norm: l3, eps: 15}", "unknown norm 'l3'"),
        ("checklist: {norm: l2, eps: 15, surrogate: nope}", "unknown recipe 'nope'"),
    ],
)
def test_what_cannot_be_measured_is_found_before_training(lines: str, message: str, quick: Path, tmp_path: Path, capsys) -> None:
    quick.write_text(QUICK + lines + "\n")
    for call in (["run", str(quick), "--out", str(tmp_path / "out")], ["train", str(quick), "--run", str(tmp_path / "out")]):
        assert cli.main(call) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_weights_are_kept_when_the_evaluation_fails(quick: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(evaluation, "measure", lambda *a, **how: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        experiment.run(training.Recipe.load(quick), out=tmp_path / "out", progress=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


def test_a_missing_extra_is_found_before_training(quick: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    quick.write_text(QUICK + "  autoattack-l2-15: {}\n")
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    assert cli.main(["run", str(quick), "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'pagkit[autoattack]'" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_diverging_run_ends_with_status_one_and_writes_nothing(quick: Path, tmp_path: Path, capsys) -> None:
    quick.write_text(QUICK.replace("lr: 0.01", "lr: 1.0e+30\noptimizer: sgd"))
    assert cli.main(["run", str(quick), "--out", str(tmp_path / "out")]) == 1
    assert "the loss became" in capsys.readouterr().err and not list((tmp_path / "out").iterdir())


def test_recipes_are_listed(capsys) -> None:
    assert cli.main(["recipes"]) == 0
    assert "three-modes-pag-nn" in capsys.readouterr().out


def test_result_files_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    for text, message in (
        ("{", "is not a result file: JSONDecodeError"),
        ('{"metrics": {}}', "KeyError 'recipe'"),
        ('{"metrics": {"clean": {"correct": 5, "total": 4}}}', "expected 0 <= correct <= total"),
        ('{"metrics": {}, "recipe": null, "task": "t", "seed": 0, "provenance": {}}', "recipe is None; expected str"),
        ('{"metrics": {}, "recipe": "r", "task": "t", "seed": 0, "provenance": {}, "alignment": {"a": "x"}}', "alignment 'a' is 'x'"),
        ('{"metrics": {}, "recipe": "r", "task": "t", "seed": 0, "provenance": {}, "alignment": 1}', "AttributeError"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            results.load(path)
    with pytest.raises(ValueError, match="provenance 'data' is None; expected str"):
        results.Result("r", "t", 0, {"clean": Score(1, 2)}, {})


def test_files_beside_results_are_left_out_and_two_of_one_run_refused(tmp_path: Path) -> None:
    origin = {"data": "", "hardware": "", "threads": 1, "train_seconds": 1.0, "evaluate_seconds": 1.0, "versions": {}, "commit": ""}
    made = results.Result("r", "t", 0, {"clean": Score(1, 2)}, origin)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    results.save(tmp_path / "a" / "result.json", made)
    (tmp_path / "notes.json").write_text("[]")
    with pytest.warns(UserWarning, match="notes.json is left out: it names no recipe"):
        assert results.load_all(tmp_path) == [made]
    results.save(tmp_path / "b" / "result.json", made)
    (tmp_path / "notes.json").unlink()
    with pytest.raises(ValueError, match="a/result.json and .*b/result.json both hold recipe 'r' on 't', seed 0; expected one of them"):
        results.load_all(tmp_path)


def test_committed_results_fit_the_schema_and_have_recipes() -> None:
    planned = protocol.read("digits").measured | protocol.read("digits-sums").measured
    for result in results.load_all(BOOK / "results"):
        how = planned.get(result.recipe)
        recipe = how.recipe(result.recipe, result.seed) if how else training.Recipe.load(result.recipe)
        assert result.task == recipe.task or result.task.startswith("folder:")  # pagkit run --data
        left = set(result.provenance.get("unfinished", []))
        assert set(result.metrics) - {"clean"} >= set(recipe.metrics) - left, "pagkit evaluate may have measured more"
        assert not result.provenance["commit"].endswith("+"), "made by a commit, not by uncommitted code"


def test_write_is_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_files_get_the_permissions_that_new_files_get_and_errors_name_them(tmp_path: Path) -> None:
    for mask, mode in ((0o077, 0o600), (0o022, 0o644)):
        before = os.umask(mask)
        write_atomically(tmp_path / "file", b"new")
        os.umask(before)
        assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=f"{tmp_path}/folder'$"):
        write_atomically(tmp_path / "folder", b"new")


def test_results_stay_until_the_new_weights_are_on_disk(quick: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    call = ["run", str(quick), "--set", "metrics={}", "--out", str(tmp_path / "out")]
    assert cli.main(call) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    state, about = models.load_weights(tmp_path / "out" / "model.safetensors")
    models.save_weights(tmp_path / "out" / "model.safetensors", {name: value + 1 for name, value in state.items()}, about)
    stop_after(monkeypatch, 0, OSError(errno.ENOSPC, "No space left on device"))
    capsys.readouterr()
    assert cli.main(call) == 1
    assert f"pagkit: {tmp_path / 'out' / 'model.safetensors'}: No space left on device" in capsys.readouterr().err
    assert (tmp_path / "out" / "result.json").read_bytes() == before[tmp_path / "out" / "result.json"]


def test_weights_round_trip(tmp_path: Path, digits) -> None:
    state = models.build("cnn", digits).state_dict()
    models.save_weights(tmp_path / "w.safetensors", state)
    assert all(torch.equal(value, state[key]) for key, value in load_file(tmp_path / "w.safetensors").items())


def test_train_then_evaluate_is_run(quick: Path, tmp_path: Path, capsys) -> None:
    once, later = tmp_path / "once", tmp_path / "quick+epochs=1"  # a folder named as a recipe with a setting
    call = [str(quick), "--seed", "3", "--set", "epochs=1"]
    assert cli.main(["run", *call, "--out", str(once)]) == 0
    shown = capsys.readouterr().out.splitlines()[:-1]
    assert cli.main(["train", *call, "--run", str(later)]) == 0
    assert f"measure it with: pagkit evaluate {later}" in capsys.readouterr().out
    assert cli.main(["evaluate", str(later)]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == shown
    weights = [load_file(out / "model.safetensors") for out in (once, later)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    one, two = (results.load(out / "result.json") for out in (once, later))
    assert (one.recipe, one.seed, one.metrics) == (two.recipe, two.seed, two.metrics) == ("quick+epochs=1", 3, one.metrics)
    assert list(one.provenance) == list(two.provenance), "nothing has changed between training and evaluation"
    names = ["checkpoint-000000000.pt", "checkpoint-000000005.pt", "model.safetensors", "recipe.yaml", "result.json"]
    assert sorted(p.name for p in later.iterdir()) == names
    assert cli.main(["train", *call, "--run", str(once)]) == 2
    assert f"{once} holds a trained model, model.safetensors; name another folder" in capsys.readouterr().err
    (tmp_path / "other.json").write_text((once / "result.json").read_text().replace('"seed": 3', '"seed": 4'))
    (once / "result.json").unlink()
    assert cli.main(["leaderboard", str(tmp_path)]) == 0
    caption, header, _, above, row, *_ = capsys.readouterr().out.splitlines()
    assert caption.startswith("The toy") and header.split()[:2] == ["recipe", "clean"]
    assert above == "quick" and row.split()[0] == "+epochs=1"


def test_a_diffusion_model_is_trained_with_checkpoints_too(tmp_path: Path, capsys, monkeypatch) -> None:
    small = ["--set", "epochs=1", "--set", "data={train_per_class: 20, seed: 0}", "--set", "model_options={widths: [16]}"]
    call = ["train", "digits-ddpm", *small, "--run", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert cli.main(call) == 130
    (tmp_path / "run" / "recipe.yaml").write_text("as it was")
    other = {"lr=0.1": "another recipe: lr is 0.002 there and 0.1 here", "data={train_per_class: 9}": "another data set"}
    for change, message in other.items():
        assert cli.main([*call, "--resume", "--set", change]) == 2 and message in capsys.readouterr().err
    assert (tmp_path / "run" / "recipe.yaml").read_text() == "as it was"
    assert cli.main([*call, "--resume"]) == 0 and cli.main(["train", *call[1:-1], str(tmp_path / "whole")]) == 0
    weights = [load_file(tmp_path / run / "model.safetensors") for run in ("whole", "run")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_what_has_changed_since_the_training_is_said(quick: Path, tmp_path: Path, monkeypatch) -> None:
    recipe = training.Recipe.load(quick, epochs=1, metrics={})
    experiment.train(recipe, run=tmp_path / "run", progress=False)
    monkeypatch.setattr(sys.modules["pagkit.results.provenance"], "_commit", lambda: "0123456789ab")
    result = experiment.evaluate(tmp_path / "run", progress=False)
    assert result.provenance["evaluated"] == {"commit": "0123456789ab"} and result.provenance["commit"] != "0123456789ab"
    state, about = models.load_weights(weights := tmp_path / "run" / "model.safetensors")
    models.save_weights(weights, state, {**about, "recipe": recipe.to_yaml().replace("normalize: 40.0", "hidden: [4]")})
    with pytest.raises(ValueError, match="model.safetensors does not fit its recipe and data"):
        experiment.evaluate(tmp_path / "run", progress=False)
    models.save_weights(weights, state, {**about, "recipe": "a: [", "provenance": "{}"})
    with pytest.raises(ValueError, match="model.safetensors does not say how it was trained"):
        experiment.evaluate(tmp_path / "run", progress=False)
    models.save_weights(weights, state, {})
    with pytest.raises(ValueError, match="model.safetensors does not say how it was trained"):
        experiment.evaluate(tmp_path / "run", progress=False)


def test_a_run_that_is_stopped_while_it_is_measured_is_measured_later(quick: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    call = ["run", str(quick), "--set", "metrics.pgd-l2-15.steps=3"]
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "measure", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli.main([*call, "--out", str(tmp_path / "stopped")]) == 130
    assert cli.main(["evaluate", str(tmp_path / "stopped")]) == 0
    assert cli.main([*call, "--out", str(tmp_path / "whole")]) == 0
    one, two = (results.load(tmp_path / name / "result.json") for name in ("stopped", "whole"))
    assert one.metrics == two.metrics and one.recipe == two.recipe == "quick+metrics.pgd-l2-15.steps=3"


def test_evaluate_measures_more_than_the_recipe(quick: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    cli.main(["run", str(quick), "--out", str(out)])
    before = results.load(out / "result.json")
    more = ["--metric", "pgd-l2-5", "--metric", "pgd-l2-15", "--checklist", "l2-15"]
    assert cli.main(["evaluate", str(out), *more]) == 0
    after = results.load(out / "result.json")
    assert list(after.metrics) == [*before.metrics, "pgd-l2-5"] and after.recipe == before.recipe
    assert all(after.metrics[name] == score for name, score in before.metrics.items()), "pgd-l2-15 as the recipe has it"
    (checklist,) = after.checklists
    assert checklist.caption == "gradient masking, l2 eps 15" and "of 120" in checklist.checks[3].figure
    assert after.provenance["train_seconds"] == before.provenance["train_seconds"]
    kept, _ = (out / "result.json").read_bytes(), capsys.readouterr()
    wrong = {"l2": "checklist is 'l2'; expected a norm and eps such as 'l2-0.5'", "l3-1": "checklist is 'l3-1'"}
    for value, message in wrong.items():
        assert cli.main(["evaluate", str(out), "--checklist", value]) == 2 and message in capsys.readouterr().err
    assert cli.main(["evaluate", str(out), "--metric", "pgd-l3-1"]) == 2 and "unknown metric 'pgd-l3-1'" in capsys.readouterr().err
    assert (out / "result.json").read_bytes() == kept


def test_a_recipe_survives_its_file(tmp_path: Path) -> None:
    for name in training.recipe_names():
        recipe = training.Recipe.load(name, seed=5)
        (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
        assert training.Recipe.load(tmp_path / "recipe.yaml") == recipe


def test_ctrl_c_says_the_command_that_resumes(quick: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    cli.main(["train", str(quick), "--run", str(tmp_path / "whole")])
    call = ["train", str(quick), "--run", str(tmp_path / "a run")]
    with monkeypatch.context() as patch:
        stop_after(patch, 3)  # a file each: the recipe, the start, the first epoch
        assert cli.main(call) == 130
    told = capsys.readouterr().err.splitlines()
    assert "checkpoint-000000005.pt is kept, and this command goes on from it:" in told[-2]
    assert shlex.split(told[-1]) == ["pagkit", *call, "--resume"]
    assert cli.main(call) == 2 and "resume (--resume, resume=True) or name another folder" in capsys.readouterr().err
    assert cli.main(["evaluate", str(tmp_path / "a run")]) == 2 and "no model.safetensors in" in capsys.readouterr().err
    assert cli.main([*call, "--resume", "--set", "lr=0.02"]) == 2
    assert "another recipe: lr is 0.01 there and 0.02 here" in capsys.readouterr().err
    (last := tmp_path / "a run" / "checkpoint-000000005.pt").write_bytes(b"cut")
    assert cli.main(shlex.split(told[-1])[1:]) == 0
    assert f"pagkit: warning: {last} is broken" in capsys.readouterr().err
    weights = [load_file(tmp_path / run / "model.safetensors") for run in ("whole", "a run")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        assert cli.main(["train", str(quick), "--run", str(tmp_path / "none")]) == 130
    assert "stopped; no result was written" in capsys.readouterr().err


def test_ctrl_c_while_the_library_is_imported(quick: Path, tmp_path: Path) -> None:
    code = f"""import sys
from pagkit import cli
class Stopped:
    def find_spec(self, name, *rest):
        if name == "torch":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stopped())
sys.exit(cli.main(["train", {str(quick)!r}, "--run", {str(tmp_path / "run")!r}]))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (130, "pagkit: stopped; no result was written\n")


def test_a_reader_that_has_enough_is_no_error() -> None:
    """`pagkit recipes | head -1`: the pipe is closed before all is written."""
    run = subprocess.Popen([sys.executable, "-m", "pagkit", "recipes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    run.stdout.close()
    assert (run.stderr.read(), run.wait()) == (b"", 0)


@pytest.mark.parametrize(("call", "stream", "status"), [("--help", "stdout", 0), ("run nope", "stderr", 2)])
def test_a_stream_that_nobody_reads_or_that_is_closed_is_no_error(call: str, stream: str, status: int) -> None:
    """`pagkit --help | true`, whose text is flushed at the very end, and `pagkit --help >&-`; a wrong call stays one in either way."""
    command = [sys.executable, "-m", "pagkit", *call.split()]
    closed = ["sh", "-c", f'"$@" {("stdin", "stdout", "stderr").index(stream)}>&-', "sh", *command]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT, "env": {**os.environ, "PYTHONUNBUFFERED": ""}}
    nobody, end = os.pipe()
    os.close(nobody)
    for done in (subprocess.run(command, **{**how, stream: end}), subprocess.run(closed, **how)):
        assert (done.returncode, done.stdout or b"", done.stderr or b"") == (status, b"", b"")
    os.close(end)


def test_a_diffusion_model_has_no_alignment_and_no_checklist(tmp_path, capsys) -> None:
    for key in ("alignment={class_mean: {}}", "checklist={norm: l2, eps: 1}"):
        assert cli.main(["run", "digits-ddpm", "--set", key, "--out", str(tmp_path / "out")]) == 2
        assert "a diffusion model has 'samples' and nothing else" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_second_checklist_is_refused(tmp_path, capsys) -> None:
    assert cli.main(["evaluate", str(tmp_path), "--checklist", "l2-0.5", "--checklist", "linf-0.1"]) == 2
    assert "--checklist is given 2 times; expected one" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_is_refused_before_any_training(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert cli.main(["train", "digits-pag-sbg", "--run", str(tmp_path / "run"), "--log"]) == 2
    assert "pip install tensorboard" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("classes_per_image=None", "expected int | None, at least 1; YAML writes None as null"),
        ("data.root=None", "expected str | None; YAML writes None as null"),
        ("ramp=(0.0, 0.5)", "expected tuple[float, float], at least 0, at most 1"),
        ("data.root=/nowhere", "root='/nowhere' was given for 'digits', which needs no files; only cifar10, cifar100, stl10 have one"),
    ],
)
def test_what_python_prints_is_not_taken_for_yaml(setting: str, message: str, tmp_path, capsys) -> None:
    assert cli.main(["run", "digits-pag-nn", "--set", setting, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip().endswith(message)
