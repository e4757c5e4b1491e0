"""What a chapter teaches and what pagkit does are the same: code cells, by id, are run and held against the library."""

from __future__ import annotations

import pytest
import torch

from pagkit import attacks, data, exact, models, training
from tests.helpers import run_cells


@pytest.mark.parametrize("seed", range(3))
def test_chapter_9_teaches_the_exact_radius(seed: int) -> None:
    taught = run_cells("09-toy-exactly.ipynb", "cells", "pieces", "layers")
    task = data.load("three-modes", seed=seed)
    net = models.build("mlp", task, seed=seed, normalize=40)
    ours = taught["radius"](task.test.x.double(), *taught["pieces"](*taught["two_layer"](net)))
    assert torch.allclose(ours, exact.radius(net, task.test.x))


def test_chapter_1_sticker_stays_on_its_mask() -> None:
    taught = run_cells("01-stop-sign.ipynb", "setup", "sticker")
    task = data.load("digits")
    net = models.build("cnn", task, width=4)
    x, target = task.test.x[:6], (task.test.y[:6] + 1) % 10
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[1] = True
    for views in (0, 3):
        worn = taught["sticker"](net, x, target, mask, views, steps=3)
        assert worn.min() >= 0 and worn.max() <= 1
        assert torch.equal(worn[..., ~mask], x[..., ~mask]) and not torch.equal(worn[..., mask], x[..., mask])


def test_chapter_1_views_start_from_the_image_itself() -> None:
    look = run_cells("01-stop-sign.ipynb", "setup", "sticker")["look"]
    x = data.load("digits").test.x[:2]
    seen = look(x, 5, torch.Generator().manual_seed(0), shift=0.0)
    light = seen.flatten(1).amax(1) / x.repeat_interleave(5, 0).flatten(1).amax(1)
    assert ((0.7 <= light) & (light <= 1)).all()
    assert torch.allclose(seen, x.repeat_interleave(5, 0) * light.view(-1, 1, 1, 1), atol=1e-6)


@pytest.mark.parametrize("target", [None, 3, "next"])
@pytest.mark.parametrize("threat", [attacks.Threat("linf", 0.1), attacks.Threat("l2", 0.5)], ids=lambda threat: threat.norm)
def test_chapter_2_teaches_fgsm(threat: attacks.Threat, target: int | str | None) -> None:
    taught = run_cells("02-fgsm.ipynb", "setup", "fgsm")
    task = data.load("digits")
    net = models.build("cnn", task, width=8, seed=1)
    x, y = task.test.first(64).x, task.test.first(64).y
    goal = (y + 1) % 10 if target == "next" else target
    logits = net(x)
    assert torch.equal(taught["log_odds"](logits, y), attacks.log_odds(logits, y))
    ours = attacks.fgsm(net, x, y, threat, target=goal)
    assert torch.allclose(taught["fgsm"](net, x, y, threat, target=goal), ours, atol=1e-6)
    assert not torch.equal(ours, x)


@pytest.mark.parametrize("start", ["x", "random"])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm, eps", [("linf", 0.1), ("l2", 0.5)])
def test_chapter_3_teaches_pgd(norm: str, eps: float, targeted: bool, start: str) -> None:
    taught = run_cells("03-pgd.ipynb", "pgd-parts", "pgd-loop", "pgd-threat")
    task = data.load("digits")
    net = models.build("cnn", task, width=8, seed=1).double()
    x, y = task.test.first(64).x.double(), task.test.first(64).y
    target = (y + 1) % 10 if targeted else None
    begin = attacks.Threat(norm, eps).random_start(x, torch.Generator().manual_seed(5)) if start == "random" else x

    class Fixed(attacks.Threat):
        def random_start(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
            return begin.clone()

    threat, generator = Fixed(norm, eps), torch.Generator() if start == "random" else None
    how = {"steps": 7, "step_size": eps / 3, "random_start": start == "random", "keep": "last"}
    ours = attacks.pgd(net, x, y, threat, target=target, **how)
    loop = taught["pgd"](net, x, y, norm, eps, 7, eps / 3, target, start=begin)
    assert torch.allclose(loop, ours, atol=1e-9)
    assert torch.allclose(taught["pgd_with"](threat, net, x, y, [eps / 3] * 7, target, generator), ours, atol=1e-9)
    assert not torch.allclose(ours, begin, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 7, 40])
@pytest.mark.parametrize("norm, eps", [("linf", 0.1), ("l2", 0.5)])
def test_chapter_3_teaches_the_lengths_of_the_steps(norm: str, eps: float, steps: int) -> None:
    """The steps that the library takes, watched, are those of the chapter's table."""
    table = run_cells("03-pgd.ipynb", "step-sizes")["step_sizes"]
    taken: list[float] = []

    class Watched(attacks.Threat):
        def step(self, x: torch.Tensor, gradient: torch.Tensor, size: float) -> torch.Tensor:
            taken.append(size)
            return super().step(x, gradient, size)

    task = data.load("digits")
    net = models.build("cnn", task, width=4)
    x = task.test.x[:6]
    attacks.pgd(net, x, net(x).argmax(1), Watched(norm, eps / 1000), steps=steps)  # too small a ball to succeed and stop
    assert taken == pytest.approx(table(eps / 1000, steps))


def test_chapter_4_teaches_adversarial_training() -> None:
    """Weight for weight: the chapter's loop and the library's draw, attack and step alike."""
    taught = run_cells("04-adversarial-training.ipynb", "setup", "adversarial-training")
    task = data.load("digits", train_per_class=15)
    recipe = training.Recipe.load("digits-adversarial-l2", epochs=2, model_options={"width": 8})
    ours, library = (models.build("cnn", task, width=8, seed=1) for _ in range(2))
    taught["adversarial_training"](ours, task, recipe)
    training.fit(library, task, recipe, progress=False)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, library.state_dict()[name]), name
