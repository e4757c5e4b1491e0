"""Training, checkpoints and measurements on another device than the data's, where there is no GPU: on a stand-in.

Its tensors compute on the CPU, say that they are on ``meta``, and refuse to meet tensors of the CPU in the operations in which CUDA's
do. So these tests find a tensor that was left behind. They say nothing about CUDA's arithmetic, speed or mixed precision.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel  # noqa: F401, here, since their modules need the real torch.Generator
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from pagkit import attacks, evaluation, experiment, targets
from pagkit.data import Task
from pagkit.diffusion import DDPM
from pagkit.training import Recipe, checkpoints
from tests.helpers import ROOT

FAR = torch.device("meta")
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}  # CUDA's tensors take indices from the CPU
COPIED = "ignore:for .* copying from a non-meta parameter:UserWarning"  # they are copied, for all that torch knows of meta


class FarTensor(Tensor):
    """A tensor on the stand-in; ``near`` holds its values."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> FarTensor:
        layout = {"strides": near.stride(), "storage_offset": near.storage_offset(), "dtype": near.dtype}
        made = Tensor._make_wrapper_subclass(cls, near.size(), **layout, device=FAR, requires_grad=near.requires_grad)
        made.near = near
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.near.detach().__reduce_ex__(protocol)

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return apply(func, args, kwargs or {})


