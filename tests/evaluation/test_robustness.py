"""Scores and intervals, accuracies, alignment, metric names."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from pagkit import models, results, targets, training
from pagkit.attacks import Threat, pgd
from pagkit.data import Split, Task
from pagkit.evaluation import (
    Score,
    accuracy,
    alignment,
    attacked,
    autoattack,
    checklist,
    exact_accuracy,
    measure,
    parse_metric,
    portrait,
    robust_accuracy,
    robustness_curve,
    transfer_accuracy,
    worst_case,
)
from pagkit.losses import cosine, input_gradients


def test_wilson_interval_against_published_values() -> None:
    """Newcombe (1998), table I, score method without continuity correction."""
    for right, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):
        score = Score(right, total)
        assert (score.low, score.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
        assert score.low <= score.rate <= score.high
    assert str(Score(1, 4)) == "1/4 = 25.0 % [4.6, 69.9]"
    for bad in ((1, 0), (5, 4), (-1, 4)):
        with pytest.raises(ValueError, match="expected 0 <= correct <= total"):
            Score(*bad)


def test_a_score_knows_which_examples_it_counts() -> None:
    held = torch.tensor([True, False, True, True, False, False, False, False, True])
    score = Score.of(held)
    assert (score.correct, score.total, score.held) == (4, 9, "b080") and score == Score(4, 9) and Score(4, 9).each() is None
    assert torch.equal(score.each(), held) and torch.equal(Score.of(~held).each(), ~held)
    for bad in ("b0", "b08000", "b0c0", "3080", "b081", "b0-8", 5):
        with pytest.raises(ValueError, match="expected 4 hexadecimal digits, 4 of their first 9 bits set and no other"):
            Score(4, 9, bad)


def test_which_examples_are_written_and_read_back(tmp_path) -> None:
    origin = {"data": "", "hardware": "", "threads": 1, "train_seconds": 1.0, "evaluate_seconds": 1.0, "versions": {}, "commit": ""}
    metrics = {"clean": Score.of(held := torch.arange(10) % 3 > 0), "pgd-l2-1": Score(2, 10)}
    results.save(path := tmp_path / "result.json", results.Result("a", "digits", 0, metrics, origin))
    found = results.load(path).metrics
    assert torch.equal(found["clean"].each(), held) and found["pgd-l2-1"].each() is None
    path.write_text(path.read_text().replace(found["clean"].held, "ffff"))
    with pytest.raises(ValueError, match="result.json is not a result file.*held is 'ffff'"):
        results.load(path)


def test_accuracies_agree_with_a_plain_count(digits_cnn, digits) -> None:
    test = digits.test.first(120)
    assert accuracy(digits_cnn, test).correct == int((digits_cnn(test.x).argmax(1) == test.y).sum())
    threat = Threat("l2", 0.4)
    x_adv = pgd(digits_cnn, test.x, test.y, threat, steps=10)
    assert robust_accuracy(digits_cnn, test, threat, steps=10).correct == int((digits_cnn(x_adv).argmax(1) == test.y).sum())
    assert robust_accuracy(digits_cnn, test, Threat("l2", 0.0)) == accuracy(digits_cnn, test)


def test_likeliest_targets_go_on_with_what_the_untargeted_attack_spares(digits_cnn, digits) -> None:
    test, threat = digits.test.first(150), Threat("l2", 0.5)
    plain = robust_accuracy(digits_cnn, test, threat, steps=10)
    counts = [robust_accuracy(digits_cnn, test, threat, steps=10, likeliest=n).correct for n in (0, 1, 4, 9)]
    assert counts[0] == plain.correct and counts == sorted(counts, reverse=True) and counts[-1] < counts[0]
    copies = [pgd(digits_cnn, test.x, test.y, threat, steps=10)]
    logits = digits_cnn(test.x).scatter(1, test.y[:, None], -1e9)
    copies += [pgd(digits_cnn, test.x, test.y, threat, target=goal, steps=10) for goal in logits.topk(2, dim=1).indices.unbind(1)]
    twice = robust_accuracy(digits_cnn, test, threat, steps=10, likeliest=2).correct
    assert abs(twice - worst_case(digits_cnn, test.y, *copies).correct) <= 3  # equal but for the random starts
    with pytest.raises(ValueError, match="likeliest is 10; expected 0 to 9 classes"):
        robust_accuracy(digits_cnn, test, threat, steps=1, likeliest=10)
    with pytest.raises(ValueError, match="likeliest is 1 with a target"):
        robust_accuracy(digits_cnn, test, threat, steps=1, likeliest=1, target=3)


def test_targets_of_a_whole_split(digits_cnn, digits) -> None:
    test, threat = digits.test.first(120), Threat("l2", 1.0)
    one = robust_accuracy(digits_cnn, test, threat, target=3, steps=10).correct
    each = robust_accuracy(digits_cnn, test, threat, target=(test.y + 1) % 10, steps=10).correct
    free = robust_accuracy(digits_cnn, test, threat, steps=10).correct
    assert free <= min(one, each) and one < 120
    with pytest.raises(ValueError, match="target equals the true label on every row"):
        robust_accuracy(digits_cnn, test, threat, target=test.y, batch_size=50)


def test_exact_accuracy_counts_correct_points_beyond_eps(toy) -> None:
    model = models.build("mlp", toy, seed=1, normalize=40.0)
    assert exact_accuracy(model, toy.test, 0.0) == accuracy(model, toy.test)
    counts = [exact_accuracy(model, toy.test, eps).correct for eps in (0.0, 5.0, 20.0, 1e9)]
    assert counts == sorted(counts, reverse=True)
    attacked = robust_accuracy(model, toy.test, Threat("l2", 5.0, toy.bounds), steps=50).correct
    assert attacked >= counts[1], "an attack cannot do better than the exact radius allows"


def test_empty_splits(digits_cnn, digits) -> None:
    empty = Split(digits.test.x[:0], digits.test.y[:0])
    for call in (lambda: accuracy(digits_cnn, empty), lambda: robust_accuracy(digits_cnn, empty, Threat("l2", 0.1))):
        with pytest.raises(ValueError, match="the split is empty"):
            call()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x, y[:, None]), ValueError, r"x has shape \(4, 3\) and y \(4, 1\); expected \(N, \*shape\) and \(N,\)"),
        (lambda x, y: (x[:, 0], y), ValueError, r"x has shape \(4,\) and y \(4,\)"),
        (lambda x, y: (x, y.float()), TypeError, "y has dtype torch.float32; expected torch.int64"),
        (lambda x, y: (x.to(torch.uint8), y), TypeError, "x has dtype torch.uint8; expected a floating-point tensor"),
    ],
)
def test_examples_that_cannot_be_meant(change, error: type[Exception], message: str) -> None:
    split = Split(*change(torch.eye(3)[[0, 1, 2, 0]], torch.tensor([1, 2, 0, 0])))
    task = Task("made", tuple("abc"), (0.0, 1.0), Split(torch.eye(3), torch.arange(3)), split)
    for call in (
        lambda: accuracy(nn.Identity(), split),
        lambda: worst_case(nn.Identity(), split.y, split.x),
        lambda: robust_accuracy(nn.Identity(), split, Threat("l2", 0.1), steps=1),
        lambda: robust_accuracy(nn.Identity(), split, Threat("l2", 0.1), steps=1, target=1),
        lambda: portrait(nn.Identity(), task, directions=1),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("target", [torch.zeros(5, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), [0, 0], 1.0, torch.zeros(4)])
def test_a_target_is_a_class_or_one_for_each_row(target) -> None:
    split = Split(torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ValueError, match=r"target has dtype torch.\w+ and shape \(\d?,?\); expected int64, a class or \(4,\)"):
        robust_accuracy(nn.Identity(), split, Threat("l2", 0.1), target=target, batch_size=2)


def test_alignment_is_the_mean_cosine(digits_cnn, digits) -> None:
    small = type(digits)(digits.name, digits.classes, digits.bounds, digits.train.first(30), digits.test.first(20))
    target = targets.class_mean(digits)
    classes = torch.arange(10).expand(20, 10)
    gradients, _ = input_gradients(digits_cnn, small.test.x, classes)
    expected = cosine(gradients, target(torch.full((20,), -1), small.test.x, classes)).mean().item()
    assert alignment(digits_cnn, small, target) == pytest.approx(expected, abs=1e-5)
    assert -1 <= alignment(digits_cnn, small, targets.nearest_neighbor(digits), split="train") <= 1
    with pytest.raises(ValueError, match="split is 'dev'"):
        alignment(digits_cnn, small, target, split="dev")
    with pytest.raises(ValueError, match="of is 'logprob'; expected one of log_prob, logit"):
        alignment(digits_cnn, small, target, of="logprob")


def test_alignment_with_directions_that_are_nan_is_refused(digits_cnn, digits) -> None:
    broken = targets.GradientTarget("own", lambda index, x, classes: x[:, None].expand(-1, 10, -1, -1, -1) * torch.nan)
    with pytest.raises(ValueError, match="target 'own' gave directions with entries that are nan or infinite; expected finite ones"):
        alignment(digits_cnn, digits, broken)


@pytest.mark.parametrize("eps", [float("nan"), -1.0])
def test_an_exact_radius_that_is_none_is_refused(eps: float, toy) -> None:
    with pytest.raises(ValueError, match=f"eps is {eps}; expected a finite number >= 0"):
        exact_accuracy(nn.Linear(2, 2), toy.test, eps)


def test_a_model_without_parameters_can_be_scored() -> None:
    split = Split(torch.eye(3), torch.arange(3))
    assert accuracy(nn.Identity(), split).correct == 3


def test_metric_names(digits_cnn, digits) -> None:
    assert parse_metric("pgd-l2-0.5") == ("pgd", "l2", 0.5) and parse_metric("exact-l2-15") == ("exact", "l2", 15.0)
    small = type(digits)(digits.name, digits.classes, digits.bounds, digits.train, digits.test.first(40))
    assert measure(digits_cnn, small, "clean") == accuracy(digits_cnn, small.test)
    assert measure(digits_cnn, small, "pgd-linf-0.1", target="next", steps=3).total == 40
    assert parse_metric("autoattack-linf-0.1") == ("autoattack", "linf", 0.1) and parse_metric("square-l2-1") == ("square", "l2", 1.0)
    for bad in ("pgd-l2", "pgd-l2-x", "pgd-l3-1", "cw-l2-1", "exact-linf-1", "autoattack-l1-1", "square-l2", "pgd-l2--1", ""):
        with pytest.raises(ValueError, match=f"unknown metric '{bad}'; expected 'clean', '(pgd|exact|autoattack)-"):
            parse_metric(bad)


@pytest.mark.parametrize(
    ("metric", "options", "message"),
    [
        ("clean", {"stepz": 3}, "unknown option 'stepz' of metric 'clean'; expected none"),
        ("exact-l2-1", {"steps": 3}, "unknown option 'steps' of metric 'exact-l2-1'; expected none"),
        ("apgd-l2-0.5", {"attacks": ["square"]}, "unknown option 'attacks' of metric 'apgd-l2-0.5'; expected some of seed"),
        ("pgd-l2-0.5", {"stepz": 3}, "unknown option 'stepz' of metric 'pgd-l2-0.5'; expected some of keep, likeliest"),
        ("pgd-l2-0.5", {"steps": 2.5}, "metric 'pgd-l2-0.5'.steps is 2.5; expected int, at least 1"),
    ],
)
def test_a_metric_drops_no_option(digits_cnn, digits, metric: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(digits_cnn, digits, metric, **options)


def test_autoattack_and_its_parts_by_name(digits_cnn, digits) -> None:
    pytest.importorskip("pyautoattack")
    small = type(digits)(digits.name, digits.classes, digits.bounds, digits.train, digits.test.first(6))
    threat, options = Threat("l2", 1.0), {"queries": 5, "progress": False}
    assert measure(digits_cnn, small, "autoattack-l2-1", **options) == autoattack(digits_cnn, small.test, threat, **options)
    square = measure(digits_cnn, small, "square-l2-1", **options)
    assert square == autoattack(digits_cnn, small.test, threat, attacks=["square"], **options)
    assert square.correct > measure(digits_cnn, small, "autoattack-l2-1", **options).correct
    few = type(digits)(digits.name, digits.classes, digits.bounds, digits.train, digits.test.first(2))
    apgd = measure(digits_cnn, few, "apgd-l2-1", progress=False)
    assert apgd == autoattack(digits_cnn, few.test, threat, attacks=["apgd-ce", "apgd-t"], progress=False)


def test_robustness_curve_carries_broken_examples_over(digits_cnn, digits) -> None:
    test, eps = digits.test.first(100), [0.8, 0.0, 0.4, 0.2, 0.8]
    curve = robustness_curve(digits_cnn, test, "l2", eps, steps=5)
    assert robustness_curve(digits_cnn, test, "l2", torch.tensor(eps, dtype=torch.float64), steps=5) == curve
    assert curve[1] == accuracy(digits_cnn, test) and curve[0] == curve[4]
    assert curve[0].correct < curve[2].correct < curve[3].correct < curve[1].correct
    assert curve[3] == robust_accuracy(digits_cnn, Split(test.x, test.y), Threat("l2", 0.2), steps=5), "the first is attacked in full"

    class FarIsSafe(nn.Module):  # inputs that moved by more than 0.5 are read as label 1
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            far = (x > 0.5).float()
            return torch.cat([0.2 - x, x - 0.2], 1) * (1 - 2 * far)

    split = Split(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    options = {"steps": 1, "random_start": False, "keep": "last"}
    alone = [robust_accuracy(FarIsSafe(), split, Threat("linf", e), step_size=e, **options).correct for e in (0.1, 0.3, 0.8)]
    curve = robustness_curve(FarIsSafe(), split, "linf", [0.1, 0.3, 0.8], step_size=0.8, **options)
    assert alone == [3, 0, 3] and [score.correct for score in curve] == [3, 0, 0]
    with pytest.raises(ValueError, match="eps is -1"):
        robustness_curve(digits_cnn, test, "l2", [-1.0])
    with pytest.raises(ValueError, match="takes no target"):
        robustness_curve(digits_cnn, test, "l2", [0.1], target=3)


def test_worst_case_counts_rows_right_on_every_copy() -> None:
    x, y = torch.eye(4), torch.arange(4)
    one, two = x[[1, 1, 2, 3]], x[[0, 1, 3, 3]]
    assert [worst_case(nn.Identity(), y, *copies).correct for copies in ((x,), (one,), (x, two), (one, two))] == [4, 3, 3, 2]
    with pytest.raises(ValueError, match="no attacked copy is given"):
        worst_case(nn.Identity(), y)
    with pytest.raises(ValueError, match="x has 3 rows and y has 4"):
        worst_case(nn.Identity(), y, x, one[1:])


@pytest.fixture(scope="module")
def small_cnn(digits) -> nn.Module:
    """Another network for the digits, three quarters right."""
    model = models.build("cnn", digits, seed=1, width=8)
    training.fit(model, digits, training.Recipe.load("digits-standard", epochs=3, seed=1), progress=False)
    return model


def test_transfer_is_weaker_than_white_box_and_stronger_than_nothing(digits_cnn, small_cnn, digits) -> None:
    test, threat = digits.test.first(100), Threat("linf", 0.15)
    white, transfer = robust_accuracy(digits_cnn, test, threat), transfer_accuracy(digits_cnn, small_cnn, test, threat)
    assert white.correct < transfer.correct < accuracy(digits_cnn, test).correct
    assert transfer.correct < transfer_accuracy(digits_cnn, small_cnn, test, threat, keep="worst").correct
    assert transfer_accuracy(digits_cnn, digits_cnn, test, threat).correct <= white.correct + 2
    assert transfer_accuracy(digits_cnn, small_cnn, test, Threat("linf", 0.0)) == accuracy(digits_cnn, test)


class Rounded(nn.Module):
    """Five levels of grey: the gradient is zero almost everywhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model((4 * x).round() / 4)


