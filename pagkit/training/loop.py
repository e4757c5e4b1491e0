"""The loop of every training: what is trained brings the loss of some rows, and everything else is here.

Steps over shuffled rows, schedules, an average of the weights, gradient accumulation, several processes, checkpoints, a stop when the
loss is not finite, a progress bar and a log.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..data import progress_bar
from ..data.defaults import plain_defaults
from ..models import gradients_on, mode, refuse_inference
from ..recipe import Recipe
from . import checkpoints, processes
from .schedules import SCHEDULES, ramp
from .state import History, State, snapshot

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {  # the names that recipes know
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda params, **options: torch.optim.SGD(params, momentum=0.9, **options),
}
Draw = Callable[[Tensor, float, torch.Generator], dict[str, Tensor]]  # (rows (B,), weight, generator) -> what is drawn for each, (B, ...)
Loss = Callable[..., Any]  # (weight=, **a part of what was drawn) -> the loss, or a named tuple of its parts, total first; means over rows


class TrainingDiverged(FloatingPointError):
    """The loss became nan or infinite. The model holds the weights of the end of the last good epoch."""


class Loop:
    """A training that has been started: with ``run_dir`` its folder is claimed, what lies there is restored, a checkpoint written.

    Args:
        model: trained in place, on the device that its parameters are on.
        recipe: epochs, batch size, optimizer, schedules, seed.
        averaged: a running average of the model's weights, which it holds at the end; None: no average.
        about: what the training belongs to, see :func:`pagkit.training.checkpoints.about`; called only with ``run_dir``.
        run_dir, resume, checkpoint_seconds, log: as in :func:`pagkit.training.fit`.

    Raises:
        ValueError, OSError: as :func:`pagkit.training.fit`, where checkpoints do not fit or cannot be written, and for parameters that were
            made inside ``torch.inference_mode``.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        *,
        averaged: AveragedModel | None,
        about: Callable[[], dict[str, Any]],
        run_dir: str | Path | None = None,
        resume: bool = False,
        checkpoint_seconds: float = 120.0,
        log: bool = False,
    ) -> None:
        for name, asked in (("resume", resume), ("log", log)):
            if asked and run_dir is None:
                raise ValueError(f"{name} is True and run_dir is None; expected the folder that holds the checkpoints")
        self.writer = summary_writer() if log and processes.rank() == 0 else None
        refuse_inference(model)
        self.model, self.recipe, self.run_dir, self.checkpoint_seconds = model, recipe, run_dir, checkpoint_seconds
        optimizer = OPTIMIZERS[recipe.optimizer](model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.state = State(model, optimizer, averaged, torch.Generator().manual_seed(recipe.seed), snapshot(model))
        self.about, self.device = None, next(model.parameters()).device
        if run_dir is not None:
            self.about = about()
            if found := checkpoints.claim(run_dir, self.about, resume=resume):
                self.state.restore(found["state"])
        processes.wait()  # before the first file is written, which would look like one to resume from
        self._save()

    def run(
        self,
        examples: int,
        draw: Draw,
        loss: Loss,
        *,
        tell: Callable[[str], None] | None = None,
        stop: Callable[[], bool] | None = None,
        progress: bool = True,
    ) -> History:
        """Train to the end, or until it is to ``stop``.

        Args:
            examples: how many rows there are.
            draw: all that is random in a step over some rows, each tensor with one entry a row.
            loss: of the rows, or some of them, from what was drawn: a scalar, or a named tuple of scalars.
            tell, stop, progress: as in :func:`pagkit.training.fit`.

        Raises:
            TrainingDiverged: a loss that is not finite; says at which step, and restores the last good epoch's weights.
        """
        model, recipe, state, history = self.model, self.recipe, self.state, self.state.history
        batches, stopped = math.ceil(examples / recipe.batch_size), False
        started, cpu_started = time.perf_counter() - history.seconds, time.process_time() - history.cpu_seconds
        logged = self.writer(f"{self.run_dir}/tensorboard", purge_step=state.step // batches + 1) if self.writer else nullcontext()
        with self._training(), logged as writer:
            bar = progress_bar(range(state.step // batches, recipe.epochs), recipe.name, "epoch", show=progress and not processes.rank())
            for epoch in bar:
                if state.step % batches == 0:
                    state.order = torch.randperm(examples, generator=state.generator, device="cpu")
                    state.sums = state.unmeasured = torch.zeros((), device="cpu")
                for rows in state.order.split(recipe.batch_size)[state.step % batches :]:
                    share = state.step / (batches * recipe.epochs)
                    state.optimizer.param_groups[0]["lr"] = recipe.lr * SCHEDULES[recipe.schedule](share)
                    weight = recipe.weight * ramp(share, *recipe.ramp)
                    with plain_defaults():
                        drawn = draw(rows, weight, state.generator)
                    self._seed()
                    parts = self._gradient(drawn, weight, loss, len(rows))
                    state.step += 1
                    if not parts["total"].isfinite():
                        self._give_up(f"the loss became {parts['total'].item()}", epoch)
                    state.optimizer.step()
                    if state.average is not None:
                        state.average.update_parameters(model)
                    found = torch.stack(list(parts.values()))
                    state.sums = state.sums + len(rows) * found.where(known := found.isfinite(), 0)
                    state.unmeasured = state.unmeasured + len(rows) * ~known
                    history.seconds, history.cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
                    stopped = stop is not None and stop()
                    if state.step % batches and (stopped or time.perf_counter() - self.saved >= self.checkpoint_seconds):
                        self._save()
                    if stopped:
                        break
                if state.step % batches:  # stopped within the epoch
                    break
                if not all(p.isfinite().all() for p in model.parameters()):
                    self._give_up("a weight became nan or infinite", epoch)
                state.good = snapshot(model)
                means = dict(zip(parts, (state.sums / (examples - state.unmeasured)).tolist(), strict=True))
                means |= {"lr": state.optimizer.param_groups[0]["lr"], "weight": weight}
                for name, value in means.items():
                    getattr(history, name).append(value)
                self._save()
                self._report(epoch + 1, means, writer, tell)
                bar.set_postfix(loss=f"{means['total']:.3f}", refresh=False)  # a refresh would show the bar before its time
                if stopped:
                    break
        if state.average is not None:
            model.load_state_dict(state.average.module.state_dict())
        return history

    @contextmanager
    def _training(self) -> Iterator[None]:
        """The model as it is trained. On leaving, also by an error or Ctrl-C, it is in the mode it was in, without gradients, its weights
        in the usual order of memory, and the global random state is as before."""
        nets = [self.model] if self.state.average is None else [self.model, self.state.average]
        own = torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])
        try:
            for net in nets if self.recipe.channels_last else []:
                net.to(memory_format=torch.channels_last)
            with gradients_on(self.model), mode(self.model, training=True), own:
                yield
        finally:
            self.state.optimizer.zero_grad(set_to_none=True)
            if self.recipe.channels_last:
                self.model.to(memory_format=torch.contiguous_format)

    def _seed(self) -> None:
        """Seed what a model may draw from, by step and process; torch.manual_seed, for all devices, is slow beside a step of the toy."""
        seed = self.recipe.seed * 2**31 + self.state.step * processes.count() + processes.rank()
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index].manual_seed(seed)

    def _gradient(self, drawn: dict[str, Tensor], weight: float, loss: Loss, size: int) -> dict[str, Tensor]:
        """Leave the gradient of the loss of all rows in the parameters; gives the loss's parts.

        Of the micro-batches of all processes, this one works on its own, and each counts by its share of the rows.
        """
        self.state.optimizer.zero_grad(set_to_none=True)
        first, own = processes.rank() * self.recipe.accumulate, self.recipe.accumulate
        cuts = [rows for rows in torch.arange(size, device="cpu").tensor_split(processes.count() * own)[first : first + own] if len(rows)]
        parts: dict[str, Tensor] = {}
        # a process without rows takes one that counts nothing, for zeros in the right places
        for rows in cuts or [torch.arange(1, device="cpu")]:
            piece = {name: value[rows[0] : rows[-1] + 1] for name, value in drawn.items()}
            with nullcontext() if self.recipe.precision == "float32" else torch.autocast(self.device.type, torch.bfloat16):
                found = loss(weight=weight, **piece)
            found = found._asdict() if hasattr(found, "_asdict") else {"total": found}
            share = len(rows) / size if cuts else 0.0
            (share * found["total"]).backward()
            parts = {name: parts.get(name, 0) + share * value.detach() for name, value in found.items()}
        if processes.count() > 1:
            processes.add([p.grad for p in self.model.parameters() if p.grad is not None])
            processes.add(list(parts.values()))
            processes.copy([buffer for buffer in self.model.buffers() if buffer.is_floating_point()])
        return {name: value.cpu() for name, value in parts.items()}

    def _report(self, epoch: int, means: dict[str, float], writer: Any, tell: Callable[[str], None] | None) -> None:
        if processes.rank() == 0:
            if tell is not None:
                values = ", ".join(f"{name} {value:.4g}" for name, value in means.items() if not math.isnan(value))
                tell(f"{self.recipe.name}: epoch {epoch} of {self.recipe.epochs}, {self.state.history.seconds:.0f} s: {values}")
            if writer is not None:
                for name, value in means.items():
                    if not math.isnan(value):
                        writer.add_scalar(name, value, epoch)

    def _save(self) -> None:
        if self.run_dir is not None and processes.rank() == 0:
            checkpoints.save(self.run_dir, self.state.step, {"about": self.about, "state": self.state.content()})
        self.saved = time.perf_counter()

    def _give_up(self, what: str, epoch: int) -> NoReturn:
        self.model.load_state_dict(self.state.good)
        held = f"those of the end of epoch {epoch}" if epoch else "the initial ones"
        raise TrainingDiverged(f"{what} at step {self.state.step} (epoch {epoch + 1}); the model's weights are {held}")


def summary_writer() -> Callable[..., Any]:
    """TensorBoard's.

    Raises:
        ImportError: it is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("the log is written by TensorBoard, which is not installed; pip install tensorboard") from error
    return SummaryWriter
