"""The networks stored with the book: as good as their header says, and the same in the page as in PyTorch."""

import dataclasses
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


@pytest.fixture
def tiny() -> data.Task:
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return data.Task("digits", ("a", "b"), (0.0, 1.0), data.Split(x, torch.arange(4) % 2), data.Split(x, torch.arange(4) % 2))


def made(**changes) -> training.Recipe:
    return training.Recipe.load("digits-standard", **{"model": "mlp", "model_options": {}, **changes})


def test_what_float16_cannot_hold_is_refused_and_not_saved_as_infinite(tmp_path, tiny):
    path, model = tmp_path / "one.safetensors", models.build("mlp", tiny)
    with torch.no_grad():
        model[2].bias[0] = 1e5
    before = model[2].bias.clone()
    for weights in ("float16", "int8"):
        with pytest.raises(ValueError, match="2.bias has numbers up to 100000; expected finite ones of at most 65504"):
            stored.save(path, model, made(), {}, weights=weights)
    with pytest.raises(ValueError, match="2.bias has numbers up to 100000"):
        stored.halved(model)
    assert torch.equal(model[2].bias, before) and not path.exists()
    for weights in ("float32", "foo"):
        with pytest.raises(ValueError, match=f"unknown weights '{weights}'; expected 'float16' or 'int8'"):
            stored.save(path, models.build("mlp", tiny), made(), {}, weights=weights)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_norm_layers_are_kept_too_in_int8(tmp_path, tiny, norm):
    options = {"widths": [8], "norm": norm}
    model = models.build("resnet-small", tiny, **options).eval()
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(70_000)  # float16 ends before
    stored.save(tmp_path / "one.safetensors", model, made(model="resnet-small", model_options=options), {}, weights="int8")
    again = lab.load(tmp_path / "one.safetensors", tiny).state_dict()
    for name, value in model.state_dict().items():
        assert torch.allclose(again[name], value, atol=0.01), name
    assert (norm == "batch") == any(name.endswith("num_batches_tracked") and value == 70_000 for name, value in again.items())


def test_a_folder_counts_by_the_last_part_of_its_path_and_held_out_examples_by_their_number(tmp_path, tiny):
    def loads(name: str, **changes: object) -> bool:
        path = tmp_path / "one.safetensors"
        stored.save(path, models.build("mlp", tiny), made(**changes), {})
        try:
            lab.load(path, dataclasses.replace(tiny, name=name))
        except ValueError as error:
            assert "was trained on" in str(error)
            return False
        return True

    for task in ("folder:/data/pics", "folder:pics", "folder:~/pics", "folder:/data/other/../pics"):
        assert loads("folder:pics", task=task) and not loads("folder:others", task=task) and not loads("pics", task=task)
    held = {"holdout": 300}
    assert loads("digits+holdout=300", data=held) and loads("digits", data=held)
    assert not loads("digits+holdout=200", data=held) and not loads("digits+holdout=300")  # which it was trained on
    assert loads("folder:pics+holdout=300", task="folder:/data/pics", data=held)


def test_inputs_and_classes_that_do_not_fit_are_refused_in_words(tmp_path, tiny):
    stored.save(tmp_path / "one.safetensors", models.build("mlp", tiny), made(), {})
    large = data.Split(torch.zeros(4, 1, 9, 9), tiny.train.y)
    for task, shape, count in (
        (dataclasses.replace(tiny, train=large, test=large), "1, 9, 9", 2),
        (dataclasses.replace(tiny, classes=("a", "b", "c")), "1, 8, 8", 3),
    ):
        with pytest.raises(ValueError, match=rf"does not fit; expected a network for inputs of shape \({shape}\) and {count} classes"):
            lab.load(tmp_path / "one.safetensors", task)
