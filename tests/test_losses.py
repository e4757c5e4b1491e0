"""Objectives: the PAG objective, the slope, their sums; gradients, limits, estimates, and numerical edge cases."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from pagkit.losses import Alignment, Slope, cosine, functional_gradients, input_gradients, objective, objectives, pag_loss
from pagkit.targets import sample_classes


@pytest.fixture
def case() -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 7), nn.SiLU(), nn.Linear(7, 4)).double()
        x, y = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
        directions, classes = torch.randn(6, 4, 5, dtype=torch.float64), torch.arange(4).expand(6, 4)
    return model, x, y, directions, classes


@pytest.mark.parametrize("of", ["log_prob", "logit"])
def test_gradcheck(case, of: str) -> None:
    model, x, y, directions, classes = case
    names, values = zip(*model.named_parameters(), strict=True)

    def total(*parameters: torch.Tensor) -> torch.Tensor:
        with_parameters = lambda z: functional_call(model, dict(zip(names, parameters, strict=True)), (z,))  # noqa: E731
        return pag_loss(with_parameters, x, y, directions, classes, weight=0.7, of=of).total

    assert torch.autograd.gradcheck(total, tuple(v.detach().clone().requires_grad_() for v in values))


@pytest.mark.parametrize("of", ["log_prob", "logit"])
def test_is_the_formula(case, of: str) -> None:
    """Against the definition, one sample, one class, one plain gradient at a time."""
    model, x, y, directions, classes = case
    cosines = []
    for i in range(6):
        for c in range(4):
            z = x[i : i + 1].clone().requires_grad_()
            out = model(z).log_softmax(1)[0, c] if of == "log_prob" else model(z)[0, c]
            (g,) = torch.autograd.grad(out, z)
            cosines.append(F.cosine_similarity(g.flatten(), directions[i, c], dim=0))
    loss = pag_loss(model, x, y, directions, classes, weight=0.3, of=of)
    expected = F.cross_entropy(model(x), y) + 0.3 * (1 - torch.stack(cosines)).view(6, 4).sum(1).mean()
    assert torch.allclose(loss.total, expected)
    assert torch.allclose(loss.alignment, torch.stack(cosines).mean())


@pytest.mark.parametrize("of", ["log_prob", "logit"])
@pytest.mark.parametrize("attacked", [False, True])
def test_the_functional_form_has_the_same_loss_and_gradients(case, of: str, attacked: bool, monkeypatch) -> None:
    """What torch.compile is given, run as it is."""
    model, x, y, directions, classes = case
    monkeypatch.setattr(objectives, "_compiled", lambda: objectives._measure)
    how = {"weight": 0.7, "of": of, "attacked": x + 0.1 if attacked else None}
    found = []
    for compiled in (False, True):
        loss = pag_loss(model, x, y, directions[:, :3], classes[:, :3], **how, compiled=compiled)
        found.append([*loss, *torch.autograd.grad(loss.total, list(model.parameters()))])
    assert all(torch.allclose(one, other, rtol=1e-9) for one, other in zip(*found, strict=True))


def five_lines(model: nn.Module, x: torch.Tensor, y: torch.Tensor, weight: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The slope penalty as chapter 15 teaches it: the loss, and the penalty without its weight."""
    x = x.detach().clone().requires_grad_()
    each = F.cross_entropy(model(x), y, reduction="none")
    (g,) = torch.autograd.grad(each.sum(), x, create_graph=True)
    penalty = g.flatten(1).square().sum(1).mean()
    return each.mean() + weight * penalty, penalty


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_the_slope_is_the_five_lines(case, precision: torch.dtype) -> None:
    model, x, y = case[0].to(precision), case[1].to(precision), case[2]
    total, penalty = five_lines(model, x, y, 0.7)
    found = objective(model, x, y, [(0.7, Slope())])
    assert torch.equal(found.slope, penalty) and torch.allclose(found.total, total, rtol=4 * torch.finfo(precision).eps)
    assert torch.equal(found.total, found.cross_entropy + 0.7 * penalty) and found.alignment.isnan()
    grads = [torch.autograd.grad(loss, list(model.parameters())) for loss in (total, found.total)]
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(*grads, strict=True))


def test_the_slope_of_the_log_odds_is_that_of_the_loss_over_what_is_left(case) -> None:
    """grad CE = -(1 - p_y) grad log-odds, row by row; a slope knows no sign."""
    model, x, y, *_ = case
    left = 1 - model(x).softmax(1).gather(1, y[:, None]).squeeze(1)
    gradients, _ = input_gradients(model, x, y[:, None])
    by_hand = gradients.flatten(1).square().sum(1)
    assert torch.allclose(objective(model, x, y, [(1.0, Slope("log_odds"))]).slope, by_hand.mean())
    assert torch.allclose(objective(model, x, y, [(1.0, Slope())]).slope, (left.square() * by_hand).mean())


