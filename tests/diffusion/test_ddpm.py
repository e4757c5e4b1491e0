"""The DDPM: reproducible, its score against the formula, sampling in bounds, saved whole, and what it must refuse."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from pagkit import diffusion, exact, models
from pagkit.data import Split, Task
from pagkit.diffusion import DDPM, pretrained
from pagkit.training import Recipe, TrainingDiverged, checkpoints
from tests.helpers import make_task, stop_after


def small(task: Task, **changes: object) -> DDPM:
    return DDPM.fit(task, **{"epochs": 1, "widths": (8, 16), "progress": False, **changes})


@pytest.fixture(scope="module")
def few(digits: Task) -> Task:
    return replace(digits, train=digits.train.first(200))


@pytest.fixture(scope="module")
def ddpm(few: Task) -> DDPM:
    return small(few)


def test_same_seed_same_weights_and_samples(few: Task, ddpm: DDPM) -> None:
    state = torch.get_rng_state()
    again, other = small(few), small(few, seed=1)
    labels = torch.tensor([3, 7])
    images = ddpm.sample(labels, steps=5, generator=torch.Generator().manual_seed(4))
    assert torch.equal(images, again.sample(labels, steps=5, generator=torch.Generator().manual_seed(4)))
    assert torch.equal(ddpm.sample(labels, steps=5), ddpm.sample(labels, steps=5))
    assert torch.allclose(ddpm.sample(labels, steps=5, batch_size=3), ddpm.sample(labels, steps=5), atol=1e-4), "the noise is the same"
    assert torch.equal(torch.get_rng_state(), state)
    weights = [model.unet.state_dict() for model in (ddpm, again, other)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not torch.equal(weights[0]["conv_in.weight"], weights[2]["conv_in.weight"])


def test_the_schedule_is_that_of_diffusers() -> None:
    assert torch.allclose(exact.ALPHA_BAR.float(), DDPMScheduler().alphas_cumprod, rtol=1e-5)


def test_it_learns_one_pixel_and_the_score_is_that_of_a_gaussian() -> None:
    """Class c is the constant image 2 c - 1: at level t its score is known, (sqrt(abar) (2 c - 1) - x_t) / (1 - abar)."""
    y = torch.arange(2).repeat(64)
    task = make_task((2.0 * y - 1).view(-1, 1, 1, 1).expand(-1, 1, 2, 2), y, 2, bounds=(-1.0, 1.0))
    ddpm = small(task, widths=(16,), epochs=100, lr=5e-3, ema=0.95)
    t, a = 500, exact.alpha_bar(500)
    x_t = ddpm.noised(task.train.x, t, generator=torch.Generator().manual_seed(0))
    for label in (0, 1):
        true = (math.sqrt(a) * (2 * label - 1) - x_t) / (1 - a)
        assert (ddpm.score(x_t, t, label) - true).square().mean() < 0.1 * true.square().mean()
    apart = ddpm.score(x_t, t, 1) - ddpm.score(x_t, t, 0)
    assert apart.mean().item() == pytest.approx(2 * math.sqrt(a) / (1 - a), rel=0.2)
    for guidance in (0.0, 2.0):
        assert (ddpm.sample(y[:8], guidance=guidance, steps=50) - task.train.x[:8]).abs().mean() < 0.2


def test_score_is_the_scaled_guess_of_the_noise(few: Task, ddpm: DDPM) -> None:
    x, t = few.train.x[:3], 321
    x_t = ddpm.noised(x, t, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    a = DDPMScheduler().alphas_cumprod[t]
    assert torch.allclose(x_t, a.sqrt() * (2 * x - 1) + (1 - a).sqrt() * noise, atol=1e-6)
    with torch.no_grad():
        guess = ddpm.unet(x_t, t, class_labels=torch.tensor([10, 10, 10])).sample
    assert torch.allclose(ddpm.score(x_t, t), -guess / (1 - a).sqrt(), atol=1e-5)
    assert torch.equal(ddpm.score(x_t, t, 4), ddpm.score(x_t, t, torch.tensor([4, 4, 4])))
    assert not torch.equal(ddpm.score(x_t, t, 4), ddpm.score(x_t, t))
    assert not ddpm.score(x_t, t).requires_grad


def test_sampling(ddpm: DDPM) -> None:
    images = ddpm.sample(3, steps=4)
    assert images.shape == (3, 1, 8, 8) and images.min() >= 0 and images.max() <= 1
    labels = torch.tensor([1, 2])
    plain, guided = (ddpm.sample(labels, steps=4, guidance=w) for w in (0.0, 3.0))
    assert not torch.equal(plain, guided)


def test_model_space_and_back(ddpm: DDPM, digits: Task) -> None:
    x = digits.test.x[:5]
    assert ddpm.encode(x).min() == -1 and ddpm.encode(x).max() == 1
    assert torch.allclose(ddpm.decode(ddpm.encode(x)), x, atol=1e-6)


def test_saved_and_loaded(ddpm: DDPM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = tmp_path / "ddpm.safetensors", torch.get_rng_state()
    ddpm.save(path)
    loaded = DDPM.load(path)
    assert (loaded.shape, loaded.classes, loaded.bounds, loaded.widths) == ((1, 8, 8), 10, (0.0, 1.0), (8, 16))
    assert torch.equal(loaded.sample(2, steps=3), ddpm.sample(2, steps=3))
    assert torch.equal(torch.get_rng_state(), state)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        ddpm.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_files_that_hold_no_ddpm(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    models.save_weights(tmp_path / "weights", {"a": torch.zeros(1)})
    models.save_weights(tmp_path / "other", {"a": torch.zeros(1)}, {"ddpm": '{"shape": [1, 8, 8], "classes": 10, "bounds": [0, 1]}'})
    for name in ("text", "weights", "other"):
        with pytest.raises(ValueError, match=f"{name} does not hold a DDPM"):
            DDPM.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        DDPM.load(tmp_path / "missing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0; expected int, at least 1"),
        ({"batch_size": 0}, "batch_size is 0; expected int, at least 1"),
        ({"drop": 1.0}, r"drop is 1.0; expected float, at least 0, below 1"),
        ({"ema": -0.1}, r"ema is -0.1; expected float, at least 0, below 1"),
        ({"widths": (8, 8, 8, 8, 8)}, "images are 8 x 8; 5 widths and patch 1 need sides divisible by 16"),
        ({"widths": (8, 12)}, r"widths are \(8, 12\); expected at least one, each a multiple of 8"),
        ({"widths": ()}, r"widths are \(\); expected at least one"),
        ({"widths": (8, 8)}, r"widths are \(8, 8\); expected one of 16 or more: groups of a single channel are normalised to the same"),
        ({"patch": 0}, "patch is 0; expected int, at least 1"),
        ({"patch": 3}, "images are 8 x 8; 2 widths and patch 3 need sides divisible by 6"),
    ],
)
def test_bad_settings(few: Task, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(few, **options)


@pytest.mark.parametrize("make", [small, lambda task, widths: DDPM(task.shape, 10, task.bounds, widths=widths)])
def test_widths_are_several_whole_numbers(make, few: Task) -> None:
    with pytest.raises(TypeError, match=r"widths is 16; expected several whole numbers, such as \[32\]"):
        make(few, widths=16)
    with pytest.raises(TypeError, match=r"widths\[0\] is 16.0; expected a whole number"):
        make(few, widths=(16.0,))


def test_class_and_noise_level_are_known_to_the_least_widths(few: Task) -> None:
    """Where each group had one channel, both were normalised away but for rounding."""
    ddpm = DDPM(few.shape, 10, few.bounds, widths=(16,))
    x_t = torch.randn(4, *few.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other, later = (ddpm.guess(x_t, torch.tensor(t), torch.full((4,), c)) for t, c in ((9, 1), (9, 2), (900, 1)))
    assert min((one - other).norm(), (one - later).norm()) > 1e-3 * one.norm()


def test_patches_and_mirror_images(few: Task, tmp_path: Path) -> None:
    """Each 2 x 2 square is one pixel of the network; both settings survive a file, and give images of the task's shape."""
    ddpm = small(few, patch=2, flip=True)
    assert ddpm.unet.config.in_channels == 4
    ddpm.save(tmp_path / "ddpm.safetensors")
    again = DDPM.load(tmp_path / "ddpm.safetensors")
    x_t = torch.randn(3, *few.shape, generator=torch.Generator().manual_seed(0))
    assert again.patch == 2 and again.score(x_t, 100, 1).equal(ddpm.score(x_t, 100, 1))
    assert not ddpm.score(x_t, 100, 1).equal(small(few, patch=2).score(x_t, 100, 1))


