"""Checkpoints: a training that is stopped, or killed, at any moment goes on to the very weights of an uninterrupted one."""

from __future__ import annotations

import errno
import hashlib
import io
import multiprocessing
import os
import random
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from tqdm.auto import tqdm

from pagkit import models
from pagkit.data import Task
from pagkit.data.files import write_atomically
from pagkit.training import History, Recipe, TrainingDiverged, checkpoints, fit
from pagkit.training.state import average, warm_average
from tests.helpers import Fragile, make_task, stop_after

PLAIN = Recipe("plain", "digits", "mlp", "standard", epochs=3, lr=0.01, batch_size=32)
AT_ODDS = {
    "sgd, crop, flip, cosine": {"optimizer": "sgd", "crop": 1, "flip": True, "schedule": "cosine"},
    "adamw, one-cycle, average": {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "one-cycle", "ema": 0.9},
    "adversarial, l2": {"method": "adversarial", "eps": 0.5, "steps": 2},
    "adversarial, linf, flip": {"method": "adversarial", "norm": "linf", "eps": 0.1, "steps": 2, "flip": True},
    "pag, ramp": {"method": "pag", "target": "nearest_neighbor", "weight": 0.5, "classes_per_image": 2, "ramp": (0.2, 0.6)},
    "pag, all classes, crop": {"method": "pag", "target": "class_mean", "weight": 0.1, "crop": 1, "schedule": "linear"},
    "adversarial, accumulate": {"method": "adversarial", "eps": 0.5, "steps": 2, "accumulate": 2},
    "slope": {"method": "slope", "slope": 0.3},
    "slope-noise-adversarial": {"method": "slope-noise-adversarial", "slope": 0.3, "noise": 0.2, "eps": 0.5, "steps": 2},
    "pag-adversarial": {"method": "pag-adversarial", "target": "one_image", "weight": 0.5, "eps": 0.5, "steps": 2, "ema": 0.5},
}


def noise(examples: int = 100) -> Task:
    """Images of noise in ten classes; with 100 there are four steps an epoch, the last one of four examples."""
    generator = torch.Generator().manual_seed(0)
    return make_task(torch.rand(examples, 1, 8, 8, generator=generator), torch.arange(examples) % 10, 10, (0.0, 1.0))


@pytest.fixture(scope="module")
def few() -> Task:
    return noise()


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.SiLU(), nn.Linear(16, 10))


def trained(task: Task, recipe: Recipe, **options: object) -> tuple[nn.Module, History]:
    model = net()
    return model, fit(model, task, recipe, progress=False, **{"checkpoint_seconds": 0, **options})


def same(one: nn.Module, two: nn.Module) -> bool:
    states = one.state_dict(), two.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("name", AT_ODDS)
def test_stopped_anywhere_the_weights_are_those_of_an_uninterrupted_training(name: str, few: Task, tmp_path: Path, monkeypatch) -> None:
    recipe = replace(PLAIN, **AT_ODDS[name])
    reference, whole = trained(few, recipe)
    for saves in (0, 1, 3, 2, 4, 3):  # stopped before the first step, after it, within an epoch, at the end of one
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_after(patch, saves)
            trained(few, recipe, run_dir=tmp_path, resume=True)
    assert [int(path.stem[-9:]) for path in checkpoints.paths(tmp_path)] == [6, 7, 8]
    model, history = trained(few, recipe, run_dir=tmp_path, resume=True)
    assert same(model, reference)
    parts = asdict(history), asdict(whole)
    assert all(part.pop("seconds") > 0 and part.pop("cpu_seconds") > 0 for part in parts) and repr(parts[0]) == repr(parts[1])
    again, history = trained(few, recipe, run_dir=tmp_path, resume=True)
    assert same(again, reference) and len(history.total) == 3, "a finished training is resumed to its end"


