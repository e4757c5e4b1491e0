"""Scores and intervals, accuracies, alignment, metric names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pagkit import models, targets
from pagkit.attacks import Threat, pgd
from pagkit.data import Split
from pagkit.evaluation import Score, accuracy, alignment, exact_accuracy, measure, parse_metric, robust_accuracy
from pagkit.losses import cosine, input_gradients


def test_wilson_interval_against_published_values() -> None:
    """Newcombe (1998), table I, score method without continuity correction."""
    for correct, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):
        score = Score(correct, total)
        assert (score.low, score.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
        assert score.low <= score.rate <= score.high
    assert str(Score(1, 4)) == "1/4 = 25.0 % [4.6, 69.9]"
    for bad in ((1, 0), (5, 4), (-1, 4)):
        with pytest.raises(ValueError, match="expected 0 <= correct <= total"):
            Score(*bad)


def test_accuracies_agree_with_a_plain_count(digits_cnn, digits) -> None:
    test = digits.test.first(120)
    assert accuracy(digits_cnn, test).correct == int((digits_cnn(test.x).argmax(1) == test.y).sum())
    threat = Threat("l2", 0.4)
    x_adv = pgd(digits_cnn, test.x, test.y, threat, steps=10)
    assert robust_accuracy(digits_cnn, test, threat, steps=10).correct == int((digits_cnn(x_adv).argmax(1) == test.y).sum())
    assert robust_accuracy(digits_cnn, test, Threat("l2", 0.0)) == accuracy(digits_cnn, test)


def test_targets_of_a_whole_split(digits_cnn, digits) -> None:
    test, threat = digits.test.first(120), Threat("l2", 1.0)
    one = robust_accuracy(digits_cnn, test, threat, target=3, steps=10).correct
    each = robust_accuracy(digits_cnn, test, threat, target=(test.y + 1) % 10, steps=10).correct
    free = robust_accuracy(digits_cnn, test, threat, steps=10).correct
    assert free <= min(one, each) and one < 120
    with pytest.raises(ValueError, match="target equals the true label on every row"):
        robust_accuracy(digits_cnn, test, threat, target=test.y)


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


def test_a_model_without_parameters_can_be_scored() -> None:
    split = Split(torch.eye(3), torch.arange(3))
    assert accuracy(nn.Identity(), split).correct == 3


def test_metric_names(digits_cnn, digits) -> None:
    assert parse_metric("pgd-l2-0.5") == ("pgd", "l2", 0.5) and parse_metric("exact-l2-15") == ("exact", "l2", 15.0)
    small = type(digits)(digits.name, digits.classes, digits.bounds, digits.train, digits.test.first(40))
    assert measure(digits_cnn, small, "clean") == accuracy(digits_cnn, small.test)
    assert measure(digits_cnn, small, "pgd-linf-0.1", target="next", steps=3).total == 40
    for bad in ("pgd-l2", "pgd-l2-x", "pgd-l3-1", "cw-l2-1", "exact-linf-1", "pgd-l2--1", ""):
        with pytest.raises(ValueError, match=f"unknown metric '{bad}'; expected 'clean', 'pgd-"):
            parse_metric(bad)
