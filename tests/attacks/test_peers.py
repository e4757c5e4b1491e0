"""Our PGD against torchattacks' and foolbox's, same eps, steps and step size, on the digits CNN."""

from __future__ import annotations

import pytest
import torch

from pagkit.attacks import Threat, pgd

foolbox = pytest.importorskip("foolbox")
torchattacks = pytest.importorskip("torchattacks")

STEPS = 40


@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.3), ("l2", 0.7), ("linf", 0.05), ("linf", 0.12)])
@pytest.mark.parametrize("targeted", [False, True])
def test_no_weaker_than_the_peers(digits_cnn, digits, norm: str, eps: float, targeted: bool) -> None:
    x, y = digits.test.x[:125], digits.test.y[:125]
    target = (y + 1) % 10 if targeted else None
    model, step = digits_cnn.eval(), 2.5 * eps / STEPS

    def robust(x_adv: torch.Tensor) -> int:
        return int((model(x_adv).argmax(1) == y).sum())

    ours = robust(pgd(model, x, y, Threat(norm, eps), target=target, steps=STEPS, step_size=step))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        attack = {
            "l2": lambda: torchattacks.PGDL2(model, eps=eps, alpha=step, steps=STEPS, random_start=True),
            "linf": lambda: torchattacks.PGD(model, eps=eps, alpha=step, steps=STEPS, random_start=True),
        }[norm]()
        if targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        theirs = robust(attack(x, y if target is None else target))
        assert ours <= theirs + 1, f"torchattacks leaves {theirs}, ours {ours}"

        kind = foolbox.attacks.L2PGD if norm == "l2" else foolbox.attacks.LinfPGD
        criterion = foolbox.criteria.Misclassification(y) if target is None else foolbox.criteria.TargetedMisclassification(target)
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        _, clipped, _ = kind(abs_stepsize=step, steps=STEPS)(wrapped, x, criterion, epsilons=eps)
        theirs = robust(clipped)
        assert ours <= theirs + 1, f"foolbox leaves {theirs}, ours {ours}"