class Far(TorchDispatchMode):
    """Inside, ``device="meta"`` is the stand-in."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return apply(func, args, kwargs or {})


def apply(func: Any, args: tuple, kwargs: dict) -> Any:
    found = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    far, asked = any(isinstance(leaf, FarTensor) for leaf in found), kwargs.get("device")
    if not far and asked != FAR:
        return func(*args, **kwargs)
    if far and func not in COPIES:
        free = args[1] if func in INDEXING and isinstance(args[0], FarTensor) else []
        for leaf in found:
            if not isinstance(leaf, FarTensor) and leaf.ndim > 0 and not any(leaf is index for index in free):
                raise RuntimeError(f"{func}: expected all tensors on one device; found {FAR} and cpu")
    near_args, near_kwargs = tree_map(lambda v: v.near if isinstance(v, FarTensor) else v, (args, kwargs))
    out = func(*near_args, **{**near_kwargs, **({"device": torch.device("cpu")} if asked == FAR else {})})
    if func is aten.copy_.default:
        return args[0]
    if asked not in (None, FAR) or func is aten._local_scalar_dense.default:
        return out
    out = tree_map(lambda v: FarTensor(v) if isinstance(v, Tensor) else v, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if far else out


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    generator = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": generator())
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    with Far():
        yield FAR


@pytest.fixture
def small(digits: Task) -> Task:
    return Task("digits", digits.classes, digits.bounds, digits.train.first(100), digits.test.first(20))


def test_the_stand_in_refuses_the_cpu(far: torch.device) -> None:
    x = torch.arange(3.0, device=far)
    assert (x.device, (x + torch.tensor(1.0)).cpu().tolist(), x[torch.tensor([2])].item()) == (far, [1, 2, 3], 2)
    with pytest.raises(RuntimeError, match="one device"):
        x + torch.ones(3)
    with pytest.raises(RuntimeError, match="one device"):
        torch.ones(3)[x.long()]


@pytest.mark.filterwarnings(COPIED)
def test_a_classifier_is_trained_resumed_and_measured_there(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """With all that happens on a device: crop, flip, average, parts of a batch, PGD, directions; then every attack."""
    recipe = Recipe.load(
        "digits-pag-nn-adversarial",
        seed=0, epochs=2, batch_size=50, accumulate=2, crop=1, flip=True, ema=0.9, channels_last=True, steps=2,
        optimizer="sgd", lr=0.05, data={"seed": 0, "train_per_class": 10, "test_per_class": 2},
        model="resnet-small", model_options={"widths": [8, 16], "norm": "group"},
        metrics={
            "pgd-l2-0.5": {"steps": 2, "likeliest": 2},
            "pgd-linf-0.1": {"steps": 2, "target": "next"},
            "autoattack-l2-0.5": {"queries": 5},
        },
        alignment={"one_image": {}, "class_mean": {}, "nearest_neighbor": {}},
        checklist={"norm": "l2", "eps": 0.5, "queries": 5},
    )  # fmt: skip
    near = experiment.run(recipe, out=tmp_path / "near", device="cpu", progress=False)
    request.getfixturevalue("far")
    experiment.train(recipe, run=tmp_path / "far", device=str(FAR), progress=False)
    measured = experiment.evaluate(tmp_path / "far", device=str(FAR), progress=False)
    assert measured.metrics == near.metrics
    assert measured.alignment == pytest.approx(near.alignment, abs=1e-4)
    verdicts = [[check.verdict for check in made.checklists[0].checks] for made in (measured, near)]
    assert verdicts[0] == verdicts[1]
    weights = {name: load_file(tmp_path / name / experiment.WEIGHTS) for name in ("near", "far")}
    for name, value in weights["near"].items():
        torch.testing.assert_close(weights["far"][name], value, atol=1e-5, rtol=1e-4)

    checkpoints.paths(tmp_path / "far")[-1].unlink()
    (tmp_path / "far" / experiment.WEIGHTS).unlink()
    with pytest.warns(UserWarning, match="of weights that are gone; it is kept as result.json.1"):
        experiment.train(recipe, run=tmp_path / "far", device=str(FAR), resume=True, progress=False)
    again = load_file(tmp_path / "far" / experiment.WEIGHTS)
    assert all(torch.equal(again[name], value) for name, value in weights["far"].items())


@pytest.mark.filterwarnings(COPIED)
def test_a_diffusion_model_is_trained_and_asked_there(small: Task, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    options = {"epochs": 1, "batch_size": 50, "widths": [8, 16], "progress": False}
    made = {"cpu": DDPM.fit(small, **options), FAR: None}
    request.getfixturevalue("far")
    made[FAR] = DDPM.fit(small, device=FAR, **options)
    assert made[FAR].unet.device == FAR
    rows, classes, x = torch.tensor([3, -1]), torch.tensor([[0, 1], [2, 3]]), torch.stack([small.train.x[3], small.test.x[0]])
    answers = []
    for device, ddpm in made.items():
        target = targets.score_based(small, ddpm, t=150, folder=tmp_path / str(device), progress=False)
        directions = target(rows, x.to(device), classes.to(device))
        assert directions.device == torch.device(device)
        answers.append((directions.cpu() / 127, ddpm.sample(torch.tensor([3, 4]), steps=2)))
    for near, far in zip(*answers, strict=True):
        torch.testing.assert_close(near, far, atol=0.02, rtol=0)


@pytest.mark.filterwarnings(COPIED)
def test_half_an_hour_there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what `scripts/gpu_half_hour.py` does itself: the photographs on the device, a training, cosines and slopes, the picture."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from half_hour import jobs, photographs, picture, plan, times
    from half_hour.state import State

    far, way = request.getfixturevalue("far"), "float32, channels last"
    known = State(steps={kind: {way: 0.1} for kind in plan.KINDS}, ways=dict.fromkeys(plan.KINDS, way), epochs=1, done={"times": ""})
    task = photographs.toy()
    few, card = photographs.few(task.test, 4), replace(task, train=replace(task.train, x=task.train.x[::3], y=task.train.y[::3]).to(far))
    work = jobs.Work(tmp_path, task, card, few, far, plan.TOY, plan.Clock(540), known, rehearsal=True)
    assert times.gradient(work, work.scaled(Recipe.load(plan.KINDS["pag"])), times.STRICT, 0).isfinite().all()
    (job,) = (job for job in plan.STAGES["diffusion"] if job.name == "pag-nn")
    known.done["pag-nn"] = jobs.train(job, work, 1e9)
    for do, name in ((jobs.looks, "looks"), (picture.draw, "picture")):
        do(plan.Job(name, name), work, 1e9)
    assert set(work.result("pag-nn").alignment) == set(jobs.COSINES) and (tmp_path / picture.FILE).is_file()


def test_attacked_examples_come_back_to_where_they_were(small: Task, digits_cnn: torch.nn.Module, far: torch.device) -> None:
    model = copy.deepcopy(digits_cnn).to(far)
    assert evaluation.correct(model, small.test).device == torch.device("cpu")
    moved = evaluation.attacked(model, small.test, attacks.Threat("l2", 0.5), steps=2, progress=False)
    assert moved.x.device == torch.device("cpu")
