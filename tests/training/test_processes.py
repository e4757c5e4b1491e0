"""Two processes on the CPU take the steps of one, write one set of files, and go on where they stopped."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pagkit import cli, data, models, training
from pagkit.training import Recipe, checkpoints, processes

PLAIN = Recipe("plain", "digits", "cnn", "standard", epochs=1, lr=0.002, batch_size=64, optimizer="adamw", ema=0.5, weight_decay=0.1)
PAG = {"target": "nearest_neighbor", "weight": 0.5, "classes_per_image": 2}
RECIPES = {
    "standard": replace(PLAIN, crop=1, flip=True, batch_size=128),
    "adversarial": replace(PLAIN, method="adversarial", eps=0.5, steps=2),
    "linf, accumulate": replace(PLAIN, method="adversarial", eps=0.1, norm="linf", steps=2, accumulate=2),
    "pag, ramp, crop": replace(PLAIN, method="pag", **PAG, ramp=(0.2, 0.4), crop=1),
    "pag-slope-noise": replace(PLAIN, method="pag-slope-noise", **PAG, slope=0.3, slope_of="log_odds", noise=0.2, crop=1),
    "pag-adversarial, sgd": replace(PLAIN, method="pag-adversarial", **PAG, eps=0.5, steps=2, optimizer="sgd", lr=0.1),
}


def train_all(folder: Path) -> None:
    """129 examples: the last step of an epoch has one row, so one of two processes has none."""
    from pagkit import diffusion

    task = data.load("digits", train_per_class=15)
    task = replace(task, train=task.train.first(129))
    for name, recipe in RECIPES.items():
        model = models.build("cnn", task, width=4)
        history = training.fit(model, task, recipe, run_dir=folder / name, progress=False)
        if processes.rank() == 0:
            models.save_weights(folder / f"{name}.safetensors", {**model.state_dict(), "total": torch.tensor(history.total)})
    ddpm = diffusion.DDPM.fit(task, epochs=1, lr=1e-4, widths=(16,), progress=False, run_dir=folder / "ddpm")
    if processes.rank() == 0:
        ddpm.save(folder / "ddpm.safetensors")


def command(call: list[str]) -> None:
    if status := cli.main(call):
        sys.exit(status)


def one_of(work: Callable[..., None], argument: object, rank: int, port: int, told: Path) -> None:
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": f"{rank}", "LOCAL_RANK": f"{rank}"}
    os.environ |= {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    with open(told, "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        work(argument)
        torch.distributed.destroy_process_group()


def two(work: Callable[..., None], argument: object, folder: Path) -> tuple[list[int | None], list[str]]:
    """Do the same work in two processes that are connected, as a launcher would; exit codes and what each said."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_processes", "torch._dynamo", "pagkit.diffusion", "accelerate"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = [folder / f"told-{rank}.txt" for rank in (0, 1)]
    both = [context.Process(target=one_of, args=(work, argument, rank, port, told[rank])) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    return [process.exitcode for process in both], [path.read_text() for path in told]


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    from pagkit import diffusion

    train_all(tmp_path / "1")
    codes, told = two(train_all, tmp_path / "2", tmp_path)
    assert codes == [0, 0], told
    # a bias before a normalisation has no gradient but rounding, of which Adam makes whole steps; so the scores are compared
    x_t = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    one, other = (diffusion.DDPM.load(tmp_path / count / "ddpm.safetensors").score(x_t, 500) for count in "12")
    assert torch.allclose(one, other, rtol=0, atol=1e-5)
    for name in RECIPES:
        one, other = (models.load_weights(tmp_path / count / f"{name}.safetensors")[0] for count in "12")
        for key, value in one.items():
            assert torch.allclose(value, other[key], rtol=0, atol=1e-5), (name, key, (value - other[key]).abs().max())
    for name in (*RECIPES, "ddpm"):
        states = [checkpoints.latest(tmp_path / count / name)["state"] for count in "12"]
        assert states[0]["step"] == states[1]["step"] and torch.equal(states[0]["generator"], states[1]["generator"])


def test_the_command_line_in_two_processes(tmp_path: Path) -> None:
    small = "data={train_per_class: 300, test_per_class: 60}"
    call = ["train", "three-modes-standard", "--set", "epochs=2", "--set", small, "--run", str(tmp_path / "run")]
    codes, told = two(command, call, tmp_path)
    assert codes == [0, 0] and "trained in" in told[0] and told[1] == "", "process 0 speaks"
    weights = tmp_path / "run" / "model.safetensors"
    before = models.load_weights(weights)[0]
    weights.unlink()
    checkpoints.paths(weights.parent)[-1].unlink()
    codes, told = two(command, [*call, "--resume"], tmp_path)
    assert codes == [0, 0] and all(torch.equal(value, before[name]) for name, value in models.load_weights(weights)[0].items()), told
    codes, told = two(command, [*call, "--resume", "--set", "lr=0.5"], tmp_path)
    assert codes == [2, 2] and "another recipe: lr is" in told[0]


def test_a_process_on_its_own_does_not_import_accelerate() -> None:
    code = "import sys; from pagkit.training import processes; processes.wait(); assert processes.rank() == 0 and processes.count() == 1"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'accelerate' not in sys.modules"], check=True)


def test_devices() -> None:
    assert processes.device("cpu").type == "cpu" and processes.device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="device is 'cuba'; expected auto, cpu, cuda"):
        processes.device("cuba")