def test_bad_tasks(toy: Task, few: Task) -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\) and bounds \(-inf, inf\); expected images"):
        small(toy)
    with pytest.raises(ValueError, match="the training split of digits is empty"):
        small(replace(few, train=few.train.first(0)))
    wrong = {
        lambda y: y + 1: (ValueError, r"training labels of digits range over \[1, 10\]; expected values in \[0, 10\)"),
        lambda y: y - 1: (ValueError, r"training labels of digits range over \[-1, 8\]"),
        lambda y: y.float(): (TypeError, "y has dtype torch.float32; expected torch.int64"),
    }
    for change, (error, message) in wrong.items():
        with pytest.raises(error, match=message):
            small(replace(few, train=replace(few.train, y=change(few.train.y))))
    with pytest.raises(ValueError, match=r"x ranges over \[0, 2\]; expected finite values inside \(0.0, 1.0\)"):
        small(replace(few, train=replace(few.train, x=2 * few.train.x)))
    with pytest.raises(TrainingDiverged, match=r"the loss became (nan|inf) at step \d \(epoch 1\); the model's weights are the initial"):
        small(few, lr=1e30)


def test_stopped_and_resumed_it_is_the_same_and_other_data_are_refused(few: Task, ddpm: DDPM, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 3)
        recipe = Recipe("r", "digits", "ddpm", "ddpm", epochs=1, lr=2e-3, batch_size=64, model_options={"widths": [8, 16]})
        made = diffusion.build(recipe, few)
        diffusion.train(made, few, recipe, run_dir=tmp_path, checkpoint_seconds=0, progress=False)
    assert [path.name for path in checkpoints.paths(tmp_path)] == [f"checkpoint-00000000{step}.pt" for step in (0, 1, 2)]
    again = diffusion.build(recipe, few)
    history = diffusion.train(again, few, recipe, run_dir=tmp_path, resume=True, progress=False)
    for name, value in ddpm.unet.state_dict().items():
        assert torch.equal(value, again.unet.state_dict()[name])
    assert len(history.total) == 1 and history.alignment == []
    for task, options, message in (
        (replace(few, train=few.train.first(199)), recipe.model_options, "another data set: examples is 200 there and 199 here"),
        (few, {"widths": [8, 24]}, "another recipe: model_options is"),
    ):
        other = replace(recipe, model_options=options)
        with pytest.raises(ValueError, match=message):
            diffusion.train(diffusion.build(other, task), task, other, run_dir=tmp_path, resume=True, progress=False)


