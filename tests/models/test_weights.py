"""Weights in float16: rounded before they are measured, stored in half the space, the same when they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pagkit import data, experiment, models, results
from pagkit.recipe import Recipe


def test_rounded_parameters_are_stored_in_half_the_space_and_nothing_is_lost(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    with torch.no_grad():
        net[2].bias.fill_(1e6)  # beyond float16
    net(torch.randn(4, 8))
    models.round_weights(net)
    models.save_weights(tmp_path / "w.safetensors", models.halved(net.state_dict()))
    stored, again = load_file(tmp_path / "w.safetensors"), nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    assert stored["0.weight"].dtype == torch.float16 and stored["2.bias"].dtype == torch.float32
    assert stored["1.num_batches_tracked"].dtype == torch.int64 and stored["1.running_mean"].dtype == torch.float32
    again.load_state_dict(stored)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


def test_weights_that_are_damaged_are_refused(tmp_path: Path) -> None:
    path, state = tmp_path / "w.safetensors", {"b": torch.arange(8.0), "a": torch.tensor([1, 2])}
    models.save_weights(path, state, {"said": "so"})
    again, about = models.load_weights(path)
    assert about == {"said": "so"} and all(torch.equal(again[name], state[name]) for name in state)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # one bit of one number
    path.write_bytes(content)
    with pytest.raises(ValueError, match="w.safetensors is damaged: its tensors have the digest .*; expected .*, as its header says"):
        models.load_weights(path)
    save_file(state, path)  # by other means: no digest
    assert models.load_weights(path)[1] == {}


def test_what_a_run_measures_is_what_it_keeps(tmp_path: Path) -> None:
    recipe = Recipe.load("digits-standard", epochs=1, metrics={"pgd-l2-0.5": {"steps": 3}}, alignment={}, checklist={})
    result = experiment.run(recipe, out=tmp_path, progress=False)
    state = load_file(tmp_path / "model.safetensors")
    assert state["1.weight"].dtype == torch.float16
    task = data.load("digits", seed=0)
    model = models.build("cnn", task)
    model.load_state_dict(state)
    before = result.metrics
    (tmp_path / "result.json").unlink()
    assert experiment.evaluate(tmp_path, progress=False).metrics == before
    assert results.load(tmp_path / "result.json").metrics == before
