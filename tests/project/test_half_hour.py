"""Half an hour on one GPU, rehearsed on the CPU: the plan against a clock of the test's own, then all of it at toy size."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pagkit import data, evaluation, models, results, training
from pagkit.data import Task
from pagkit.evaluation import Score
from tests.helpers import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import gpu_half_hour  # noqa: E402
from half_hour import attacks, diffusion, home, jobs, photographs, plan, state, times  # noqa: E402
from half_hour.jobs import LeftOut, Work  # noqa: E402
from half_hour.plan import Clock, Job, Scale  # noqa: E402
from half_hour.state import State  # noqa: E402

SCRIPT = ROOT / "scripts" / "gpu_half_hour.py"
TRAININGS = [job for jobs in plan.STAGES.values() for job in jobs if job.does == "train"]


class Watch:
    """A clock that the test moves."""

    def __init__(self, tick: float = 0.0) -> None:
        self.time, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.time += self.tick
        return self.time


def measured(step: float, **others: float) -> State:
    """As after the step times: every step takes ``step`` seconds."""
    found = State(steps={kind: {"float32": step} for kind in plan.KINDS}, ways=dict.fromkeys(plan.KINDS, "float32"))
    found.others = {"attack": 0.01, "unet": 0.05, **others}
    return found


def made(tmp_path: Path, known: State, watch: Callable[[], float], *, scale: Scale = plan.TOY, seconds: float = 540.0) -> Work:
    task = photographs.toy()
    few = photographs.few(task.test, scale.photographs)
    return Work(tmp_path, task, task, few, torch.device("cpu"), scale, Clock(seconds, now=watch), known, "abc", True)


def pretended(watch: Watch, begun: list[str], factor: float = 1.0, epochs: int = 0) -> dict[str, Callable[..., str]]:
    """In place of the work: the clock moves on by ``factor`` times what the job was said to need, to its deadline at most."""

    def do(job: Job, work: Work, deadline: float) -> str:
        begun.append(job.name)
        if job.does == "times":
            work.state.epochs, out = plan.decide(work.state, work.scale, 50_000, deadline - watch.time - 60, work.clock.seconds)
            watch.time += 60
            return f"without {out}"
        watch.time = min(deadline, watch.time + factor * plan.cost(job, work.state, work.scale, 50_000))
        return ""

    return dict.fromkeys(("times", "train", "ddpm", "scores", "looks", "picture", "attack"), do)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([(400.0, {"a": 10.0, "b": 20.0})], (10, [])),
        ([(300.0, {"a": 10.0, "b": 20.0})], (9, [])),
        ([(400.0, {"a": 10.0, "b": 20.0}), (100.0, {"c": 20.0})], (4, [])),
        ([(100.0, {"a": 10.0, "b": 20.0}), (500.0, {"c": 20.0})], (8, ["b"])),  # 3 epochs of both need 120 s
        ([(40.0, {"a": 10.0})], (10, ["a"])),
    ],
)
def test_all_get_the_same_epochs_and_the_last_are_left_out(stages: list, expected: tuple) -> None:
    assert plan.epochs(stages, 10, 3) == expected


@pytest.mark.parametrize(("step", "factor"), [(0.01, 1.0), (0.03, 1.0), (0.03, 1.5), (0.05, 0.7), (0.2, 1.0), (2.0, 1.0)])
def test_no_stage_overruns_and_what_does_not_fit_is_said(step: float, factor: float, tmp_path: Path) -> None:
    """Whatever a step takes, and however wrong that was."""
    known, begun = measured(step), []
    for stage in plan.STAGES:
        watch = Watch()
        work = made(tmp_path, known, watch, scale=plan.Scale())
        work.task = replace(work.task, train=data.Split(torch.zeros(50_000, 1), torch.zeros(50_000)))
        watch.time = plan.BEGIN
        assert jobs.run(stage, work, pretended(watch, begun, factor), lambda: None)
        assert watch.time <= 540 - plan.END
        assert {job.name for job in plan.STAGES[stage]} == {n for n in (*known.done, *known.left_out) if n in map_names(stage)}
    assert begun == [name for name in begun if name in known.done], "what was begun was done"
    trained = [job.name for job in TRAININGS if job.name in known.done]
    if step == 0.01:
        assert known.epochs == 10 and len(trained) == len(TRAININGS)
        assert {name.split()[0] for name in known.left_out} == {"autoattack-l2-0.5", "apgd-linf-0.0314"}
        assert "s are left for it" in str(known.left_out)
    if step == 0.05:
        assert 3 <= known.epochs < 10 and {"standard", "adversarial", "slope", "pag-oi", "pag-nn"} <= set(trained)
    if step == 2.0:
        assert not trained and "s are left for it" in known.left_out["standard"] and known.left_out["looks"] == "needs a network"


def map_names(stage: str) -> set[str]:
    return {job.name for job in plan.STAGES[stage]}


def test_what_is_done_is_not_done_again_and_a_failure_costs_no_other_job(tmp_path: Path) -> None:
    watch, known, begun = Watch(), measured(0.02), []
    doing = pretended(watch, begun)

    def fails(job: Job, work: Work, deadline: float) -> str:
        if job.name == "slope" and "slope" not in begun:
            begun.append(job.name)
            raise RuntimeError("out of memory")
        return doing["times"](job, work, deadline)

    work, packed = made(tmp_path, known, watch, scale=plan.Scale()), []
    assert not jobs.run("networks", work, {**doing, "train": fails}, lambda: packed.append(sorted(known.done)))
    assert begun == [job.name for job in plan.STAGES["networks"]] and len(packed) == len(begun), "brought home after each"
    assert known.left_out == {"slope": "failed: RuntimeError: out of memory"}
    assert state.load(tmp_path) == known
    watch.time, again = 0.0, state.load(tmp_path)
    work = made(tmp_path, again, watch, scale=plan.Scale())
    assert jobs.run("networks", work, {**doing, "train": fails}, lambda: None)
    assert begun[len(packed) :] == ["slope"] and "slope" in again.done and not again.left_out
    assert "RuntimeError: out of memory" in (tmp_path / "log.txt").read_text()


def test_a_training_ends_at_its_deadline_and_says_so(tmp_path: Path) -> None:
    known = measured(0.01)
    known.epochs = 5
    work = made(tmp_path, known, Watch(tick=1.0))
    job = next(job for job in TRAININGS if job.name == "slope")
    words = jobs.train(job, work, deadline=plan.EACH / 2 + 15)  # 15 looks at the clock, 6 steps an epoch
    assert words.startswith("2 of 5 epochs")
    result = results.load(tmp_path / "slope" / "result.json")
    assert result.recipe == f"{job.recipe}+epochs=5" and result.metrics["clean"].total == 12
    assert result.provenance["notes"] == [
        "a step in float32",
        "attacks and cosines on 8 of the test photographs",
        "stopped when its time was over, after 2 of 5 epochs",
        "a rehearsal at toy size: its numbers mean nothing",
    ]
    assert all(torch.equal(p, p.half().float()) for p in work.network("slope").parameters())


def test_a_loss_that_is_lost_gets_a_slower_second_try(tmp_path: Path, monkeypatch) -> None:
    work, rates = made(tmp_path, measured(0.01), Watch()), []
    work.state.epochs = 1

    def fit(model: Any, task: Task, recipe: Any, **how: Any) -> Any:
        rates.append(recipe.lr)
        raise jobs.training.TrainingDiverged("the loss became nan")

    monkeypatch.setattr(jobs.training, "fit", fit)
    with pytest.raises(jobs.training.TrainingDiverged):
        jobs.train(TRAININGS[0], work, deadline=100.0)
    with pytest.raises(LeftOut, match="0 s are too few to train again"):
        jobs.train(TRAININGS[0], work, deadline=0.0)
    assert rates == [0.1, 0.025, 0.1]


def test_attacks_go_on_where_time_was_over(tmp_path: Path, monkeypatch) -> None:
    """On one more chunk only if it fits at worst; without pyautoattack with PGD, under its own name."""
    watch = Watch()
    work = made(tmp_path, measured(0.01, attack=0.1), watch, scale=replace(plan.TOY, chunk=3))
    work.state.epochs, work.state.done = 1, {"times": ""}
    work.state.done["slope"] = jobs.train(next(job for job in TRAININGS if job.name == "slope"), work, 1e9)
    asked = []

    def measure(model: Any, task: Task, metric: str, **options: Any) -> Score:
        asked.append((metric, options.get("steps"), len(task.test)))
        watch.time += 50
        return Score(1, len(task.test))

    monkeypatch.setattr(evaluation, "measure", measure)
    job = Job("apgd-l2-0.5 slope", "attack", of="slope", metric="apgd-l2-0.5")
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    assert plan.cost(replace(job, metric="pgd-l2-0.5"), work.state, work.scale, 120) == pytest.approx(80)
    with pytest.raises(LeftOut, match="6 of 8 photographs so far: the next chunk needs 80 s"):
        attacks.attack(job, work, deadline=150.0)
    assert attacks.attack(job, work, deadline=300.0).startswith("pgd-l2-0.5 3/8")
    assert asked == [("pgd-l2-0.5", 3, 3), ("pgd-l2-0.5", 3, 3), ("pgd-l2-0.5", 3, 2)]
    result = work.result("slope")
    assert result.metrics["pgd-l2-0.5"] == Score(3, 8) and result.provenance["evaluate_seconds"] == 150
    with pytest.raises(LeftOut, match="needs the package pyautoattack, which --wheels takes from a folder"):
        attacks.attack(replace(job, metric="autoattack-l2-0.5"), work, 1e9)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(LeftOut, match="needs the package diffusers, which --wheels takes from a folder"):
        diffusion.train(plan.STAGES["diffusion"][0], work, 1e9)


def test_a_way_that_does_not_agree_is_not_taken(tmp_path: Path, monkeypatch) -> None:
    """Two batches are 1 apart; both kinds of bf16 are off by 0.3 of that, channels last by 0.2 and not the fastest."""
    far = {**dict.fromkeys(times.WAYS, 0.3), "float32": 0.0, times.STRICT: 0.0, "float32, channels last": 0.2}
    took = {times.STRICT: 3.0, "float32": 2.0, "float32, channels last": 1.0, **dict.fromkeys(list(times.WAYS)[3:], 0.5)}
    monkeypatch.setattr(times, "gradient", lambda work, recipe, way, part: torch.tensor([1.0 * part, far.get(way, 0.0) * (1 - part)]))
    monkeypatch.setattr(times, "seconds", lambda work, recipe, way: took[way])
    work = made(tmp_path, State(), Watch())
    times.measure(work)
    assert set(work.state.ways.values()) == {"float32, channels last"}
    assert work.state.agree["standard"]["bf16, channels last"] == pytest.approx(0.3)
    assert "bf16, channels last" not in work.state.steps["standard"] and "bf16, channels last" not in work.state.agree["slope"]
    assert ("bf16 gradients, channels last" in work.state.agree["slope"]) and len(work.state.agree["standard"]) == 4


def packed_copy(task: Task, path: Path) -> None:
    """As the packed JPEG copy is laid out; training and test photographs in turns."""
    both = [(part, x, int(y)) for part, split in enumerate((task.train, task.test)) for x, y in zip(split.x, split.y, strict=True)]
    both = [both[i] for i in torch.randperm(len(both), generator=torch.Generator().manual_seed(0)).tolist()]
    files = []
    for _, x, _ in both:
        Image.fromarray((255 * x.permute(1, 2, 0)).round().byte().numpy()).save(buffer := io.BytesIO(), "jpeg")
        files.append(buffer.getvalue())
    offset = np.cumsum([0, *map(len, files)]).astype(np.uint32)
    labels, parts = (np.array([row[i] for row in both], dtype=np.uint8) for i in (2, 0))
    content = np.frombuffer(b"".join(files), dtype=np.uint8)
    np.savez_compressed(path, jpeg=content, offset=offset, label=labels, split=parts, classes=np.array(task.classes))


def test_the_packed_copy_is_the_folder_that_it_unpacks_to(tmp_path: Path) -> None:
    packed_copy(photographs.toy(), tmp_path / "few.npz")
    with np.load(tmp_path / "few.npz") as pack:
        for i, (label, part) in enumerate(zip(pack["label"], pack["split"], strict=True)):
            place = tmp_path / "few" / ("train", "test")[part] / str(pack["classes"][label])
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i:04d}.jpg").write_bytes(pack["jpeg"][pack["offset"][i] : pack["offset"][i + 1]].tobytes())
    one, two = photographs.load(tmp_path / "few.npz"), photographs.load(tmp_path / "few")
    assert (one.name, one.classes) == (two.name, two.classes) == ("folder:few", tuple("0123"))
    for part in ("train", "test"):
        assert all(torch.equal(getattr(getattr(one, part), key), getattr(getattr(two, part), key)) for key in ("x", "y"))
    drawn = {"test_per_class": 2, "test_skip_per_class": 1}
    few, known = photographs.few(one.test, 8, skip=1), data.load(f"folder:{tmp_path / 'few'}", seed=0, **drawn).test
    assert few.y.tolist() == [*range(4)] * 2 and torch.equal(few.x.view(2, 4, 3, 8, 8).transpose(0, 1).flatten(0, 1), known.x)
    with pytest.raises(ValueError, match="no photographs in .*; expected a .npz of JPEG images, a folder with train/ and test/"):
        photographs.load(tmp_path)


def test_what_is_brought_home_keeps_to_the_limits_and_is_put_together_again(tmp_path: Path) -> None:
    """Networks of the size of a ResNet-18 in float16, two a stage."""
    out, known = tmp_path / "out", State()
    for i, name in enumerate(plan.ORDER[:3]):
        weights = {f"layer{j}": torch.full((11, 2**18), i + j, dtype=torch.float16) for j in range(4)}  # 22 MiB
        models.save_weights(out / name / "model.safetensors", weights, {"build": "{}"})
        known.done[name] = ""
    known.save(out)
    assert home.pack(out, tmp_path / "one", "networks", known) == ["pag-sbg"] and set(known.home) == {"slope", "adversarial"}
    assert home.pack(out, tmp_path / "one", "networks", known) == ["pag-sbg"]
    known.save(out)
    assert home.pack(out, tmp_path / "two", "diffusion", known) == [] and known.home["pag-sbg"] == "diffusion"
    for folder in (tmp_path / "one", tmp_path / "two"):
        files = list(folder.iterdir())
        assert len(files) <= 8 and all(re.fullmatch(r"[\w.-]+", file.name) and file.stat().st_size <= 2**24 for file in files)
        assert sum(file.stat().st_size for file in files) <= 2**26
    assert set(home.join([tmp_path / "one"], tmp_path / "again")) == {"slope", "adversarial"}
    assert set(state.load(tmp_path / "again").done) == {"slope", "adversarial"}, "what has no weights is not done"
    for name in ("slope", "adversarial"):
        there, about = models.load_weights(tmp_path / "again" / name / "model.safetensors")
        here, _ = models.load_weights(out / name / "model.safetensors")
        assert about == {"build": "{}"} and all(torch.equal(there[key], value) for key, value in here.items())


def test_wheels_are_unpacked_once(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "made_up-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("made_up/__init__.py", "")
        wheel.writestr("made_up-1.0.dist-info/METADATA", "")
    for _ in range(2):
        assert gpu_half_hour._unpacked(tmp_path / "wheels", tmp_path) == [str(tmp_path / "site")]
    assert (tmp_path / "site" / "made_up" / "__init__.py").is_file()
    with pytest.raises(ValueError, match="no folder .*nowhere; expected one with wheels"):
        gpu_half_hour._unpacked(tmp_path / "nowhere", tmp_path)


def called(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}
    alone.pop("PYTHONPATH", None)
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, env=alone, cwd=ROOT.parent)


def test_without_a_gpu_it_says_in_one_sentence_what_it_needs(tmp_path: Path) -> None:
    done = called("networks", "--data", str(tmp_path), "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert "needs an NVIDIA GPU that PyTorch can use" in done.stderr and "--dry-run" in done.stderr
    assert not (tmp_path / "out").exists()


def test_all_stages_are_rehearsed_at_toy_size(tmp_path: Path, capsys) -> None:
    packed_copy(photographs.toy(), tmp_path / "few.npz")
    asked = ("--dry-run", "--data", str(tmp_path / "few.npz"), "--out", str(tmp_path / "out"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = called("all", *asked)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 120, "20 s on a calm machine"
    out = tmp_path / "out"
    known = state.load(out)
    autoattack = not attacks.missing()
    assert known.epochs == 2 and set(known.left_out) == (set() if autoattack else {f"autoattack-l2-0.5 {n}" for n in plan.ORDER})
    assert set(known.steps) == set(plan.KINDS) and all(times.STRICT in found for found in known.agree.values())
    found = {path.parent.name: results.load(path) for path in out.glob("*/result.json")}
    assert set(found) == {*plan.ORDER, "ddpm"} and found["ddpm"].metrics["samples"].total == 4
    kind = "apgd" if autoattack else "pgd"
    for name in plan.ORDER:
        result = found[name]
        assert {metric: score.total for metric, score in result.metrics.items() if metric != "autoattack-l2-0.5"} == {
            "clean": 12,
            f"{kind}-l2-0.5": 8,
            f"{kind}-linf-0.0314": 8,
        }
        assert set(result.alignment) == {"one_image", "class_mean", "nearest_neighbor", "score_based"}
        assert result.task == "folder:few" and "a rehearsal at toy size: its numbers mean nothing" in result.provenance["notes"]
        assert known.slopes[name] > 0
        asked_for = training.Recipe.load(result.recipe).metrics
        assert set(result.provenance["unfinished"]) == set(asked_for) - set(result.metrics)
    with zipfile.ZipFile(out / "back" / "results.zip") as archive:
        inside = set(archive.namelist())
        assert {"half-hour.json", "log.txt", "ddpm/result.json", "slope/result.json"} <= inside
        assert {"panels.safetensors", "ddpm/samples.safetensors"} <= inside
        assert json.loads(archive.read("half-hour.json"))["done"].keys() == known.done.keys()
    assert (out / "back" / "picture.png").read_bytes()[:4] == b"\x89PNG" and len(list((out / "back").iterdir())) <= 8

    log = (out / "log.txt").read_text().count("\n")
    assert gpu_half_hour.main(["attacks", *asked]) == 0
    assert (out / "log.txt").read_text().count("\n") == log + 2, "nothing was left to do"
    assert gpu_half_hour.main(["join", "--out", str(tmp_path / "again"), str(out / "back")]) == 0
    assert "pag-sbg" in capsys.readouterr().out and (tmp_path / "again" / "pag-sbg" / "model.safetensors").is_file()
    assert gpu_half_hour.main(["attacks", "--out", str(out)]) == 2 and "needs an NVIDIA GPU" in capsys.readouterr().err