def test_bad_calls(few: Task, ddpm: DDPM) -> None:
    x, generator = few.train.x[:2], torch.Generator()
    for call, message in (
        (lambda: ddpm.score(x, 1000), r"t is 1000; expected a noise level in \[0, 1000\)"),
        (lambda: ddpm.score(x, -1, 3), "t is -1; expected a noise level"),
        (lambda: ddpm.score(x, 5, 10), r"labels range over \[10, 10\]; expected values in \[0, 10\)"),
        (lambda: ddpm.score(x, 5, torch.tensor([1, 2, 3])), r"labels have dtype torch.int64 and shape \(3,\)"),
        (lambda: ddpm.score(x[:, 0], 5), r"x has shape \(2, 8, 8\); expected \(N, 1, 8, 8\)"),
        (lambda: ddpm.noised(x - 1, 5, generator=generator), r"x ranges over \[-1, 0\]; expected finite values inside \(0.0, 1.0\)"),
        (lambda: ddpm.noised(x * torch.nan, 5, generator=generator), "x ranges over .*nan"),
        (lambda: ddpm.sample(0), "0 images were asked for; expected at least 1"),
        (lambda: ddpm.sample(1, batch_size=0), "batch_size is 0; expected at least 1"),
        (lambda: ddpm.sample(2, guidance=math.nan), "guidance is nan; expected a finite number"),
        (lambda: ddpm.sample(2, steps=0), "steps is 0; expected 1 to 1000"),
        (lambda: ddpm.sample(torch.tensor([1, -1])), r"labels range over \[-1, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for call, message in (
        (lambda: ddpm.score(x.long(), 5), "x_t has dtype torch.int64; expected a floating-point tensor"),
        (lambda: ddpm.score(x, 1.5), "t is 1.5; expected a whole number"),
        (lambda: ddpm.noised(x, 1.5, generator=generator), "t is 1.5; expected a whole number"),
        (lambda: ddpm.sample(2.0), "the number of images is 2.0; expected a whole number"),
    ):
        with pytest.raises(TypeError, match=message):
            call()
    assert torch.equal(ddpm.sample(np.int64(2), steps=1), ddpm.sample(2, steps=1))


def test_a_run_folder_gives_its_model(few: Task, ddpm: DDPM, tmp_path: Path) -> None:
    ddpm.save(tmp_path / "model.safetensors")
    x_t = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pretrained.find(tmp_path, few).score(x_t, 9, 4), ddpm.score(x_t, 9, 4))
    with pytest.raises(ValueError, match="is a folder; expected a .safetensors file that DDPM.save wrote"):
        DDPM.load(tmp_path)


