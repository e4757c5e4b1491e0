"""Training of classifiers by recipe: standard, adversarial, PAG. It can be stopped at any moment and resumed.

- ``fit``: what a step of each method is
- ``loop``: the loop of every training
- ``state``: all that changes meanwhile
- ``schedules``: learning rates, and the weight of the PAG objective
- ``checkpoints``: the whole state of a training, from which it goes on
- ``processes``: several processes that train together, and their devices
"""

from ..recipe import Recipe, recipe_names
from .fit import fit
from .loop import TrainingDiverged
from .schedules import SCHEDULES
from .state import History

__all__ = ["SCHEDULES", "History", "Recipe", "TrainingDiverged", "fit", "recipe_names"]