class Reversed(Rounded):
    """The same, on a gentle slope the other way: the gradient is nowhere zero, and wrong."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model((4 * x).round() / 4 - 1e-3 * x)


class Decoy(Rounded):
    """Loud logits and one class more, which is always the runner-up: the margin to it never changes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = 100 * self.model(x)
        return torch.cat([logits, logits.amax(1, keepdim=True) - 0.1], dim=1)


def test_checklist_passes_an_honest_model(digits_cnn, small_cnn, digits) -> None:
    table = checklist(digits_cnn, digits.test.first(60), Threat("l2", 0.5), surrogate=small_cnn, queries=50, progress=False)
    assert len(table.checks) == 10 and table.failed == (), str(table)
    assert "no gradient is zero" in str(table) and "<td>pass</td>" in table._repr_html_()


@pytest.mark.parametrize(("front", "rows"), [(Rounded, {3, 4, 5, 8, 9}), (Reversed, {3, 4, 5, 9}), (Decoy, {3, 4, 7, 8, 9})])
def test_checklist_fails_a_masked_model(digits_cnn, digits, front: type[Rounded], rows: set[int]) -> None:
    model, test = front(digits_cnn), digits.test.first(40)
    assert accuracy(model, test).correct >= 36, "as good as the model behind it"
    table = checklist(model, test, Threat("l2", 1.0), surrogate=digits_cnn, steps=20, queries=50, progress=False)
    assert rows <= set(table.failed), str(table)


