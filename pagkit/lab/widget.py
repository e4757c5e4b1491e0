"""A lab as a widget of a live notebook. Needs anywidget, which is optional: importing this module without it says so."""

from __future__ import annotations

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise ImportError("a live lab needs anywidget: pip install anywidget (the lab itself, as a cell's value, needs nothing)") from error

from .script import code, style


class LabWidget(anywidget.AnyWidget):
    """A lab whose state is readable, and in part settable, in Python. Made by :meth:`pagkit.lab.Lab.widget`.

    Attributes:
        point: the start that the reader chose: two numbers on the plane, the pixels of a digit or a photograph. Settable.
        eps: the radius that the attack is allowed. Settable.
        radius: on the plane the exact distance of ``point`` to the boundary, in the norm chosen; None where none is known.
        result: what came of it. Plane: ``net``, ``label``, ``x`` (where the attack ended), ``read`` (the class there) and ``broken``.
            Photograph: ``net``, ``label``, ``x``, ``read`` and ``broken``; empty until the attack has ended.
            Digits: ``label``, ``norm`` and for each network ``clean``, ``attacked`` (classes read) and ``length`` (of the change).
            Dial: ``frame``, ``values`` and ``says``; its ``point`` is the value of each dial, or of a row of buttons the position.
    """

    _esm = code()
    _css = style()
    kind = traitlets.Unicode().tag(sync=True)
    spec = traitlets.Dict().tag(sync=True)
    point = traitlets.List(traitlets.Float()).tag(sync=True)
    eps = traitlets.Float(None, allow_none=True).tag(sync=True)
    radius = traitlets.Float(None, allow_none=True).tag(sync=True)
    result = traitlets.Dict().tag(sync=True)
