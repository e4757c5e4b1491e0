"""Models: shapes, seeds, normalisation first, second derivatives, options refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pagkit import losses, models, training
from pagkit.data import Split, Task
from tests.helpers import make_task


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {}),
        ("mlp", {"hidden": [8, 8], "activation": "gelu"}),
        ("cnn", {"width": 4, "activation": "relu"}),
        ("resnet18", {"norm": "group"}),
        ("resnet18", {"activation": "silu", "stem": "large"}),
        ("resnet-small", {}),
        ("resnet-small", {"widths": [16], "activation": "relu", "norm": "group"}),
        ("resnet-small", {"widths": [16], "norm": "batch"}),
        ("vit", {"dim": 24}),
        ("vit", {"patch": 2, "dim": 16, "depth": 1, "heads": 1, "activation": "silu"}),
    ],
)
def test_build_gives_logits_from_raw_inputs(digits, name: str, options: dict) -> None:
    before = torch.get_rng_state()
    model = models.build(name, digits, seed=3, **options)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.eval()(digits.test.x[:4]).shape == (4, 10)
    again = models.build(name, digits, seed=3, **options).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())
    other = models.build(name, digits, seed=4, **options).state_dict()
    assert any(not torch.equal(value, other[key]) for key, value in model.state_dict().items())
    assert not any(getattr(m, "inplace", False) for m in model.modules())


def test_normalisation_is_the_first_layer(digits, toy) -> None:
    first = models.build("cnn", digits)[0]
    z = first(digits.train.x)
    assert z.mean().abs() < 1e-5 and (z.std() - 1).abs() < 1e-3
    assert torch.allclose(models.build("mlp", toy, normalize=40)[0](toy.train.x), toy.train.x / 40)
    assert torch.equal(models.build("mlp", toy)[0](toy.train.x), toy.train.x)


def images(side: int, count: int = 3, channels: int = 3) -> Task:
    generator = torch.Generator().manual_seed(0)
    return make_task(torch.rand(count, channels, side, side, generator=generator), torch.arange(count), count, (0.0, 1.0))


def test_a_constant_feature_is_only_centred_and_a_single_row_has_no_deviation() -> None:
    x = torch.tensor([[0.0, 7.0], [2.0, 7.0]])
    first = models.build("mlp", make_task(x, torch.tensor([0, 1]), 2), normalize="standardize")[0]
    assert torch.allclose(first(x + 1), torch.tensor([[0, 1], [2**0.5, 1]]))
    with pytest.raises(ValueError, match=r"the 1 training example\(s\) of made have no finite deviation; expected"):
        models.build("mlp", make_task(x[:1], torch.tensor([0]), 2), normalize="standardize")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"activation": "silu"}),
        ("cnn", {"width": 4}),
        ("resnet-small", {"widths": [8, 16]}),
        ("resnet18", {"activation": "silu"}),
        ("resnet18", {"activation": "silu", "norm": "group", "stem": "large"}),
        ("vit", {"dim": 8, "depth": 2, "heads": 2}),
    ],
)
def test_the_gradient_of_the_pag_loss_is_that_of_finite_differences(name: str, options: dict) -> None:
    task = images(16)
    model = models.build(name, task, **options).double()
    x, y, classes = task.train.x.double(), task.train.y, torch.tensor([[0, 2], [1, 0], [2, 1]])
    directions = torch.randn(3, 2, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parameters = list(model.parameters())

    def loss() -> torch.Tensor:
        return losses.pag_loss(model, x, y, directions, classes, weight=2.0).total

    gradient = torch.autograd.grad(loss(), parameters)
    generator = torch.Generator().manual_seed(2)
    way = [torch.randn(p.shape, generator=generator, dtype=torch.float64) * p.abs().mean() for p in parameters]
    slope, step, ends = sum((g * w).sum() for g, w in zip(gradient, way, strict=True)), 1e-6, []
    for sign in (1, -2):
        with torch.no_grad():
            for p, w in zip(parameters, way, strict=True):
                p += sign * step * w
        ends.append(loss().detach())
    assert ((ends[0] - ends[1]) / (2 * step)).item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-6)


def test_stem_of_resnet18_goes_by_the_side() -> None:
    for side, stem, stride in ((32, None, 1), (63, None, 1), (64, None, 2), (96, None, 2), (96, "small", 1), (32, "large", 2)):
        _, net = models.build("resnet18", images(side, channels=1), stem=stem)
        assert net.conv1.stride == (stride, stride) and net.conv1.in_channels == 1
        assert isinstance(net.maxpool, nn.Identity) == (stride == 1)


def test_rows_do_not_depend_on_the_batch() -> None:
    task = images(16, count=6)
    for name in ("resnet-small", "vit"):
        model = models.build(name, task).train()
        assert torch.allclose(model(task.train.x)[:2], model(task.train.x[:2]), atol=1e-5)


def test_mode_is_restored_for_each_submodule() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    model[1].eval()
    with models.mode(model, training=True):
        assert model[1].training
    assert model.training and model[0].training and not model[1].training


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg", {}, "unknown model 'vgg'; expected one of mlp, cnn, resnet-small, resnet18, vit"),
        ("cnn", {"depth": 3}, "unknown option 'depth' for model 'cnn'; expected some of width, activation, normalize"),
        ("cnn", {"width": 0}, "width is 0; expected at least 1"),
        ("cnn", {"width": -1}, "width is -1; expected at least 1"),
        ("mlp", {"activation": "tanh"}, "unknown activation 'tanh'; expected one of relu, silu, gelu"),
        ("mlp", {"hidden": []}, r"hidden is \[\]"),
        ("mlp", {"normalize": -1.0}, "normalize is -1.0; expected"),
        ("mlp", {"normalize": float("inf")}, "normalize is inf; expected"),
        ("mlp", {"normalize": 1e-46}, "normalize is 1e-46; expected"),
        ("resnet18", {"norm": "layer"}, "unknown norm layer 'layer'"),
        ("resnet18", {"stem": "tiny"}, "unknown stem 'tiny'; expected 'small', 'large' or None"),
        ("resnet-small", {"widths": [12]}, r"widths are \[12\]; expected positive multiples of 8"),
        ("resnet-small", {"widths": []}, r"widths are \[\]"),
        ("resnet-small", {"norm": "layer"}, "unknown norm layer 'layer'; expected one of none, batch, group"),
        ("resnet-small", {"depth": 3}, "unknown option 'depth' for model 'resnet-small'; expected some of widths, activation, norm"),
        ("vit", {"patch": 3}, "patch is 3; expected a number that divides both sides of images of 8 x 8 pixels"),
        ("vit", {"patch": 16}, r"vit takes images \(C, H, W\) of at least 16 x 16; digits has inputs of shape \(1, 8, 8\)"),
        ("vit", {"dim": 10}, "dim is 10 and heads 3; expected a dim that heads divides"),
        ("vit", {"depth": 0}, "depth is 0; expected at least 1"),
    ],
)
def test_bad_options(digits, name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.build(name, digits, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"hidden": 32}, r"hidden is 32; expected several whole numbers, such as \[32\]"),
        ("mlp", {"hidden": [32.0]}, r"hidden\[0\] is 32.0; expected a whole number"),
        ("resnet-small", {"widths": 64}, "widths is 64; expected several whole numbers"),
        ("cnn", {"width": 1.5}, "width is 1.5; expected a whole number, at least 1"),
        ("vit", {"heads": "3"}, "heads is '3'; expected a whole number, at least 1"),
        ("mlp", {"seed": None}, "seed is None; expected a whole number"),
    ],
)
def test_what_is_no_whole_number_is_refused(digits, name: str, options: dict, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        models.build(name, digits, **options)


def test_numbers_of_numpy_are_numbers(digits) -> None:
    one, other = (models.build("mlp", digits, seed=seed, hidden=hidden) for seed, hidden in ((3, [5]), (np.int64(3), np.array([5]))))
    assert torch.equal(one[2].weight, other[2].weight)


def test_data_that_take_a_gradient_get_none(digits) -> None:
    x = digits.train.x[:20].clone().requires_grad_()
    task = replace(digits, train=Split(x, digits.train.y[:20]))
    model = models.build("cnn", task, width=2)
    assert not any(buffer.requires_grad for buffer in model.buffers())
    training.fit(model, task, training.Recipe("r", "digits", "cnn", "standard", epochs=2, lr=0.01), progress=False)
    assert x.grad is None


@pytest.mark.parametrize("name", ["cnn", "resnet-small", "resnet18", "vit"])
def test_image_models_refuse_vectors(toy, name: str) -> None:
    with pytest.raises(ValueError, match=name + r" takes images .* three-modes has inputs of shape \(2,\)"):
        models.build(name, toy)
