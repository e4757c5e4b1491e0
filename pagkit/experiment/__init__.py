"""Experiments: a recipe's run, from data to result.

- ``runs``: :func:`run`, :func:`train` and :func:`evaluate`
- ``asked``: what a recipe asks for, found by name and refused before any work
- ``measured``: what a recipe measures of a trained model
"""

from .asked import target
from .runs import RECIPE, RESULT, WEIGHTS, evaluate, run, train

__all__ = ["RECIPE", "RESULT", "WEIGHTS", "evaluate", "run", "target", "train"]
