"""Sliders and menus that call the library, for readers with a kernel; a still figure for all others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

Control = tuple[float, float, float] | Sequence[Any]


def live(draw: Callable[..., object], /, *, button: str | None = None, widgets: bool | None = None, **controls: Control) -> Any:
    """``draw`` under sliders and menus where somebody can move them, else drawn once with its defaults.

    Where the cell runs in a front end that can answer the kernel (JupyterLab, Jupyter Notebook, VS Code, Colab), the widgets are
    returned, so that as a cell's last value they are shown. A notebook that is executed without anybody in front of it (nbclient,
    nbconvert, nbval, papermill) stores the figure of the defaults and no widget. See :func:`answers`.

    Args:
        draw: called with the value of each control by name; what it prints and shows is what the reader sees. The default of each
            parameter is where its control starts. What it returns is not shown.
        button: the words on a button, for a ``draw`` that takes long: it is called on a click, not at every change.
        widgets: True or False to decide instead of asking the front end.
        controls: each parameter of ``draw`` -> its control: a tuple (lowest, highest, step) for a slider, of whole numbers where all three
            are, or a list of choices for a menu.

    Returns:
        An ``ipywidgets.interactive``, which is a VBox of the controls and an output, or None where the figure was drawn.

    Raises:
        ValueError: controls and parameters that are not the same, a parameter without a default, a slider whose numbers do not fit, a
            default that its control cannot show.
        ImportError: ``widgets`` is True and ipywidgets is not installed.
    """
    defaults = _defaults(draw, controls)
    for name, control in controls.items():
        _check(name, control, defaults[name])
    if not (answers() if widgets is None else widgets):
        draw(**defaults)
        return None
    try:
        import ipywidgets
    except ImportError as error:
        raise ImportError("live cells need ipywidgets: pip install ipywidgets (or pass widgets=False)") from error
    made = {name: _widget(ipywidgets, name, control, defaults[name]) for name, control in controls.items()}
    return ipywidgets.interactive(draw, {"manual": bool(button), "manual_name": button or ""}, **made)


def answers() -> bool:
    """Whether the cell that runs now was sent by a front end that can answer the kernel.

    Every request to run a cell says whether its sender can be asked for input (``allow_stdin`` in the messaging protocol of Jupyter).
    Front ends with a reader say yes; programs that execute notebooks say no. Outside a Jupyter kernel the answer is no.
    """
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    kernel: Any = getattr(get_ipython(), "kernel", None)
    request = kernel.get_parent("shell") if hasattr(kernel, "get_parent") else None
    return bool((request or {}).get("content", {}).get("allow_stdin", False))


def _defaults(draw: Callable[..., object], controls: dict[str, Control]) -> dict[str, Any]:
    parameters = inspect.signature(draw).parameters
    if odd := sorted(set(controls) ^ set(parameters)):
        raise ValueError(f"draw has the parameters {list(parameters)}, the controls are {list(controls)}: {odd[0]!r} is on one side only")
    if bare := [name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]:
        raise ValueError(f"the parameter {bare[0]!r} of draw has no default; its control would not know where to start")
    return {name: parameter.default for name, parameter in parameters.items()}


def _check(name: str, control: Control, start: Any) -> None:
    if isinstance(control, tuple):
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in control)
        if len(control) != 3 or not numbers or not control[0] < control[1] or not control[2] > 0:
            raise ValueError(f"the control {name!r} is {control}; expected (lowest, highest, step) with lowest < highest and step > 0")
        if isinstance(start, bool) or not isinstance(start, (int, float)) or not control[0] <= start <= control[1]:
            raise ValueError(f"{name} starts at {start!r}; expected a number from {control[0]} to {control[1]}")
    elif not isinstance(control, list) or start not in control:
        raise ValueError(f"the control {name!r} is {control!r}; expected (lowest, highest, step), or a list with {start!r} in it")


def _widget(ipywidgets: Any, name: str, control: Control, start: Any) -> Any:
    look = {"description": name.replace("_", " "), "style": {"description_width": "7em"}, "layout": {"width": "min(100%, 28em)"}}
    if isinstance(control, list):
        return ipywidgets.Dropdown(options=control, value=start, **look)
    low, high, step = control
    whole = all(isinstance(value, int) for value in (*control, start))
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    more = {} if whole else {"readout_format": ".3g"}
    return kind(value=start, min=low, max=high, step=step, continuous_update=False, **more, **look)
