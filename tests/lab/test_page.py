"""A lab as HTML and as a widget: the same at every run, checked when it is made, with something for readers without a script."""

import json
import re

import pytest
import torch
from torch import nn

from pagkit import lab, models
from pagkit.lab import export, page


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


def test_a_lab_refuses_what_it_does_not_know(mlp, toy, digits, nets):
    for options, message in (
        ({"settings": {"epsilon": 1}}, "unknown setting 'epsilon'"),
        ({"presets": {"a": {"loss": "hinge"}}}, "unknown loss 'hinge'"),
        ({"settings": {"net": "two"}}, "unknown net 'two'"),
        ({"norms": ("l1",)}, "unknown norm 'l1'"),
        ({"settings": {"target": 2}}, "unknown target 2; expected one of None, 0, 1"),
        ({"classes": ("only one",)}, "classes has 1 names; 'one' tells 2 classes apart"),
        ({"name": "My lab"}, "becomes an HTML id"),
    ):
        with pytest.raises(ValueError, match=message):
            lab.plane({"one": mlp}, toy.test, **options)
    with pytest.raises(ValueError, match="nets is empty"):
        lab.plane({})
    with pytest.raises(ValueError, match="0 networks; expected one to four"):
        lab.digits({}, digits)
    with pytest.raises(ValueError, match="expected grey square images"):
        lab.digits({"one": mlp}, toy)
    with pytest.raises(ValueError, match="expected two directions of 64"):
        lab.sliced(nets["cnn silu"], digits.test.x[0], torch.ones(2, 3))


def test_the_widget_carries_the_same_lab(mlp, toy):
    pytest.importorskip("anywidget", reason="anywidget is not installed: labs as widgets are not tried")
    made = lab.plane({"one": mlp}, toy.test)
    widget = made.widget()
    assert widget.kind == "plane" and json.dumps(widget.spec) == json.dumps(made.spec)
    assert widget._esm.endswith("export default { render };\n") and not re.search(r"export \{[^}]*\brender\b", widget._esm)
    widget.point, widget.eps, widget.radius = [1.0, 2.0], 3.0, None
    assert {"point", "eps", "radius", "result"} <= set(widget.keys)
