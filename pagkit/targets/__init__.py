"""Ground-truth gradient directions g(x, c): which way does class c lie from x?

Only the cosine with a direction is ever used, so any positive factor in front of it is free.

- ``target``: :class:`GradientTarget`, what every source gives
- ``heuristics``: one image, class mean, nearest neighbour
- ``controls``: directions with something missing, and those of another model
- ``scores``: the principled source, the score of a diffusion model
- ``named``: sources by name; a new one is entered there
- ``stored``: directions in a file
"""

from .controls import control, teacher
from .heuristics import class_mean, nearest_neighbor, one_image
from .named import MODELS, TARGETS, build
from .scores import score_based
from .target import GradientTarget, sample_classes

__all__ = [
    "MODELS",
    "TARGETS",
    "GradientTarget",
    "build",
    "class_mean",
    "control",
    "nearest_neighbor",
    "one_image",
    "sample_classes",
    "score_based",
    "teacher",
]
