"""Diffusion models of small images with classes, for their scores.

- ``denoiser``: the network that guesses noise, and what it can be asked: scores and samples
- ``checks``: what that refuses
- ``ddpm``: :class:`DDPM`, a denoiser that is built and trained
- ``pretrained``: what is trained once and found again
"""

from .ddpm import DDPM, build, train
from .denoiser import Denoiser
from .pretrained import cache, check_cache, find, is_stored, load_folder

__all__ = ["DDPM", "Denoiser", "build", "cache", "check_cache", "find", "is_stored", "load_folder", "train"]