def test_a_folder_of_diffusers(few: Task, tmp_path: Path) -> None:
    made = DDPM(few.shape, 10, few.bounds, widths=(8, 16))
    made.unet.save_pretrained(tmp_path / "model")
    x_t = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = pretrained.find(tmp_path / "model", few)
    assert torch.equal(found.score(x_t, 300, 4), made.score(x_t, 300, 4)) and torch.equal(found.score(x_t, 9), made.score(x_t, 9))
    made.unet.save_pretrained(tmp_path / "pipeline" / "unet")
    DDPMScheduler(1000).save_pretrained(tmp_path / "pipeline" / "scheduler")
    assert torch.equal(pretrained.find(tmp_path / "pipeline", few).score(x_t, 300, 4), made.score(x_t, 300, 4))
    with pytest.raises(ValueError, match="keep the files that it came from"):
        found.save(tmp_path / "copy.safetensors")
    nine = replace(few, classes=few.classes[:9])
    wide = replace(few, train=Split(torch.zeros(1, 3, 8, 8), few.train.y[:1]))
    for task, message in ((nine, "does not fit digits: labels 11; expected 10"), (wide, r"image channels \(1, 1\); expected \(3, 3\)")):
        with pytest.raises(ValueError, match=message):
            pretrained.find(tmp_path / "model", task)
    DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2").save_pretrained(tmp_path / "pipeline" / "scheduler")
    with pytest.raises(ValueError, match=r"has 1000 betas from .*; expected 1000 from 0.0001 to 0.02"):
        pretrained.find(tmp_path / "pipeline", few)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no config.json in .*empty"):
        pretrained.find(tmp_path / "empty", few)
    next((tmp_path / "model").glob("*.safetensors")).write_bytes(b"cut")
    with pytest.raises(ValueError, match="does not hold a UNet2DModel of diffusers"):
        pretrained.find(tmp_path / "model", few)


def test_a_folder_does_not_hide_a_recipe_of_its_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits-ddpm").mkdir()
    assert not diffusion.is_stored("digits-ddpm") and not diffusion.is_stored("digits-ddpm+epochs=1")
    assert diffusion.is_stored("./digits-ddpm") and diffusion.is_stored(tmp_path) and diffusion.is_stored("none.safetensors")
