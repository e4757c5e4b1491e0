"""A lab as HTML and as a widget: the same at every run, checked when it is made, with something for readers without a script."""

import base64
import dataclasses
import json
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from pagkit import data, lab, models
from pagkit.lab import export, page
from pagkit.models import Normalize
from pagkit.models.layers import ResidualBlock


@pytest.fixture(scope="module")
def mlp(toy):
    return models.build("mlp", toy, hidden=[32], normalize=40)


def test_the_html_is_the_same_at_every_run_and_asks_nothing_of_a_network(mlp, toy, nets, digits):
    for make in (lambda: lab.plane({"one": mlp}, toy.test), lambda: lab.digits({"one": nets["cnn silu"]}, digits)):
        first, second = make(), make()
        assert first.html() == second.html() and first.id == second.id
        assert re.fullmatch(r"lab-(plane|digits)-[0-9a-f]{8}", first.id)
        assert not re.search(r"(src|href)=\"?http|import\(|fetch\(", first.html())
        assert first.html().count("</script>") == 2  # none hides inside the data or the code


def test_a_slice_draws_no_random_numbers(mlp, toy):
    before = torch.get_rng_state()
    lab.sliced(mlp, toy.test.x[0], torch.eye(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_one_lab_of_a_process_brings_the_script_also_when_it_is_shown_again(mlp, toy, monkeypatch):
    monkeypatch.setattr(page, "_carrier", [])
    first, second = (lab.plane({"one": mlp}, toy.test, name=name) for name in ("first", "second"))
    assert 'type="module"' in first._repr_html_() and 'type="module"' not in second._repr_html_()
    assert 'type="module"' in first._repr_html_()
    assert 'data-lab="plane"' in second._repr_html_() and second.id == "lab-plane-second"
    assert repr(first) == "<plane lab: one>"
    assert repr(lab.plane({"one, two": mlp, "three": mlp}, toy.test)) == "<plane lab: one, two; three>"


def test_in_front_of_a_reader_each_lab_brings_the_script_whatever_becomes_of_other_cells(mlp, toy, monkeypatch):
    monkeypatch.setattr(page, "answers", lambda: True)
    first, second, changed = (lab.plane({"one": mlp}, toy.test, settings={"eps": eps})._repr_html_() for eps in (1, 2, 3))
    assert all(html.count('type="module"') == 1 for html in (first, second, changed))
    assert all("globalThis.pagkitLabs ??= { mount };" in html for html in (first, second, changed))  # so that none builds a lab twice


def test_readers_without_a_script_see_a_picture(mlp, toy, nets, digits):
    still = lab.plane({"one": mlp}, toy.test, settings={"point": (10, 20)}).still
    assert "<svg" in still and "exact radius" in still and "with JavaScript" in still
    still = lab.digits({"one": nets["cnn silu"], "two": nets["resnet relu"]}, digits).still
    assert still.count("data:image/png;base64,") == 3 and "two: after the attack it reads" in still


def test_int8_halves_and_rounding_are_what_they_say(nets):
    model = nets["cnn silu"]
    sizes = [export.size_in_bytes(lab.pack(model, (1, 8, 8), weights=w)) for w in ("int8", "float16", "float32")]
    assert sizes[0] < 0.6 * sizes[1] < 0.4 * sizes[2]
    exact, half, byte = (lab.rounded(model, weights=w) for w in ("float32", "float16", "int8"))
    for weight, other in zip(model.parameters(), exact.parameters(), strict=True):
        assert torch.equal(weight, other)
    for weight, other in zip(model.parameters(), half.parameters(), strict=True):
        assert torch.allclose(weight, other, rtol=1e-3, atol=1e-6)
    weight, other = model[1].weight, byte[1].weight
    assert not torch.equal(weight, other)
    assert ((weight - other).flatten(1).abs().amax(1) <= weight.flatten(1).abs().amax(1) / 254 * 1.001).all()
    assert torch.equal(lab.rounded(byte)[1].weight, other) or torch.allclose(lab.rounded(byte)[1].weight, other, rtol=1e-6)


def test_what_a_page_cannot_run_is_refused(digits, nets):
    for bad, message in (
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Tanh()), "cannot export Tanh"),
        (nn.Sequential(nn.Conv2d(1, 2, (3, 5)), nn.Flatten()), "expected a square kernel"),
        (models.build("resnet-small", digits, widths=[8], norm="group"), "cannot export GroupNorm"),
    ):
        with pytest.raises(ValueError, match=message):
            lab.pack(bad, digits.shape)
    with pytest.raises(ValueError, match="unknown weights 'int4'"):
        lab.pack(nets["cnn silu"], digits.shape, weights="int4")
    huge = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        huge[1].weight.fill_(1e6)
    with pytest.raises(ValueError, match="too large for float16"):
        lab.pack(huge, digits.shape, weights="float16")