def test_checklist_says_what_it_could_not_run(linear, digits_cnn, digits, monkeypatch) -> None:
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    split = Split(x, linear(x).argmax(1))
    free = (-float("inf"), float("inf"))
    table = checklist(linear, split, Threat("l2", 0.3, free), progress=False)
    assert [check.verdict for check in table.checks] == [*["pass"] * 4, "not run", *["pass"] * 5]
    for dtype in (torch.float64, torch.float16):  # 100 times these logits is more than float16 holds
        twin = models.build("mlp", digits)
        nn.init.constant_(twin[-1].bias, 1000)
        part = Split(digits.test.x[:5].to(dtype), digits.test.y[:5])
        assert checklist(twin.to(dtype), part, Threat("l2", 0.3), steps=2, progress=False).checks[4].verdict == "not run"
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    table = checklist(digits_cnn, digits.test.first(5), Threat("l2", 0.3), steps=5, progress=False)
    assert table.checks[4].verdict == "not run" and "neither Square nor a surrogate" in table.checks[4].figure
    with pytest.raises(ValueError, match="eps is 0; expected a positive radius"):
        checklist(linear, split, Threat("l2", 0.0, free))


def test_a_model_with_other_classes_than_the_data_is_refused(digits) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 12))
    with pytest.raises(ValueError, match="the model gave logits of 12 classes; expected 10, as the data have"):
        alignment(other, digits, targets.class_mean(digits))
    with pytest.raises(ValueError, match="the model gave logits of 12 classes; expected 10, as the data have"):
        alignment(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits, targets.teacher(digits, other))
    with pytest.raises(TypeError, match="the model is 'softmax'; expected a torch.nn.Module"):
        accuracy(torch.softmax, digits.test)


