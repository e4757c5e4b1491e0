"""The dial: stored frames under one or two sliders, as HTML, in a browser, as a widget; and what it refuses."""

import base64
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pagkit import lab

from .visit import Visit

LEVELS, WHO = [0, 50, 150, 500, 999], ["four", "nine", "three"]
SAYS = [[f"the {who} under noise {t}" for who in WHO] for t in LEVELS]


def frames() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "noised": torch.rand(5, 3, 8, 8, generator=generator),
        "difference": torch.randn(5, 3, 8, 8, generator=generator).mul(torch.logspace(-3, 3, 5).view(5, 1, 1, 1)),
    }


def two(**options: object) -> lab.Lab:
    options = {"says": SAYS, "signed": ("difference",), "name": "two", **options}
    return lab.dial(frames(), {"noise level t": LEVELS, "digit": WHO}, **options)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Two dials on one page, light and dark: two sliders with curves, and one slider alone."""
    signal = torch.linspace(1, 0, 5)
    first = two(curves={"signal": signal, "cosine": signal[:, None] * torch.tensor([1.0, 0.5, 0.25])})
    second = lab.dial({"r": frames()["noised"][:, 0]}, {"bandwidth h": [0.03, 0.1, 0.3, 1.0, 3.0]}, says=["a mean"] * 5, name="one")
    folder = tmp_path_factory.mktemp("dials")
    paths = {theme: folder / f"{theme}.html" for theme in ("light", "dark")}
    for theme, path in paths.items():
        path.write_text(lab.document(first, second, title="Two dials", theme=theme), encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def opened(browser, pages):
    opened = Visit(browser, pages["light"], has_touch=True)
    yield opened
    opened.context.close()
    assert opened.complaints == [] and opened.requests == [pages["light"].as_uri()]


@pytest.fixture
def visit(opened):
    """The page with both dials where they began."""
    opened.lab("lab-dial-two", "lab.set({at: [2, 0]})")
    opened.lab("lab-dial-one", "lab.set({at: [2]})")
    return opened


def state(visit: Visit, which: str = "two") -> dict:
    return visit.lab(f"lab-dial-{which}", "({frame: lab.frame, values: lab.values, says: lab.says})")


def test_the_html_is_the_same_at_every_run_light_and_without_a_network():
    first, second = two(), two()
    assert first.html() == second.html() and first.id == "lab-dial-two" and repr(first) == "<dial lab: noise level t, digit>"
    assert two(name=None).id == two(name=None).id != two(name=None, start=(0, 0)).id
    assert len(first.html(script=False)) < 20_000 and "http" not in first.html(script=False)
    stored = np.frombuffer(base64.b64decode(first.spec["pictures"][0]["frames"]), np.uint8).reshape(5, 3, 8, 8)
    assert np.abs(stored / 255 - frames()["noised"].numpy()).max() <= 0.5 / 255 + 1e-6


def test_a_signed_frame_is_scaled_to_its_own_largest_entry():
    stored = np.frombuffer(base64.b64decode(two().spec["pictures"][1]["frames"]), np.uint8).astype(int).reshape(15, 64) - 128
    assert (np.abs(stored).max(1) == 127).all() and (stored < 0).any(1).all()
    nothing = lab.dial({"d": torch.zeros(2, 4, 4)}, {"t": [0, 1]}, says=["a", "b"], signed=("d",))
    assert set(base64.b64decode(nothing.spec["pictures"][0]["frames"])) == {128}


def test_large_places_are_written_out_and_small_curves_are_not_rounded_to_nothing():
    made = lab.dial(
        {"p": torch.zeros(6, 4, 4)},
        {"t": [0.000146780, 0.5, 999.9, 1000, 1001, 1234]},
        says=["a"] * 6,
        curves={"small": torch.arange(6) * 1e-5, "usual": torch.linspace(0, 0.123456, 6)},
    )
    assert made.spec["dials"]["t"]["texts"] == ["0.000147", "0.5", "999.9", "1000", "1001", "1234"]
    assert made.spec["curves"]["small"] == [0, 1e-5, 2e-5, 3e-5, 4e-5, 5e-5]
    assert made.spec["curves"]["usual"] == [0, 0.0247, 0.0494, 0.0741, 0.0988, 0.1235]


def test_keys_finger_and_buttons_turn_it(visit):
    page, slider = visit.page, visit.page.get_by_role("slider", name="noise level t")
    assert state(visit) == {"frame": 6, "values": [150, "four"], "says": "the four under noise 150"}
    slider.press("ArrowRight")
    assert state(visit)["values"] == [500, "four"] and slider.get_attribute("aria-valuetext") == "500. the four under noise 500"
    slider.press("Home")
    assert state(visit)["values"] == [0, "four"]
    page.get_by_role("radio", name="three").press("Space")
    assert state(visit) == {"frame": 2, "values": [0, "three"], "says": "the three under noise 0"}
    told = page.locator("#lab-dial-two .lab-readout")
    assert told.text_content() == "noise level t = 0, digit: three. the three under noise 0" and told.get_attribute("aria-live") == "polite"
    box = slider.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    assert state(visit)["values"] == [999, "three"] and told.get_attribute("aria-live") == "off"
    page.get_by_role("slider", name="bandwidth h").press("End")
    assert state(visit, "one")["values"] == [3.0] and state(visit)["frame"] == 14


def test_what_is_drawn_is_what_was_stored(visit):
    spec = two().spec["pictures"]
    for at in ([0, 0], [3, 1]):
        visit.lab("lab-dial-two", "lab.set({at: given})", at)
        for i, picture in enumerate(spec):
            stored = base64.b64decode(picture["frames"])[64 * (3 * at[0] + at[1]) :][:64]
            assert visit.lab("lab-dial-two", "lab.pixels(given)", i) == list(stored)
        drawn = "[...document.querySelectorAll('#lab-dial-two canvas')].map((c) => [...c.getContext('2d').getImageData(0, 0, 8, 8).data])"
        grey, signed = visit.page.evaluate(drawn)
        assert grey[::4] == grey[1::4] == visit.lab("lab-dial-two", "lab.pixels(0)")
        up = [v > 128 for v in visit.lab("lab-dial-two", "lab.pixels(1)")]
        assert all((red > 200) == more for red, more, alpha in zip(signed[::4], up, signed[3::4], strict=True) if alpha > 128)
    visit.complaints[:] = [text for text in visit.complaints if "willReadFrequently" not in text]  # it is this test that reads


def test_the_curves_mark_the_place(visit):
    curve = visit.page.locator("#lab-dial-two .lab-curve")
    visit.lab("lab-dial-two", "lab.set({at: [0, 1]})")
    assert curve.get_attribute("aria-label") == "Curves over noise level t; at 0: signal 1, cosine 0.5."
    assert curve.locator("circle").count() == 2 and curve.locator("polyline").count() == 2
    assert visit.page.locator("#lab-dial-one .lab-curve").count() == 0


def test_narrow_and_dark_without_a_sideways_scroll_and_without_a_script(browser, pages):
    papers = set()
    for theme, width in (("light", 360), ("dark", 360), ("dark", 1200)):
        opened = Visit(browser, pages[theme], width)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width and opened.ready < 1000
        sides = opened.page.evaluate("[...document.querySelectorAll('canvas')].map((c) => c.getBoundingClientRect().width)")
        assert min(sides) >= 110 and max(sides) <= 240
        papers.add(opened.page.evaluate("getComputedStyle(document.querySelector('.pagkit-lab')).backgroundColor"))
        assert opened.complaints == []
        opened.context.close()
    assert len(papers) == 2
    opened = Visit(browser, pages["light"], java_script_enabled=False)
    assert opened.page.locator("#lab-dial-two img").count() == 2 and opened.page.locator("#lab-dial-two img").first.is_visible()
    assert opened.page.get_by_text("noise level t = 150, digit: four. the four under noise 150 This is one setting").is_visible()
    opened.context.close()


def test_where_every_lab_brings_the_script_each_is_built_once(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(lab.page, "answers", lambda: True)  # as in a notebook that was saved in front of a reader
    dials = [lab.dial({"p": torch.zeros(2, 4, 4)}, {"t": [1, 2]}, says=["a", "b"], name=name) for name in ("one", "two", "two-again")]
    (tmp_path / "page.html").write_text(f"<!doctype html>{''.join(one._repr_html_() for one in dials)}", encoding="utf-8")
    opened = Visit(browser, tmp_path / "page.html")
    opened.page.wait_for_function("document.querySelectorAll('[data-ready]').length === 3")
    assert opened.page.locator(".lab-readout").count() == 3 and opened.complaints == []
    opened.context.close()


def test_axe_finds_nothing_serious(visit):
    axe = pytest.importorskip("axe_playwright_python", reason="axe is not installed: accessibility is not checked")
    visit.page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = visit.page.evaluate("axe.run(document).then((r) => r.violations.map((v) => `${v.id} (${v.impact}): ${v.nodes[0].html}`))")
    assert found == []


def test_a_notebook_reads_and_sets_it(visit):
    script = """async ([code, spec]) => {
      const labs = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
      const values = { kind: "dial", spec, point: [], eps: null };
      const model = { get: (k) => values[k], set: (k, v) => { values[k] = v; }, save_changes() {}, off() {} };
      model.on = (_, f) => { model.f = f; };
      const el = document.body.appendChild(document.createElement("div"));
      labs.default.render({ model, el });
      const first = [...values.point];
      values.point = [480, 2];
      model.f();
      el.remove();
      return { first, point: values.point, result: values.result };
    }"""
    found = visit.page.evaluate(script, [lab.script.code(), two().spec])
    assert found["first"] == [150, 0] and found["point"] == [500, 2]
    assert found["result"] == {"frame": 11, "values": [500, "three"], "says": "the three under noise 500"}
    visit.requests[:] = [url for url in visit.requests if not url.startswith("blob:")]


def test_the_widget_carries_the_same_dial():
    pytest.importorskip("anywidget", reason="anywidget is not installed: labs as widgets are not tried")
    widget = two().widget()
    assert widget.kind == "dial" and widget.spec == two().spec


REFUSED = [
    ({"pictures": {}}, "pictures is empty"),
    ({"dials": {}}, "there are 0 dials; expected one or two"),
    ({"dials": {"t": [0, 1, "two", 3, 4]}}, r"the dial 't' has the places \[0, 1, 'two', 3, 4\]; expected numbers alone, or words alone"),
    ({"dials": {"t": [0, 1, 2, 3, math.inf]}}, "the dial 't' has the place inf; expected finite numbers"),
    ({"dials": {"t": [1]}}, "the dial 't' has 1 places; expected at least two"),
    ({"pictures": {"x": torch.zeros(4, 8, 8)}}, r"the frames of 'x' have shape \(4, 8, 8\); expected \(5, H, W\)"),
    ({"pictures": {"x": torch.zeros(5, 1, 8, 8)}}, r"expected \(5, H, W\)"),
    ({"pictures": {"x": torch.full((5, 8, 8), math.nan)}}, "a frame of 'x' is not finite"),
    ({"pictures": {"x": torch.full((5, 8, 8), 1.5)}}, r"'x' ranges over \[1.5, 1.5\]; expected values in \[0, 1\]"),
    ({"pictures": {"x": torch.zeros(5, 200, 200)}}, "expected at most 150000: store fewer or smaller frames"),
    ({"signed": ("y",)}, "unknown signed picture 'y'; expected some of x"),
    ({"says": ["a"] * 4}, r"says has 4 entries of \[1\]; expected 5 sentences"),
    ({"start": (5,)}, r"start is \[5\]; expected an index for each dial, below \(5,\)"),
    ({"start": (1, 1)}, "expected an index for each dial"),
    ({"curves": {"c": torch.zeros(4)}}, r"the curve 'c' has shape \(4,\); expected \(5,\)"),
    ({"curves": {"c": torch.full((5,), math.inf)}}, "the curve 'c' is not finite"),
    ({"curves": {name: torch.zeros(5) for name in "abc"}}, "there are 3 curves; expected at most two"),
    ({"name": "My dial"}, "becomes an HTML id"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_it_refuses_what_does_not_fit(change, message):
    options = {"pictures": {"x": torch.zeros(5, 8, 8)}, "dials": {"t": LEVELS}, "says": ["a"] * 5, **change}
    with pytest.raises(ValueError, match=message):
        lab.dial(options.pop("pictures"), options.pop("dials"), **options)
