"""Gradients of a model's outputs in its inputs: written for reading, and in a form that torch.compile follows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..data.rows import unit
from ..models import gradient_in, gradients_on, log_odds, logits_of, ordinary

GRADIENTS = ("log_prob", "logit")
Outputs = Callable[[Tensor], list[Tensor]]  # logits (B, C) -> k outputs (B,), of which each row depends on its own input only


def input_gradients(
    model: nn.Module, x: Tensor, classes: Tensor, *, of: str = "log_prob", create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Gradients in x of the chosen classes' outputs, up to a positive factor, and the logits.

    One forward pass is shared; each of the k columns of ``classes`` (B, k) costs one backward pass.

    Returns:
        gradients (B, k, *shape) and logits (B, C).

    Raises:
        ValueError: an unknown ``of``, ``classes`` of a wrong shape or out of range; parameters that were made inside ``inference_mode``.
    """
    check_classes(classes, x)
    with torch.inference_mode(False):
        (own,) = ordinary(classes)
    return gradients(model, x, lambda logits: columns(logits, own, of), create_graph=create_graph)


def functional_gradients(model: nn.Module, x: Tensor, classes: Tensor, *, of: str = "log_prob") -> tuple[Tensor, Tensor]:
    """:func:`input_gradients` with ``create_graph``, written with ``torch.func.vjp``, in which torch.compile follows a double backward.

    The model must not change its buffers in the forward pass, as BatchNorm in training mode does. Errors as there.
    """
    check_classes(classes, x)
    return functional(model, x, lambda logits: columns(logits, classes, of))


def gradients(model: nn.Module, x: Tensor, outputs: Outputs, *, create_graph: bool) -> tuple[Tensor, Tensor]:
    """Gradients in x (B, k, *shape) of outputs of the logits, and the logits (B, C): one forward pass, k backward passes."""
    with gradients_on(model):
        x = ordinary(x.detach())[0].requires_grad_()
        logits = logits_of(model, x, finite=False)
        sums = [output.sum() for output in outputs(logits)]
        found = [
            gradient_in(x, out, create_graph=create_graph, retain_graph=create_graph or i + 1 < len(sums))
            for i, out in enumerate(sums)
        ]
    return torch.stack(found, dim=1), logits


def functional(model: nn.Module, x: Tensor, outputs: Outputs) -> tuple[Tensor, Tensor]:
    """:func:`gradients` with ``create_graph``, for torch.compile."""

    def stacked(x: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(x).to(x.dtype)  # autocast gives another
        return torch.stack(outputs(logits), dim=1), logits

    values, pull, logits = torch.func.vjp(stacked, x, has_aux=True)  # type: ignore[misc]  # typed as if it gave two of these or three
    each = torch.eye(values.shape[1], dtype=values.dtype, device=values.device)
    return torch.stack([pull(one.expand_as(values))[0] for one in each], dim=1), logits


def columns(logits: Tensor, classes: Tensor, of: str) -> list[Tensor]:
    """What is differentiated for each column of classes (B, k), (B,) each; ``of`` is one of :data:`GRADIENTS`."""
    one_of(of, GRADIENTS)
    if not torch.compiler.is_compiling() and (classes.min() < 0 or classes.max() >= logits.shape[1]):
        raise ValueError(f"classes range over [{classes.min()}, {classes.max()}]; expected values in [0, {logits.shape[1]})")
    return [log_odds(logits, own) if of == "log_prob" else logits.gather(1, own[:, None])[:, 0] for own in classes.unbind(1)]


def one_of(of: str, known: tuple[str, ...]) -> None:
    if of not in known:
        raise ValueError(f"of is {of!r}; expected one of {', '.join(known)}")


def check_classes(classes: Tensor, x: Tensor) -> None:
    if classes.ndim != 2 or len(classes) != len(x) or classes.shape[1] == 0:
        raise ValueError(f"classes have shape {tuple(classes.shape)}; expected ({len(x)}, k) with k at least 1")


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of a and b (B, k, *shape) over all but the first two axes, (B, k); 0 where either is zero."""
    return (unit(a.flatten(2)) * unit(b.flatten(2))).sum(-1)
