"""Models as other people have them, in every verdict: what cannot be read is refused in one clear sentence, the rest works."""

from __future__ import annotations

import math
import warnings
from collections import UserDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pagkit import attacks, evaluation, targets
from pagkit.attacks import Threat
from pagkit.data import Split, Task
from pagkit.models import batches
from pagkit.models.batching import batch_size

pytest.importorskip("pyautoattack")
L2 = Threat("l2", 0.5)
SHAPE = (3, 8, 8)


class Wrapped(nn.Module):
    """A small linear model of five classes behind ``f(net, x)``."""

    def __init__(self, f: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.f = f
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))

    def forward(self, x: Tensor) -> Any:
        return self.f(self.net, x)


def plain() -> Wrapped:
    return Wrapped(lambda net, x: net(x))


def split(rows: int = 8) -> Split:
    x = torch.rand(rows, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return Split(x, plain()(x).argmax(1))


def task(part: Split) -> Task:
    return Task("made", tuple("abcde"), (0.0, 1.0), part, part)


QUIET = {"progress": False}
OTHER, MEANS = plain(), targets.class_mean(task(Split(split(40).x, torch.arange(40) % 5)))
VERDICTS: dict[str, Callable[[nn.Module, Split], Any]] = {
    "accuracy": lambda m, s: evaluation.accuracy(m, s),
    "correct": lambda m, s: evaluation.correct(m, s),
    "pgd": lambda m, s: attacks.pgd(m, s.x, s.y, L2, steps=2),
    "targeted pgd": lambda m, s: attacks.pgd(m, s.x, s.y, L2, steps=2, target=(s.y + 1) % 5, restarts=2),
    "pgd, last": lambda m, s: attacks.pgd(m, s.x, s.y, L2, steps=2, keep="last"),
    "fgsm": lambda m, s: attacks.fgsm(m, s.x, s.y, Threat("linf", 0.1)),
    "robust accuracy": lambda m, s: evaluation.robust_accuracy(m, s, L2, steps=2, likeliest=2, **QUIET),
    "curve": lambda m, s: evaluation.robustness_curve(m, s, "l2", (0.1, 0.5), steps=2, **QUIET),
    "transfer": lambda m, s: evaluation.transfer_accuracy(m, OTHER, s, L2, steps=2, **QUIET),
    "transfer from it": lambda m, s: evaluation.transfer_accuracy(OTHER, m, s, L2, steps=2, **QUIET),
    "worst case": lambda m, s: evaluation.worst_case(m, s.y, s.x),
    "autoattack": lambda m, s: evaluation.autoattack(m, s, L2, attacks=["apgd-ce", "square"], queries=5, **QUIET),
    "checklist": lambda m, s: evaluation.checklist(m, s, L2, steps=2, queries=5, **QUIET),
    "alignment": lambda m, s: evaluation.alignment(m, task(s), MEANS),
    "metric": lambda m, s: evaluation.measure(m, task(s), "pgd-linf-0.1", steps=2, **QUIET),
}
REFUSED: dict[str, tuple[Callable[[nn.Module, Tensor], Any], type[Exception], str]] = {
    "a tuple": (lambda net, x: (net(x), x), TypeError, "the model gave a tuple; expected logits alone"),
    "a list": (lambda net, x: [net(x)], TypeError, "the model gave a list"),
    "a dict": (lambda net, x: {"logits": net(x)}, TypeError, "the model gave a dict"),
    "a mapping": (lambda net, x: UserDict(logits=net(x)), TypeError, "the model gave a UserDict"),
    "an object": (lambda net, x: SimpleNamespace(logits=net(x)), TypeError, "the model gave a SimpleNamespace with .logits"),
    "an array": (lambda net, x: net(x).detach().numpy(), TypeError, "the model gave a ndarray"),
    "None": (lambda net, x: None, TypeError, "the model gave a NoneType"),
    "whole numbers": (lambda net, x: net(x).argmax(1, keepdim=True).repeat(1, 5), TypeError, "values of dtype torch.int64"),
    "one logit": (lambda net, x: net(x)[:, :1], ValueError, r"shape \(\d+, 1\); expected \(\d+, classes\) with at least 2"),
    "a logit without an axis": (lambda net, x: net(x)[:, 0], ValueError, r"logits of shape \(\d+,\)"),
    "maps": (lambda net, x: net(x)[:, :, None, None], ValueError, r"logits of shape \(\d+, 5, 1, 1\)"),
    "rows apart": (lambda net, x: net(x)[:-1], ValueError, r"logits of shape \(\d+, 5\); expected \(\d+, classes\)"),
    "transposed": (lambda net, x: net(x).T, ValueError, "logits of shape"),
    "nan": (lambda net, x: net(x) * torch.nan, ValueError, r"nan or infinite for (\d+) of \1 inputs"),
    "one nan": (lambda net, x: net(x).where(torch.arange(5) != 3, torch.nan), ValueError, "nan or infinite for"),
    "infinite": (lambda net, x: net(x).where(torch.arange(5) != 3, -torch.inf), ValueError, "nan or infinite for"),
}


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_logits_is_refused_by_every_verdict(kind: str, verdict: str) -> None:
    f, error, message = REFUSED[kind]
    with pytest.raises(error, match=message):
        VERDICTS[verdict](Wrapped(f), split())


def squeezed(net: nn.Module, x: Tensor) -> Tensor:
    return net(x).squeeze()


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_model_that_squeezes_a_batch_of_one_is_refused_there(verdict: str) -> None:
    with pytest.raises(ValueError, match=r"the model gave logits of shape \(5,\); expected \(1, classes\)"):
        VERDICTS[verdict](Wrapped(squeezed), split(1))


def in_place(net: nn.Module, x: Tensor) -> Tensor:
    return net(x.sub_(0.5).mul_(2.0).clamp_(-1, 1))


def autocast(net: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return net(x)


def double(net: nn.Module, x: Tensor) -> Tensor:
    return torch.nn.functional.linear(x.flatten(1).double(), net[1].weight.double(), net[1].bias.double())


def half(net: nn.Module, x: Tensor) -> Tensor:
    return torch.nn.functional.linear(x.flatten(1).bfloat16(), net[1].weight.bfloat16(), net[1].bias.bfloat16())


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("f", [in_place, autocast, double, half])
def test_other_insides_work_and_leave_the_inputs_alone(f: Callable[..., Tensor], verdict: str) -> None:
    part = split()
    before = part.x.clone()
    VERDICTS[verdict](Wrapped(f), part)
    assert torch.equal(part.x, before)


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("order", ["channels last", "permuted", "strided", "expanded"])
def test_other_memory_orders_give_the_same_verdict(order: str, verdict: str) -> None:
    part = split()
    if order == "expanded":
        part = Split(part.x[:1].clone(), part.y[:1])
        part, other = Split(part.x.repeat(8, 1, 1, 1), part.y.repeat(8)), part.x.expand(8, *SHAPE)
    elif order == "channels last":
        other = part.x.to(memory_format=torch.channels_last)
    elif order == "permuted":
        other = part.x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    else:
        other = part.x.repeat_interleave(2, dim=3)[..., ::2]
    assert torch.equal(other, part.x)
    one, two = (VERDICTS[verdict](plain(), Split(x, part.y)) for x in (part.x, other))
    if isinstance(one, Tensor):
        assert torch.allclose(one, two.contiguous(), atol=1e-6)
    else:
        assert str(one) == str(two)


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("switch", [torch.inference_mode, torch.no_grad])
def test_inside_inference_mode_the_verdict_is_the_same(switch: Callable[[], Any], verdict: str) -> None:
    model, outside = plain(), VERDICTS[verdict](plain(), split())
    with switch():
        inside = VERDICTS[verdict](model, split())
    assert str(inside) == str(outside)
    assert not any(p.is_inference() or p.grad is not None for p in model.parameters())


def test_a_model_made_inside_inference_mode_is_refused_with_the_way_out() -> None:
    part = split()
    with torch.inference_mode():
        model = plain()
        for attack in ("pgd", "autoattack", "checklist", "alignment"):
            with pytest.raises(ValueError, match="parameters were made inside torch.inference_mode; expected one built or loaded outside"):
                VERDICTS[attack](model, part)
        assert evaluation.accuracy(model, part).correct == 8
        large = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())  # of inputs whose batch is measured first
        assert evaluation.accuracy(large, Split(torch.rand(3, 3, 300, 300), torch.arange(3))).total == 3


@pytest.mark.parametrize("how", ["detached", "numpy", "no_grad", "constant"])
def test_a_model_that_cannot_be_differentiated_is_refused_and_square_reads_it(how: str) -> None:
    forwards = {
        "detached": lambda net, x: net(x.detach()),
        "numpy": lambda net, x: torch.from_numpy(net(x).detach().numpy() * 1),
        "no_grad": torch.no_grad()(lambda net, x: net(x)),
        "constant": lambda net, x: net[1].bias.expand(len(x), -1),
    }
    model, part = Wrapped(forwards[how]), split()
    bias = model.net[1].bias.detach().clone()
    for attack in ("pgd", "targeted pgd", "autoattack", "checklist", "alignment"):
        with pytest.raises(ValueError, match="the model cannot be differentiated: its logits have no gradient in its input"):
            VERDICTS[attack](model, part)
    evaluation.measure(model, task(part), "square-l2-0.5", queries=5, progress=False)
    assert torch.equal(model.net[1].bias, bias), "nothing writes into the model's own numbers"


class Edges(nn.Module):
    """Reads the sizes of differences between neighbours: their square root has no derivative at 0, where autograd gives nan."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.read = nn.Linear(168, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(((x[:, :, 1:] - x[:, :, :-1]) ** 2).sqrt().flatten(1))


@pytest.mark.filterwarnings("ignore:AutoAttack says")
def test_a_gradient_that_is_nan_fabricates_no_verdict_and_is_counted() -> None:
    x = split(12).x
    x[:6, :, :4] = 0
    model, tiny = Edges(), Threat("l2", 2e-5)
    part = Split(x, model(x).argmax(1))
    with pytest.warns(RuntimeWarning, match="6 of 12 inputs had gradients with entries that are nan or infinite; these moved nothing"):
        x_adv = attacks.pgd(model, x, part.y, tiny, steps=3)
    assert x_adv.isfinite().all() and (x_adv - x).abs().max() <= 2e-5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert evaluation.robust_accuracy(model, part, tiny, **QUIET).correct == 12
        assert evaluation.autoattack(model, part, tiny, queries=20, **QUIET).correct == 12
        table = evaluation.checklist(model, part, L2, steps=3, queries=5, **QUIET)
    assert (table.checks[9].verdict, table.checks[9].figure) == ("fail", "6 of 12 with an entry that is nan or infinite")
    with pytest.warns(RuntimeWarning, match="6 of 12 inputs had gradients"):
        assert -1 <= evaluation.alignment(model, task(part), MEANS) <= 1
    with pytest.warns(RuntimeWarning, match="6 of 12 inputs had gradients with entries that are nan or infinite; these count as 0"):
        assert all(map(math.isfinite, evaluation.portrait(model, task(part), directions=5).figures().values()))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_model_that_draws_gets_the_same_verdict_again_and_leaves_the_random_state(verdict: str) -> None:
    noisy, found = Wrapped(lambda net, x: net(x + 0.3 * torch.randn_like(x))), []
    for _ in range(2):
        torch.rand(3)
        before = torch.get_rng_state()
        found.append(str(VERDICTS[verdict](noisy, split(40))))
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]


def test_labels_out_of_range_are_refused_by_every_verdict() -> None:
    for verdict, call in VERDICTS.items():
        if verdict not in ("targeted pgd", "alignment"):
            with pytest.raises(ValueError, match=r"labels range over \[0?-?\d+, 5\]; expected values in \[0, 5\)"):
                call(plain(), Split(split().x, torch.full((8,), 5)))


@pytest.mark.parametrize(
    ("f", "said"),
    [
        (lambda net, x: net(x + 0.5 * torch.randn_like(x)), "randomized defense"),
        (lambda net, x: net(x).softmax(1), "probability distribution"),
    ],
)
def test_what_autoattack_warns_of_reaches_the_caller(f: Callable[..., Tensor], said: str) -> None:
    with pytest.warns(RuntimeWarning, match=f"AutoAttack says: .*{said}"):
        evaluation.autoattack(Wrapped(f), split(), Threat("l2", 0.1), queries=5, **QUIET)


@pytest.mark.filterwarnings("ignore:AutoAttack says")
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("rows", [1, 8])
def test_tied_logits_do_not_stop_autoattack(norm: str, rows: int) -> None:
    part = Split(split(rows).x, torch.zeros(rows, dtype=torch.int64))
    assert evaluation.autoattack(Wrapped(lambda net, x: net(x) * 0), part, Threat(norm, 0.1), queries=5, **QUIET).correct == rows


def test_the_batch_of_every_evaluation_can_be_set() -> None:
    sizes: list[int] = []
    model = Wrapped(lambda net, x: (sizes.append(len(x)), net(x))[1])
    part, how = split(8), {"batch_size": 3}
    many, toy = {**how, "steps": 2, **QUIET}, task(part)
    evaluation.accuracy(model, part, **how)
    evaluation.robust_accuracy(model, part, L2, likeliest=2, **many)
    evaluation.robustness_curve(model, part, "l2", (0.1, 0.5), **many)
    evaluation.transfer_accuracy(model, model, part, L2, **many)
    evaluation.worst_case(model, part.y, part.x, **how)
    evaluation.autoattack(model, part, L2, queries=5, **how, **QUIET)
    evaluation.checklist(model, part, L2, queries=5, surrogate=model, **many)
    evaluation.alignment(model, toy, MEANS, **how)
    evaluation.measure(model, toy, "square-l2-0.1", queries=5, **how, **QUIET)
    assert max(sizes) == 3
    with pytest.raises(ValueError, match="batch_size is 0; expected at least 1"):
        evaluation.accuracy(model, part, batch_size=0)


def test_the_default_batch_is_as_large_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Split(torch.rand(600, 3, 32, 32), torch.zeros(600, dtype=torch.int64))
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 32 * 32, 2))
    assert batch_size(net, part) == 500
    assert batch_size(nn.Sequential(nn.Flatten(), nn.Linear(3072, 2048), nn.SiLU(), nn.Linear(2048, 2)), part) == 500, "weights are no rows"
    monkeypatch.setattr("pagkit.models.batching.MEMORY_CPU", 2**21)
    state = torch.get_rng_state()
    size = batch_size(net, part)
    kept = 4 * (3 + 2 * 8) * 32 * 32  # bytes a row: the input, the convolution's output and the activation's
    assert 0.5 * 2**21 / kept <= size <= 1.5 * 2**21 / kept
    assert [len(rows) for rows, *_ in batches(net, part)][0] == size and torch.equal(torch.get_rng_state(), state)