@pytest.mark.parametrize("steps", [3, 6, 8])  # within the first epoch and the second, and at its end
def test_told_to_stop_it_ends_there_and_can_go_on(steps: int, few: Task, tmp_path: Path) -> None:
    recipe = replace(PLAIN, ema=0.9)
    reference, _ = trained(few, recipe)
    left = iter(range(steps - 1))
    model, history = trained(few, recipe, run_dir=tmp_path, checkpoint_seconds=60, stop=lambda: next(left, None) is None)
    assert len(history.total) == steps // 4 and all(p.grad is None for p in model.parameters())
    state = checkpoints.load(checkpoints.paths(tmp_path)[-1])["state"]
    assert state["step"] == steps and len(state["history"]["total"]) == steps // 4
    assert all(torch.equal(state["average"][f"module.{name}"], value) for name, value in model.state_dict().items())
    assert same(trained(few, recipe, run_dir=tmp_path, resume=True)[0], reference)


KILLED = replace(PLAIN, epochs=40, flip=True, ema=0.9)  # 160 steps


def killed_training(folder: str) -> None:
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a killed process leaves behind
    model, _ = trained(noise(), KILLED, run_dir=folder, resume=True)
    models.save_weights(Path(folder) / "final.safetensors", model.state_dict())


def kill_and_resume(folder: Path, kills: int, seed: int) -> None:
    """Train in another process; ``kills`` times kill it at a random moment, read every checkpoint and start anew."""
    rng, context = random.Random(seed), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_checkpoints", "torch._dynamo"])  # which the first optimizer step imports
    for left in range(kills, -1, -1):
        process = context.Process(target=killed_training, args=(str(folder),))
        process.start()
        if left:
            before, wanted = checkpoints.paths(folder)[-1:], rng.randint(1, 120 // kills)
            goal = wanted + (int(before[0].stem[-9:]) if before else 0)
            while process.is_alive() and int(([*checkpoints.paths(folder)] or [Path("checkpoint-000000000.pt")])[-1].stem[-9:]) < goal:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
            process.kill()
        process.join()
        assert process.exitcode == (-9 if left else 0)
        for path in checkpoints.paths(folder):
            checkpoints.load(path)


def test_killed_at_random_moments_the_weights_are_the_same(few: Task, tmp_path: Path) -> None:
    kill_and_resume(tmp_path, kills=5, seed=0)
    reference, _ = trained(few, KILLED)
    state, _ = models.load_weights(tmp_path / "final.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in reference.state_dict().items())
    assert sorted(p.name for p in tmp_path.iterdir())[0] == "checkpoint-000000158.pt", "nothing is left of the killed processes"


def test_the_last_three_are_kept_and_only_ends_of_epochs_when_these_come_fast(few: Task, tmp_path: Path) -> None:
    trained(few, PLAIN, run_dir=tmp_path, checkpoint_seconds=60)
    assert [path.name for path in tmp_path.iterdir()] and checkpoints.paths(tmp_path)[0].name == "checkpoint-000000004.pt"
    assert len(list(tmp_path.iterdir())) == 3
    assert torch.load(checkpoints.paths(tmp_path)[-1], weights_only=True)["state"]["step"] == 12, "torch reads them too"


def test_what_else_is_kept_there_is_no_checkpoint(few: Task, tmp_path: Path) -> None:
    (tmp_path / "checkpoint-best.pt").write_text("mine")
    trained(few, replace(PLAIN, epochs=1), run_dir=tmp_path)
    assert checkpoints.paths(tmp_path) and (tmp_path / "checkpoint-best.pt").read_text() == "mine"


@pytest.mark.parametrize("decay", [0.9, 0.9995])
def test_whole_numbers_are_not_averaged(decay: float) -> None:
    model = torch.nn.Linear(2, 2)
    model.register_buffer("index", torch.arange(64))
    for averaged in (average(model, decay), warm_average(model, decay)):
        for _ in range(30):
            averaged.update_parameters(model)
        assert torch.equal(averaged.module.index, torch.arange(64))


@pytest.mark.parametrize("harm", ["cut", "changed", "empty"])
def test_a_broken_checkpoint_is_named_and_passed_over(harm: str, few: Task, tmp_path: Path) -> None:
    reference, _ = trained(few, PLAIN, run_dir=tmp_path)
    *_, before, last = checkpoints.paths(tmp_path)
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes({"cut": content[:-100], "changed": content, "empty": b""}[harm])
    with pytest.raises(checkpoints.BrokenCheckpoint, match="do not fit the checksum"):
        checkpoints.load(last)
    with pytest.warns(RuntimeWarning, match=f"{last.name} is broken .* passed over for the one before"):
        model, _ = trained(few, PLAIN, run_dir=tmp_path, resume=True)
    assert same(model, reference)
    checkpoints.load(last)
    for path in checkpoints.paths(tmp_path):
        path.write_bytes(b"nothing")
    with pytest.warns(RuntimeWarning), pytest.raises(ValueError, match="none of the 3 checkpoints in .* can be read"):
        trained(few, PLAIN, run_dir=tmp_path, resume=True)


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("dressed", [True, False], ids=["with a fitting checksum", "as it is"])
def test_a_checkpoint_that_would_run_code_is_refused(dressed: bool, few: Task, tmp_path: Path) -> None:
    ran, buffer = tmp_path / "ran", io.BytesIO()
    torch.save({"format": checkpoints.FORMAT, "state": Harm(ran)}, buffer)
    payload = buffer.getvalue()
    path = tmp_path / "run" / "checkpoint-000000001.pt"
    write_atomically(path, payload + hashlib.sha256(payload).digest() if dressed else payload)
    with pytest.raises(ValueError, match="is refused: expected tensors and plain values" if dressed else "is broken or is no checkpoint"):
        checkpoints.load(path)
    with pytest.raises(ValueError), pytest.warns(RuntimeWarning) if not dressed else pytest.MonkeyPatch.context():
        trained(few, PLAIN, run_dir=path.parent, resume=True)
    assert not ran.exists()
    torch.load(path, weights_only=False)
    assert ran.exists(), "it would have"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.02}, "another recipe: lr is 0.01 there and 0.02 here"),
        ({"epochs": 4}, "another recipe: epochs is 3 there and 4 here"),
        ({"seed": 1}, "another recipe: seed is 0 there and 1 here"),
        ({"model_options": {"hidden": [4]}}, r"another recipe: model_options is {} there and {'hidden': \[4\]} here"),
    ],
)
def test_a_changed_recipe_is_refused(changes: dict, message: str, few: Task, tmp_path: Path) -> None:
    trained(few, PLAIN, run_dir=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        trained(few, replace(PLAIN, **changes), run_dir=tmp_path, resume=True)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    trained(few, replace(PLAIN, name="other", description="same weights", metrics={"pgd-l2-1": {}}), run_dir=tmp_path, resume=True)


def test_other_data_or_another_model_is_refused(few: Task, tmp_path: Path) -> None:
    trained(few, PLAIN, run_dir=tmp_path)
    x = few.train.x.clone()
    x[3, 0, 2, 2] += 0.01
    for task, message in (
        (noise(120), "another data set: examples is 100 there and 120 here"),
        (replace(few, train=replace(few.train, x=x)), "another data set: content is"),
        (replace(few, train=replace(few.train, y=few.train.y.flip(0))), "another data set: content is"),
    ):
        with pytest.raises(ValueError, match=message):
            trained(task, PLAIN, run_dir=tmp_path, resume=True)
    for place, layer, message in (
        (3, nn.ReLU(), r"another model: 3 is 'SiLU\(\)' there and 'ReLU\(\)' here"),
        (4, nn.Linear(16, 10, bias=False), r"another model: 4 is 'Linear\(in_features=16, out_features=10, bias=True"),
    ):
        model = net()
        model[place] = layer
        with pytest.raises(ValueError, match=message):
            fit(model, few, PLAIN, run_dir=tmp_path, resume=True, progress=False)


@pytest.mark.parametrize("saves", [2, 7], ids=["at the end of an epoch", "within one"])
def test_a_checkpoint_from_before_slope_and_noise_is_gone_on_from(saves: int, few: Task, tmp_path: Path, monkeypatch) -> None:
    recipe = replace(PLAIN, name="old", method="adversarial", eps=0.5, steps=2)
    reference, before = trained(few, recipe)
    with monkeypatch.context() as patch:
        stop_after(patch, saves)
        with pytest.raises(KeyboardInterrupt):
            trained(few, recipe, run_dir=tmp_path)
    content = checkpoints.latest(tmp_path)
    del content["state"]["history"]["slope"]
    for key in ("slope", "slope_of", "noise"):
        del content["about"]["recipe"][key]
    checkpoints.save(tmp_path, content["state"]["step"], content)
    again, history = trained(few, recipe, run_dir=tmp_path, resume=True)
    assert same(again, reference) and history.total == before.total and history.slope == []


def test_a_folder_in_use_is_not_written_over(few: Task, tmp_path: Path) -> None:
    trained(few, PLAIN, run_dir=tmp_path)
    with pytest.raises(ValueError, match=r"holds checkpoints, the last one checkpoint-000000012.pt; resume .* or name another folder"):
        trained(few, PLAIN, run_dir=tmp_path)
    with pytest.raises(ValueError, match="resume is True and run_dir is None"):
        trained(few, PLAIN, resume=True)


def test_a_full_disk_ends_the_training_and_keeps_the_last_checkpoint(few: Task, tmp_path: Path, monkeypatch) -> None:
    reference, _ = trained(few, PLAIN)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device; the last one, checkpoint-000000005.pt, is"):
        stop_after(patch, 6, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        trained(few, PLAIN, run_dir=tmp_path)
    assert [path.name[-4:] for path in sorted(tmp_path.iterdir())] == ["3.pt", "4.pt", "5.pt"], "no temporary file is left"
    model, _ = trained(few, PLAIN, run_dir=tmp_path, resume=True)
    assert same(model, reference)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_cannot_be_written_is_found_before_training(resume: bool, few: Task, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model, before = net(), net()
    with pytest.raises(OSError, match="cannot write checkpoint .*: Not a directory; there is none before it"):
        fit(model, few, PLAIN, run_dir=tmp_path / "file" / "run", resume=resume, progress=False)
    assert same(model, before)


def test_a_diverging_training_keeps_its_last_good_weights_across_a_stop(toy: Task, tmp_path: Path, monkeypatch) -> None:
    recipe = Recipe("r", "three-modes", "mlp", "standard", epochs=5, lr=0.01, batch_size=100)  # 6 steps an epoch
    first, second = Fragile(10**6), Fragile(1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 14)
        fit(first, toy, recipe, run_dir=tmp_path, checkpoint_seconds=0, progress=False)
    good = checkpoints.latest(tmp_path)["state"]
    assert good["step"] == 13 and not torch.equal(good["good"]["layer.weight"], good["model"]["layer.weight"])
    with pytest.raises(TrainingDiverged, match=r"the loss became nan at step 15 \(epoch 3\); .* those of the end of epoch 2"):
        fit(second, toy, recipe, run_dir=tmp_path, resume=True, progress=False)
    assert torch.equal(second.layer.weight, good["good"]["layer.weight"])


def test_the_average_of_the_weights_is_what_the_model_holds_at_the_end(few: Task, tmp_path: Path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        checkpoints,
        "save",
        lambda folder, step, content: seen.append({name: v.clone() for name, v in content["state"]["model"].items()}),
    )
    model, _ = trained(few, replace(PLAIN, ema=0.75, epochs=1), run_dir=tmp_path)
    assert len(seen) == 5
    average = seen[1]
    for state in seen[2:]:
        average = {name: 0.75 * value + 0.25 * state[name] for name, value in average.items()}
    for name, value in model.state_dict().items():
        assert not value.is_floating_point() or torch.allclose(value, average[name], atol=1e-6)
    assert not torch.equal(model[1].weight, seen[-1]["1.weight"])
