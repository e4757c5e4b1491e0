"""Models: shapes, seeds, normalisation first, options refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pagkit import models


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {}),
        ("mlp", {"hidden": [8, 8], "activation": "gelu"}),
        ("cnn", {"width": 4, "activation": "relu"}),
        ("resnet18", {"norm": "group"}),
        ("resnet18", {"activation": "silu"}),
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


def test_mode_is_restored_for_each_submodule() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    model[1].eval()
    with models.mode(model, training=True):
        assert model[1].training
    assert model.training and model[0].training and not model[1].training


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg", {}, "unknown model 'vgg'; expected one of mlp, cnn, resnet18"),
        ("cnn", {"depth": 3}, "unknown option 'depth' for model 'cnn'; expected some of width, activation, normalize"),
        ("mlp", {"activation": "tanh"}, "unknown activation 'tanh'; expected one of relu, silu, gelu"),
        ("mlp", {"hidden": []}, r"hidden is \[\]"),
        ("mlp", {"normalize": -1.0}, "normalize is -1.0; expected"),
        ("resnet18", {"norm": "layer"}, "unknown norm layer 'layer'"),
    ],
)
def test_bad_options(digits, name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.build(name, digits, **options)


def test_image_models_refuse_vectors(toy) -> None:
    with pytest.raises(ValueError, match=r"cnn takes images .* three-modes has inputs of shape \(2,\)"):
        models.build("cnn", toy)
