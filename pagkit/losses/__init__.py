"""Objectives: cross-entropy plus terms in the input gradients.

    J(theta) = mean_i CE(f(s_i), y_i) + sum_j weight_j * penalty_j ,

where s_i, what the model sees, is the input x_i itself, or x_i after an attack (Madry et al., ICLR 2018), or x_i with noise (Bishop,
Neural Computation 1995: to second order in its spread, Gaussian noise is a penalty on the slope of the outputs and on their curvature).
Terms are taken at x_i itself.

- ``objectives``: cross-entropy plus terms; the PAG objective
- ``terms``: alignment, slope
- ``gradients``: input gradients, in two forms
- ``convolutions``: convolutions whose input gradients are quick to differentiate
"""

from .convolutions import QuickDoubleBackward
from .gradients import GRADIENTS, cosine, functional_gradients, input_gradients
from .objectives import Objective, PAGLoss, objective, pag_loss
from .terms import SLOPES, Alignment, Slope, Term

__all__ = [
    "GRADIENTS",
    "SLOPES",
    "Alignment",
    "Objective",
    "PAGLoss",
    "QuickDoubleBackward",
    "Slope",
    "Term",
    "cosine",
    "functional_gradients",
    "input_gradients",
    "objective",
    "pag_loss",
]