@pytest.mark.parametrize("of", ["loss", "log_odds"])
def test_gradcheck_of_a_sum(case, of: str) -> None:
    model, x, y, directions, classes = case
    names, values = zip(*model.named_parameters(), strict=True)

    def total(*parameters: torch.Tensor) -> torch.Tensor:
        with_parameters = lambda z: functional_call(model, dict(zip(names, parameters, strict=True)), (z,))  # noqa: E731
        return objective(with_parameters, x, y, [(0.3, Alignment(directions, classes)), (0.7, Slope(of))], seen=x + 0.1).total

    assert torch.autograd.gradcheck(total, tuple(v.detach().clone().requires_grad_() for v in values))


def test_a_sum_adds_what_its_terms_add(case) -> None:
    model, x, y, directions, classes = case
    align, slope, seen = Alignment(directions[:, :2], classes[:, :2]), Slope(), x + 0.1
    both = objective(model, x, y, [(0.3, align), (0.7, slope)], seen=seen)
    one, other = (objective(model, x, y, [term], seen=seen) for term in ((0.3, align), (0.7, slope)))
    assert torch.equal(both.cross_entropy, F.cross_entropy(model(seen), y))
    assert torch.equal(both.alignment, one.alignment) and torch.equal(both.slope, other.slope)
    assert torch.allclose(both.total, one.total + other.total - both.cross_entropy)
    assert both.total == objective(model, x, y, [(0.7, slope), (0.3, align)], seen=seen).total
    assert torch.equal(one.total, pag_loss(model, x, y, align.directions, align.classes, weight=0.3, attacked=seen).total)
    none = objective(model, x, y, [(0.0, align), (0.0, slope)], seen=seen)
    assert torch.equal(none.total, both.cross_entropy) and none.alignment.isnan() and none.slope.isnan()


@pytest.mark.parametrize("of", ["loss", "log_odds"])
def test_the_functional_form_of_a_sum(case, of: str, monkeypatch) -> None:
    model, x, y, directions, classes = case
    monkeypatch.setattr(objectives, "_compiled", lambda: objectives._measure)
    terms, found = [(0.3, Alignment(directions, classes)), (0.7, Slope(of))], []
    for compiled in (False, True):
        loss = objective(model, x, y, terms, seen=x + 0.1, compiled=compiled)
        found.append([*loss, *torch.autograd.grad(loss.total, list(model.parameters()))])
    assert all(torch.allclose(one, other, rtol=1e-9) for one, other in zip(*found, strict=True))


def test_the_slope_of_a_sure_model() -> None:
    """Where p_y rounds to 1 the loss has no slope left to pay for; the log-odds keep theirs."""
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]]))
    x, y = torch.tensor([[5.0, 0.0, 0.0]]), torch.tensor([0])
    assert objective(layer, x, y, [(1.0, Slope())]).slope == 0
    assert objective(layer, x, y, [(1.0, Slope("log_odds"))]).slope.item() == pytest.approx(2 * 200**2)


def test_bad_terms(case) -> None:
    model, x, y, directions, classes = case
    for terms, message in (
        ([(-0.1, Slope())], "weight is -0.1; expected a number >= 0"),
        ([(float("nan"), Slope())], "weight is nan; expected a number >= 0"),
        ([(1.0, Slope("logit"))], "of is 'logit'; expected one of loss, log_odds"),
        ([(1.0, Slope()), (2.0, Slope("log_odds"))], "terms are slope, slope; expected at most one of a kind"),
        ([(1.0, Slope()), (1.0, Alignment(directions[:3], classes))], "directions have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            objective(model, x, y, terms)


@pytest.mark.parametrize("terms", [[], [(1.0, Slope())]])
def test_bad_labels(terms: list, case) -> None:
    model, x, y, _, _ = case
    for bad, message in (
        (y - 100, r"labels range over \[-100, -9\d\]; expected values in \[0, "),  # -100 is ignored by torch's cross-entropy
        (y + 2, "labels range over .*; expected values in"),
        (y[:1], rf"y has dtype torch.int64 and shape \(1,\); expected int64 labels \({len(x)},\)"),
        (y.float(), "y has dtype torch.float32"),
    ):
        with pytest.raises(ValueError, match=message):
            objective(model, x, bad, terms)


def test_weight_zero_is_cross_entropy(case) -> None:
    model, x, y, directions, classes = case
    loss = pag_loss(model, x, y, directions, classes, weight=0.0)
    assert torch.equal(loss.total, F.cross_entropy(model(x), y)) and torch.equal(loss.total, loss.cross_entropy)
    assert loss.alignment.isnan()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_k_of_C_is_unbiased(case, k: int) -> None:
    """Over all k-subsets, the mean of the estimate is the full sum, and so is the mean of its gradient."""
    model, x, y, directions, classes = case

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])

    full = pag_loss(model, x, y, directions, classes, weight=0.5).total
    losses = [pag_loss(model, x, y, directions[:, list(s)], classes[:, list(s)], weight=0.5).total for s in combinations(range(4), k)]
    assert torch.allclose(torch.stack(losses).mean(), full)
    assert torch.allclose(torch.stack([gradient(v) for v in losses]).mean(0), gradient(full))