class Odd(nn.Sequential):
    def forward(self, x):
        return -super().forward(x)


class Double(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked(model: nn.Module) -> nn.Module:
    model.register_forward_hook(lambda module, inputs, output: -output)
    return model


def broken(model: nn.Module, name: str) -> nn.Module:
    model.state_dict()[name][0] = torch.nan
    return model


def patched(model: nn.Module) -> nn.Module:
    model[1].forward = lambda x: x[:, :10]
    return model


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Odd(*linear()), "cannot export Odd; a page runs .* and nothing derived from them"),
        (lambda: nn.Sequential(nn.Flatten(), Double(64, 10)), "cannot export Double"),
        (lambda: hooked(linear()), r"the model \(Sequential\) has a hook"),
        (lambda: nn.Sequential(nn.Flatten(), hooked(nn.Linear(64, 10))), r"the model's 1 \(Linear\) has a hook, .* expected none"),
        (lambda: patched(linear()), r"the model's 1 \(Linear\) was given another forward"),
        (lambda: nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(64, 10))), "has a parametrization of its weight; expected none"),
        (lambda: nn.Sequential(nn.Flatten(2), *linear()), r"cannot export Flatten\(start_dim=2, end_dim=-1\); expected start_dim=1"),
        (lambda: nn.Sequential(nn.Linear(8, 4), nn.Flatten(), nn.Linear(32, 2)), r"of shape \(1, 8, 8\); expected vectors \(8,\)"),
        (lambda: nn.Sequential(nn.Unflatten(2, (4, 2)), *linear()), r"on inputs of shape \(1, 8, 8\); expected dim=1, and vectors"),
        (lambda: nn.Sequential(nn.Conv2d(3, 2, 3)), r"on inputs of shape \(1, 8, 8\); expected images \(3, H, W\)"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3)), r"gives an output of shape \(2, 6, 6\) for each input; expected logits"),
        (lambda: broken(linear(), "1.bias"), "the model's 1.bias has 1 of 10 numbers that are not finite"),
    ],
)
def test_a_page_is_not_given_another_network_than_the_one_that_it_would_run(make: Callable[[], nn.Module], message: str):
    with pytest.raises(ValueError, match=message):
        lab.pack(make(), (1, 8, 8), weights="float32")


def test_what_is_derived_from_a_layer_is_not_that_layer():
    block = ResidualBlock(1, 1, 1, nn.ReLU, lambda channels: nn.Identity())
    kinds = (
        Normalize(torch.zeros(1), torch.ones(1)),
        nn.Flatten(),
        nn.Conv2d(1, 1, 3, padding=1),
        block,
        nn.ReLU(),
        nn.Identity(),
        nn.Dropout(),
    )
    for layer in kinds:
        lab.pack(nn.Sequential(layer, *linear()), (1, 8, 8))
        layer.__class__ = type("Own", (type(layer),), {})
        with pytest.raises(ValueError, match="cannot export Own; a page runs"):
            lab.pack(nn.Sequential(layer, *linear()), (1, 8, 8))


def test_a_rounded_network_is_the_packed_one_or_none():
    with pytest.raises(ValueError, match="has a parametrization of its weight"):
        lab.rounded(nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(64, 10))))
    layers = lab.pack(nn.Sequential(nn.Flatten(), nn.Unflatten(1, (1, -1, 8)), nn.Dropout(), *linear()), (1, 8, 8))["layers"]
    assert [layer["kind"] for layer in layers] == ["flatten", "reshape", "flatten", "dense"] and layers[1]["shape"] == [1, 8, 8]


def test_a_normalisation_is_one_number_for_all_or_one_a_channel_or_one_for_each_number():
    def sizes(mean: torch.Tensor, std: torch.Tensor, shape: tuple[int, ...]) -> tuple[int, int]:
        layer = lab.pack(nn.Sequential(Normalize(mean, std), nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 2)), shape)["layers"][0]
        mean, std = (np.frombuffer(base64.b64decode(layer[key]), "<f4") for key in ("mean", "std"))
        return len(mean), len(std)

    one, three = torch.zeros(1), torch.ones(3, 1, 1)
    assert sizes(one, torch.tensor(40.0), (3, 8, 8)) == (1, 1) and sizes(three, three, (3, 8, 8)) == (3, 3)
    assert sizes(torch.zeros(2), torch.ones(2), (2,)) == (2, 2)
    assert sizes(three, three, (3, 7, 7)) == (147, 147)  # 49 * (1 / 49) is below 1: a page would take the channel before
    assert sizes(one, three, (3, 8, 8)) == (192, 192) and sizes(torch.zeros(8), torch.ones(8), (1, 8, 8)) == (64, 64)