class Bands(nn.Module):
    """Three bands along the first coordinate: class 0 below 0.325, then 1, and 2 above 0.675."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -100 * torch.stack([(x[:, 0] - middle) ** 2 for middle in (0.15, 0.5, 0.85)], 1)


def test_what_is_wrong_at_x_withstands_no_attack() -> None:
    """Towards class 2 the last point lies in class 1, the label; x itself does not."""
    split = Split(torch.tensor([[0.25, 0.5], [0.1, 0.5], [0.2, 0.5]]), torch.ones(3, dtype=torch.int64))
    for keep in ("worst", "last"):
        assert robust_accuracy(Bands(), split, Threat("l2", 0.3), target=2, keep=keep, progress=False).correct == 0


class Doubled(nn.Module):
    """Log-likelihoods in float64 of inputs in float32, with a large common part."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -((x.double()[:, None] - torch.eye(3, 20).double()) ** 2).sum(2) / 2 - 1e8


def test_what_a_model_says_in_float64_is_compared_in_float64() -> None:
    x = torch.rand(200, 20, generator=torch.Generator().manual_seed(0))
    split = Split(x, Doubled()(x).argmax(1))
    assert accuracy(Doubled(), split).correct == 200
    assert robust_accuracy(Doubled(), split, Threat("l2", 1e-6), steps=2, progress=False).correct == 200
    assert robust_accuracy(Doubled(), split, Threat("l2", 1.0), steps=10, progress=False).correct < 20