def test_classes_are_sampled_uniformly_without_repeats() -> None:
    picks = sample_classes(4000, 5, 2, torch.Generator().manual_seed(0))
    assert (picks[:, 0] != picks[:, 1]).all()
    assert (picks.flatten().bincount() / 8000 - 0.2).abs().max() < 0.02
    assert torch.equal(sample_classes(2, 3, None), torch.tensor([[0, 1, 2], [0, 1, 2]]))
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"k is {k}; expected 1 to 5 classes"):
            sample_classes(3, 5, k)


def test_a_sure_model_keeps_its_gradient_direction() -> None:
    """Where log p underflows to a gradient of zero, the log-odds form still has the direction."""
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]]))
    x = torch.tensor([[5.0, 0.0, 0.0]], requires_grad=True)
    (plain,) = torch.autograd.grad(layer(x).log_softmax(1)[0, 0], x)
    assert plain.abs().max() == 0
    gradients, _ = input_gradients(layer, x, torch.tensor([[0]]))
    assert cosine(gradients, torch.tensor([[[1.0, -1.0, 0.0]]])).item() == pytest.approx(1)


def test_zero_gradients_and_tiny_gradients() -> None:
    flat = nn.Linear(3, 2)
    nn.init.zeros_(flat.weight)
    x, y, classes = torch.randn(4, 3), torch.tensor([0, 1, 0, 1]), torch.arange(2).expand(4, 2)
    loss = pag_loss(flat, x, y, torch.randn(4, 2, 3), classes, weight=1.0)
    loss.total.backward()
    assert loss.alignment == 0 and all(p.grad.isfinite().all() for p in flat.parameters())
    tiny = torch.tensor([[[1e-25, 2e-25]]])
    assert cosine(tiny, torch.tensor([[[1.0, 2.0]]])).item() == pytest.approx(1)
    assert cosine(torch.zeros(1, 1, 2), tiny).item() == 0


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_input_gradients_where_gradients_are_off(case, context) -> None:
    model, x, y, directions, classes = case
    expected = input_gradients(model, x, classes)
    with context():
        found = input_gradients(model, x.clone(), classes.clone())
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        made = nn.Linear(2, 2)
        if context is torch.inference_mode:
            with pytest.raises(ValueError, match="parameters were made inside torch.inference_mode"):
                input_gradients(made, torch.zeros(1, 2), torch.zeros(1, 1, dtype=torch.int64))


def test_a_model_that_writes_into_its_input_does_not_change_what_is_seen() -> None:
    x, layer = torch.rand(3, 2), nn.Linear(2, 2)
    seen = x.clone()
    objective(lambda z: layer(z.mul_(2)), x.clone(), torch.tensor([0, 1, 0]), [(1.0, Slope())], seen=seen)
    assert torch.equal(seen, x)


def test_nothing_is_left_on_x_or_the_parameters(case) -> None:
    model, x, y, directions, classes = case
    pag_loss(model, x, y, directions, classes, weight=1.0)
    assert not x.requires_grad and all(p.grad is None for p in model.parameters())


def test_bad_calls(case) -> None:
    model, x, y, directions, classes = case
    for change, message in (
        ({"weight": -1.0}, "weight is -1.0"),
        ({"of": "loss"}, "of is 'loss'; expected one of log_prob, logit"),
        ({"directions": directions[:, :2]}, r"directions have shape \(6, 2, 5\); expected \(6, 4, 5\)"),
        ({"classes": classes[:3]}, r"classes have shape \(3, 4\); expected \(6, k\)"),
        ({"classes": classes[:, :0], "directions": directions[:, :0]}, r"classes have shape \(6, 0\); expected \(6, k\) with k at least 1"),
        ({"classes": classes + 1}, r"classes range over \[1, 4\]; expected values in \[0, 4\)"),
    ):
        call = {"directions": directions, "classes": classes, "weight": 1.0, **change}
        with pytest.raises(ValueError, match=message):
            pag_loss(model, x, y, call.pop("directions"), call.pop("classes"), **call)
    with pytest.raises(ValueError, match="the batch is empty; expected at least one row"):
        pag_loss(model, x[:0], y[:0], directions[:0], classes[:0], weight=1.0)


@pytest.mark.parametrize("of", ["logprob", "loss"])
def test_an_unknown_output_is_not_taken_for_a_logit(case, of: str) -> None:
    model, x, y, directions, classes = case
    for call in (
        lambda: input_gradients(model, x, classes, of=of),
        lambda: functional_gradients(model, x, classes, of=of),
        lambda: Alignment(directions, classes, of).outputs(model(x), y),
    ):
        with pytest.raises(ValueError, match=f"of is '{of}'; expected one of log_prob, logit"):
            call()
