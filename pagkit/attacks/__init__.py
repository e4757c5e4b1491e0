"""Attacks: what an attacker may do, and how it is done.

- ``threat``: the ball of a norm, its random starts, steps and projection; a new norm is added here
- ``pgd``: FGSM and PGD
- ``checks``: the batches, settings, labels and targets that are refused
- ``autoattack``: AutoAttack behind the library's own conventions
"""

from ..models import log_odds
from .pgd import fgsm, pgd
from .threat import NORMS, Threat

__all__ = ["NORMS", "Threat", "fgsm", "log_odds", "pgd"]
