"""What can be known exactly: the decision boundary of a small network, and the scores of the three-modes toy.

- ``boundaries``: boundary and radius of a two-layer ReLU network on the plane
- ``scores``: scores of the toy under the noise of a DDPM
"""

from .boundaries import Pieces, boundary, pieces, radius
from .scores import ALPHA_BAR, BETAS, SCALE, STEPS, ToyDiffusion, alpha_bar, score

__all__ = ["ALPHA_BAR", "BETAS", "SCALE", "STEPS", "Pieces", "ToyDiffusion", "alpha_bar", "boundary", "pieces", "radius", "score"]
