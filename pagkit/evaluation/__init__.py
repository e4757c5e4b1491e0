"""Verdicts: what a model gets right, clean and under attack, and how far that can be trusted.

- ``intervals``: :class:`Score`, a count with its 95 % Wilson interval; the t interval of a mean
- ``attacked``: a whole split, read and attacked batch by batch
- ``robustness``: clean, robust, exact and worst-case accuracy
- ``metrics``: metrics by name, and the alignment of gradients with directions
- ``portrait``: margin, slope and place of the gradient, without any attack
- ``masking``: the checklist of gradient masking
- ``tables``: tables of text and HTML
"""

from .attacked import attacked, correct
from .intervals import Score, t_interval, wilson
from .masking import Check, Checklist, checklist
from .metrics import alignment, measure, parse_metric
from .portrait import Portrait, portrait
from .robustness import accuracy, autoattack, exact_accuracy, robust_accuracy, robustness_curve, transfer_accuracy, worst_case
from .tables import Board, Table

__all__ = [
    "Board",
    "Check",
    "Checklist",
    "Portrait",
    "Score",
    "Table",
    "accuracy",
    "alignment",
    "attacked",
    "autoattack",
    "checklist",
    "correct",
    "exact_accuracy",
    "measure",
    "parse_metric",
    "portrait",
    "robust_accuracy",
    "robustness_curve",
    "t_interval",
    "transfer_accuracy",
    "wilson",
    "worst_case",
]