def test_float64_logits_under_autoattack() -> None:
    pytest.importorskip("pyautoattack")
    x = torch.rand(30, 20, generator=torch.Generator().manual_seed(0))
    split, how = Split(x, Doubled()(x).argmax(1)), {"attacks": ["apgd-ce", "fab"], "progress": False}
    assert autoattack(Doubled(), split, Threat("l2", 2e-5), **how).correct == 30
    assert autoattack(Doubled(), split, Threat("l2", 1.0), **how).correct < 3


def test_a_model_may_say_everything_in_one_tensor() -> None:
    net, said = nn.Linear(4, 3), torch.empty(10, 3)
    x = torch.rand(40, 4, generator=torch.Generator().manual_seed(0))

    class Bound(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            said[: len(x)] = net(x).detach()
            return said[: len(x)]

    assert accuracy(Bound(), Split(x, net(x).argmax(1)), batch_size=10).correct == 40


def test_exact_radii_are_refused_where_inputs_have_bounds() -> None:
    x, y = torch.rand(6, 2), torch.tensor([0, 1] * 3)
    net, split = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), Split(x, y)
    task = Task("boxed", ("a", "b"), (0.0, 1.0), split, split)
    with pytest.raises(ValueError, match=r"'exact-l2-0.5' on inputs with bounds \(0.0, 1.0\); expected none"):
        measure(net, task, "exact-l2-0.5")


