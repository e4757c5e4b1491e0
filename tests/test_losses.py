"""The PAG objective: gradients, limits, estimates, and numerical edge cases."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from pagkit.losses import cosine, input_gradients, objectives, pag_loss
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
    losses = [
        pag_loss(model, x, y, directions[:, list(s)], classes[:, list(s)], weight=0.5).total for s in combinations(range(4), k)
    ]
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
        ({"classes": classes + 1}, r"classes range over \[1, 4\]; expected values in \[0, 4\)"),
    ):
        call = {"directions": directions, "classes": classes, "weight": 1.0, **change}
        with pytest.raises(ValueError, match=message):
            pag_loss(model, x, y, call.pop("directions"), call.pop("classes"), **call)
