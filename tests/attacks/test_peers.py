"""Our PGD against torchattacks' and foolbox's: same eps, steps and step size on the digits CNN; then the default, on four nets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pagkit import models, training
from pagkit.attacks import Threat, pgd

foolbox = pytest.importorskip("foolbox")
torchattacks = pytest.importorskip("torchattacks")

STEPS = 40
NETS = {
    "mlp": ("digits-standard", {"epochs": 20, "model": "mlp", "model_options": {"hidden": [96]}}),
    "deep mlp": ("digits-standard", {"epochs": 20, "model": "mlp", "model_options": {"hidden": [64, 64], "activation": "silu"}}),
    "cnn": ("digits-standard", {"epochs": 10, "model_options": {"width": 8}}),
    "adversarially trained cnn": ("digits-adversarial-l2", {"epochs": 5, "model_options": {"width": 8}}),
}


@pytest.fixture(scope="module")
def nets(digits) -> list[nn.Module]:
    trained = []
    for name, changes in NETS.values():
        recipe = training.Recipe.load(name, **changes)
        net = models.build(recipe.model, digits, seed=1, **recipe.model_options)
        training.fit(net, digits, recipe, progress=False)
        trained.append(net.eval())
    return trained


def by_torchattacks(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, target: Tensor | None, seed: int = 0) -> Tensor:
    kind = torchattacks.PGDL2 if threat.norm == "l2" else torchattacks.PGD
    attack = kind(model, eps=threat.eps, alpha=2.5 * threat.eps / STEPS, steps=STEPS, random_start=True)
    if target is not None:
        attack.set_mode_targeted_by_label(quiet=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return attack(x, y if target is None else target)


def by_foolbox(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, target: Tensor | None, seed: int = 0) -> Tensor:
    kind = foolbox.attacks.L2PGD if threat.norm == "l2" else foolbox.attacks.LinfPGD
    criterion = foolbox.criteria.Misclassification(y) if target is None else foolbox.criteria.TargetedMisclassification(target)
    attack = kind(abs_stepsize=2.5 * threat.eps / STEPS, steps=STEPS)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return attack.run(foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, criterion, epsilon=threat.eps)


@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.3), ("l2", 0.7), ("linf", 0.05), ("linf", 0.12)])
@pytest.mark.parametrize("targeted", [False, True])
def test_no_weaker_than_the_peers(digits_cnn, digits, norm: str, eps: float, targeted: bool) -> None:
    x, y, threat = digits.test.x[:125], digits.test.y[:125], Threat(norm, eps)
    target = (y + 1) % 10 if targeted else None
    model, step = digits_cnn.eval(), 2.5 * eps / STEPS

    def robust(x_adv: Tensor) -> int:
        return int((model(x_adv).argmax(1) == y).sum())

    ours = robust(pgd(model, x, y, threat, target=target, steps=STEPS, step_size=step))
    for attack in (by_torchattacks, by_foolbox):
        theirs = robust(attack(model, x, y, threat, target))
        assert ours <= theirs + 1, f"{attack.__name__} leaves {theirs}, ours {ours}"


@pytest.mark.parametrize(("norm", "eps", "targeted"), [("l2", 0.5, False), ("l2", 1.0, True), ("linf", 0.1, False), ("linf", 0.2, True)])
def test_the_default_is_no_weaker_than_the_strongest_peer(nets, digits, norm: str, eps: float, targeted: bool) -> None:
    """Mean share that four nets hold, over four seeds: at most 1 of 500 above the best of the peers and of equal steps from x."""
    x, y, threat = digits.test.x[:250], digits.test.y[:250], Threat(norm, eps)
    target = (y + 1) % 10 if targeted else None

    def held(x_adv: Tensor, net: nn.Module) -> float:  # of 500: not led away, or not led to the target
        guess = net(x_adv).argmax(1)
        return 500 * (guess == y if target is None else guess != target).float().mean().item()

    def mean(attack, seeds: int = 4) -> float:
        return sum(held(attack(net, x, y, threat, target, seed), net) for net in nets for seed in range(seeds)) / len(nets) / seeds

    ours = mean(lambda *call: pgd(*call[:4], target=target), seeds=1)  # nothing in it is random
    theirs = {
        "torchattacks": mean(by_torchattacks),
        "foolbox": mean(by_foolbox),
        "equal steps from x": mean(lambda *call: pgd(*call[:4], target=target, step_size=2.5 * eps / STEPS), seeds=1),
    }
    assert ours <= min(theirs.values()) + 1, f"ours {ours}, {theirs}"