class Thin(nn.Module):
    """Reads label 1 beyond x1 = 0.3, and has no gradient that leads there."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        beyond = (x[:, 0] > 0.3).float()
        return torch.stack([1 - beyond, beyond], 1) + 0 * x.sum(1, keepdim=True)


@pytest.mark.parametrize("batch_size", [4, 3, 1])
def test_offsets_belong_to_the_rows_of_the_split(batch_size: int) -> None:
    split, threat = Split(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)), Threat("l2", 0.5, (-9.0, 9.0))
    offsets = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.4, 0.0], [0.0, 0.0]])
    how = {"batch_size": batch_size, "progress": False, "steps": 1}
    for score in (
        robust_accuracy(Thin(), split, threat, offsets=offsets, **how),
        robust_accuracy(Thin(), split, threat, offsets=offsets, likeliest=1, **how),
        *robustness_curve(Thin(), split, "l2", [0.4, 0.5], bounds=(-9.0, 9.0), offsets=offsets, **how),
    ):
        assert score.each().tolist() == [True, True, False, True]
    with pytest.raises(ValueError, match=r"offsets have shape \(3, 2\); expected \(4, 2\)"):
        attacked(Thin(), split, threat, offsets=offsets[:3], **how)


def test_what_was_attacked_carries_no_graph() -> None:
    split = Split(torch.zeros(4, 2, requires_grad=True), torch.tensor([0, 0, 1, 1]))
    moved = attacked(Thin(), split, Threat("l2", 0.1), target=1, batch_size=2, progress=False)  # the second batch is the target already
    assert not moved.x.requires_grad


def test_an_interval_holds_its_own_rate() -> None:
    """Rounding left 0 of 3 and 4 of 4 outside by an ulp, and bars cannot have whiskers of a negative length."""
    for total in range(1, 300):
        for right in (0, total // 2, total):
            assert 0 <= (score := Score(right, total)).low <= score.rate <= score.high <= 1
    assert (Score(0, 3).low, Score(4, 4).high) == (0.0, 1.0)


@pytest.mark.parametrize(("counts", "found"), [((9.5, 10), "correct is 9.5"), ((True, 1), "correct is True"), ((1, "2"), "total is '2'")])
def test_counts_are_whole(counts: tuple, found: str) -> None:
    with pytest.raises(ValueError, match=f"{found}; expected a whole number"):
        Score(*counts)
