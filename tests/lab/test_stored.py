"""The networks stored with the book: as good as their header says, and the same in the page as in PyTorch."""

import json

import pytest
import torch

from pagkit import data, evaluation, lab, models, training
from pagkit.lab import stored
from tests.helpers import BOOK

from .test_numerics import ask, hold_equal

FILES = sorted(path for path in (BOOK / "labs").glob("*-*.safetensors") if not path.stem.startswith("photo"))  # those: test_photo.py


@pytest.fixture(scope="module")
def tasks() -> dict[str, data.Task]:
    return {"digits": data.load("digits"), "toy": data.load("three-modes", seed=3)}


def opened(path, tasks):
    task = tasks[path.stem.split("-")[0]]
    return lab.load(path, task), task


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_stored_network_is_what_its_header_says(path, tasks):
    net, task = opened(path, tasks)
    about = models.load_weights(path)[1]
    measured = json.loads(about["measured"])
    assert {"recipe", "provenance"} <= set(about) and measured["clean"][0] >= 0.96 * measured["clean"][1]
    exact = {name: value for name, value in measured.items() if name == "clean" or name.startswith("exact")}
    for name, (count, total) in exact.items():
        score = evaluation.measure(net, task, name, progress=False)
        assert score.total == total and abs(score.correct - count) <= 1, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_page_agrees_with_pytorch_on_a_stored_network(path, node, tasks):
    net, task = opened(path, tasks)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(task.test), generator=generator)[:40]
    x, y = task.test.x[rows], task.test.y[rows]
    toy = path.stem.startswith("toy")
    bounds, eps = ([-1e30, 1e30], {"l2": 15, "linf": 8}) if toy else ([0, 1], {"l2": 0.5, "linf": 0.1})
    found = ask(node, {"net": net}, x, y, bounds, "float16", eps)["net"]
    hold_equal(lab.rounded(net, weights="float16"), found, x, y, task.bounds, eps)
    assert all(torch.equal(a, b) for a, b in zip(lab.rounded(net, weights="float16").parameters(), net.parameters(), strict=True))


def test_they_are_small_and_ranked_as_the_book_says(tasks):
    assert len(FILES) == 8 and sum(path.stat().st_size for path in FILES) < 300_000
    held = {path.stem: json.loads(models.load_weights(path)[1]["measured"]) for path in FILES}
    digits = [held[f"digits-{name}"]["autoattack-l2-0.5"][0] for name in ("pag", "noise", "adversarial")]
    assert min(digits) > held["digits-standard"]["autoattack-l2-0.5"][0] + 100
    at_one = {name: held[f"digits-{name}"]["autoattack-l2-1"][0] for name in ("standard", "noise", "pag", "adversarial")}
    assert at_one["adversarial"] > max(at_one["pag"], at_one["noise"]) + 50 and min(at_one["pag"], at_one["noise"]) > at_one["standard"]


def test_the_published_curve_is_flat_from_its_budget_on_and_fifteen_steps_lay_it_on_the_floor(node, tasks):
    net = lab.load(BOOK / "labs" / "toy-pag.safetensors", tasks["toy"])
    spec = lab.plane({"PAG": net}, tasks["toy"].test, name="toy").spec
    script = """
    const net = labs.compile(input.net), survive = (steps, stepSize, eps) => input.x.filter((x, i) =>
      labs.pgd(net, x, input.y[i], { norm: "l2", eps, steps, stepSize, bounds: [-1e30, 1e30] }).read.every((c) => c === input.y[i])).length;
    const answer = [[10, 2, 20], [10, 2, 40], [5, 4, 40], [20, 1, 40], [10, 2, 17.5], [14, 2, 40], [15, 2, 40]].map((a) => survive(...a));
    """
    found = node(script, {"net": spec["nets"]["PAG"]["net"], **spec["points"]})
    assert found[0] == found[1] == found[2] == found[3] < found[4] and found[6] == 0 < found[5] < found[1]


def test_a_file_of_other_data_or_without_a_recipe_is_refused(tmp_path, tasks):
    with pytest.raises(ValueError, match="was trained on 'three-modes'; the task is 'digits'"):
        lab.load(BOOK / "labs" / "toy-pag.safetensors", tasks["digits"])
    recipe = training.Recipe.load("digits-standard", model_options={"width": 4})
    model = stored.halved(models.build("cnn", tasks["digits"], width=4))
    stored.save(tmp_path / "one.safetensors", model, recipe, {"commit": None}, note="made for a test")
    again = lab.load(tmp_path / "one.safetensors", tasks["digits"])
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))
    assert not again.training and models.load_weights(tmp_path / "one.safetensors")[1]["note"] == '"made for a test"'
    models.save_weights(tmp_path / "bare.safetensors", model.state_dict())
    with pytest.raises(ValueError, match="does not say how it was trained"):
        lab.load(tmp_path / "bare.safetensors", tasks["digits"])
