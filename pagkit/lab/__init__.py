"""Labs: a network that runs in the reader's page, with no kernel and no network connection.

- ``export``: a PyTorch network as data (:func:`pack`), the same network rounded alike for PyTorch to measure (:func:`rounded`),
  a network on a plane through its inputs (:func:`sliced`), and a network as a file that a page fetches (:func:`to_script`).
- ``labs``: :func:`plane`, a map on which PGD is walked step by step beside the exact radius; :func:`digits`, one digit before up to
  four networks.
- ``photolab``: :func:`photo`, one photograph that an attack changes step by step, large.
- ``dial``: :func:`dial`, stored frames under one or two sliders.
- ``live``: :func:`live`, sliders and menus that call the library, for readers with a kernel.
- ``still``: what readers without JavaScript see.
- ``page``: a :class:`Lab` as HTML that is the same at every run; :func:`document`, labs as a page of their own.
- ``stored``: networks and photographs on disk: :func:`load`, :func:`photographs`
- ``script``: the script and the style sheet that all labs share
- ``widget``: ``Lab.widget()``, the same as an anywidget of a live notebook, its point, eps, radius and result readable as traits.
In the folder js are plain ES modules. ``engine`` runs a network and its input gradient, ``attack`` is :mod:`pagkit.attacks` once more,
  ``geometry`` measures distances to the exact boundary; the rest is what a reader sees and touches.

In a page, the root element of a lab carries ``data-lab``, gains ``data-ready`` once it can be used, and has a property ``lab`` to
ask questions of: ``nets``, ``logits(net, x)``, ``gradient(net, x, label)`` (of the label's log-odds) and ``attack(net, x, label,
{norm, eps, steps, stepSize, target, start})`` -> ``{x, path}``; x is a flat list of numbers. While the networks of a photograph have not
been fetched, each answer is a promise, and asking fetches them.
"""

from .dial import dial
from .export import pack, rounded, sliced, to_script
from .labs import digits, plane
from .live import live
from .page import Lab, document
from .photolab import photo
from .stored import load, photographs

__all__ = [
    "Lab",
    "dial",
    "digits",
    "document",
    "live",
    "load",
    "pack",
    "photo",
    "photographs",
    "plane",
    "rounded",
    "sliced",
    "to_script",
]
