"""Data as plain tensors.

- ``task``: what there is to learn, a :class:`Task` of two :class:`Split`
- ``datasets``: the data sets by name; a new one is added here
- ``images``: what a data set on disk is
- ``downloads``: CIFAR and STL, fetched when they are missing
- ``folders``: folders of images, as people have them
- ``augmentation``: crop and flip, of images and of the directions that belong to them
- ``rows``: arithmetic on the rows of a batch
- ``numbers``: whole numbers as arguments, or refused in words
- ``defaults``: float32 on the CPU, whatever the caller's defaults are
- ``files``: files that are whole or not there
- ``progress``: the bar of everything that takes long
"""

from .augmentation import augment, move, moves
from .datasets import MODES, NAMES, load
from .progress import progress_bar
from .task import Split, Task

__all__ = ["MODES", "NAMES", "Split", "Task", "augment", "load", "move", "moves", "progress_bar"]