def test_points_keep_their_places_on_a_small_map_and_three_decimals_on_a_large_one(mlp, toy):
    for scale in (1.0, 1e-4):
        few = data.Split(toy.test.x[:9] * scale, toy.test.y[:9])
        box = tuple(scale * side for side in (-75.0, 75.0, -130.0, 130.0))
        shown = torch.tensor(lab.plane({"one": mlp}, few, box=box).spec["points"]["x"])
        rows = few.x[few.x[:, 0].argsort()]
        assert (shown - rows).abs().max() < 5e-5 * (box[3] - box[2])
        assert scale < 1 or torch.equal(shown, torch.tensor([[round(v, 3) for v in row] for row in rows.tolist()]))


def test_a_lab_refuses_what_it_does_not_know(mlp, toy, digits, nets):
    for options, message in (
        ({"settings": {"epsilon": 1}}, "unknown setting 'epsilon'"),
        ({"presets": {"a": {"loss": "hinge"}}}, "unknown loss 'hinge'"),
        ({"settings": {"net": "two"}}, "unknown net 'two'"),
        ({"norms": ("l1",)}, "unknown norm 'l1'"),
        ({"settings": {"target": 2}}, "unknown target 2; expected one of None, 0, 1"),
        ({"norms": ()}, "norms is empty; expected 'l2', 'linf' or both"),
        ({"ranges": {"epsilon": (0, 1, 0.1)}}, "unknown slider 'epsilon' in ranges; expected some of eps, steps, step_size"),
        ({"focus": 7}, "focus is 7; expected one of the 2 classes that every network tells apart, 0 to 1"),
        ({"points": data.Split(toy.test.x, toy.test.y + 5)}, "points have the label [56]; expected one of the 2 classes"),
        ({"box": (1, 1, 0, 2)}, r"box is \(1, 1, 0, 2\); expected \(x1 low, x1 high, x2 low, x2 high\) with low < high"),
        ({"classes": ("only one",)}, "classes has 1 names; 'one' tells 2 classes apart"),
        ({"name": "My lab"}, "becomes an HTML id"),
    ):
        with pytest.raises(ValueError, match=message):
            lab.plane({"one": mlp}, **{"points": toy.test, **options})
    with pytest.raises(ValueError, match="nets is empty"):
        lab.plane({})
    with pytest.raises(ValueError, match="0 networks; expected one to four"):
        lab.digits({}, digits)
    with pytest.raises(ValueError, match="expected grey square images"):
        lab.digits({"one": mlp}, toy)
    with pytest.raises(ValueError, match="expected two directions of 64"):
        lab.sliced(nets["cnn silu"], digits.test.x[0], torch.ones(2, 3))


def test_digits_are_grey_squares_in_0_to_1_and_options_are_read_or_refused(nets, digits):
    def changed(**what: object) -> data.Task:
        return dataclasses.replace(digits, **what)

    def moved(x: torch.Tensor) -> data.Split:
        return data.Split(x, digits.test.y)

    for task, options, message in (
        (changed(bounds=(-1.0, 1.0)), {}, r"in \(-1.0, 1.0\); expected grey square images \(1, side, side\) in \(0.0, 1.0\)"),
        (changed(bounds=(0.0, 16.0)), {}, r"in \(0.0, 16.0\); expected grey square images"),
        (changed(test=moved(digits.test.x * 2)), {"indices": range(9)}, r"images range over \[0, 2\]; expected values in \[0, 1\]"),
        (changed(classes=tuple(map(str, range(257)))), {}, "there are 257 classes; expected at most 256"),
        (digits, {"eps": {"L2": 1.0}}, "unknown norm 'L2' in eps; expected 'l2' or 'linf'"),
        (digits, {"eps": {"l2": 50}}, "eps of 'l2' is 50; expected 0 to 2.5, where its slider ends"),
        (digits, {"target": 99}, "unknown target 99; expected None or the index of a class, 0 to 9"),
        (digits, {"indices": []}, "indices is empty; expected at least one test image"),
        (digits, {"indices": [0, 9999]}, "indices has 9999; expected rows of the 500 test images"),
    ):
        with pytest.raises(ValueError, match=message):
            lab.digits({"one": nets["cnn silu"]}, task, **options)
    assert lab.digits({"one": nets["cnn silu"]}, digits, indices=[3], eps={"l2": 0.7}, steps=1).spec["eps"] == {"l2": 0.7, "linf": 0.1}


def test_the_widget_carries_the_same_lab(mlp, toy):
    pytest.importorskip("anywidget", reason="anywidget is not installed: labs as widgets are not tried")
    made = lab.plane({"one": mlp}, toy.test)
    widget = made.widget()
    assert widget.kind == "plane" and json.dumps(widget.spec) == json.dumps(made.spec)
    assert widget._esm.endswith("export default { render };\n") and not re.search(r"export \{[^}]*\brender\b", widget._esm)
    widget.point, widget.eps, widget.radius = [1.0, 2.0], 3.0, None
    assert {"point", "eps", "radius", "result"} <= set(widget.keys)
