"""Classifiers. Normalisation is the first layer, so every model takes inputs in the task's own bounds.

- ``classifiers``: :func:`build` and the networks that it knows; a new one is added here
- ``layers``: what they are built from
- ``logits``: what is read from a model's output
- ``mode``: training and eval mode, gradients on or off, put back as found
- ``batching``: a split in batches, on the device of a model
- ``weights``: weights on disk
"""

from .batching import batches
from .classifiers import ACTIVATIONS, BUILDERS, build
from .layers import Normalize, refuse_altered
from .logits import NotFinite, gradient_in, log_odds, logits_of, refuse_broken, refuse_other_classes
from .mode import differentiable, gradients_on, mode, ordinary, refuse_inference, seeded
from .weights import halved, load_weights, round_weights, save_weights

__all__ = [
    "ACTIVATIONS",
    "BUILDERS",
    "Normalize",
    "NotFinite",
    "batches",
    "build",
    "differentiable",
    "gradient_in",
    "gradients_on",
    "halved",
    "load_weights",
    "log_odds",
    "logits_of",
    "mode",
    "ordinary",
    "refuse_altered",
    "refuse_broken",
    "refuse_inference",
    "refuse_other_classes",
    "round_weights",
    "save_weights",
    "seeded",
]
