"""Experiments: a recipe's run, from data to result.

- ``runs``: :func:`run`, :func:`train` and :func:`evaluate`
- ``kept``: what a folder keeps of a run, and what may not be written over
- ``asked``: what a recipe asks for, found by name, fitted to its data, and refused before any work where it is not here
- ``rehearsed``: all that a recipe trains and measures, tried in small before any work
- ``trained``: models that help, trained as their own runs would train them, and the directions that they give
- ``measured``: what a recipe measures of a trained model
"""

from .kept import RECIPE, RESULT, WEIGHTS, result_name
from .runs import evaluate, run, train
from .trained import target

__all__ = ["RECIPE", "RESULT", "WEIGHTS", "evaluate", "result_name", "run", "target", "train"]
