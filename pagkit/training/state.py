"""All that changes while a model is trained: what a checkpoint holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..data.defaults import plain_defaults

Tensors = tuple[Tensor, ...] | list[Tensor]  # what torch's foreach functions take


@dataclass
class History:
    """One entry an epoch: mean loss (total), its parts (alignment over the steps with PAG, nan for an epoch without any; slope is empty
    without that term), last lr and weight.

    ``seconds`` is the wall time of the whole training, ``cpu_seconds`` that of the processor cores, which other work on the machine
    disturbs less; both without what a stop has lost. A diffusion model's loss has no parts.
    """

    total: list[float] = field(default_factory=list)
    cross_entropy: list[float] = field(default_factory=list)
    alignment: list[float] = field(default_factory=list)
    slope: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass
class State:
    """All that changes while a model is trained: what a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None  # of the weights
    generator: torch.Generator
    good: dict[str, Tensor]  # weights at the end of the last good epoch
    history: History = field(default_factory=History)
    step: int = 0  # steps done
    order: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64, device="cpu"))  # of the examples, in this epoch
    sums: Tensor = field(default_factory=lambda: torch.zeros((), device="cpu"))  # of the losses, in this epoch
    unmeasured: Tensor = field(default_factory=lambda: torch.zeros((), device="cpu"))  # examples whose steps had no such part of the loss

    def content(self) -> dict[str, Any]:
        nets = {name: part.state_dict() for name, part in self._stateful().items()}
        rest = {name: getattr(self, name) for name in ("good", "step", "order", "sums", "unmeasured")}
        return {**nets, **rest, "generator": self.generator.get_state(), "history": asdict(self.history)}

    def restore(self, content: dict[str, Any]) -> None:
        for name, part in self._stateful().items():
            part.load_state_dict(content[name])
        for name in ("good", "step", "order", "sums"):
            setattr(self, name, content[name])
        self.unmeasured = content.get("unmeasured", self.unmeasured)  # older checkpoints have none
        self.generator.set_state(content["generator"])
        self.history = History(**content["history"])

    def _stateful(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "average": self.average}
        return {name: part for name, part in parts.items() if part is not None}


@plain_defaults()
def warm_average(model: nn.Module, decay: float) -> AveragedModel:
    """A running average of the weights that starts short: in step n = 0, 1, ... its decay is ``min(decay, (1 + n) / (10 + n))``, and 0 in
    the first, so that little is left of the initial weights."""

    def mix(average: Tensors, new: Tensors, steps: Tensor | int) -> None:
        if not average[0].is_floating_point():  # all of them have one dtype
            torch._foreach_copy_(average, new)
            return
        n = int(steps) - 1  # asked once for all of them: a GPU is waited for here
        share = 1 - (min(decay, (1 + n) / (10 + n)) if n else 0.0)
        apart = torch._foreach_mul(torch._foreach_sub(average, new), share)
        torch._foreach_copy_(average, torch._foreach_sub(average, apart))

    averaged = AveragedModel(model, multi_avg_fn=mix, use_buffers=True)
    averaged.n_averaged += 1  # counts from one: at zero the weights would be copied, which is the same but for rounding
    return averaged


@plain_defaults()
def average(model: nn.Module, decay: float) -> AveragedModel:
    """A running average of the weights with a constant decay a step. Whole numbers, such as an index in a buffer, are not averaged."""
    blend = get_ema_multi_avg_fn(decay)

    def mix(average: Tensors, new: Tensors, steps: Tensor | int) -> None:
        if average[0].is_floating_point():
            blend(average, new, steps)
        else:
            torch._foreach_copy_(average, new)

    return AveragedModel(model, multi_avg_fn=mix, use_buffers=True)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights as they are now."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
